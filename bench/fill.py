"""A ledger with as many finished jobs as wanted, out of the rows of one that was really carried; PostgreSQL only.

The copies differ in their ids, fingerprints, batches and times. Their trail is written, but its hashes are the first
job's: this is for reading and moving, and `bench.rows.trail` makes a trail that verifies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256

from sqlalchemy import Table, text

from bench.stand import Rig
from worker.ledger import tables

OF_A_BATCH = 1000
NUMBER = "lpad(n::text, 12, '0')"
FINGERPRINT = "encode(sha256(n::text::bytea), 'hex')"
# A second between two jobs, the newest of them as old as the one that was carried.
EARLIER = "{0} - (CAST(:count AS bigint) - n) * 1000000"
CHANGED: Mapping[Table, Mapping[str, str]] = {
    tables.credentials: {"id": f"'cred_0' || {NUMBER}", "fingerprint": FINGERPRINT, "first_seen": EARLIER},
    tables.jobs: {
        "id": f"'job_0' || {NUMBER}",
        "credential": f"'cred_0' || {NUMBER}",
        "batch": f"'batch_0' || lpad((n / {OF_A_BATCH})::text, 12, '0')",
        **dict.fromkeys(("first_seen", "rung_at", "ended_at", "not_before"), EARLIER),
    },
    tables.secrets: {
        "id": f"'sec_0' || {NUMBER}",
        "job": f"'job_0' || {NUMBER}",
        "credential": f"'cred_0' || {NUMBER}",
        "fingerprint": FINGERPRINT,
    },
    tables.steps: {"job": f"'job_0' || {NUMBER}"},
    tables.audit: {"job": f"'job_0' || {NUMBER}", "at": EARLIER},
    tables.rechecks: {
        "credential": f"'cred_0' || {NUMBER}",
        "after": f"'job_0' || {NUMBER}",
        # Looks that nobody has taken yet are far away here: what is due would be another row's work.
        "due": "{0} + 86400000000 * 365",
    },
}
BATCHES = f"""
INSERT INTO batches (id, state, name, requester, created_at, ended_at)
SELECT 'batch_0' || lpad(n::text, 12, '0'), 'ended', 'filled', 'bench', n, n
FROM generate_series(0, :count / {OF_A_BATCH}) AS n
"""  # noqa: S608 - a number of ours
OF_THE_JOB = {
    tables.credentials: "id = (SELECT credential FROM jobs WHERE id = :job)",
    tables.jobs: "id = :job",
    tables.secrets: "job = :job",
    tables.steps: "job = :job",
    tables.audit: "job = :job",
    tables.rechecks: "after = :job",
}


def fill(
    rig: Rig,
    job: str,
    number: int,
    *,
    only: Collection[Table] = tuple(CHANGED),
    also: Mapping[Table, Mapping[str, str]] | None = None,
) -> None:
    """Copy a finished job and all that belongs to it so many times, in batches that have ended.

    `only` are the tables that are wanted; `also` are more columns that are other than the first job's, in SQL.
    """
    used = {"count": number, "job": job}
    with rig.runtime.database.begin() as connection:
        connection.execute(text("SET LOCAL synchronous_commit = off"))
        connection.execute(text(BATCHES), {"count": number})
        for table in only:
            connection.execute(text(_copy(table, {**CHANGED[table], **(also or {}).get(table, {})})), used)
        connection.execute(text("ANALYZE"))


def _copy(table: Table, changed: Mapping[str, str]) -> str:
    columns = ", ".join(f'"{column.name}"' for column in table.c)
    values = ", ".join(changed.get(column.name, "{0}").format(f'one."{column.name}"') for column in table.c)
    return (
        f"INSERT INTO {table.name} ({columns}) SELECT {values} "  # noqa: S608 - our own names
        f"FROM {table.name} AS one, generate_series(1, :count) AS n WHERE {OF_THE_JOB[table]}"
    )


def fingerprint_of(number: int) -> str:
    """What the credential of the n-th copy is known by."""
    return sha256(str(number).encode()).hexdigest()
