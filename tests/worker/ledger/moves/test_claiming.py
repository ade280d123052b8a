"""Claiming: what is due goes to one worker, and steps without an answer are found."""

from __future__ import annotations

import pytest

from rules.lifecycle import BatchState, Outcome, Reason, StepState
from tests.worker.ledger.samples import (
    MINUTE,
    acted,
    at_once,
    claimed,
    column,
    lapse,
    looked,
    new_job,
)
from worker.ledger import moves, reads
from worker.ledger.database import Database
from worker.ledger.rows import Claim
from worker.ledger.tables import batches


def add_batch(db: Database, name: str, state: BatchState) -> None:
    """A batch in some state."""
    with db.begin() as conn:
        conn.execute(batches.insert().values(id=name, state=state, name=name, requester="ada", created_at=1))


def test_claim_at_once(db: Database) -> None:
    """Of many workers that claim at the same moment, one gets the job."""
    job = moves.submit(db, new_job()).job_id
    results = at_once(*(lambda: moves.claim(db, job, lease=60, worker="w") for _ in range(12)))
    [winner] = [result for result in results if result is not None]
    assert isinstance(winner, Claim)
    assert column(db, job, "fence") == 1


def test_claim_at_once_after_the_lease(db: Database) -> None:
    """The same for a job whose worker is gone."""
    job = claimed(db).job.id
    lapse(db, job)
    results = at_once(*(lambda: moves.claim(db, job, lease=60, worker="w") for _ in range(12)))
    assert len([result for result in results if result is not None]) == 1
    assert (column(db, job, "fence"), column(db, job, "attempt")) == (2, 1)


def test_claim_not_due(db: Database) -> None:
    """A job that waits, is under a lease, is parked or does not exist cannot be claimed."""
    claim = claimed(db)
    assert moves.claim(db, claim.job.id, lease=60, worker="w2") is None
    moves.wait(db, claim, db.now() + MINUTE, "later")
    assert moves.claim(db, claim.job.id, lease=60, worker="w2") is None
    lapse(db, claim.job.id)
    again = moves.claim(db, claim.job.id, lease=60, worker="w2")
    assert again is not None
    moves.park(db, again, Reason.DENIED, "no")
    assert moves.claim(db, claim.job.id, lease=60, worker="w2") is None
    assert moves.claim(db, "job_nowhere", lease=60, worker="w2") is None


@pytest.mark.parametrize(
    ("state", "claimable"),
    [(BatchState.LOADING, False), (BatchState.PAUSED, False), (BatchState.OPEN, True), (BatchState.ENDED, True)],
)
def test_claim_in_batch(db: Database, state: BatchState, claimable: bool) -> None:  # noqa: FBT001 - a table's column
    """A batch that is loading or paused keeps its jobs from being rung and claimed."""
    add_batch(db, "b1", state)
    job = moves.submit(db, new_job(batch="b1")).job_id
    assert claimable == bool(moves.ring(db, [job]))
    assert claimable == (moves.claim(db, job, lease=60, worker="w") is not None)


def test_claim_finds_lost_steps(db: Database) -> None:
    """A step that was intended by a worker that is gone becomes `lost`: nobody knows what the provider did."""
    claim = claimed(db)
    looked(db, claim)
    number = acted(db, claim)
    lapse(db, claim.job.id)
    again = moves.claim(db, claim.job.id, lease=60, worker="w2")
    assert again is not None
    step = reads.steps(db, claim.job.id)[-1]
    assert (number, StepState.LOST, Outcome.LOST) == (step.number, step.state, step.outcome)
    assert (number,) == again.lost
    assert [number] == reads.audit_rows(db, claim.job.id, 100)[-1].facts["lost"]
    assert number + 1 == acted(db, again)


def test_claim_shows_the_job(db: Database) -> None:
    """The claim holds the row as it is in the database after the claim."""
    claim = claimed(db)
    moves.wait(db, claim, 0, "later", moves.HELD)
    again = moves.claim(db, claim.job.id, lease=60, worker="w2")
    assert again is not None
    assert reads.job(db, claim.job.id) == again.job
