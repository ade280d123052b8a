"""The outbox on both databases: written with the move, once, composed once, and sent by one clock at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rules.lifecycle import Intent, Reason, Verdict
from rules.notice import Event
from rules.secret import MASK, Secret
from rules.units import SECOND
from tests.worker.ledger.samples import at_once, claimed, execute, new_job
from tests.worker.ledger.test_batches import loaded, some
from worker.errors import ClaimLost
from worker.ledger import accounts, batches, moves, notices, reads
from worker.ledger.database import Database
from worker.ledger.notices import Letter
from worker.log import redacting

ALL = {"file:/x": frozenset(Event)}
HOUR = 3600 * SECOND


def letters(db: Database, patience: int = HOUR, wanted: notices.Wanted = ALL) -> list[Letter]:
    """Compose what there is, and take all of it."""
    notices.compose_due(db, wanted, patience)
    found = []
    while (letter := notices.take(db, HOUR)) is not None:
        found.append(letter)
    return found


def park(db: Database, reason: Reason = Reason.DENIED, **job: object) -> str:
    """A job that is parked; its id."""
    claim = claimed(db, new_job(**job))
    moves.park(db, claim, reason, "a permission is missing")
    return claim.job.id


def test_a_parked_job_is_told_once_for_each_drive(db: Database) -> None:
    """Its notice is committed with the move, and driven again it is another one."""
    job = park(db)
    (first,) = letters(db)
    assert letters(db) == []
    moves.retry(db, job, actor="ada", why="the permission is there")
    claim = moves.claim(db, job, lease=60, worker="w1")
    assert claim is not None
    moves.park(db, claim, Reason.DENIED, "still missing")
    (second,) = letters(db)

    assert (first.message.title, first.receiver) == ("revoq: parked: pangolin.user", "file:/x")
    assert all(fact in first.message.body for fact in (job, "prod", "denied", "a permission is missing"))
    assert "still missing" in second.message.body


def test_what_came_back_is_one_incident(db: Database) -> None:
    """However often the clock looks at it again."""
    job = park(db, Reason.CAME_BACK, intent=Intent.RECHECK)
    assert len(letters(db)) == 1
    moves.retry(db, job, actor="revoq's clock", why="a look")
    claim = moves.claim(db, job, lease=60, worker="w1")
    assert claim is not None
    moves.park(db, claim, Reason.CAME_BACK, "it works")
    assert letters(db) == []


def test_a_lost_claim_tells_nothing(db: Database) -> None:
    """A move that is not made leaves no notice."""
    claim = claimed(db)
    execute(db, "UPDATE jobs SET fence = fence + 1")
    with pytest.raises(ClaimLost):
        moves.park(db, claim, Reason.DENIED, "a permission is missing")
    assert letters(db) == []


def test_a_sentence_passes_the_redactor(db: Database) -> None:
    """What a job holds is struck out before it is written down."""
    claim = claimed(db)
    with redacting(Secret("hunter2-hunter2")):
        moves.park(db, claim, Reason.DENIED, "refused hunter2-hunter2")
    (letter,) = letters(db)
    assert f"refused {MASK}" in letter.message.body


def test_a_thousand_failures_of_a_batch_are_one_digest(db: Database) -> None:
    """It is told when nothing of the batch is at work any more, with its end where it has ended."""
    batch = loaded(db, *some(1000))
    *others, last = (line.id for line in reads.jobs(db, batch=batch, limit=1000))
    one = reads.job(db, last)
    with db.begin() as conn:
        # As a thousand moves would write it, in one transaction.
        for job in others:
            notices.note_parked(conn, db.now(), replace(one, id=job), Reason.DENIED, "a permission is missing")
    execute(db, "UPDATE jobs SET state = 'parked' WHERE id != :last", last=last)
    assert letters(db) == []
    claim = moves.claim(db, last, lease=60, worker="w1")
    assert claim is not None
    moves.park(db, claim, Reason.STILL_ALIVE, "it still works")

    (digest,) = letters(db)

    assert digest.message.title == f"revoq: {batch}: 999 parked, still alive"
    assert "leavers.csv" not in digest.message.body
    assert len(digest.message.body) < 2000


def test_a_batch_at_work_is_told_of_in_time(db: Database) -> None:
    """After its patience the digest does not wait for the rest of the batch; a paused batch is told of at once."""
    batch = loaded(db, *some(3))
    first, second, _ = (line.id for line in reads.jobs(db, batch=batch))
    for job in (first, second):
        claim = moves.claim(db, job, lease=60, worker="w1")
        assert claim is not None
        moves.park(db, claim, Reason.DENIED, "a permission is missing")
        if job == first:
            assert letters(db) == []
            assert len(letters(db, patience=0)) == 1
    assert letters(db) == []
    batches.pause(db, batch, actor="ada", why="one moment")
    assert len(letters(db)) == 1


def test_a_batch_that_ended(db: Database) -> None:
    """Its verdicts are counted, and its name is not told."""
    batch = loaded(db, *some(2))
    for line in reads.jobs(db, batch=batch):
        claim = moves.claim(db, line.id, lease=60, worker="w1")
        assert claim is not None
        moves.finish(db, claim, Verdict.REVOKED, "proved")
    batches.end_finished(db)
    batches.end_finished(db)

    (letter,) = letters(db)

    assert letter.message.title == f"revoq: batch ended: {batch}"
    assert "revoked: 2" in letter.message.body.splitlines()
    assert "leavers.csv" not in letter.message.body


def test_a_breaker_that_opened(db: Database) -> None:
    """Once for each time it opens; a trial that fails is the same outage."""
    until = None
    while until is None:
        until = accounts.fail(db, "hub", 0.5, actor="w1", says="503")
    accounts.fail(db, "hub", 0.5, actor="w1", says="503", trial=True)

    (letter,) = letters(db)

    assert (letter.message.title, letter.message.body) == ("revoq: breaker opened: hub", "account: hub\n503")


def test_who_wants_what(db: Database) -> None:
    """Each receiver gets what it asked for; what nobody wants is not kept for later."""
    park(db)
    park(db, Reason.STILL_ALIVE)
    found = letters(db, wanted={"file:/a": {Event.STILL_ALIVE}, "file:/b": {Event.PARKED, Event.STILL_ALIVE}})
    assert sorted((letter.receiver, letter.message.title) for letter in found) == [
        ("file:/a", "revoq: still alive: pangolin.user"),
        ("file:/b", "revoq: parked: pangolin.user"),
        ("file:/b", "revoq: still alive: pangolin.user"),
    ]
    park(db)
    assert letters(db, wanted={}) == []
    assert letters(db) == []


def test_two_clocks(db: Database) -> None:
    """What one of them composes or takes, the other does not."""
    park(db)
    composed = at_once(*[lambda: notices.compose_due(db, ALL, HOUR)] * 4)
    taken = at_once(*[lambda: notices.take(db, HOUR)] * 4)
    assert sorted(composed) == [0, 0, 0, 1]
    assert sum(isinstance(letter, Letter) for letter in taken) == 1


def test_a_clock_that_died_over_a_message(db: Database) -> None:
    """Another one takes it when the lease is over; what was sent is taken by nobody."""
    park(db)
    notices.compose_due(db, ALL, HOUR)
    first = notices.take(db, HOUR)
    assert notices.take(db, HOUR) is None
    execute(db, "UPDATE messages SET not_before = 0")
    second = notices.take(db, HOUR)
    assert first is not None
    assert second is not None
    assert (first.tries, second.tries, first.id) == (1, 2, second.id)
    notices.end(db, second, sent=True)
    execute(db, "UPDATE messages SET not_before = 0")
    assert notices.take(db, HOUR) is None
