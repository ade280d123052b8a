"""Secrets planted in every flow and looked for in every place and encoding; `make canaries` does it on both databases.

The search can find: with redaction switched off in one place of one process, the same crash shows its secret.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from psycopg import sql

from tests.acceptance.canaries.aviary import CRASH, Aviary, Key, draw
from tests.acceptance.canaries.search import ENCODINGS, find
from tests.acceptance.canaries.watch import (
    dump,
    dump_rows,
    environ_of,
    overhearing,
    read_files,
    result_backend,
    written_since,
)
from tests.acceptance.conftest import Build
from tests.acceptance.system import ROOT, System
from tests.acceptance.test_flower import PASSWORD, Watch
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.servers.database import Postgres, running_postgres
from tests.servers.ports import find_free_port
from tests.servers.process import Process
from tests.servers.recorder import Recorder, running_recorder
from tests.worker.bench import SANDBOX_RULES

__all__ = ["sandbox"]

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1800)]

ALL = os.environ.get("REVOQ_TEST_CANARIES") == "all"
full = pytest.mark.skipif(not ALL, reason="the full search: make canaries")
RULES = Path(__file__).with_name("rules")
SEED = int(os.environ.get("REVOQ_TEST_SEED", "20261122"))
AVIARY = ("--rule", "aviary.key", "--connection", "birds")
SITE = f"""
import os

if os.environ.get("CANARY_CRASH"):
    import worker.steps.http as http

    real = http.conclude

    def conclude(filling, answer, safe, shown):
        if {CRASH.encode()!r} in answer.body:
            held = " ".join(str(getattr(value, "reveal", lambda: value)()) for value in filling.values.values())
            raise RuntimeError(f"{{answer.text}} {{answer.headers}} {{held}}")
        return real(filling, answer, safe, shown)

    http.conclude = conclude

if os.environ.get("CANARY_BARE"):
    import worker.engine
    import worker.log

    worker.log.clean = lambda text: text
    worker.engine.describe = lambda error, whole: worker.log.describe(error)
"""
"""Runs when a process of the test starts: one that fails in mid-job with all it knows, one that strikes nothing out."""
CHILD = """\
#!/bin/sh
cat /proc/$$/environ /proc/$$/cmdline > "{folder}/child-$$"
"""


@dataclass
class Aviarium:
    """A system whose every secret is planted, and what is seen of it."""

    system: System
    aviary: Aviary
    sandbox: Sandbox
    folder: Path
    planted: dict[str, str]
    postgres: Postgres | None
    told: Recorder
    said: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.time)

    # ── secrets ───────────────────────────────────────────────────────────────────────────────────────────────────

    def plant(self, name: str, secret: str) -> str:
        """Remember what is looked for."""
        assert secret not in self.planted.values()
        self.planted[name] = secret
        return secret

    def key(self, name: str, **wanted: Any) -> Key:
        """A key at the provider, with its other half."""
        key = self.aviary.add(**wanted)
        self.plant(f"{name}: token", key.token)
        self.plant(f"{name}: variable", key.half)
        return key

    def half(self, key: Key) -> tuple[str, str]:
        """The option that hands the other half in."""
        file = self.folder / "in" / f"half-{len(list((self.folder / 'in').iterdir()))}"
        file.write_text(key.half)
        return "--var", f"OTHER_HALF=file:{file}"

    # ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────

    def revoq(self, *words: str, stdin: str = "", code: int | None = 0) -> str:
        """One command; what it says is kept, and its exit code is as expected."""
        done = self.system.revoq(*words, stdin=stdin)
        self.said += [done.stdout, done.stderr]
        assert code is None or done.returncode == code, (
            f"{words}: {done.stdout}{done.stderr}{self.system.logs()[-6000:]}"
        )
        return done.stdout

    def start(self) -> Watch:
        """The workers with their secrets; clock, bell, Flower and figures with none but the keys."""
        self.system.start("urgent", "bulk", environ=self.site("CANARY_CRASH"))
        needs = replace(self.system, environ=self.bare_environ)
        needs.start("clock", environ={name: self.system.environ[name] for name in ("TOLD", "HEADS")})
        needs.start("beat")
        port = find_free_port()
        log = self.system.directory / "metrics.log"
        command = [sys.executable, "-m", "scheduler.cli", "metrics", "--listen", f"127.0.0.1:{port}"]
        metrics = Process.start(command, log=log, cwd=ROOT, env=self.bare_environ)
        self.system.processes["flower-metrics"] = metrics
        metrics.wait_until(lambda: "Figures for Prometheus" in metrics.output())
        self.metrics = f"http://127.0.0.1:{port}/metrics"
        watch = Watch.start(needs, find_free_port())
        self.system.processes["flower"] = watch.process
        return watch

    def site(self, *switches: str) -> dict[str, str]:
        """The environment of a process that has our sitecustomize and these switches on."""
        return {"PYTHONPATH": f"{self.folder / 'site'}:{ROOT}", **dict.fromkeys(switches, "1")}

    @property
    def bare_environ(self) -> dict[str, str]:
        """What a process is given that signs nothing."""
        return {
            name: value for name, value in self.system.environ.items() if name not in {"BIRDS", "RING", "TOLD", "HEADS"}
        }

    metrics = ""


Furnish = Callable[[str], Aviarium]


@pytest.fixture
def furnish(build_system: Build, sandbox: Sandbox, sqlite_url: str, tmp_path: Path) -> Iterator[Furnish]:
    """A whole system on a database of this kind."""
    with ExitStack() as stack:

        def make(kind: str) -> Aviarium:
            chance = Random(SEED)
            aviary, planted = Aviary(chance), dict[str, str]()
            provider, told = stack.enter_context(running_recorder()), stack.enter_context(running_recorder())
            provider.script = aviary.answer
            for name in ("in", "site", "sink", "tmp", "out"):
                (tmp_path / name).mkdir()
            (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
            script = tmp_path / "child.sh"
            script.write_text(CHILD.format(folder=tmp_path / "out"))
            script.chmod(0o700)
            url, server = sqlite_url, None
            if kind == "postgresql":
                running = stack.enter_context(
                    running_postgres(settings={"log_statement": "all", "log_parameter_max_length": "-1"})
                )
                url, server = running.create_database(), running
            admin = sandbox.keyring.add_key(owner="revoq", admin=True)
            secrets = {
                "BIRDS": draw(chance, "identity"),
                "RING": admin.secret,
                "TOLD": f"json://revoq:{PASSWORD_OF_NOTICES}@{told.url.removeprefix('http://')}/notices",
                "HEADS": base64.b64encode(chance.randbytes(32)).decode(),
                "TMPDIR": str(tmp_path / "tmp"),
            }
            system = build_system(
                url,
                connections={
                    "birds": {"provider": "aviary", "base_url": provider.url, "identity": {"key": "env:BIRDS"}},
                    "ring": {
                        "provider": "keyring",
                        "base_url": sandbox.url("keyring"),
                        "identity": {"token": "env:RING"},
                    },
                },
                secrets=secrets,
                settings={
                    "rules_path": [str(SANDBOX_RULES), str(RULES)],
                    "commands_allowed": [str(script)],
                    "sinks": {
                        "keys": {"kind": "file", "path": f"{tmp_path}/sink/{{name}}", "reload": "child"},
                        "child": {"kind": "command", "run": [str(script), "{name}"]},
                    },
                    "audit_sinks": {"away": {"kind": "webhook", "url": f"{told.url}/heads", "secret": "env:HEADS"}},
                    "notices": [{"severity": "info", "to": "env:TOLD"}],
                },
            )
            made = Aviarium(system, aviary, sandbox, tmp_path, planted, server, told)
            made.plant("connection: key in a header of its own", secrets["BIRDS"])
            made.plant("connection: bearer token", secrets["RING"])
            made.plant("address of notices", PASSWORD_OF_NOTICES)
            made.plant("secret of the heads' webhook", secrets["HEADS"])
            made.plant("password of Flower", PASSWORD)
            for line in (system.directory / "data" / "keys").read_text().splitlines():
                purpose, _, key = line.split()
                made.plant(f"key ring: {purpose}", key)
            audit = [line.split()[-1] for line in (system.directory / "data" / "audit_keys").read_text().splitlines()]
            made.plant("key ring: audit", audit[0])
            return made

        yield make


PASSWORD_OF_NOTICES = "n0tices-Hunter2-hunter2"
OFTEN_EMPTY = {"result backend", "temporary files", "data folder"}
"""Places that are empty where all is well: no results are kept, and beside the keys only marks without content."""


def flows(here: Aviarium) -> None:
    """Everything that a person, a file and the clock can bring about, and everything that can be asked for after it."""
    ends = {}
    for name, code, wanted in (
        ("success", 0, {}),
        ("retry", 0, {"busy": 2}),
        ("crash", 0, {"crashes": True}),
    ):
        key = here.key(name, **wanted)
        here.revoq("revoke", *AVIARY, *here.half(key), "--wait", "--timeout", "120s", stdin=key.token, code=code)
        ends[name] = key.dead
    assert ends == {"success": True, "retry": True, "crash": True}
    stranger = here.key("park")
    here.aviary.keys.clear()
    here.revoq("revoke", *AVIARY, *here.half(stranger), "--wait", stdin=stranger.token, code=3)
    rehearsed, asked = here.key("dry run"), here.key("probe")
    here.revoq("revoke", *AVIARY, *here.half(rehearsed), "--dry-run", stdin=rehearsed.token)
    here.revoq("revoke", *AVIARY, *here.half(rehearsed), "--dry-run", "--format", "json", stdin=rehearsed.token)
    here.revoq("probe", *AVIARY, *here.half(asked), "--wait", stdin=asked.token, code=4)
    here.revoq("history", stdin=asked.token)
    unfit = here.plant("refused input", draw(here.aviary.chance, "nothing that fits:"))
    here.revoq("revoke", *AVIARY, *here.half(asked), stdin=unfit, code=2)
    rotate(here)
    offboard(here)
    here.revoq("keys", "rotate")
    for words in (
        ("doctor",),
        ("doctor", "--format", "json"),
        ("connections", "list"),
        ("connections", "test", "ring"),
        ("credentials", "list", "--rule", "keyring.service", "--connection", "ring", "--format", "json"),
        ("schedules", "list"),
        ("audit", "list", "--format", "json"),
        ("rules", "show", "aviary.key"),
    ):
        here.revoq(*words, code=None)
    for job in json.loads(here.revoq("jobs", "list", "--format", "json")):
        here.revoq("jobs", "show", job["id"])
    for form in ("jsonl", "csv"):
        here.revoq("audit", "export", str(here.folder / "out" / f"trail.{form}"), "--format", form)
    here.revoq("audit", "verify", str(here.folder / "out" / "trail.jsonl"), code=None)


def rotate(here: Aviarium) -> None:
    """One key is replaced in a file, and a program is told."""
    old = here.sandbox.keyring.add_key(owner="dana", name="etl")
    here.plant("rotation: old key", old.secret)
    file = here.folder / "sink" / "etl"
    file.write_text(json.dumps({"id": old.id, "key": old.secret}))
    file.chmod(0o600)
    ring = ("--rule", "keyring.service", "--connection", "ring", "--sink", "keys")
    here.revoq("rotate", *ring, "--target", old.id, "--dry-run", code=None)
    here.revoq("rotate", *ring, "--target", old.id, "--wait")
    here.plant("rotation: new key", json.loads(file.read_text())["key"])


def offboard(here: Aviarium) -> None:
    """A plan is made of a file, approved and carried out; then its reports are written."""
    keys = [here.key(f"offboarding {number}") for number in range(3)]
    file = here.folder / "in" / "leavers.jsonl"
    rows = [
        {"rule": "aviary.key", "connection": "birds", "secret": k.token, "variables": {"OTHER_HALF": k.half}}
        for k in keys
    ]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    plan = json.loads(here.revoq("offboard", str(file), "--dry-run", "--format", "json"))
    here.revoq("offboard", "--approve", plan["hash"], "--wait", "--timeout", "120s")
    assert all(key.dead for key in keys)
    (batch,) = here.system.ask("batches", "list")
    here.revoq("batches", "show", batch["id"])
    for form in ("json", "csv", "html"):
        here.revoq("batches", "report", batch["id"], "--output", str(here.folder / "out" / f"report.{form}"))


def places(here: Aviarium, watch: Watch, overheard: Mapping[str, Any]) -> dict[str, bytes]:
    """All that there is to search, by the name of the place."""
    pages = ["/workers", "/tasks", "/broker", "/api/tasks", "/api/workers", "/api/queues/length"]
    pages += [f"/task/{name}" for name in watch.get("/api/tasks").json()]
    pages += [f"/worker/{name}" for name in watch.get("/api/workers").json()]
    shown = b"\n".join(watch.get(page).content for page in pages)
    figures = httpx.get(here.metrics, timeout=30).content
    needless = ("clock", "beat", "flower", "flower-metrics")
    named = {name: environ_of(here.system.processes[name].pid) for name in needless}
    allowed = {here.system.environ[name].encode() for name in ("TOLD", "HEADS")}
    for secret in allowed:
        named["clock"] = named["clock"].replace(secret, b"")
    here.system.stop()
    data = here.system.directory / "data"
    kept = {path: path.read_bytes() for path in (data / "keys", data / "audit_keys")}
    found = {
        "broker dump": dump(here.system.broker, here.folder / "out"),
        "result backend": b"\n".join(result_backend(here.system.broker)),
        **{name: b"\n".join(heard) for name, heard in overheard.items()},
        "Flower's pages and API": shown,
        "Flower's file": read_files(here.system.directory / "flower")
        + b"".join(path.read_bytes() for path in here.system.directory.glob("flower*") if path.is_file()).replace(
            PASSWORD.encode(), b""
        ),
        "logs at debug, tracebacks": here.system.logs().encode(),
        "environments": b"\n".join(named.values()),
        "a child's environment and arguments": b"\n".join(
            p.read_bytes() for p in (here.folder / "out").glob("child-*")
        ),
        "data folder": b"\n".join(p.read_bytes() for p in data.rglob("*") if p.is_file() and p not in kept),
        "rows of the database": dump_rows(here.system.database_url),
        "exports": b"\n".join(path.read_bytes() for path in (here.folder / "out").glob("trail.*")),
        "reports": b"\n".join(path.read_bytes() for path in (here.folder / "out").glob("report.*")),
        "metrics page": figures,
        "notices": b"\n".join(seen.body for seen in here.told.seen if seen.path == "/notices"),
        "audit heads": b"\n".join(seen.body for seen in here.told.seen if seen.path == "/heads"),
        "terminal": "\n".join(here.said).encode(),
    }
    if here.postgres is None:
        file = Path(here.system.database_url.removeprefix("sqlite:///"))
        found["database files and WAL"] = b"\n".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
    else:
        here.postgres.execute(sql.SQL("CHECKPOINT").format())
        found["data directory of PostgreSQL"] = written_since(here.postgres.directory / "data", here.begun)
        found["log of PostgreSQL"] = (here.postgres.directory / "server.log").read_bytes()
    return found


@full
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_planted_secret_is_found(
    furnish: Furnish, kind: str, record_property: Callable[[str, object], None]
) -> None:
    """Success, retry, park, crash, dry run, rotation, offboarding, reports, exports, doctor, notices, figures."""
    here = furnish(kind)
    with overhearing(here.system.broker, here.folder / "tmp") as overheard:
        watch = here.start()
        flows(here)
        sessions = {f"extracted value {number}": text for number, text in enumerate(here.aviary.sessions, 1)}
        here.planted.update(sessions)
        searched = places(here, watch, overheard)

    empty = [name for name, content in searched.items() if not content.strip()]
    assert set(empty) <= OFTEN_EMPTY, "a place in which nothing was found to search"
    assert b"crashed" in searched["logs at debug, tracebacks"]
    assert b"RuntimeError" in searched["logs at debug, tracebacks"]
    found = {name: leaks for name, content in searched.items() if (leaks := find(content, here.planted))}
    record_property("canaries", [kind, len(here.planted), len(searched), len(ENCODINGS), sum(map(len, found.values()))])
    assert found == {}


def test_with_redaction_off_the_secret_is_found(furnish: Furnish) -> None:
    """A worker crashes with all it knows in its error's text: not struck out, that is in the log, and only there."""
    here = furnish("sqlite")
    here.system.start("urgent", environ=here.site("CANARY_CRASH", "CANARY_BARE"))
    key = here.key("crash", crashes=True)
    job = json.loads(here.revoq("revoke", *AVIARY, *here.half(key), "--format", "json", stdin=key.token))["job"]
    here.system.wait_for(job, lambda job: job["state"] == "waiting")
    here.system.stop()
    here.plant("extracted value", here.aviary.sessions[0])

    found = find(here.system.logs().encode(), here.planted)
    assert {name.rpartition(" (")[0] for name in found} == {
        "crash: token",
        "crash: variable",
        "extracted value",
        "connection: key in a header of its own",
    }
    assert find(dump_rows(here.system.database_url), here.planted) == []
