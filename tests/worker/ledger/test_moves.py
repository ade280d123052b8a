"""The moves: each in one transaction with its audit row, guarded by state and fence, and never by luck."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError

from rules.budget import Limits
from rules.errors import BadInput, MoveRefused
from rules.lifecycle import MOVES, BatchState, Outcome, Reason, State, StepState, Verdict
from tests.worker.ledger.samples import (
    acted,
    at_once,
    claimed,
    column,
    execute,
    findings,
    lapse,
    looked,
    new_job,
    new_secret,
)
from worker.errors import ClaimLost, Held, UnknownJob
from worker.ledger import moves, reads
from worker.ledger.database import Database, Lock, lock, upgrade
from worker.ledger.rows import Claim
from worker.ledger.tables import audit, batches, credentials, jobs, secrets

MINUTE = 60_000_000


def events(db: Database, job_id: str | None) -> list[str]:
    """What a chain tells, in order."""
    return [row.facts["event"] for row in reads.audit_rows(db, job_id, 1000)]


def add_batch(db: Database, name: str, state: BatchState) -> None:
    """A batch in some state."""
    with db.begin() as conn:
        conn.execute(batches.insert().values(id=name, state=state, name=name, requester="ada", created_at=1))


# ── submitting ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_submit(db: Database) -> None:
    """A submission makes a queued job, due at once, with its credential, its secrets and the first row of its chain."""
    new = new_job(ticket="T-1", subject="bob", secrets=[new_secret(db.now() + MINUTE)])
    submitted = moves.submit(db, new)
    job = reads.job(db, submitted.job_id)
    assert (submitted.joined, job.state, job.ticket, job.audit_number) == (False, State.QUEUED, "T-1", 1)
    assert job.not_before <= db.now()
    assert [secret.id for secret in new.secrets] == [secret.id for secret in reads.secrets_of(db, job.id)]
    assert reads.credential(db, job.credential).subject == "bob"
    [row] = reads.audit_rows(db, job.id, 10)
    assert ("→queued", "ada", new.fingerprint) == tuple(row.facts[name] for name in ("event", "actor", "fingerprint"))


def test_submit_joins(db: Database) -> None:
    """While a job is open, the same submission joins it, and the chain tells who joined and why."""
    first = moves.submit(db, new_job(fingerprint="a" * 64))
    second = moves.submit(db, new_job(fingerprint="a" * 64, requester="bob", ticket="T-2"))
    assert (first.job_id, True) == second
    row = reads.audit_rows(db, first.job_id, 10)[-1]
    assert tuple(row.facts[name] for name in ("event", "actor", "ticket")) == ("joined", "bob", "T-2")
    assert findings(db) == []


def test_submit_after_the_end(db: Database) -> None:
    """After a job has ended, the same submission is a new job on the same credential."""
    claim = claimed(db, new_job(fingerprint="a" * 64))
    moves.finish(db, claim, Verdict.REVOKED, "dead")
    again = moves.submit(db, new_job(fingerprint="a" * 64))
    assert not again.joined
    assert claim.job.credential == reads.job(db, again.job_id).credential


def test_submit_fills_gaps(db: Database) -> None:
    """What a requester says of a credential counts only where the provider has not said it."""
    first = claimed(db, new_job(fingerprint="a" * 64))
    looked(db, first, credential={"subject": "bob"})
    moves.finish(db, first, Verdict.ALIVE, "alive")
    second = claimed(db, new_job(fingerprint="a" * 64, subject="mallory", provider_id="7"))
    known = reads.credential(db, second.job.credential)
    assert (known.subject, known.provider_id) == ("bob", "7")


def test_submit_at_once(db: Database) -> None:
    """Of many submissions of the same at the same moment, one opens a job and all others join it."""
    results = at_once(*(lambda: moves.submit(db, new_job(fingerprint="a" * 64)) for _ in range(12)))
    assert len({result.job_id for result in results}) == 1
    assert sorted(result.joined for result in results) == [False] + [True] * 11
    assert column(db, results[0].job_id, "audit_number") == 12
    assert findings(db) == []


def test_submit_at_once_with_work(db: Database) -> None:
    """Those who join a job do not disturb the worker that advances its chain, nor the other way round."""
    claim = claimed(db, new_job(fingerprint="a" * 64))

    def work() -> None:
        for _ in range(10):
            looked(db, claim, credential={"alive_at": db.now()})

    joins = [lambda: moves.submit(db, new_job(fingerprint="a" * 64, subject="bob")) for _ in range(10)]
    results = at_once(work, *joins)
    assert results[0] is None
    assert {(claim.job.id, True)} == set(results[1:])
    moves.finish(db, claim, Verdict.REVOKED, "dead")
    assert findings(db) == []


def test_urgent_join(db: Database) -> None:
    """Who joins with more urgency makes the job urgent, in the urgent queue, and due for a bell there."""
    job = moves.submit(db, new_job(fingerprint="a" * 64)).job_id
    moves.ring(db, [job])
    moves.submit(db, new_job(fingerprint="a" * 64, priority=0, queue="urgent"))
    moves.submit(db, new_job(fingerprint="a" * 64, priority=9, queue="slow"))
    assert [(job, 2, "urgent")] == [ring[:3] for ring in moves.ring_due(db, 10, 60)]


def test_submit_and_ring(db: Database) -> None:
    """A new job is rung with its submission; a join rings only where it makes the job more urgent."""
    new = new_job(fingerprint="a" * 64)
    submitted, bells = moves.submit_and_ring(db, new)
    assert [(submitted.job_id, 1, "bulk")] == [bell[:3] for bell in bells]
    joined, bells = moves.submit_and_ring(db, new)
    assert (joined, bells) == ((submitted.job_id, True), [])
    joined, bells = moves.submit_and_ring(db, new_job(fingerprint="a" * 64, priority=0, queue="urgent"))
    assert joined.joined
    assert [(submitted.job_id, 2, "urgent")] == [bell[:3] for bell in bells]
    assert moves.ring_due(db, 10, 60) == []


def test_submit_and_ring_of_what_cannot_be_paid(db: Database) -> None:
    """The job is there all the same, and the sweep rings it when its account's budget is full again."""
    empty = Limits.model_validate({"requests": 1, "per": "1h"})
    first, bells = moves.submit_and_ring(db, new_job(cost=1), lambda *_: empty)
    second, none = moves.submit_and_ring(db, new_job(cost=1), lambda *_: empty)
    assert [first.job_id] == [bell.job_id for bell in bells]
    assert none == []
    assert reads.job(db, second.job_id).state is State.QUEUED


def test_join_brings_the_secret_again(db: Database) -> None:
    """A parked job whose secret was shredded gets the one that is handed in again; else nothing is stored twice."""
    job = moves.submit(db, new_job(fingerprint="a" * 64, secrets=[new_secret(1)])).job_id
    moves.submit(db, new_job(fingerprint="a" * 64, secrets=[new_secret(1)]))
    assert moves.shred(db, 10) == 1
    again = new_secret(db.now() + MINUTE)
    moves.submit(db, new_job(fingerprint="a" * 64, secrets=[again]))
    assert [again] == reads.secrets_of(db, job)


def test_odd_characters(db: Database) -> None:
    """A byte that a database or UTF-8 refuses does not stop a job, wherever it came from."""
    odd = "a\0b\ud800"
    claim = claimed(db, new_job(requester=odd, cause=odd, ticket=odd, owner=odd, subject=odd, provider_id=odd))
    number = acted(db, claim)
    facts = {"provider_id": odd, "subject": odd}
    moves.record(db, claim, number, outcome=Outcome.BROKEN, says=odd, credential=facts, evidence={"id": "x\ud800"})
    moves.park(db, claim, Reason.PROVIDER_BROKEN, odd)
    moves.retry(db, claim.job.id, actor=odd, why=odd)
    moves.hold_on(db, "prod", actor=odd, why=odd)
    assert findings(db) == []


# ── claiming ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── under a claim ─────────────────────────────────────────────────────────────────────────────────────────────────────


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


def contents(db: Database) -> list[object]:
    """Every row of every table that a worker writes to."""
    with db.read() as conn:
        return [
            conn.execute(table.select().order_by(*table.primary_key)).all() for table in jobs.metadata.sorted_tables
        ]


@pytest.mark.parametrize("pair", list(itertools.product(State, State)))
def test_only_listed_moves(pair: tuple[State, State]) -> None:
    """What the lifecycle does not list is refused in a sentence."""
    if pair in MOVES:
        moves.permit(*pair)
    else:
        with pytest.raises(MoveRefused, match=f"cannot go from {pair[0]} to {pair[1]}"):
            moves.permit(*pair)


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


# ── a person ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── holds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── bells ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── shredding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_shred(db: Database) -> None:
    """What is past its date is destroyed, parked job or not; its fingerprint stays, and the trail says how many."""
    old, fresh = new_secret(1), new_secret(db.now() + MINUTE, kind="variable:X")
    claim = claimed(db, new_job(secrets=[old, fresh]))
    moves.park(db, claim, Reason.DENIED, "no")
    assert moves.shred(db, 10) == 1
    assert moves.shred(db, 10) == 0
    with db.read() as conn:
        rows = {row.id: row for row in conn.execute(select(secrets))}
    assert (rows[old.id].ciphertext, rows[old.id].nonce) == (None, None)
    assert old.fingerprint == rows[old.id].fingerprint
    assert rows[old.id].shredded_at is not None
    assert fresh.ciphertext == rows[fresh.id].ciphertext
    assert reads.audit_rows(db, "revoq", 10)[0].facts["count"] == 1


def test_shred_in_parts(db: Database) -> None:
    """No more than the limit at once."""
    moves.submit(db, new_job(secrets=[new_secret(1, kind=f"variable:{n}") for n in range(5)]))
    assert [moves.shred(db, 2) for _ in range(4)] == [2, 2, 1, 0]


def test_no_secret_in_the_trail(db: Database) -> None:
    """Sealed bytes and nonces are in the secrets' table alone."""
    claim = claimed(db, new_job(secrets=[new_secret(1, ciphertext=b"c1pher", nonce=b"n0nce")]))
    looked(db, claim, secrets=[new_secret(1, ciphertext=b"c1pher", nonce=b"n0nce")])
    moves.finish(db, claim, Verdict.REVOKED, "dead")
    with db.read() as conn:
        rows = b"".join(conn.scalars(select(audit.c.row)))
        known = conn.execute(select(credentials)).all()
    assert b"c1pher" not in rows
    assert b"n0nce" not in rows
    assert "c1pher" not in repr(known)
