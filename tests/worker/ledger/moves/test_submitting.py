"""Submitting: a new job or a join, in one transaction with its row of the trail, however many come at once."""

from __future__ import annotations

from rules.budget import Limits
from rules.lifecycle import Outcome, Reason, State, Verdict
from tests.worker.ledger.samples import (
    MINUTE,
    acted,
    at_once,
    claimed,
    column,
    findings,
    looked,
    new_job,
    new_secret,
)
from worker.ledger import moves, reads
from worker.ledger.database import Database


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
