"""A person's moves: what the lifecycle lists, and nothing after something was changed."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from rules.errors import BadInput, MoveRefused
from rules.lifecycle import MOVES, Reason, State
from tests.worker.ledger.samples import (
    acted,
    claimed,
    events,
    looked,
    new_job,
)
from worker.errors import UnknownJob
from worker.ledger import moves, reads
from worker.ledger.database import Database
from worker.ledger.tables import jobs


@pytest.mark.parametrize("state", State)
def test_persons_verbs(db: Database, state: State) -> None:
    """A person's verbs do what the lifecycle lists, and refuse every other state in a sentence."""
    for verb, after in ((moves.retry, State.QUEUED), (moves.cancel, State.CANCELLED)):
        job = moves.submit(db, new_job()).job_id
        with db.begin() as conn:
            conn.execute(update(jobs).where(jobs.c.id == job).values(state=state))
        # Out of other states than parked it is the worker, or a rotation's way back, that leads to queued.
        if (state, after) in MOVES and (verb is moves.cancel or state is State.PARKED):
            verb(db, job, actor="ada", why="because")
            assert after is reads.job(db, job).state
        else:
            with pytest.raises(MoveRefused, match=f"{job} is {state}"):
                verb(db, job, actor="ada", why="because")


def test_probe_does_not_act(db: Database) -> None:
    """A job that has only looked can still be cancelled."""
    claim = claimed(db)
    looked(db, claim)
    moves.wait(db, claim, 0, "later")
    moves.cancel(db, claim.job.id, actor="ada", why="by mistake", shred_by=1)
    job = reads.job(db, claim.job.id)
    assert (job.state, job.acted) == (State.CANCELLED, False)
    assert job.ended_at is not None


def test_acted_is_not_cancelled(db: Database) -> None:
    """After a mutating request was intended, nobody may call the job cancelled."""
    claim = claimed(db)
    acted(db, claim)
    moves.park(db, claim, Reason.DENIED, "no")
    with pytest.raises(MoveRefused, match="can no longer be cancelled"):
        moves.cancel(db, claim.job.id, actor="ada", why="by mistake")
    assert State.PARKED is reads.job(db, claim.job.id).state


def test_retry(db: Database) -> None:
    """A person sets a parked job going again: a new drive, due at once, without what it was parked for."""
    claim = claimed(db, new_job(options={"probe": False, "picked": "1"}))
    moves.park(db, claim, Reason.NEEDS_SELECTION, "two fit", [{"id": "1"}, {"id": "2"}])
    moves.retry(db, claim.job.id, actor="ada", why="it is the second", picked="2")
    job = reads.job(db, claim.job.id)
    assert (job.state, job.drive, job.reason, job.says, job.candidates) == (State.QUEUED, 2, None, None, None)
    assert job.options == {"probe": False, "picked": "2"}
    assert events(db, job.id)[-1] == "parked→queued"


def test_retry_forgets_the_pick(db: Database) -> None:
    """A pick is good for one drive: after it was the wrong one, nothing is picked without a person."""
    claim = claimed(db, new_job(options={"picked": "1"}))
    moves.park(db, claim, Reason.WRONG_ONE, "still alive")
    moves.retry(db, claim.job.id, actor="ada", why="look again")
    assert reads.job(db, claim.job.id).options == {}


@pytest.mark.parametrize(
    ("candidates", "says"),
    [([{"id": "1"}], r"'3' is not one of the candidates of .*; they are: 1"), (None, "there are none")],
)
def test_retry_with_a_stranger(db: Database, candidates: list[dict[str, str]] | None, says: str) -> None:
    """Only a candidate can be picked."""
    claim = claimed(db)
    moves.park(db, claim, Reason.NEEDS_SELECTION, "several", candidates)
    with pytest.raises(BadInput, match=says):
        moves.retry(db, claim.job.id, actor="ada", why="?", picked="3")
    assert State.PARKED is reads.job(db, claim.job.id).state


def test_unknown_job(db: Database) -> None:
    """A job that is not there is named."""
    for verb in (moves.retry, moves.cancel):
        with pytest.raises(UnknownJob, match="there is no job job_x"):
            verb(db, "job_x", actor="ada", why="?")
