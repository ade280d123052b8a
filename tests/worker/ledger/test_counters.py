"""What leaves no row of its own is counted, once each time, on both databases."""

from __future__ import annotations

from tests.worker.ledger.samples import at_once, claimed, lapse, new_job
from worker.ledger import counters, moves
from worker.ledger.counters import Counter
from worker.ledger.database import Database


def counted(db: Database) -> dict[str, int]:
    """How often each thing happened."""
    with db.read() as conn:
        return {counter.value: count for counter, count in counters.values(conn).items()}


def test_rescues(db: Database) -> None:
    """A bell that was rung again and a job that was taken over count; a first ring, and one more request, do not."""
    job = moves.submit(db, new_job()).job_id
    moves.ring_due(db, 10, 60)
    moves.ring(db, [job])
    assert counted(db) == {"workers_lost": 0, "bells_lost": 0}
    moves.ring_due(db, 10, 0)
    assert counted(db) == {"workers_lost": 0, "bells_lost": 1}
    lost = claimed(db)
    lapse(db, lost.job.id)
    moves.ring_due(db, 10, 60)
    assert moves.claim(db, lost.job.id, lease=60, worker="w2") is not None
    assert counted(db) == {"workers_lost": 1, "bells_lost": 1}


def test_two_at_once(db: Database) -> None:
    """Nothing is lost between two who count."""

    def add() -> None:
        with db.begin() as conn:
            counters.add(conn, Counter.WORKERS_LOST, 2)

    at_once(*[add] * 8)
    assert counted(db)["workers_lost"] == 16
