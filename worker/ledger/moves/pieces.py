"""What the moves share: what is allowed, how a text is cleaned, how a row points to the head of its chain."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from rules.errors import MoveRefused
from rules.lifecycle import MOVES, State
from rules.units import SECOND
from worker.errors import UnknownJob
from worker.ledger import audit
from worker.ledger import statements as sql
from worker.ledger.rows import Head, Job, job_of


def permit(before: State, after: State) -> None:
    """Refuse a move that the lifecycle does not list."""
    if (before, after) not in MOVES:
        raise MoveRefused(f"a job cannot go from {before} to {after}")


def plain(text: str) -> str:
    """The text without what PostgreSQL or UTF-8 refuses: a byte in a provider's answer must not stop a move."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def head_columns(told: audit.Entry) -> dict[str, Any]:
    """The columns by which a job's row points to the last row of its chain."""
    return {"audit_number": told.number, "audit_hash": told.hash}


def head_of(job: Job) -> Head:
    """The last row of a job's chain, as the job was read."""
    return Head(job.audit_number, job.audit_hash)


def locked(conn: Connection, job_id: str) -> Job:
    """The job, which nobody else changes until this transaction ends; raises UnknownJob."""
    row = conn.execute(sql.LOCK_JOB, {"this": job_id}).mappings().one_or_none()
    if row is None:
        raise UnknownJob(f"there is no job {job_id}; `revoq jobs list` shows them")
    return job_of(row)


def micros(seconds: float) -> int:
    """A length of time as the ledger counts it, in microseconds."""
    return int(seconds * SECOND)
