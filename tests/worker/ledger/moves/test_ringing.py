"""Bells: each job that is due is rung once, incidents first."""

from __future__ import annotations

from sqlalchemy import update

from rules.lifecycle import Reason, Verdict
from tests.worker.ledger.samples import (
    MINUTE,
    at_once,
    claimed,
    lapse,
    new_job,
)
from worker.ledger import moves
from worker.ledger.database import Database, upgrade
from worker.ledger.tables import jobs


def test_ring(db: Database) -> None:
    """A bell is numbered, so that each message has an id of its own, and carries a label without secrets."""
    new = new_job()
    job = moves.submit(db, new).job_id
    (ring,) = moves.ring(db, [job])
    assert (ring.job_id, ring.number, ring.queue, ring.label) == (job, 1, "bulk", f"{new.rule} {new.intent}")
    assert [ring.number for ring in moves.ring(db, [job])] == [2]


def test_ring_due_once(db: Database) -> None:
    """A job is not rung again before `ring_after` has passed, and is after that."""
    job = moves.submit(db, new_job()).job_id
    assert [job] == [ring.job_id for ring in moves.ring_due(db, 10, 60)]
    assert moves.ring_due(db, 10, 60) == []
    assert [job] == [ring.job_id for ring in moves.ring_due(db, 10, 0)]


def test_ring_due_at_once(db: Database) -> None:
    """Several clocks at the same moment ring each job once."""
    ids = {moves.submit(db, new_job()).job_id for _ in range(30)}
    results = at_once(*(lambda: moves.ring_due(db, 30, 60) for _ in range(4)))
    rung = [ring.job_id for result in results for ring in result]
    rung += [ring.job_id for ring in moves.ring_due(db, 30, 60)]
    assert sorted(ids) == sorted(rung)


def test_ring_due_beside_a_move(postgres_url: str) -> None:
    """On PostgreSQL the clock does not wait for a job that somebody is just moving; it rings the others."""
    one, other = Database(postgres_url), Database(postgres_url)
    upgrade(one)
    moving, still = (moves.submit(one, new_job()).job_id for _ in range(2))
    with one.begin() as conn:
        conn.execute(update(jobs).where(jobs.c.id == moving).values(says="x"))
        with other.begin() as second:
            second.exec_driver_sql("SET SESSION lock_timeout = '1s'")
        assert [ring.job_id for ring in moves.ring_due(other, 10, 60)] == [still]
    assert [ring.job_id for ring in moves.ring_due(other, 10, 60)] == [moving]
    one.dispose()
    other.dispose()


def test_ring_due_order(db: Database) -> None:
    """The most urgent first, and among equals the oldest; no more than the limit."""
    low = moves.submit(db, new_job(priority=9)).job_id
    first, second = (moves.submit(db, new_job()).job_id for _ in range(2))
    urgent = moves.submit(db, new_job(priority=0)).job_id
    assert [urgent, first] == [ring.job_id for ring in moves.ring_due(db, 2, 60)]
    assert [second, low] == [ring.job_id for ring in moves.ring_due(db, 2, 60)]


def test_ring_due_after_a_wait(db: Database) -> None:
    """A bell that was rung before a wait does not count after it; before the time has come nothing rings."""
    claim = claimed(db)
    moves.ring(db, [claim.job.id])
    moves.wait(db, claim, db.now() + MINUTE, "later")
    assert moves.ring_due(db, 10, 0) == []
    lapse(db, claim.job.id)
    with db.begin() as conn:
        conn.execute(update(jobs).values(rung_at=-1))
    assert [claim.job.id] == [ring.job_id for ring in moves.ring_due(db, 10, 60 * 60 * 24 * 365 * 100)]


def test_ring_due_after_a_lease(db: Database) -> None:
    """A job whose worker is gone is rung; one whose worker is there is not; nor is one that ended or is parked."""
    gone, here, parked, done = (claimed(db) for _ in range(4))
    moves.park(db, parked, Reason.DENIED, "no")
    moves.finish(db, done, Verdict.REVOKED, "dead")
    lapse(db, gone.job.id)
    assert [gone.job.id] == [ring.job_id for ring in moves.ring_due(db, 10, 0)]
    assert here.job.id not in {ring.job_id for ring in moves.ring(db, [here.job.id])}
