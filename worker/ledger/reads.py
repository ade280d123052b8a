"""What can be asked of the ledger: plain queries, answered with frozen rows that are ready to be shown; no changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, RowMapping, Select, func, select, tuple_, union

from rules.lifecycle import OPEN, Intent, State, Verdict
from worker.errors import UnknownJob
from worker.ledger import statements as sql
from worker.ledger import tables
from worker.ledger.audit import count_unsealed
from worker.ledger.database import Database
from worker.ledger.rows import (
    EVERYTHING,
    AuditRow,
    Count,
    Credential,
    Hold,
    Job,
    JobLine,
    SealedSecret,
    Step,
    Surroundings,
    Vitals,
    audit_row_of,
    credential_of,
    job_of,
    line_of,
    step_of,
)
from worker.ledger.statements import SEALED, is_due

LINE = tuple(column for column in tables.jobs.c if column.name in JobLine.__slots__)
"""What a listing needs of a job: no plan, no inputs."""
NAMED = 5
"""How many jobs are named where a prefix fits several."""


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def job(db: Database, job_id: str) -> Job:
    """The job with this id, or the only one whose id begins like this (`job_` may be left out); else UnknownJob."""
    jobs = tables.jobs
    with db.read() as conn:
        row = conn.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()
        return job_of(row if row is not None else _by_prefix(conn, job_id))


def _by_prefix(conn: Connection, prefix: str) -> RowMapping:
    jobs = tables.jobs
    begins = jobs.c.id.startswith("job_" + prefix.removeprefix("job_"), autoescape=True)
    rows = conn.execute(select(jobs).where(begins).order_by(jobs.c.id).limit(NAMED + 1)).mappings().all()
    if not rows:
        raise UnknownJob(f"there is no job {prefix}; `revoq jobs list` shows them")
    if len(rows) > 1:
        named = ", ".join(row["id"] for row in rows[:NAMED])
        raise UnknownJob(
            f"several jobs begin with {prefix}: {named}{', …' if len(rows) > NAMED else ''}; give more of the id"
        )
    return rows[0]


def jobs(  # noqa: PLR0913 - each is a filter
    db: Database,
    *,
    state: State | None = None,
    rule: str | None = None,
    connection: str | None = None,
    intent: Intent | None = None,
    batch: str | None = None,
    reason: str | None = None,
    limit: int = 100,
    before: str | None = None,
) -> list[JobLine]:
    """The newest jobs that fit everything given; `before` is the last id of the page before."""
    columns = tables.jobs.c
    wanted = {
        "state": state,
        "rule": rule,
        "connection": connection,
        "intent": intent,
        "batch": batch,
        "reason": reason,
    }
    fits = [columns[name] == value for name, value in wanted.items() if value is not None]
    if before is not None:
        fits.append(columns.id < before)
    return _lines(db, select(*LINE).where(*fits).order_by(columns.id.desc()).limit(limit))


def jobs_of_credential(db: Database, credential_id: str) -> list[Job]:
    """Every job about a credential, oldest first, whole."""
    query = select(tables.jobs).where(tables.jobs.c.credential == credential_id).order_by(tables.jobs.c.id)
    with db.read() as conn:
        return [job_of(row) for row in conn.execute(query).mappings()]


def history(db: Database, fingerprints: Sequence[str]) -> list[JobLine]:
    """Every job that dealt with a credential, newest first, by its fingerprint under each key that there ever was.

    The secrets that a job was given or found on its way count too, shredded or not.
    """
    credentials, secrets, jobs = tables.credentials, tables.secrets, tables.jobs
    known = select(credentials.c.id).where(credentials.c.fingerprint.in_(fingerprints))
    of_credential = select(jobs.c.id).where(jobs.c.credential.in_(known))
    of_secret = select(secrets.c.job).where(secrets.c.fingerprint.in_(fingerprints))
    # Two looks by an index each; with an OR between them every job would be looked at.
    about = jobs.c.id.in_(union(of_credential, of_secret))
    return _lines(db, select(*LINE).where(about).order_by(jobs.c.id.desc()))


def counts(db: Database) -> list[Count]:
    """How many jobs there are in each state, with each verdict and each reason."""
    columns = (tables.jobs.c.state, tables.jobs.c.verdict, tables.jobs.c.reason)
    query = select(*columns, func.count().label("count")).group_by(*columns).order_by(*columns)
    with db.read() as conn:
        return [
            Count(State(row.state), Verdict(row.verdict) if row.verdict else None, row.reason, row[3])
            for row in conn.execute(query)
        ]


def _lines(db: Database, query: Select[Any]) -> list[JobLine]:
    with db.read() as conn:
        return [line_of(row) for row in conn.execute(query).mappings()]


# ── what belongs to a job ─────────────────────────────────────────────────────────────────────────────────────────────


def steps(db: Database, job_id: str) -> list[Step]:
    """Everything that was done for a job, in order, over all its drives."""
    with db.read() as conn:
        return _steps(conn, job_id)


def credential(db: Database, credential_id: str) -> Credential:
    """What is known of a credential by now."""
    with db.read() as conn:
        return _credential(conn, credential_id)


def claimable(conn: Connection, rows: Sequence[Row[Any]]) -> tuple[Job, Surroundings, bool]:
    """A job that is about to be claimed, what belongs to it, and whether its account has failed lately.

    `rows` are those of `statements.DUE_JOB`.
    """
    its, theirs, width = tables.jobs.c.keys(), tables.credentials.c.keys(), len(SEALED)
    first = rows[0]
    job = job_of(dict(zip(its, first, strict=False)))
    credential = credential_of(dict(zip(theirs, first[len(its) :], strict=False)))
    sealed = (SealedSecret(*row[-width:]) for row in rows if row[-width] is not None)
    # Nothing was done yet before the first claim.
    done = _steps(conn, job.id) if job.fence else []
    return job, Surroundings(credential, newest(sealed), done), bool(first.troubled)


def _steps(conn: Connection, job_id: str) -> list[Step]:
    return [step_of(row) for row in conn.execute(sql.STEPS_OF_JOB, {"this": job_id}).mappings()]


def _credential(conn: Connection, credential_id: str) -> Credential:
    return credential_of(conn.execute(sql.CREDENTIAL, {"this": credential_id}).mappings().one())


def _secrets(conn: Connection, job_id: str) -> list[SealedSecret]:
    rows = conn.execute(sql.SECRETS_OF_JOB, {"this": job_id}).mappings()
    return newest(SealedSecret(**row) for row in rows)


def newest(secrets: Iterable[SealedSecret]) -> list[SealedSecret]:
    """Of each kind the last one."""
    return list({secret.kind: secret for secret in secrets}.values())


def find_credential(db: Database, fingerprint: str, rule: str, connection: str) -> Credential | None:
    """The credential that a submission with this fingerprint would be about, where the ledger has seen it before."""
    columns = tables.credentials.c
    query = select(tables.credentials).where(
        columns.fingerprint == fingerprint, columns.rule == rule, columns.connection == connection
    )
    with db.read() as conn:
        row = conn.execute(query).mappings().one_or_none()
        return credential_of(row) if row is not None else None


def keys_of(db: Database, target: str, limit: int) -> list[Credential]:
    """The keys of a rotated target, the last that came to a stage first."""
    columns = tables.credentials.c
    query = select(tables.credentials).where(columns.target == target)
    query = query.order_by(columns.staged_at.desc(), columns.id.desc()).limit(limit)
    with db.read() as conn:
        return [credential_of(row) for row in conn.execute(query).mappings()]


def staged_keys(db: Database, fingerprints: Sequence[str]) -> list[Credential]:
    """The keys with one of these fingerprints that a rotation brought to a stage."""
    columns = tables.credentials.c
    query = select(tables.credentials).where(columns.fingerprint.in_(fingerprints), columns.stage.is_not(None))
    with db.read() as conn:
        return [credential_of(row) for row in conn.execute(query.order_by(columns.id)).mappings()]


def open_job(db: Database, credential_id: str, intent: Intent) -> str | None:
    """The id of the job that a submission for this credential would join."""
    columns = tables.jobs.c
    query = select(columns.id).where(
        columns.credential == credential_id, columns.intent == intent, columns.state.in_(sorted(OPEN))
    )
    with db.read() as conn:
        return conn.scalar(query)


def secrets_of(db: Database, job_id: str) -> list[SealedSecret]:
    """The newest secret of each kind that a job holds; it may be shredded by now."""
    with db.read() as conn:
        return _secrets(conn, job_id)


def audit_rows(db: Database, job_id: str | None, limit: int, after: AuditRow | None = None) -> list[AuditRow]:
    """Rows of one chain in its order, or of all in the order of time; `after` is the last row of the page before."""
    columns = tables.audit.c
    order = [columns.at, columns.job, columns.number] if job_id is None else [columns.number]
    query = select(tables.audit).order_by(*order).limit(limit)
    if job_id is not None:
        query = query.where(columns.job == job_id)
    if after is not None:
        query = query.where(tuple_(*order) > tuple_(*(getattr(after, column.name) for column in order)))
    with db.read() as conn:
        return [audit_row_of(row) for row in conn.execute(query).mappings()]


# ── holds, and how the whole is doing ─────────────────────────────────────────────────────────────────────────────────


def holds(db: Database) -> list[Hold]:
    """Every hold that is on, the oldest first."""
    columns = tables.accounts.c
    query = select(columns.connection, columns.held_at, columns.held_by, columns.held_why)
    with db.read() as conn:
        rows = conn.execute(query.where(columns.held_at.is_not(None)).order_by(columns.held_at)).all()
    return [Hold(*row) for row in rows]


def hold_for(db: Database, connection: str) -> str | None:
    """Why nothing may be changed over this connection, or None; `hold_on` is asked again by every step's own write."""
    for hold in holds(db):
        if hold.connection in {connection, EVERYTHING}:
            return hold.says
    return None


def oldest_due(db: Database) -> int | None:
    """Since when the job that has waited longest for a worker could be claimed."""
    return vitals(db).oldest_due


def vitals(db: Database) -> Vitals:
    """What tells whether clock, sealer and workers do their part."""
    jobs, secrets, seals = tables.jobs, tables.secrets, tables.seals
    since = func.coalesce(jobs.c.lease_until, jobs.c.not_before)
    at = db.now()
    overdue = select(func.count()).select_from(secrets)
    with db.read() as conn:
        due, oldest = conn.execute(select(func.count(), func.min(since)).select_from(jobs).where(is_due(at))).one()
        return Vitals(
            now=at,
            due=due,
            oldest_due=oldest,
            last_ring=conn.scalar(select(func.max(jobs.c.rung_at))),
            last_seal=conn.scalar(select(func.max(seals.c.sealed_at))),
            unsealed=count_unsealed(conn),
            unshredded=conn.scalar(overdue.where(secrets.c.shredded_at.is_(None), secrets.c.shred_by <= at)) or 0,
        )
