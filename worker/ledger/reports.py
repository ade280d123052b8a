"""What the report on a batch is made of: its jobs, their credentials, what was seen of each, and the seals; no changes.

What it means is `scheduler.offboard.report`'s. Whoever reads holds one transaction, which sees one moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, or_, select

from worker.ledger.audit import PLACE, count_unsealed
from worker.ledger.reads import LINE
from worker.ledger.rechecks import Recheck, recheck_of
from worker.ledger.rows import Credential, JobLine, Step, credential_of, line_of, step_of
from worker.ledger.tables import audit, credentials, jobs, joined, leavers, rechecks, seals, steps

PAGE = 500
"""Jobs that are read at once."""
BESIDE = (jobs.c.inputs, jobs.c.options, jobs.c.candidates)
"""What the report needs of a job beside its line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One job of a batch with all that is known of it. `joined`: the batch counts it, and another asked for it."""

    job: JobLine
    joined: bool
    inputs: Mapping[str, Any]
    options: Mapping[str, Any]
    candidates: Sequence[Mapping[str, Any]]
    credential: Credential
    steps: Sequence[Step] = ()
    looks: Sequence[Recheck] = ()


@dataclass(frozen=True, slots=True)
class Residual:
    """What lives on of a subject at a connection, whatever its jobs came to; `until` where that is known."""

    subject: str
    connection: str
    says: str
    until: int | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where the audit trail stood: the last seal, and how many rows no seal holds yet, in all and of the batch's jobs.

    `rows` are the rows of the batch's jobs.
    """

    number: int
    head: str | None
    sealed_at: int | None
    unsealed: int
    rows: int
    rows_unsealed: int


def entries(conn: Connection, batch: str) -> Iterator[Entry]:
    """Every job that a batch has or counts, once, in the order of their ids; page by page."""
    query = select(*LINE, *BESIDE).where(_counted(batch)).order_by(jobs.c.id).limit(PAGE)
    page = conn.execute(query).mappings().all()
    while page:
        yield from _entries(conn, batch, page)
        page = conn.execute(query.where(jobs.c.id > page[-1]["id"])).mappings().all()


def residuals(conn: Connection, batch: str) -> list[Residual]:
    """What was noted of each leaver of the batch: what lives on, and until when."""
    query = select(leavers.c.subject, leavers.c.connection, leavers.c.residual).where(leavers.c.batch == batch)
    return [
        Residual(row.subject, row.connection, str(each["says"]), each.get("until"))
        for row in conn.execute(query.order_by(leavers.c.connection, leavers.c.subject))
        for each in row.residual
    ]


def anchor(conn: Connection, batch: str) -> Anchor:
    """The end of the trail, and how far the batch's own rows are sealed."""
    columns = (seals.c.number, seals.c.head, seals.c.sealed_at)
    last = conn.execute(select(*columns).order_by(seals.c.number.desc()).limit(1)).one_or_none()
    number, head, sealed_at = last if last is not None else (0, None, None)
    sealed = func.count(seals.c.number)
    mine = audit.c.job.in_(select(jobs.c.id).where(_counted(batch)))
    rows, known = conn.execute(
        select(func.count(), sealed).select_from(audit.outerjoin(seals, PLACE)).where(mine)
    ).one()
    return Anchor(number, head, sealed_at, count_unsealed(conn), rows, rows - known)


def _counted(batch: str) -> Any:
    return or_(jobs.c.batch == batch, jobs.c.id.in_(select(joined.c.job).where(joined.c.batch == batch)))


def _entries(conn: Connection, batch: str, page: Sequence[RowMapping]) -> Iterator[Entry]:
    ids = [row["id"] for row in page]
    of_credential = select(credentials).where(credentials.c.id.in_({row["credential"] for row in page}))
    known = {row["id"]: credential_of(row) for row in conn.execute(of_credential).mappings()}
    seen = _grouped(conn, select(steps).where(steps.c.job.in_(ids)).order_by(steps.c.job, steps.c.number), "job")
    again = _grouped(conn, select(rechecks).where(rechecks.c.after.in_(ids)).order_by(rechecks.c.number), "after")
    for row in page:
        beside = {column.name: row[column.name] for column in BESIDE}
        yield Entry(
            job=line_of({name: value for name, value in row.items() if name not in beside}),  # type: ignore[arg-type]
            joined=row["batch"] != batch,
            inputs=beside["inputs"],
            options=beside["options"],
            candidates=beside["candidates"] or [],
            credential=known[row["credential"]],
            steps=[step_of(each) for each in seen.get(row["id"], [])],
            looks=[recheck_of(each) for each in again.get(row["id"], [])],
        )


def _grouped(conn: Connection, query: Select[Any], name: str) -> dict[str, list[RowMapping]]:
    found: dict[str, list[RowMapping]] = {}
    for row in conn.execute(query).mappings():
        found.setdefault(row[name], []).append(row)
    return found
