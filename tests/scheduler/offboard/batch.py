"""A batch of every kind of ending, as producers and workers would leave it in a ledger; nothing is asserted here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rules.lifecycle import Outcome, Reason, Verdict
from tests.worker.ledger.samples import new_job
from worker.ledger import audit, batches, moves
from worker.ledger.database import Database
from worker.ledger.rows import Claim, NewJob

DIGEST = "f1:" + "ab" * 32
DAY = 86_400_000_000


def evidence(status: int) -> dict[str, Any]:
    """What is kept of an answer."""
    headers = {"date": "Sun, 22 Nov 2026 14:20:00 GMT", "x-request-id": f"req-{status}"}
    return {"status": status, "matchers": [], "headers": headers, "digest": DIGEST, "bytes": 2}


def begin(db: Database, *news: NewJob, name: str = "leavers.csv") -> str:
    """A batch that is loading, with these jobs."""
    batch = batches.begin(db, name=name, source=f"{db.new_id('source')}", actor="kim@desk").id
    batches.stage(db, batch, list(news))
    return batch


def of(subject: str | None, **changes: Any) -> NewJob:
    """A job about a credential of somebody at the hub."""
    about = {"rule": "jupyterhub.token", "connection": "hub", "subject": subject, "requester": "kim@desk"}
    return new_job(**{**about, "provider_id": "a12", **changes})


def claim(db: Database, job: str) -> Claim:
    """A worker has it."""
    taken = moves.claim(db, job, lease=60, worker="w1")
    if taken is None:
        raise ValueError("it could not be claimed")
    return taken


def step(db: Database, held: Claim, purpose: str, outcome: Outcome, status: int, **credential: Any) -> None:
    """A step, from its intention to its result; the subject is learnt on the way."""
    verb = "DELETE" if purpose == "act" else "GET"
    request = {"method": verb, "url": "https://hub.example.com/hub/api/user"}
    number = moves.intend(db, held, name=purpose, purpose=purpose, mutating=purpose == "act", request=request)
    told = {**credential}
    if outcome is Outcome.ALIVE:
        told |= {"alive_at": db.now(), "alive_where": "https://hub.example.com"}
    if outcome is Outcome.DEAD:
        told["dead_at"] = db.now()
    says = f"{verb} https://hub.example.com/hub/api/user answered {status}"
    moves.record(db, held, number, outcome=outcome, says=says, evidence=evidence(status), credential=told)


def revoke(db: Database, job: str, subject: str | None, verdict: Verdict = Verdict.REVOKED) -> None:
    """Looked at, revoked, and looked at again where it can be."""
    held = claim(db, job)
    about = {} if subject is None else {"subject": subject}
    step(db, held, "before", Outcome.ALIVE, 200, **about)
    step(db, held, "act", Outcome.OK, 204)
    if verdict is Verdict.REVOKED:
        step(db, held, "after", Outcome.DEAD, 403)
    if verdict is Verdict.DISABLED:
        step(db, held, "after", Outcome.DISABLED, 200)
    moves.finish(db, held, verdict, "the credential itself was refused with 403")


def park(db: Database, job: str, reason: Reason, **about: Any) -> None:
    """Looked at, and left to a person."""
    held = claim(db, job)
    step(db, held, "before", Outcome.ALIVE, 200, **about)
    candidates = [{"id": "a1", "shown": {}}, {"id": "a2", "shown": {}}] if reason is Reason.NEEDS_SELECTION else None
    moves.park(db, held, reason, "two rows fit the same beginning", candidates)


def mixed(db: Database) -> str:
    """One of every kind: proved, disabled, unprovable, parked, queued, cancelled, and one that was only joined."""
    joined = of("ada", cause="leaked in a public repository")
    moves.submit(db, joined)
    kinds = {
        "revoked": of("ada", owner="sam@example.com", ticket="SEC-17"),
        "disabled": of("bob"),
        "acknowledged": of("bob", rule="pangolin.token", connection="pangolin-prod", inputs={"TOKEN_ID": "77"}),
        "parked": of("cy", owner="sam@example.com"),
        "strange": of("erin", cause="found by kingfisher in .env", options={"finding": True}),
        "cancelled": of(None),
        "queued": of("dana"),
    }
    batch = begin(db, *kinds.values(), replace(joined, requester="kim@desk"))
    batches.release(db, batch, actor="kim@desk")
    ids = {name: moves.submit(db, new).job_id for name, new in kinds.items()}
    revoke(db, ids["revoked"], "ada")
    revoke(db, ids["disabled"], "bob", Verdict.DISABLED)
    revoke(db, ids["acknowledged"], "bob", Verdict.ACKNOWLEDGED)
    park(db, ids["parked"], Reason.NEEDS_SELECTION, subject="cy", expires_at=db.now() + DAY)
    park(db, ids["strange"], Reason.NOT_OURS, subject="erin")
    moves.cancel(db, ids["cancelled"], actor="kim@desk", why="not needed", shred_by=db.now())
    seal(db)
    return batch


def seal(db: Database) -> None:
    """Fold what there is."""
    with db.begin() as conn:
        audit.fold(conn, 1000, db.now())
