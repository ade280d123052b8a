"""Bells: which jobs a message may be sent for; no message is sent here, and none of these is a move."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, and_

from worker.ledger import statements as sql
from worker.ledger.accounts import LimitsOf, unlimited
from worker.ledger.bells import is_silent, ring_fairly
from worker.ledger.database import Database, Lock, lock
from worker.ledger.rows import Ring
from worker.ledger.tables import jobs

INCIDENT_SHARE = 0.2
"""The part of every budget that bulk leaves to incidents, where the settings say nothing else."""


def ring(
    db: Database, job_ids: Iterable[str], limits: LimitsOf = unlimited, share: float = INCIDENT_SHARE
) -> list[Ring]:
    """Mark those of these jobs that can be claimed now as rung, just before the messages are sent.

    What its account cannot pay for now is rung by the sweep, when it can.
    """
    ids = list(job_ids)
    with db.begin() as conn:
        return ring_now(db, conn, jobs.c.id.in_(ids), len(ids), limits, share)


def ring_now(
    db: Database, conn: Connection, which: ColumnElement[bool], room: int, limits: LimitsOf, share: float
) -> list[Ring]:
    """Mark those of a few known jobs that can be claimed now as rung."""
    at = db.now()
    return ring_fairly(conn, at, and_(which, sql.is_due(at)), room, limits, share, rescues=False)


def unring(db: Database, job_id: str) -> None:
    """Forget that a job was rung, since nobody heard it: the next sweep rings. Not a move: it leaves no row."""
    with db.begin() as conn:
        conn.execute(sql.CHANGE_JOB, {"this": job_id, "rung_at": None})


def ring_due(
    db: Database, limit: int, ring_after: float, limits: LimitsOf = unlimited, share: float = INCIDENT_SHARE
) -> list[Ring]:
    """Find jobs that can be claimed and whose bell was lost, or never rung; mark them as rung, incidents first.

    A bell counts as lost `ring_after` seconds after it was rung, and one that was rung for an earlier due time does not
    count at all. `limits` says what each account allows, `share` which part of that is kept for incidents. Jobs of a
    batch are rung by `batches`, a few at a time.
    """
    with db.begin() as conn:
        lock(conn, Lock.BELLS)
        at = db.now()
        found = and_(jobs.c.batch.is_(None), sql.is_due(at), is_silent(at, ring_after))
        return ring_fairly(conn, at, found, limit, limits, share)
