"""Jobs, secrets and short ways through the moves that the ledger's tests share; nothing is asserted here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

from sqlalchemy import select, text, update

from rules.lifecycle import Intent, Outcome, Verdict
from worker.ledger import audit, heads, moves, reads
from worker.ledger.database import Database
from worker.ledger.heads import Signed
from worker.ledger.rows import Claim, NewJob, SealedSecret
from worker.ledger.tables import jobs
from worker.signing import Signer

MINUTE = 60_000_000
"""In microseconds, as the ledger counts."""
NUMBERS = count(1)
JOB = NewJob(
    fingerprint="f" * 64,
    fingerprint_key="f1",
    rule="pangolin.user",
    connection="prod",
    intent=Intent.REVOKE,
    rule_digest="d" * 64,
    plan={"steps": []},
    plan_hash="p" * 64,
    queue="bulk",
    requester="ada",
)


def new_job(**changes: Any) -> NewJob:
    """A job for a credential of its own, unless its fingerprint is given."""
    return replace(JOB, **{"fingerprint": f"{next(NUMBERS):064x}", **changes})


def new_secret(shred_by: int, **changes: Any) -> SealedSecret:
    """A sealed secret, so to speak."""
    secret = SealedSecret(
        id=f"sec_{next(NUMBERS)}",
        kind="token",
        fingerprint=f"{next(NUMBERS):064x}",
        fingerprint_key="f1",
        version=1,
        algorithm="AES-256-GCM",
        key_id="k1",
        nonce=b"nonce",
        ciphertext=b"ciphertext",
        created_at=1,
        shred_by=shred_by,
    )
    return replace(secret, **changes)


def claimed(db: Database, new: NewJob | None = None, **options: Any) -> Claim:
    """A job that was just submitted and claimed."""
    submitted = moves.submit(db, new or new_job())
    claim = moves.claim(db, submitted.job_id, **{"lease": 60, "worker": "w1", **options})
    if claim is None:
        raise ValueError("it could not be claimed")
    return claim


def acted(db: Database, claim: Claim) -> int:
    """A mutating step, intended."""
    return moves.intend(db, claim, name="revoke", purpose="act", mutating=True, request={"method": "DELETE"})


def looked(db: Database, claim: Claim, outcome: Outcome = Outcome.ALIVE, **result: Any) -> int:
    """A probe, from its intention to its result."""
    number = moves.intend(db, claim, name="probe", purpose="before", mutating=False, request={"method": "GET"})
    moves.record(db, claim, number, outcome=outcome, says="it answered", **result)
    return number


def lapse(db: Database, job_id: str) -> None:
    """Let a claim's lease run out, and a wait be over."""
    with db.begin() as conn:
        conn.execute(update(jobs).where(jobs.c.id == job_id).values(not_before=0))
        conn.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.lease_until.is_not(None)).values(lease_until=1))


def column(db: Database, job_id: str, name: str) -> Any:
    """One column of one job."""
    with db.read() as conn:
        return conn.scalar(select(jobs.c[name]).where(jobs.c.id == job_id))


def execute(db: Database, statement: str, **values: Any) -> None:
    """SQL that goes past the moves, as somebody with the password would write it."""
    with db.begin() as conn:
        conn.execute(text(statement), values)


def findings(db: Database) -> list[audit.Finding]:
    """What a check of the whole trail finds."""
    with db.read() as conn:
        return list(audit.verify(conn))


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Run these in threads that start together; what each returned or raised."""
    start = threading.Barrier(len(actions))
    results: list[Any] = [None] * len(actions)

    def run(index: int, action: Callable[[], Any]) -> None:
        start.wait()
        try:
            results[index] = action()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[index] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def sealed(db: Database, *signers: Signer) -> None:
    """A round of the sealer: fold everything, and sign it."""
    with db.begin() as conn:
        while audit.fold(conn, 1000, db.now()):
            pass
    with db.begin() as conn:
        heads.sign(conn, signers, db.now())


def delivered(db: Database) -> list[Signed]:
    """All heads, as a sink has them."""
    with db.read() as conn:
        return list(heads.everyone(conn))


def ended(db: Database) -> Claim:
    """A job with a few rows that has ended."""
    claim = claimed(db)
    looked(db, claim)
    moves.finish(db, claim, Verdict.REVOKED, "dead")
    return claim


def events(db: Database, job_id: str | None) -> list[str]:
    """What a chain tells, in order."""
    return [row.facts["event"] for row in reads.audit_rows(db, job_id, 1000)]


def contents(db: Database) -> list[object]:
    """Every row of every table that a worker writes to."""
    with db.read() as conn:
        return [
            conn.execute(table.select().order_by(*table.primary_key)).all() for table in jobs.metadata.sorted_tables
        ]
