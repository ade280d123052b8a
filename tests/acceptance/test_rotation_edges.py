"""No key is lost, wherever its rotation is cut: a real worker is killed at each message to database, provider and sink.

A trap on the way kills the worker at the n-th message, before it is passed on or after it was answered; another worker
then carries on. A few edges of each way are tried; `make edges` tries them all and prints the table.

Most of an edge is waiting until the dead worker's claim is over, so several lines stand side by side on one ledger,
with one broker and one clock. Each has a worker, a queue, a pretend provider, a sink and a target of its own.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import make_url, select

from rules.lifecycle import REASONS, Intent, Reason, State, Verdict
from scheduler.submit import Order, check, new_job
from tests.acceptance.system import System
from tests.sandbox import Sandbox
from tests.sandbox.keyring import Key
from tests.sandbox.vault_kv import Version
from tests.sandbox.world import HOST
from tests.servers.broker import start_broker
from tests.servers.database import Postgres
from tests.servers.front import Front, open_front
from tests.servers.tap import open_tap
from tests.servers.trap import Edge, Trap, When
from tests.worker.bench import SANDBOX_RULES
from worker.envelopes import open_row, owner_of
from worker.ledger import moves, reads, tables
from worker.ledger.rows import Job, SealedSecret
from worker.runtime import Runtime, build
from worker.settings import load_settings

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(7200)]

ALL = os.environ.get("REVOQ_TEST_EDGES") == "all"
LINES = 8 if ALL else 1
"""How many edges are tried at a time."""
FEW = 1
"""Edges of each way that are tried beside the decisive one, where not all are."""
SEED = int(os.environ.get("REVOQ_TEST_SEED", "20261122"))
KINDS = ["sqlite", "postgresql"]
RULES = ["keyring.service", "keyring.rolled"]
WITHIN = 120.0
NAME = "etl"
SETTINGS = {
    "rules_path": [str(SANDBOX_RULES)],
    "claim": "3s",
    "request_timeout": "1s",
    "ring_after": "1s",
    "sweep_every": "1s",
    "log_level": "info",
}
"""Everything as short as it may be."""
SETTLED = {State.DONE, State.PARKED}
SEALED = [column for column in tables.secrets.c if column.name in SealedSecret.__slots__]


@dataclass
class Tally:
    """What came of the edges of one way; a row of the table."""

    way: str
    edges: int = 0
    runs: int = 0
    rotated: int = 0
    parked: int = 0
    lost: int = 0
    stray: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count what another line counted."""
        for name in ("edges", "runs", "rotated", "parked", "lost", "stray", "wrong"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def row(self) -> list[Any]:
        """Everything but the sentences."""
        return [self.way, self.edges, self.runs, self.rotated, self.parked, self.lost, self.stray]


@dataclass
class Line:
    """A worker with its queue, a pretend provider, a pretend Vault, and the ways between; the ledger is everybody's."""

    system: System
    runtime: Runtime
    sandbox: Sandbox
    number: int
    own: dict[str, str]
    ways: dict[str, Trap] = field(default_factory=dict)
    found_dead: int = 0

    @property
    def worker(self) -> str:
        """Its worker, and the queue that nobody else listens to."""
        return f"nursery-{self.number}"

    @property
    def ledger(self) -> str:
        """The kind of database."""
        return make_url(self.system.database_url).get_backend_name()

    @property
    def connection(self) -> str:
        """The connection of its provider."""
        return f"ring-{self.number}"

    def kill(self) -> None:
        """SIGKILL to the worker, from the thread in which its message was seen; another one is forked at once."""
        _nursery, *workers = self.system.processes[self.worker].family()
        for worker in workers:
            worker.kill()
        # Side by side, the consumer's key works at every instant, and so also at this one.
        self.found_dead += not self.sandbox.works("keyring", self.delivered["key"])

    # ── the target ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def living(self) -> list[Key]:
        """The target's keys that work."""
        return [key for key in list(self.sandbox.keyring.keys.values()) if key.owner == NAME and key.revoked is None]

    @property
    def delivered(self) -> dict[str, str]:
        """What the consumer finds in the sink."""
        return dict(self.sandbox.vault_kv.secrets["", f"users/{NAME}"][-1].values or {})

    def begin_anew(self) -> None:
        """A fresh target, in its sink."""
        for key in self.living:
            key.revoked = self.sandbox.clock.now()
        key = self.sandbox.keyring.add_key(owner=NAME, name=NAME)
        versions = self.sandbox.vault_kv.secrets.setdefault(("", f"users/{NAME}"), [])
        versions.append(Version(len(versions) + 1, {"id": key.id, "key": key.secret}))

    def sealed(self) -> set[str]:
        """Every secret of every rotation of this line that can still be opened."""
        database, credentials = self.runtime.database, tables.credentials.c
        joined = tables.secrets.join(tables.credentials, tables.secrets.c.credential == credentials.id)
        query = select(*SEALED, credentials.rule.label("of_rule"), credentials.fingerprint.label("of"))
        query = query.select_from(joined).where(credentials.connection == self.connection)
        with database.read() as connection:
            rows = connection.execute(query.where(tables.secrets.c.ciphertext.is_not(None))).mappings().all()
        now, found = database.now(), set()
        for row in rows:
            secret = SealedSecret(**{name: row[name] for name in SealedSecret.__slots__})
            if secret.shred_by > now:
                owner = owner_of(row["of_rule"], self.connection, row["of"])
                found.add(open_row(self.runtime.safe, secret, owner=owner, now=now).reveal())
        return found

    # ── one rotation ──────────────────────────────────────────────────────────────────────────────────────────────

    def rotate(self, rule: str, trap: Trap, edge: Edge | None, fault: str | None) -> Job:
        """Rotate the target, with the worker killed at the edge; what the job came to."""
        self.sandbox.keyring.forget_dead()
        self.sandbox.clear_faults()
        if fault is not None:
            self.sandbox.fault("keyring", fault, method="POST")
        trap.arm(edge)
        job_id = self.submit(rule)
        deadline = time.monotonic() + WITHIN
        while (job := reads.job(self.runtime.database, job_id)).state not in SETTLED:
            assert time.monotonic() < deadline, f"{edge}: {job.state} {job.says}\n{self.system.logs()[-6000:]}"
            time.sleep(0.1)
        return job

    def submit(self, rule: str) -> str:
        """Commit a job; the sweep rings for it."""
        order = Order(
            rule=rule,
            requester="tester",
            intent=Intent.ROTATE,
            variables={"KEY_ID": self.delivered["id"]},
            connection=self.connection,
            sinks=(f"vault-{self.number}",),
            queue=self.worker,
        )
        return moves.submit(self.runtime.database, new_job(self.runtime, check(self.runtime, order))).job_id

    def judge(self, job: Job, edge: Edge | None, tally: Tally) -> None:
        """Count what came of it, and say what should not have come."""
        living = {key.secret for key in self.living}
        found = self.delivered["key"]
        kept = {found} | self.sealed()
        tally.runs += 1
        tally.rotated += job.verdict is Verdict.ROTATED
        tally.parked += job.state is State.PARKED
        tally.stray += len(living - kept)
        named = job.state is State.PARKED and bool(job.inputs.get("KEY_ID"))
        incident = named and bool(job.says and REASONS[Reason(str(job.reason))].advice)
        works = found in living
        tally.lost += not (works or incident)
        where = f"{tally.way}, {edge}: {job.verdict or job.reason} ({job.says})"
        if not (works or incident):
            tally.wrong.append(f"lost: {where}")
        if living - kept:
            tally.wrong.append(f"a live key that nobody holds: {where}")
        if job.verdict is Verdict.ROTATED and living != {found}:
            tally.wrong.append(f"{len(living)} live keys: {where}")
        if job.state is State.PARKED:
            self.begin_anew()


@pytest.fixture(
    scope="module", params=[pytest.param(kind, marks=pytest.mark.xdist_group(f"edges-{kind}")) for kind in KINDS]
)
def lines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Line]]:
    """The lines, on SQLite and on PostgreSQL, with their workers running."""
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        url = f"sqlite:///{folder / 'ledger.db'}"
        if request.param == "postgresql":
            postgres: Postgres = request.getfixturevalue("postgres")
            url = postgres.create_database()
            stack.callback(postgres.drop_database, url)
        broker = start_broker(folder)
        stack.callback(broker.stop)
        places = [open_place(stack, folder, number) for number in range(1, LINES + 1)]
        system = System.build(
            folder,
            broker,
            url,
            connections={f"ring-{place.number}": place.connection for place in places},
            secrets={},
            settings={**SETTINGS, "sinks": {f"vault-{place.number}": place.sink for place in places}},
        )
        stack.callback(system.stop)
        runtime = build(load_settings(system.environ))
        stack.callback(runtime.database.dispose)
        stack.callback(runtime.connections.close)
        made = [draw_line(stack, system, runtime, place) for place in places]
        system.start("clock", "beat", ready=False)
        for line in made:
            system.start(line.worker, environ=line.own, ready=False)
        system.wait_ready(*(line.worker for line in made))
        yield made


@dataclass
class Place:
    """A pretend provider and a pretend Vault, each behind a front of its own, as the settings name them."""

    number: int
    sandbox: Sandbox
    fronts: dict[str, Front]
    connection: dict[str, Any]
    sink: dict[str, Any]


def open_place(stack: ExitStack, folder: Path, number: int) -> Place:
    """Start both, and fill in how revoq signs in."""
    sandbox = stack.enter_context(Sandbox())
    fronts = {way: stack.enter_context(open_front(HOST, sandbox.port)) for way in ("provider", "sink")}
    admin = sandbox.keyring.add_key(owner="revoq", admin=True)
    login = sandbox.vault_kv.add_token({"kv/data/users/": ["create", "read", "update"]})
    for name, secret in (("ring", admin.secret), ("vault", login.token)):
        (folder / f"{name}-{number}").write_text(secret)
    connection = {
        "provider": "keyring",
        "base_url": f"{fronts['provider'].url}/keyring",
        "identity": {"token": f"file:{folder}/ring-{number}"},
    }
    sink = {
        "kind": "vault",
        "mount": "kv",
        "url": f"{fronts['sink'].url}/vault_kv",
        "path": "users/{name}",
        "token": f"file:{folder}/vault-{number}",
    }
    return Place(number, sandbox, fronts, connection, sink)


def draw_line(stack: ExitStack, system: System, runtime: Runtime, place: Place) -> Line:
    """Set a trap on every way of a line's worker, which alone reaches PostgreSQL by its tap."""
    line = Line(system, runtime, place.sandbox, place.number, own={})
    line.ways = {way: Trap(line.kill) for way in place.fronts}
    for way, front in place.fronts.items():
        front.trap = line.ways[way]
    url = make_url(system.database_url)
    if url.get_backend_name() == "postgresql":
        trap = line.ways["database"] = Trap(line.kill)
        port = stack.enter_context(open_tap(str(url.host), url.port or 0, trap))
        line.own["REVOQ_DATABASE_URL"] = url.set(port=port).render_as_string(hide_password=False)
    return line


def choose(labels: Sequence[str], way: str) -> list[Edge]:
    """Every edge of a way, or a few with the decisive one; a transaction that is not committed leaves nothing."""
    numbers = range(1, len(labels) + 1)
    before = [Edge(number, When.BEFORE) for number in numbers]
    commits = ("COMMIT", "WITH moved")
    after = [Edge(at, When.AFTER) for at in numbers if way != "database" or labels[at - 1].startswith(commits)]
    if ALL:
        return [*before, *after]
    decisive = [edge for edge in after if labels[edge.number - 1].startswith("POST")][-1:]
    others = [edge for edge in [*before, *after] if edge not in decisive]
    return [*decisive, *Random(SEED).sample(others, min(FEW, len(others)))]


def overlaps(runtime: Runtime, rule: str) -> bool:
    """Whether the rule keeps the old key alive until it is retired."""
    rotation = runtime.catalogue.get(rule).rule.rotation
    return rotation is not None and rotation.overlap


def try_edges(
    lines: Sequence[Line], rule: str, way: str, fault: str | None, note: Callable[[str, object], None], title: str
) -> None:
    """Kill at each chosen edge, each on the next line that is free, and hold what came of it against the promise."""
    left: deque[Edge] = deque()

    def warm(line: Line) -> list[str]:
        line.begin_anew()
        # The first opens its connections, which the others find open.
        for _ in range(2):
            job = line.rotate(rule, line.ways[way], None, fault)
            assert job.verdict is Verdict.ROTATED, job.says
        line.found_dead = 0
        return list(line.ways[way].labels)

    def work(line: Line) -> Tally:
        tally = Tally(title)
        with suppress(IndexError):
            while True:
                edge = left.popleft()
                job = line.rotate(rule, line.ways[way], edge, fault)
                tally.edges += line.ways[way].sprung.is_set()
                line.judge(job, edge, tally)
        return tally

    with ThreadPoolExecutor(len(lines)) as pool:
        labels, *_ = pool.map(warm, lines)
        left.extend(choose(labels, way))
        tally = Tally(title)
        for each in pool.map(work, lines):
            tally.add(each)
    note("edges", tally.row())
    assert tally.wrong == []
    assert (tally.lost, tally.stray) == (0, 0)
    assert tally.edges >= tally.runs * 0.9
    assert not overlaps(lines[0].runtime, rule) or not any(line.found_dead for line in lines)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("way", ["database", "provider", "sink"])
def test_a_worker_killed_at_any_message_loses_no_key(
    lines: list[Line],
    rule: str,
    way: str,
    record_property: Callable[[str, object], None],
) -> None:
    """Side by side and in place: at the end one key works, and it is the one in the sink."""
    if way not in lines[0].ways:
        pytest.skip("nothing goes over a wire to SQLite")
    if not ALL and lines[0].ledger == "sqlite":
        pytest.skip("a few edges of these ways are tried on PostgreSQL; make edges tries all, on both")
    try_edges(lines, rule, way, None, record_property, f"{rule}, {lines[0].ledger}: to the {way}")


@pytest.mark.parametrize("rule", RULES)
def test_an_answer_cut_off_after_the_key_was_made_loses_none(
    lines: list[Line], rule: str, record_property: Callable[[str, object], None]
) -> None:
    """The provider has made a key that nobody knows; and the worker that finds that out is killed, too."""
    title = f"{rule}, {lines[0].ledger}: the new key's answer cut off, to the provider"
    try_edges(lines, rule, "provider", "cut", record_property, title)
