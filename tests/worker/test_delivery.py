"""Signed heads leave the machine: to a file and to a webhook, again where it failed, and nothing waits for them."""

from __future__ import annotations

import base64
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select
from standardwebhooks import Webhook

from rules.secret import Secret
from scheduler import sweep
from tests.servers.recorder import Recorder, Said, Seen, running_recorder
from tests.servers.tables import make_tables
from tests.worker.ledger.samples import claimed, delivered
from worker.ledger import heads, moves, reads
from worker.ledger.database import Database
from worker.ledger.exports import read_heads
from worker.ledger.tables import jobs
from worker.restored import find_behind
from worker.runtime import Runtime, build
from worker.safe import Ring
from worker.settings import AuditFile, AuditHook, AuditSink, Settings
from worker.signing import Signer

SECRET = base64.b64encode(b"0123456789abcdef01234567").decode()


@pytest.fixture
def service() -> Iterator[Recorder]:
    """A service that takes heads."""
    with running_recorder() as recorder:
        yield recorder


@pytest.fixture
def runtime(tmp_path: Path, sqlite_url: str, service: Recorder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A clock with a key that signs, a file and a webhook."""
    monkeypatch.setenv("HOOK", SECRET)
    sinks: dict[str, AuditSink] = {
        "log": AuditFile(name="log", kind="file", path=tmp_path / "heads.jsonl"),
        "hook": AuditHook(name="hook", kind="webhook", url=f"{service.url}/heads", secret="env:HOOK"),
    }
    settings = Settings(
        data_dir=tmp_path / "data",
        database_url=sqlite_url,
        seal_keys=Ring.generate().text,
        audit_keys=Secret(Signer.generate().line),
        audit_sinks=sinks,
    )
    made = build(settings)
    make_tables(made.database.url)
    yield made
    made.database.dispose()


def tick(runtime: Runtime) -> None:
    """What the clock does every five seconds, to its end."""
    sweep.seal(runtime)
    while not sweep.deliver(runtime):
        pass
    with sweep.delivering:
        pass


def numbers(db: Database) -> dict[str, int]:
    """The last head that each sink has."""
    return {each.sink: each.number for each in heads.delivered(db, ["hook", "log"])}


def test_delivered(runtime: Runtime, service: Recorder) -> None:
    """Each new head goes to every sink, once, and a service can tell that it came from us."""
    db = runtime.database
    for _ in range(2):
        claimed(db)
        tick(runtime)
    tick(runtime)
    (log,) = runtime.settings.head_files
    assert [head.statement for head in read_heads(log)] == [head.statement for head in delivered(db)]
    assert log.stat().st_mode & 0o777 == 0o600
    assert numbers(db) == {"hook": 2, "log": 2}
    bodies = [Webhook(SECRET).verify(seen.body.decode(), dict(seen.headers)) for seen in service.seen]
    told = [head["number"] for body in bodies for head in body["data"]["heads"]]
    assert told == [1, 2]


def test_a_failed_delivery_is_tried_again(runtime: Runtime, service: Recorder) -> None:
    """A service that fails gets everything later, the same heads under the same id; other sinks do not wait."""
    db = runtime.database
    service.script = lambda _: Said(500)
    claimed(db)
    tick(runtime)
    assert numbers(db) == {"hook": 0, "log": 1}
    (hook, _) = heads.delivered(db, ["hook", "log"])
    assert "answered 500" in (hook.says or "")
    service.script = lambda _: Said()
    tick(runtime)
    assert numbers(db) == {"hook": 1, "log": 1}
    assert heads.delivered(db, ["hook"])[0].failed_at is None
    assert len({seen.headers["webhook-id"] for seen in service.seen}) == 1


def test_a_sink_that_hangs_blocks_nothing(runtime: Runtime, service: Recorder) -> None:
    """While a service does not answer, the clock seals, jobs move, and no second thread piles up behind the first."""
    go_on, asked = threading.Event(), threading.Event()

    def hang(_seen: Seen) -> Said:
        asked.set()
        go_on.wait(60)
        return Said()

    service.script = hang
    db = runtime.database
    claimed(db)
    sweep.seal(runtime)
    assert sweep.deliver(runtime)
    assert asked.wait(30)
    claim = claimed(db)
    sweep.seal(runtime)
    assert not sweep.deliver(runtime)
    assert [head.number for head in delivered(db)] == [1, 2]
    with db.read() as conn:
        assert conn.scalar(select(jobs.c.state).where(jobs.c.id == claim.job.id)) == "running"
    go_on.set()
    with sweep.delivering:
        pass
    tick(runtime)
    assert numbers(db) == {"hook": 2, "log": 2}


def test_a_torn_line(runtime: Runtime) -> None:
    """A line that a crash tore stays behind as half a line; the head is written again below it."""
    db = runtime.database
    claimed(db)
    tick(runtime)
    (log,) = runtime.settings.head_files
    whole = log.read_bytes()
    log.write_bytes(whole[:50])
    heads.note_delivered(db, "log", 0)
    tick(runtime)
    assert log.read_bytes() == whole[:50] + b"\n" + whole
    assert [head.number for head in read_heads(log)] == [1]
    assert find_behind(runtime.settings, db) is None


def test_a_file_that_cannot_be_written(runtime: Runtime, tmp_path: Path) -> None:
    """It is told, and tried again."""
    (tmp_path / "heads.jsonl").mkdir()
    claimed(runtime.database)
    tick(runtime)
    assert numbers(runtime.database) == {"hook": 1, "log": 0}
    (tmp_path / "heads.jsonl").rmdir()
    tick(runtime)
    assert numbers(runtime.database) == {"hook": 1, "log": 1}


# ── a restored ledger ─────────────────────────────────────────────────────────────────────────────────────────────────


def restore(runtime: Runtime, backup: Path) -> None:
    """Put an older state of the whole database back."""
    db = runtime.database
    db.dispose()
    for path in backup.parent.glob("ledger.db*"):
        path.unlink()
    (backup.parent / "ledger.db").write_bytes(backup.read_bytes())


def back_up(runtime: Runtime, tmp_path: Path) -> Path:
    """The database as it is now."""
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(str(runtime.database.url.database))) as conn:
        conn.execute(f"VACUUM INTO '{backup}'")
    return backup


def test_a_restored_ledger_is_held(runtime: Runtime, tmp_path: Path) -> None:
    """It does not know a head that was delivered: it is held with that reason, and signs nothing any more."""
    db = runtime.database
    claimed(db)
    tick(runtime)
    backup = back_up(runtime, tmp_path)
    claimed(db)
    tick(runtime)
    assert find_behind(runtime.settings, db) is None
    restore(runtime, backup)
    tick(runtime)
    (hold,) = reads.holds(db)
    assert (hold.connection, hold.by) == ("*", "revoq")
    assert "number 2 was delivered, and it has 1" in hold.why
    claimed(db)
    tick(runtime)
    assert [head.number for head in delivered(db)] == [1]
    moves.hold_off(db, "*", actor="ada", why="I know better")
    tick(runtime)
    assert len(reads.holds(db)) == 1


def test_another_history_is_held(runtime: Runtime, tmp_path: Path) -> None:
    """A ledger that went on by itself after it was restored has another head under the delivered number."""
    db = runtime.database
    claimed(db)
    backup = back_up(runtime, tmp_path)
    tick(runtime)
    (log,) = runtime.settings.head_files
    kept = log.read_bytes()
    restore(runtime, backup)
    log.unlink()
    claimed(db)
    tick(runtime)
    log.write_bytes(kept)
    assert find_behind(runtime.settings, db) is not None


def test_nothing_to_compare_with(runtime: Runtime) -> None:
    """Before the first delivery nothing can be compared, and nothing is held."""
    claimed(runtime.database)
    sweep.seal(runtime)
    assert find_behind(runtime.settings, runtime.database) is None
    assert reads.holds(runtime.database) == []
