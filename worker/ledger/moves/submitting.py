"""How a job comes into the ledger, or joins the one that is open for the same credential."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, and_

from rules.lifecycle import State
from worker.ledger import audit
from worker.ledger import statements as sql
from worker.ledger.accounts import LimitsOf, unlimited
from worker.ledger.database import Database
from worker.ledger.moves.pieces import head_columns, head_of, plain
from worker.ledger.moves.ringing import INCIDENT_SHARE, ring_now
from worker.ledger.moves.sealed import has_secrets, keep
from worker.ledger.rows import NewJob, Ring, Submitted, credential_row, job_of
from worker.ledger.tables import credentials, jobs
from worker.ledger.tables import joined as counted_beside

COPIED = (
    "parent",
    "batch",
    "intent",
    "rule",
    "rule_digest",
    "connection",
    "plan",
    "plan_hash",
    "inputs",
    "options",
    "cost",
    "queue",
    "priority",
    "ticket",
    "owner",
    "requester",
    "cause",
)
"""The columns of a job that are as its submission said."""
MATTER = (
    "intent",
    "rule",
    "rule_digest",
    "connection",
    "plan_hash",
    "inputs",
    "options",
    "parent",
    "batch",
    "fingerprint",
)
"""What was asked: told by a chain's first row alone."""
REQUEST = ("ticket", "owner", "cause", "queue", "priority")
"""For what reason it was asked, and how urgently: told by the first row and by every join."""


def submit(db: Database, new: NewJob) -> Submitted:
    """Open a job in `queued`, or join the one that is open for the same credential, connection and intent.

    A join that is more urgent makes the open job as urgent, and one that brings secrets gives them to a job whose own
    were shredded; it changes nothing else, and is told on the job's chain.
    """
    with db.begin() as conn:
        return submit_within(db, conn, new)


def submit_and_ring(
    db: Database, new: NewJob, limits: LimitsOf = unlimited, share: float = INCIDENT_SHARE
) -> tuple[Submitted, list[Ring]]:
    """The same, and what `ring` would mark: a new job and its bell are one commit.

    An open job that was joined is rung where nobody has rung it yet, or where this made it more urgent.
    """
    with db.begin() as conn:
        submitted = submit_within(db, conn, new)
        silent = and_(jobs.c.id == submitted.job_id, jobs.c.rung_at.is_(None))
        if not submitted.joined:
            # Its row is locked before its account's, against the order; but nobody else can be waiting for a new row.
            return submitted, ring_now(db, conn, silent, 1, limits, share)
    with db.begin() as conn:
        return submitted, ring_now(db, conn, silent, 1, limits, share)


def submit_within(db: Database, conn: Connection, new: NewJob) -> Submitted:
    """The same inside a transaction that does more; of all its locks, those of the job come last."""
    new = cleaned(new)
    at = db.now()
    credential = _credential(db, conn, new, at)
    while True:
        # The partial unique index decides between two that come at once: one inserts, the other finds its row.
        opened = _open(db, conn, new, credential, at)
        if opened is not None:
            return Submitted(opened, joined=False)
        joined = join(conn, new, credential, at)
        if joined is not None:
            return Submitted(joined, joined=True)


def _credential(db: Database, conn: Connection, new: NewJob, at: int) -> str:
    """The id of the credential's row, inserted where there is none. An old row is not locked: its job is, first."""
    row = credential_row(db.new_id("cred"), new, new.rule, new.connection, at)
    inserted = conn.scalar(sql.insert_unless_there(conn.dialect.name, credentials), row)
    if inserted is not None:
        return str(inserted)
    same = {"its_fingerprint": new.fingerprint, "its_rule": new.rule, "my_connection": new.connection}
    return str(conn.execute(sql.FIND_CREDENTIAL, same).scalar_one())


def _open(db: Database, conn: Connection, new: NewJob, credential: str, at: int) -> str | None:
    """Insert the job, or None where one is open already."""
    first, row = opening(db, new, credential, at)
    if conn.scalar(sql.insert_unless_there(conn.dialect.name, jobs), row) is None:
        return None
    audit.write(conn, first)
    if new.provider_id is not None or new.subject is not None:
        conn.execute(sql.FILL_GAPS, word_of(new, credential))
    keep(conn, new.secrets, job=first.job, credential=credential)
    return first.job


def opening(db: Database, new: NewJob, credential: str, at: int) -> tuple[audit.Entry, dict[str, Any]]:
    """The first row of a new job's chain, and the job's own."""
    job = db.new_id("job")
    first = audit.entry(audit.GENESIS, job=job, at=at, event=f"→{State.QUEUED}", **_request(new), **_matter(new))
    row = {
        **{name: getattr(new, name) for name in COPIED},
        "account": new.account or new.connection,
        "id": job,
        "credential": credential,
        "state": State.QUEUED,
        "drive": 1,
        "acted": False,
        "fence": 0,
        "not_before": at,
        "attempt": 0,
        "first_seen": at,
        "rings": 0,
        **head_columns(first),
    }
    return first, row


def word_of(new: NewJob, credential: str) -> dict[str, Any]:
    """What the requester says of the credential: it fills gaps, since what is known was learned from the provider."""
    return {"this": credential, "its_provider_id": new.provider_id, "its_subject": new.subject}


def join(conn: Connection, new: NewJob, credential: str, at: int) -> str | None:
    """Add this request to the open job's chain, or None where that job has just ended.

    A more urgent one takes the job out of its batch's gate: a batch that is loading or paused holds up no incident.
    """
    same = {"this": credential, "my_connection": new.connection, "my_intent": new.intent}
    # The lock waits for a worker that is writing to the chain, and then shows the row as that worker left it.
    row = conn.execute(sql.LOCK_OPEN_JOB, same).mappings().one_or_none()
    if row is None:
        return None
    job = job_of(row)
    told = audit.entry(head_of(job), job=job.id, at=at, event="joined", **_request(new))
    more_urgent = {"priority": new.priority, "queue": new.queue, "rung_at": None}
    changes = more_urgent if new.priority < job.priority else {}
    if changes and job.batch is not None:
        leave_gate(conn, job.batch, job.id)
        changes = {**changes, "batch": None}
    conn.execute(sql.CHANGE_JOB, {"this": job.id, **changes, **head_columns(told)})
    audit.write(conn, told)
    if new.secrets and not has_secrets(conn, job.id):
        keep(conn, new.secrets, job=job.id, credential=credential)
    return job.id


def leave_gate(conn: Connection, batch: str, job_id: str) -> None:
    """Note that a batch counts a job which it does not hold back; the caller changes the job's own row."""
    conn.execute(sql.insert_missing(conn.dialect.name, counted_beside), {"batch": batch, "job": job_id})


def cleaned(new: NewJob) -> NewJob:
    """The same request without characters that a database refuses."""
    texts = ("requester", "ticket", "owner", "cause", "provider_id", "subject")
    cleaned: dict[str, Any] = {name: plain(getattr(new, name)) for name in texts if getattr(new, name) is not None}
    return replace(new, **cleaned)


def _request(new: NewJob) -> dict[str, Any]:
    return {"actor": new.requester, **{name: getattr(new, name) for name in REQUEST}}


def _matter(new: NewJob) -> dict[str, Any]:
    return {name: getattr(new, name) for name in MATTER}
