"""What holds for every move: only those that the lifecycle lists, and none without its row of the trail."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy.exc import DBAPIError

from rules.errors import MoveRefused
from rules.lifecycle import MOVES, State
from tests.worker.ledger.samples import (
    execute,
    new_job,
)
from worker.ledger import moves, reads
from worker.ledger.database import Database


@pytest.mark.parametrize("pair", list(itertools.product(State, State)))
def test_only_listed_moves(pair: tuple[State, State]) -> None:
    """What the lifecycle does not list is refused in a sentence."""
    if pair in MOVES:
        moves.permit(*pair)
    else:
        with pytest.raises(MoveRefused, match=f"cannot go from {pair[0]} to {pair[1]}"):
            moves.permit(*pair)


def test_no_audit_row_no_claim(db: Database) -> None:
    """The same for submissions, claims and what a person does."""
    job = moves.submit(db, new_job()).job_id
    broken = "ALTER TABLE audit RENAME TO audit_away"
    execute(db, broken)
    for action in (
        lambda: moves.submit(db, new_job()),
        lambda: moves.claim(db, job, lease=60, worker="w"),
        lambda: moves.cancel(db, job, actor="ada", why="no"),
        lambda: moves.hold_on(db, "prod", actor="ada", why="no"),
    ):
        with pytest.raises(DBAPIError):
            action()
    execute(db, "ALTER TABLE audit_away RENAME TO audit")
    assert State.QUEUED is reads.job(db, job).state
    assert reads.holds(db) == []
    assert len(reads.jobs(db)) == 1
