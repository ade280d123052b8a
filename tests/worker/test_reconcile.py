"""A restored ledger asks what is so before it changes anything, and then says what it has lost; with real jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from rules.lifecycle import Reason, State, Verdict
from scheduler import sweep
from scheduler.reconcile import answer, ask, find_stale, go_on
from tests.sandbox import Sandbox
from tests.worker.bench import Bench, open_bench
from worker import delivery
from worker.errors import SafeError
from worker.ledger import audit, heads, reads
from worker.ledger.audit import Tally
from worker.ledger.exports import read_heads
from worker.restored import find_behind
from worker.runtime import Runtime
from worker.signing import write_signer


@pytest.fixture
def bench(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, connected: dict[str, Any]) -> Iterator[Bench]:
    """A bench whose clock signs, and writes its heads to a file."""
    write_signer(tmp_path / "audit_keys")
    settings = {
        "audit_keys_file": str(tmp_path / "audit_keys"),
        "audit_sinks": {"log": {"kind": "file", "path": str(tmp_path / "heads.jsonl")}},
    }
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connected, settings=settings) as opened:
        yield opened


def tick(runtime: Runtime) -> None:
    """The clock's round: fold, sign, deliver."""
    sweep.seal(runtime)
    assert delivery.deliver(runtime.settings, runtime.database) == {}


def go_back(runtime: Runtime, backup: Path) -> None:
    """Restore the database."""
    runtime.database.dispose()
    there = Path(str(runtime.database.url.database))
    for path in there.parent.glob(f"{there.name}*"):
        path.unlink()
    there.write_bytes(backup.read_bytes())


def check(runtime: Runtime) -> tuple[list[audit.Finding], Tally]:
    """The whole trail against the key and everything that was delivered."""
    tally = Tally()
    (signer,) = runtime.signers
    delivered = chain.from_iterable(map(read_heads, runtime.settings.head_files))
    with runtime.database.read() as conn:
        return list(audit.verify(conn, tally, anchors=[signer.public], delivered=delivered)), tally


@pytest.fixture
def restored(bench: Bench, sandbox: Sandbox, tmp_path: Path) -> tuple[str, str]:
    """One key that died before the backup and one that died after it; the ledger knows of the first alone."""
    runtime = bench.runtime
    before, after = sandbox.sendgrid.add_key(), sandbox.sendgrid.add_key()
    old = bench.run("sendgrid.api_key", before.secret, "sendgrid-demo").id
    new = bench.submit("sendgrid.api_key", after.secret, "sendgrid-demo")
    tick(runtime)
    with closing(sqlite3.connect(str(runtime.database.url.database))) as conn:
        conn.execute(f"VACUUM INTO '{tmp_path / 'backup.db'}'")
    assert bench.carry(new, rounds=20).verdict is Verdict.REVOKED
    tick(runtime)
    go_back(runtime, tmp_path / "backup.db")
    tick(runtime)
    return old, new


def test_reconciled(bench: Bench, restored: tuple[str, str]) -> None:
    """Held, probed, told, lifted: afterwards the trail is sound with everything that was ever delivered."""
    runtime, (old, new) = bench.runtime, restored
    assert [hold.connection for hold in reads.holds(runtime.database)] == ["*"]
    assert check(runtime)[0] != []
    assert [job.id for job in find_stale(runtime)] == [old, new]

    questions = ask(runtime, requester="ada")
    for question in questions:
        assert question.probe is not None
        assert bench.carry(question.probe, rounds=20).verdict is Verdict.DEAD
    found = {each.about.id: (each.verdict, each.says) for each in (answer(runtime, each) for each in questions)}
    assert found[old] == ("dead", "as the ledger has it")
    assert found[new][0] == "dead"
    assert "it is dead by now: the job will find that" in found[new][1]

    assert go_on(runtime, actor="ada", why="the disk died") == 0
    assert reads.holds(runtime.database) == []
    assert find_behind(runtime.settings, runtime.database) is None
    tick(runtime)
    tick(runtime)
    assert reads.holds(runtime.database) == []
    ended = bench.carry(new, rounds=20)
    # That it was ever seen alive was told after the backup.
    assert (ended.state, ended.reason) == (State.PARKED, Reason.NOT_RECOGNISED)
    tick(runtime)
    findings, tally = check(runtime)
    assert (findings, tally.lost) == ([], 1)
    (told,) = [
        row.facts
        for row in reads.audit_rows(runtime.database, audit.GLOBAL, 100)
        if row.facts["event"] == "ledger restored→reconciled"
    ]
    assert (told["first_lost"], told["last_lost"], told["why"]) == (2, 2, "the disk died")


def test_nothing_is_changed_before(bench: Bench, restored: tuple[str, str], sandbox: Sandbox) -> None:
    """While it is held, a job that would change something looks and waits."""
    key = sandbox.sendgrid.add_key()
    job = bench.carry(bench.submit("sendgrid.api_key", key.secret, "sendgrid-demo"))
    assert (job.state, job.reason) == (State.WAITING, "held")
    assert "act" not in {purpose for purpose, _, _ in bench.outline(job)}


def test_restored_twice(bench: Bench, restored: tuple[str, str], tmp_path: Path) -> None:
    """A second restore of the same backup is noticed as the first was, and told as well."""
    for _ in range(2):
        go_on(bench.runtime, actor="ada", why="again")
        tick(bench.runtime)
        assert check(bench.runtime)[0] == []
        go_back(bench.runtime, tmp_path / "backup.db")
        tick(bench.runtime)
        assert len(reads.holds(bench.runtime.database)) == 1
    go_on(bench.runtime, actor="ada", why="the last time")
    tick(bench.runtime)
    findings, tally = check(bench.runtime)
    assert findings == []
    assert tally.lost >= 3


def test_a_loss_is_signed_or_not_told(bench: Bench, restored: tuple[str, str]) -> None:
    """Without the key that signs, nothing is lifted."""
    unsigned = bench.runtime.settings.model_copy(update={"audit_keys": None})
    with pytest.raises(SafeError, match="run this where REVOQ_AUDIT_KEYS is"):
        go_on(type(bench.runtime)(**{**vars(bench.runtime), "settings": unsigned}), actor="ada", why="x")
    assert len(reads.holds(bench.runtime.database)) == 1


def test_a_key_that_works_again(bench: Bench, restored: tuple[str, str], sandbox: Sandbox) -> None:
    """What the ledger takes for dead and works is said."""
    old, _ = restored
    for question in ask(bench.runtime, requester="ada"):
        if question.about.id != old or question.probe is None:
            continue
        sandbox.fault("sendgrid", "status", status=200, body='{"scopes": []}', times=1)
        assert bench.carry(question.probe, rounds=20).verdict is Verdict.ALIVE
        found = answer(bench.runtime, question)
        assert found.says == "it works, and the ledger says revoked: look at it, and submit it again"


def test_heads_are_not_signed_meanwhile(bench: Bench, restored: tuple[str, str]) -> None:
    """A number is never used twice."""
    with bench.runtime.database.read() as conn:
        last = heads.latest(conn)
    assert last is not None
    assert last.number == 1
