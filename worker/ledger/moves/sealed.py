"""The sealed secrets of jobs: kept with them, brought to an earlier end, and destroyed; who seals is `worker.safe`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, select, update

from worker.ledger import audit
from worker.ledger import statements as sql
from worker.ledger.database import Database
from worker.ledger.rows import SealedSecret
from worker.ledger.tables import secrets
from worker.ledger.together import Write


def keep(conn: Connection, sealed: Sequence[SealedSecret], *, job: str, credential: str) -> None:
    """Store sealed secrets with their job and credential."""
    if sealed:
        rows = [{**asdict(secret), "job": job, "credential": credential} for secret in sealed]
        conn.execute(sql.KEEP, rows)


def has_secrets(conn: Connection, job: str) -> bool:
    """Whether a secret of this job can still be opened."""
    return conn.scalar(sql.HAS_SECRETS, {"this": job}) is True


def hasten(conn: Connection, job: str, shred_by: int | None) -> None:
    """Bring the end of a job's secrets forward; never put it off."""
    if shred_by is not None:
        conn.execute(*shredding_by(job, shred_by))


def shredding_by(job: str, shred_by: int) -> Write:
    """The same as a write that goes with others."""
    return Write(sql.HASTEN, {"this": job, "sooner": shred_by, "shred_by": shred_by})


def shred(db: Database, limit: int) -> int:
    """Destroy secrets that are past their date, parked job or not; how many. Their fingerprints stay."""
    with db.begin() as conn:
        at = db.now()
        past = (
            select(secrets.c.id)
            .where(secrets.c.shredded_at.is_(None), secrets.c.shred_by <= at)
            .order_by(secrets.c.shred_by)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("past")
        )
        gone = {"ciphertext": None, "nonce": None, "shredded_at": at}
        # Counted by what comes back: Python's driver knows no count of rows for a statement that begins with WITH.
        statement = update(secrets).where(secrets.c.id.in_(select(past.c.id))).values(gone).returning(secrets.c.id)
        count = len(conn.scalars(statement).all())
        if count:
            audit.append_global(conn, at=at, event="secrets sealed→shredded", count=count)
    return count
