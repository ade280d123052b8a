"""What the ledger answers: the right rows, in the right order, ready to be written as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from rules.lifecycle import Intent, Reason, State, Verdict
from tests.worker.ledger.samples import MINUTE, claimed, lapse, looked, new_job, new_secret
from worker.errors import UnknownJob
from worker.ledger import moves, reads
from worker.ledger.database import Database


def test_job_by_prefix(db: Database) -> None:
    """A job is found by its id, by a beginning that only it has, and without the word in front."""
    job = moves.submit(db, new_job()).job_id
    for name in (job, job[:12], job.removeprefix("job_")[:6]):
        assert job == reads.job(db, name).id


def test_job_not_found(db: Database) -> None:
    """What is not there, and what is not one, gets a sentence; `%` is no wildcard."""
    ids = [moves.submit(db, new_job()).job_id for _ in range(7)]
    for name in ("job_zz", "%", "job_%"):
        with pytest.raises(UnknownJob, match=f"there is no job {name}"):
            reads.job(db, name)
    with pytest.raises(UnknownJob, match=rf"several jobs begin with job_: {ids[0]}, .*, …; give more of the id"):
        reads.job(db, "job_")


def test_jobs(db: Database) -> None:
    """Listings are filtered, newest first, and go on where the page before ended."""
    parked = claimed(db, new_job(rule="a", connection="c1"))
    moves.park(db, parked, Reason.DENIED, "no")
    done = claimed(db, new_job(rule="b", intent=Intent.PROBE, batch="b1"))
    moves.finish(db, done, Verdict.DEAD, "dead")
    queued = moves.submit(db, new_job(rule="a")).job_id
    everything = [queued, done.job.id, parked.job.id]
    filters: list[tuple[dict[str, Any], list[str]]] = [
        ({}, everything),
        ({"state": State.PARKED}, [parked.job.id]),
        ({"rule": "a"}, [queued, parked.job.id]),
        ({"rule": "a", "connection": "c1"}, [parked.job.id]),
        ({"intent": Intent.PROBE}, [done.job.id]),
        ({"batch": "b1"}, [done.job.id]),
        ({"reason": "denied"}, [parked.job.id]),
        ({"limit": 2}, everything[:2]),
        ({"before": done.job.id}, everything[2:]),
    ]
    for wanted, expected in filters:
        assert expected == [line.id for line in reads.jobs(db, **wanted)]


def test_ready_for_json(db: Database) -> None:
    """Every row but a sealed secret can be written as JSON as it is."""
    claim = claimed(db)
    looked(db, claim, evidence={"status": 200})
    moves.park(db, claim, Reason.NEEDS_SELECTION, "two", [{"id": "1"}])
    moves.hold_on(db, "prod", actor="ada", why="x")
    rows: list[Any] = [
        reads.job(db, claim.job.id),
        *reads.jobs(db),
        *reads.steps(db, claim.job.id),
        *reads.counts(db),
        *reads.audit_rows(db, None, 100),
        *reads.holds(db),
        reads.credential(db, claim.job.credential),
        reads.vitals(db),
    ]
    for row in rows:
        assert json.loads(json.dumps(asdict(row)))


def test_counts(db: Database) -> None:
    """How many jobs stand in each way."""
    for reason in (Reason.DENIED, Reason.DENIED, Reason.NOT_OURS):
        moves.park(db, claimed(db), reason, "no")
    moves.finish(db, claimed(db), Verdict.REVOKED, "dead")
    expected = {
        (State.PARKED, None, "denied", 2),
        (State.PARKED, None, "not_ours", 1),
        (State.DONE, Verdict.REVOKED, None, 1),
    }
    assert expected == {(c.state, c.verdict, c.reason, c.count) for c in reads.counts(db)}


def test_history(db: Database) -> None:
    """Was it this one? By the credential's fingerprint, by that of any secret, and after the shredding."""
    secret = new_secret(1)
    by_credential = claimed(db, new_job(fingerprint="a" * 64))
    by_secret = claimed(db)
    looked(db, by_secret, secrets=[secret])
    claimed(db)
    moves.shred(db, 10)
    assert [by_credential.job.id] == [line.id for line in reads.history(db, ["a" * 64, "b" * 64])]
    assert [by_secret.job.id] == [line.id for line in reads.history(db, [secret.fingerprint])]
    assert reads.history(db, []) == []


def test_was_alive_at(db: Database) -> None:
    """Evidence that this account knew a credential: it was seen alive, at the same base URLs."""
    claim = claimed(db)
    assert not reads.credential(db, claim.job.credential).was_alive_at("https://us.example.com")
    looked(db, claim, credential={"alive_at": db.now(), "alive_where": "https://us.example.com"})
    assert reads.credential(db, claim.job.credential).was_alive_at("https://us.example.com")
    assert not reads.credential(db, claim.job.credential).was_alive_at("https://eu.example.com")


@pytest.mark.parametrize("verdict", [Verdict.ACKNOWLEDGED, Verdict.DEAD, Verdict.INCONCLUSIVE])
def test_was_not_alive(db: Database, verdict: Verdict) -> None:
    """An ending without a look at a living credential is no evidence: the wrong region says dead as well."""
    first = claimed(db, new_job(fingerprint="a" * 64))
    moves.finish(db, first, verdict, "…")
    second = claimed(db, new_job(fingerprint="a" * 64))
    assert not reads.credential(db, second.job.credential).was_alive_at("https://us.example.com")


def test_secrets_of(db: Database) -> None:
    """Of each kind the newest: what a later drive took out of an answer counts."""
    token, old = new_secret(MINUTE), new_secret(MINUTE, kind="extracted:ID")
    claim = claimed(db, new_job(secrets=[token, old]))
    new = new_secret(MINUTE, kind="extracted:ID", created_at=2)
    looked(db, claim, secrets=[new])
    assert {token, new} == set(reads.secrets_of(db, claim.job.id))


def test_audit_rows(db: Database) -> None:
    """Pages follow one another, for one chain and for all."""
    jobs = [claimed(db).job.id for _ in range(3)]
    for job in (jobs[1], None):
        everything = reads.audit_rows(db, job, 100)
        assert len(everything) == (2 if job else 6)
        paged, page = [], reads.audit_rows(db, job, 1)
        while page:
            paged += page
            page = reads.audit_rows(db, job, 1, after=page[-1])
        assert everything == paged
    assert reads.audit_rows(db, jobs[0], 10)[1].facts["event"] == "queued→running"


def test_holds(db: Database) -> None:
    """Every hold that is on, and why a connection may change nothing."""
    moves.hold_on(db, "prod", actor="ada", why="incident 7")
    moves.hold_on(db, "staging", actor="bob", why="audit")
    moves.hold_off(db, "staging", actor="bob", why="over")
    assert [(hold.connection, hold.by, hold.why) for hold in reads.holds(db)] == [("prod", "ada", "incident 7")]
    assert reads.hold_for(db, "prod") == "prod is held by ada: incident 7"
    assert reads.hold_for(db, "staging") is None
    moves.hold_on(db, "*", actor="eve", why="fire")
    assert reads.hold_for(db, "staging") == "everything is held by eve: fire"


def test_vitals(db: Database) -> None:
    """What the doctor asks for."""
    assert reads.oldest_due(db) is None
    claim = claimed(db, new_job(secrets=[new_secret(1)]))
    waiting = moves.submit(db, new_job()).job_id
    lapse(db, claim.job.id)
    moves.ring(db, [waiting])
    vitals = reads.vitals(db)
    assert (
        vitals.due,
        vitals.oldest_due,
        vitals.unsealed,
        vitals.unshredded,
        vitals.last_seal,
    ) == (2, 1, 3, 1, None)
    assert vitals.last_ring is not None
