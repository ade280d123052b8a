"""No key is lost, wherever its rotation is cut: a real worker is killed at each message to database, provider and sink.

A trap on the way kills the worker at the n-th message, before it is passed on or after it was answered; another worker
then carries on. A few edges of each way are tried; `make edges` tries them all and prints the table.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import make_url, select

from rules.lifecycle import REASONS, Intent, Reason, State, Verdict
from scheduler.submit import Order, check, new_job
from tests.acceptance.conftest import Build
from tests.acceptance.system import System
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.sandbox.keyring import Key
from tests.sandbox.vault_kv import Version
from tests.sandbox.world import HOST
from tests.servers.front import Front, open_front
from tests.servers.tap import open_tap
from tests.servers.trap import Edge, Trap, When
from tests.worker.bench import SANDBOX_RULES
from worker.app import ROTATION
from worker.envelopes import open_row, owner_of
from worker.ledger import moves, reads, tables
from worker.ledger.rows import Job, SealedSecret
from worker.runtime import Runtime, build
from worker.settings import load_settings

__all__ = ["sandbox"]

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(7200)]

ALL = os.environ.get("REVOQ_TEST_EDGES") == "all"
PARTS = 4 if ALL else 1
"""Into how many tests each way is parted, so that they can be tried side by side."""
FEW = 2
"""Edges of each way that are tried beside the decisive one, where not all are."""
SEED = int(os.environ.get("REVOQ_TEST_SEED", "20261122"))
RULES = ["keyring.service", "keyring.rolled"]
WITHIN = 90.0
NAME = "etl"
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

    def row(self) -> list[Any]:
        """Everything but the sentences."""
        return [self.way, self.edges, self.runs, self.rotated, self.parked, self.lost, self.stray]


@dataclass
class Line:
    """A revoq with one worker, a pretend provider and a pretend Vault, and the ways between them."""

    system: System
    sandbox: Sandbox
    runtime: Runtime
    rule: str
    own: dict[str, str] = field(default_factory=dict)
    ways: dict[str, Trap] = field(default_factory=dict)
    found_dead: int = 0

    def start(self) -> None:
        """The clock, its bell, and the worker, which alone reaches the database by the tap."""
        self.system.start("clock", "beat")
        self.system.start("nursery", environ=self.own)

    def kill(self) -> None:
        """SIGKILL to the worker, from the thread in which its message was seen; another one is forked at once."""
        _nursery, *workers = self.system.processes["nursery"].family()
        for worker in workers:
            worker.kill()
        # Side by side, the consumer's key works at every instant, and so also at this one.
        self.found_dead += not self.sandbox.works("keyring", self.delivered["key"])

    # ── the target ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def living(self) -> list[Key]:
        """The target's keys that work."""
        return [key for key in self.sandbox.keyring.keys.values() if key.owner == NAME and key.revoked is None]

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
        """Every secret of every rotation that can still be opened."""
        database = self.runtime.database
        found = set()
        with database.read() as connection:
            columns = (*SEALED, tables.credentials.c.fingerprint.label("of"))
            joined = tables.secrets.join(tables.credentials, tables.secrets.c.credential == tables.credentials.c.id)
            rows = connection.execute(select(*columns).select_from(joined)).mappings().all()
        for row in rows:
            secret = SealedSecret(**{name: row[name] for name in SealedSecret.__slots__})
            if secret.ciphertext is not None and secret.shred_by > database.now():
                owner = owner_of(self.rule, "ring", row["of"])
                found.add(open_row(self.runtime.safe, secret, owner=owner, now=database.now()).reveal())
        return found

    # ── one rotation ──────────────────────────────────────────────────────────────────────────────────────────────

    def rotate(self, trap: Trap, edge: Edge | None, fault: str | None = None) -> Job:
        """Rotate the target, with the worker killed at the edge; what the job came to."""
        self.sandbox.keyring.forget_dead()
        self.sandbox.clear_faults()
        if fault is not None:
            self.sandbox.fault("keyring", fault, method="POST")
        trap.arm(edge)
        job_id = self.submit()
        deadline = time.monotonic() + WITHIN
        while (job := reads.job(self.runtime.database, job_id)).state not in SETTLED:
            assert time.monotonic() < deadline, f"{edge}: {job.state} {job.says}\n{self.system.logs()[-6000:]}"
            time.sleep(0.05)
        return job

    def submit(self) -> str:
        """Commit a job; the sweep rings for it."""
        order = Order(
            rule=self.rule,
            requester="tester",
            intent=Intent.ROTATE,
            variables={"KEY_ID": self.delivered["id"]},
            connection="ring",
            sinks=("vault",),
            queue=ROTATION,
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


@pytest.fixture
def open_line(
    build_system: Build, sandbox: Sandbox, database_url: str, tmp_path: Path
) -> Iterator[Callable[[str], Line]]:
    """Makes the line for a rule, on SQLite and on PostgreSQL."""
    with ExitStack() as stack:

        def open_it(rule: str) -> Line:
            fronts = {way: stack.enter_context(open_front(HOST, sandbox.port)) for way in ("provider", "sink")}
            system = build_system(
                database_url,
                connections=connections(sandbox, fronts, tmp_path),
                secrets={},
                settings=settings(sandbox, fronts, tmp_path),
            )
            runtime = build(load_settings(system.environ))
            stack.callback(runtime.database.dispose)
            stack.callback(runtime.connections.close)
            line = Line(system, sandbox, runtime, rule)
            line.ways = {way: Trap(line.kill) for way in fronts}
            for way, front in fronts.items():
                front.trap = line.ways[way]
            url = make_url(database_url)
            if url.get_backend_name() == "postgresql":
                trap = line.ways["database"] = Trap(line.kill)
                port = stack.enter_context(open_tap(str(url.host), url.port or 0, trap))
                line.own["REVOQ_DATABASE_URL"] = url.set(port=port).render_as_string(hide_password=False)
            line.begin_anew()
            line.start()
            return line

        yield open_it


def connections(sandbox: Sandbox, fronts: dict[str, Front], folder: Path) -> dict[str, Any]:
    """The pretend provider, by its front."""
    admin = sandbox.keyring.add_key(owner="revoq", admin=True)
    (folder / "ring").write_text(admin.secret)
    identity = {"token": f"file:{folder}/ring"}
    return {"ring": {"provider": "keyring", "base_url": f"{fronts['provider'].url}/keyring", "identity": identity}}


def settings(sandbox: Sandbox, fronts: dict[str, Front], folder: Path) -> dict[str, Any]:
    """The pretend Vault, by its front, and everything as short as it may be."""
    login = sandbox.vault_kv.add_token({"kv/data/users/": ["create", "read", "update"]})
    (folder / "vault").write_text(login.token)
    vault = {
        "kind": "vault",
        "mount": "kv",
        "url": f"{fronts['sink'].url}/vault_kv",
        "path": "users/{name}",
        "token": f"file:{folder}/vault",
    }
    return {
        "rules_path": [str(SANDBOX_RULES)],
        "sinks": {"vault": vault},
        "claim": "3s",
        "request_timeout": "1s",
        "ring_after": "1s",
        "sweep_every": "1s",
    }


def choose(labels: Sequence[str], way: str) -> list[Edge]:
    """Every edge of a way, or a few with the decisive one; a transaction that is not committed leaves nothing."""
    numbers = range(1, len(labels) + 1)
    before = [Edge(number, When.BEFORE) for number in numbers]
    after = [Edge(number, When.AFTER) for number in numbers if way != "database" or labels[number - 1] == "COMMIT"]
    if ALL:
        return [*before, *after]
    decisive = [edge for edge in after if labels[edge.number - 1].startswith("POST")][-1:]
    others = [edge for edge in [*before, *after] if edge not in decisive]
    return [*decisive, *Random(SEED).sample(others, min(FEW, len(others)))]


def overlaps(line: Line) -> bool:
    """Whether the rule keeps the old key alive until it is retired."""
    rotation = line.runtime.catalogue.get(line.rule).rule.rotation
    return rotation is not None and rotation.overlap


def try_edges(
    line: Line, way: str, part: int, fault: str | None, note: Callable[[str, object], None], title: str
) -> None:
    """Kill at each chosen edge, and hold what came of it against the promise."""
    trap = line.ways[way]
    tally = Tally(title)
    # The first opens its connections, which the others find open.
    for _ in range(2):
        job = line.rotate(trap, None, fault)
        assert job.verdict is Verdict.ROTATED, job.says
    labels = list(trap.labels)
    for edge in choose(labels, way)[part::PARTS]:
        job = line.rotate(trap, edge, fault)
        tally.edges += trap.sprung.is_set()
        line.judge(job, edge, tally)
    note("edges", tally.row())
    assert tally.wrong == []
    assert (tally.lost, tally.stray) == (0, 0)
    assert tally.edges >= tally.runs * 0.9
    assert line.found_dead == 0 or not overlaps(line)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("way", ["database", "provider", "sink"])
def test_a_worker_killed_at_any_message_loses_no_key(
    open_line: Callable[[str], Line],
    rule: str,
    way: str,
    part: int,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    """Side by side and in place: at the end one key works, and it is the one in the sink."""
    database = request.node.callspec.params["database_url"]
    if (database, way) == ("sqlite", "database"):
        pytest.skip("nothing goes over a wire to SQLite")
    try_edges(open_line(rule), way, part, None, record_property, f"{rule}, {database}: to the {way}")


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("rule", RULES)
def test_an_answer_cut_off_after_the_key_was_made_loses_none(
    open_line: Callable[[str], Line],
    rule: str,
    part: int,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    """The provider has made a key that nobody knows; and the worker that finds that out is killed, too."""
    database = request.node.callspec.params["database_url"]
    title = f"{rule}, {database}: the new key's answer cut off, to the provider"
    try_edges(open_line(rule), "provider", part, "cut", record_property, title)
