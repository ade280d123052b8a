"""The Celery doors: that each intent has one, and what a bell shows that came too late."""

from __future__ import annotations

import pytest

from rules.decision import Park, Wait
from rules.lifecycle import Intent, Reason, Verdict
from tests.worker.ledger.conftest import db
from tests.worker.ledger.samples import claimed
from worker import tasks
from worker.ledger import moves
from worker.ledger.database import Database

__all__ = ["db"]


@pytest.mark.parametrize("intent", [Intent.REVOKE, Intent.PROBE, Intent.RESTORE, Intent.RECHECK])
def test_every_intent_has_its_door(intent: Intent) -> None:
    """A message to a door that is not there would be dropped, and rung again for ever."""
    assert getattr(tasks, intent.value).name == intent.value


def test_a_doubled_bell_shows_how_the_job_was_left(db: Database) -> None:
    """An operator who sees the last of two rows in Flower must not take a parked job for one that has ended."""
    parked, waiting, done = (claimed(db) for _ in range(3))
    moves.park(db, parked, Reason.STILL_ALIVE, "it still works")
    moves.wait(db, waiting, db.now() + 1, "not yet")
    moves.finish(db, done, Verdict.REVOKED, "dead")
    assert tasks.standing(db, parked.job.id) == Park(Reason.STILL_ALIVE, "it still works")
    assert isinstance(tasks.standing(db, waiting.job.id), Wait)
    assert tasks.standing(db, done.job.id) is None
    assert tasks.standing(db, "job_nobodyknows") is None
