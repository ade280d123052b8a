"""Holds: nothing that changes something is intended while one is on."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from rules.lifecycle import Outcome
from tests.worker.ledger.samples import (
    MINUTE,
    acted,
    at_once,
    claimed,
    contents,
    events,
    findings,
    looked,
    new_job,
)
from worker.errors import Held
from worker.ledger import moves
from worker.ledger.database import Database, Lock, lock
from worker.ledger.rows import Claim
from worker.ledger.tables import jobs


@pytest.mark.parametrize("connection", ["prod", "*"])
def test_hold(db: Database, connection: str) -> None:
    """Under a hold no mutating step is intended, and nothing of it is written; looking goes on."""
    claim = claimed(db)
    assert moves.hold_on(db, connection, actor="ada", why="incident 7") == 1
    before = contents(db)
    with pytest.raises(Held, match=r"is held by ada: incident 7"):
        acted(db, claim)
    assert before == contents(db)
    looked(db, claim)
    assert moves.hold_off(db, connection, actor="ada", why="over") == 0
    acted(db, claim)
    assert events(db, "revoq") == ["hold off→on", "hold on→off"]
    assert findings(db) == []


def test_hold_elsewhere(db: Database) -> None:
    """A hold on one connection does not stop another."""
    moves.hold_on(db, "staging", actor="ada", why="x")
    acted(db, claimed(db))


def test_hold_off_wakes(db: Database) -> None:
    """Lifting a hold makes the jobs that waited for it due, but not those that another hold still stops."""
    waiting = {}
    for connection in ("prod", "staging"):
        claim = claimed(db, new_job(connection=connection))
        waiting[connection] = claim.job.id
        moves.hold_on(db, connection, actor="ada", why="x")
        moves.wait(db, claim, db.now() + MINUTE, "held", moves.HELD)
    other = claimed(db)
    moves.wait(db, other, db.now() + MINUTE, "throttled")
    moves.hold_on(db, "*", actor="ada", why="x")
    assert moves.hold_off(db, "prod", actor="ada", why="over") == 0
    assert moves.hold_off(db, "*", actor="ada", why="over") == 1
    assert [waiting["prod"]] == [ring.job_id for ring in moves.ring_due(db, 10, 60)]
    assert moves.hold_off(db, "staging", actor="ada", why="over") == 1
    assert moves.hold_off(db, "staging", actor="ada", why="again") == 0


def test_hold_against_intentions(db: Database) -> None:
    """Once `hold_on` has returned, no mutating step is intended any more, however many are on their way."""
    claims = [claimed(db) for _ in range(8)]
    switched: list[int] = []

    def act(claim: Claim) -> None:
        for _ in range(20):
            moves.record(db, claim, acted(db, claim), outcome=Outcome.RETRY, says="again")

    def switch() -> None:
        moves.hold_on(db, "prod", actor="ada", why="x")
        with db.read() as conn:
            switched.append(conn.scalar(select(func.count()).select_from(jobs.metadata.tables["steps"])) or 0)

    results = at_once(switch, *(lambda claim=claim: act(claim) for claim in claims))
    assert results[0] is None
    assert all(result is None or isinstance(result, Held) for result in results)
    with db.read() as conn:
        assert switched == [conn.scalar(select(func.count()).select_from(jobs.metadata.tables["steps"]))]
    assert findings(db) == []


def test_hold_waits_for_an_intention(postgres_url: str) -> None:
    """On PostgreSQL `hold_on` does not get past a transaction that saw no hold and is about to commit its intention."""
    one, other = Database(postgres_url), Database(postgres_url)
    with one.begin(sharing=Lock.HOLDS), other.begin() as holding:
        holding.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
        with pytest.raises(DBAPIError, match="lock timeout"):
            lock(holding, Lock.HOLDS)
    one.dispose()
    other.dispose()
