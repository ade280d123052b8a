"""A worker's moves: guarded by state and fence, each with its row of the trail or not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.exc import DBAPIError

from rules.errors import MoveRefused
from rules.lifecycle import Outcome, Reason, State, StepState, Verdict
from tests.worker.ledger.samples import (
    MINUTE,
    acted,
    claimed,
    column,
    contents,
    execute,
    findings,
    lapse,
    looked,
    new_job,
    new_secret,
)
from worker.errors import ClaimLost
from worker.ledger import moves, reads
from worker.ledger.database import Database
from worker.ledger.rows import Claim

LATE: dict[str, Callable[[Database, Claim], object]] = {
    "intend": acted,
    "record": lambda db, claim: moves.record(db, claim, 1, outcome=Outcome.OK, says="yes", secrets=[new_secret(1)]),
    "wait": lambda db, claim: moves.wait(db, claim, 0, "later"),
    "park": lambda db, claim: moves.park(db, claim, Reason.DENIED, "no"),
    "finish": lambda db, claim: moves.finish(db, claim, Verdict.REVOKED, "dead", shred_by=1),
    "expire": lambda db, claim: moves.expire(db, claim, "over"),
    "give_back": lambda db, claim: moves.give_back(db, claim, "stopping"),
    "extend": lambda db, claim: moves.extend(db, claim, 60),
}


@pytest.mark.parametrize("verb", LATE)
def test_late_write(db: Database, verb: str) -> None:
    """A worker that comes late, after another took over, changes nothing and is told so."""
    claim = claimed(db, new_job(secrets=[new_secret(db.now() + MINUTE)]))
    acted(db, claim)
    lapse(db, claim.job.id)
    assert moves.claim(db, claim.job.id, lease=60, worker="w2") is not None
    before = contents(db)
    with pytest.raises(ClaimLost, match=rf"{claim.job.id} is not w1's any more \(fence 1\)"):
        LATE[verb](db, claim)
    assert before == contents(db)


@pytest.mark.parametrize("verb", LATE)
@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_write_without_running(db: Database, verb: str, state: State) -> None:
    """A worker's verb moves a running job only; from any other state it changes nothing, even with the right fence."""
    claim = claimed(db)
    acted(db, claim)
    execute(db, "UPDATE jobs SET state = :state", state=state.value)
    before = contents(db)
    with pytest.raises(ClaimLost):
        LATE[verb](db, claim)
    assert before == contents(db)


def test_no_audit_row_no_move(db: Database) -> None:
    """A move whose row cannot be written does not happen, whichever verb it is."""
    claim = claimed(db)
    number = looked(db, claim)
    execute(
        db,
        "INSERT INTO audit (job, number, at, row, hash) VALUES (:job, :number, 1, :row, 'x')",
        job=claim.job.id,
        number=claim.head.number + 1,
        row=b"{}",
    )
    before = contents(db)
    for verb in ("intend", "wait", "park", "finish", "expire", "give_back"):
        with pytest.raises(DBAPIError):
            LATE[verb](db, claim)
    assert before == contents(db)
    assert number == claim.steps


def test_step(db: Database) -> None:
    """A step is written down before it is taken and again when its answer has been read."""
    claim = claimed(db)
    number = acted(db, claim)
    [step] = reads.steps(db, claim.job.id)
    assert (step.state, step.outcome, reads.job(db, claim.job.id).acted) == (StepState.INTENDED, None, True)
    secret = new_secret(db.now() + MINUTE)
    moves.record(
        db,
        claim,
        number,
        outcome=Outcome.RETRY,
        says="429",
        taken={"ID": "7"},
        evidence={"status": 429},
        retry_after=1.5,
        credential={"provider_id": "7", "alive_at": 5},
        secrets=[secret],
    )
    [step] = reads.steps(db, claim.job.id)
    assert (step.state, step.outcome, step.says, step.retry_after) == (StepState.DONE, Outcome.RETRY, "429", 1.5)
    assert (step.taken, step.evidence) == ({"ID": "7"}, {"status": 429})
    credential = reads.credential(db, claim.job.credential)
    assert (credential.provider_id, credential.alive_at) == ("7", 5)
    assert [secret] == reads.secrets_of(db, claim.job.id)


def test_step_is_recorded_once(db: Database) -> None:
    """A result is not written over: neither a second time, nor for a step that was never intended."""
    claim = claimed(db)
    number = looked(db, claim)
    for wrong in (number, number + 1):
        with pytest.raises(MoveRefused, match=f"step {wrong} of {claim.job.id} was not intended, or has its result"):
            moves.record(db, claim, wrong, outcome=Outcome.DEAD, says="dead")
    assert Outcome.ALIVE is reads.steps(db, claim.job.id)[0].outcome
    moves.finish(db, claim, Verdict.ALIVE, "alive")
    assert findings(db) == []


def test_step_teaches_known_names(db: Database) -> None:
    """What a step teaches of its credential has a column of its own."""
    claim = claimed(db)
    with pytest.raises(ValueError, match=r"not \['fingerprint'\]"):
        looked(db, claim, credential={"fingerprint": "x"})


def test_lease_grows(db: Database) -> None:
    """Each checkpoint extends the claim, by its own length or by the one that a step asks for."""
    claim = claimed(db, lease=10)
    number = moves.intend(db, claim, name="x", purpose="read", mutating=False, request={}, lease=100)
    assert 90 * 1_000_000 < claim.lease_until - db.now() <= 100 * 1_000_000
    moves.record(db, claim, number, outcome=Outcome.OK, says="yes")
    assert 5 * 1_000_000 < claim.lease_until - db.now() <= 10 * 1_000_000
    moves.extend(db, claim, 50)
    assert claim.lease_until == column(db, claim.job.id, "lease_until")


def test_ends(db: Database) -> None:
    """An ending gives the lease back, tells when and why, and brings the shredding forward but never puts it off."""
    soon, late = db.now() + MINUTE, db.now() + 9 * MINUTE
    claim = claimed(db, new_job(secrets=[new_secret(late), new_secret(soon - 1, kind="variable:X")]))
    moves.finish(db, claim, Verdict.REVOKED, "dead at last", shred_by=soon)
    job = reads.job(db, claim.job.id)
    assert (job.state, job.verdict, job.says, job.lease_until) == (State.DONE, Verdict.REVOKED, "dead at last", None)
    assert job.ended_at is not None
    assert [soon - 1, soon] == sorted(secret.shred_by for secret in reads.secrets_of(db, job.id))


def test_expired(db: Database) -> None:
    """A credential whose own expiry has passed ends its job."""
    claim = claimed(db)
    moves.expire(db, claim, "expired on Monday")
    job = reads.job(db, claim.job.id)
    assert (job.state, job.verdict, job.says) == (State.EXPIRED, None, "expired on Monday")


def test_given_back(db: Database) -> None:
    """A job that is given back is due at once, and is rung again although its bell is fresh."""
    claim = claimed(db)
    moves.ring(db, [claim.job.id])
    moves.give_back(db, claim, "the worker is stopping")
    assert [claim.job.id] == [ring.job_id for ring in moves.ring_due(db, 10, 60)]
    assert moves.claim(db, claim.job.id, lease=60, worker="w2") is not None


def test_attempts(db: Database) -> None:
    """Attempts are counted by who waits, and by each worker that was lost; a person's retry begins anew."""
    claim = claimed(db)
    moves.wait(db, claim, 0, "later", attempt=3)
    again = moves.claim(db, claim.job.id, lease=60, worker="w")
    assert again is not None
    assert again.job.attempt == 3
    moves.park(db, again, Reason.BUDGET_SPENT, "enough")
    moves.retry(db, claim.job.id, actor="ada", why="try")
    assert column(db, claim.job.id, "attempt") == 0
