"""The keys of a rotated target and their stages, from PENDING to RETIRED; written inside a move's own transaction.

Each key is a credential of its own, so that `history` finds it by its secret, whoever hands it in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, update

from rules.lifecycle import Stage
from worker.ledger import statements as sql
from worker.ledger.database import Database
from worker.ledger.rows import Job, Staged, credential_row
from worker.ledger.tables import credentials


def told(staged: Iterable[Staged]) -> list[dict[str, str]]:
    """What the audit row of the same move says of it."""
    return [{"key": key.fingerprint, "stage": key.stage} for key in staged]


def put(db: Database, conn: Connection, job: Job, staged: Iterable[Staged], at: int) -> None:
    """Bring each key to its stage."""
    for key in staged:
        row = credential_row(db.new_id("cred"), key, job.rule, job.connection, at)
        conn.execute(sql.insert_missing(conn.dialect.name, credentials), row)
        changes: dict[str, Any] = {"stage": key.stage, "staged_at": at, "target": job.credential}
        changes |= {"provider_id": key.provider_id} if key.provider_id is not None else {}
        changes |= {"subject": key.subject} if key.subject is not None else {}
        changes |= {"dead_at": at} if key.stage is Stage.RETIRED else {}
        same = (
            credentials.c.fingerprint == key.fingerprint,
            credentials.c.rule == job.rule,
            credentials.c.connection == job.connection,
        )
        conn.execute(update(credentials).where(*same).values(changes))
