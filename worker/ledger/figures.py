"""The queries behind the figures for Prometheus: read only, and cheap however many jobs there are.

What stands open is counted from an index of its own, which holds open jobs alone. What has ended never changes again:
it is counted by stretches of time, each over an index of the times at which things ended, and added up by whoever
asks. The only long query is the first one of a new asker, which begins at the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, case, exists, func, not_, select

from rules.budget import NO_REQUEST
from rules.lifecycle import OPEN
from rules.plan import Purpose
from rules.units import SECOND
from worker.ledger.audit import PLACE
from worker.ledger.tables import audit, credentials, jobs, rechecks, seals, steps

ENDED_WITHIN = (1, 5, 15, 60, 300, 900, 3600, 14400, 86400, 604800)
"""Seconds from a job's submission to its end, by which ended jobs are sorted."""
ANSWERED_WITHIN = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Seconds of a step at a provider."""
ELSEWHERE = NO_REQUEST | {
    *(Purpose.PREFLIGHT, Purpose.VACANT, Purpose.DELIVER, Purpose.READ_BACK, Purpose.RELOAD),
    *(Purpose.PUT_BACK, Purpose.SEEN_BACK, Purpose.TELL_BACK, Purpose.DEMOTE),
}
"""Steps that ask no provider: they are at a sink, or at nobody."""
SLACK = 3600 * SECOND
"""How much later than its neighbours a row of the audit trail may come and still be looked for."""

Rows = Sequence[Row[Any]]


@dataclass(frozen=True, slots=True)
class Unsealed:
    """The oldest row of the audit trail that has no seal."""

    job: str
    number: int
    at: int


def standing(conn: Connection) -> Rows:
    """The jobs that have not ended: state, rule, intent, reason, times."""
    columns = (jobs.c.state, jobs.c.rule, jobs.c.intent, jobs.c.reason)
    # Spelled out: by parameters neither database could tell that the index of open jobs has them all.
    stands = jobs.c.state.in_(bindparam("open", sorted(OPEN), expanding=True, literal_execute=True))
    return conn.execute(select(*columns, func.count().label("times")).where(stands).group_by(*columns)).all()


def ended(conn: Connection, after: int, until: int) -> Rows:
    """The jobs that ended in a stretch of time: state, verdict, rule, intent, bucket, times, micros in all."""
    took = jobs.c.ended_at - jobs.c.first_seen
    columns = (jobs.c.state, jobs.c.verdict, jobs.c.rule, jobs.c.intent, _bucket(took, ENDED_WITHIN).label("bucket"))
    return _count(conn, columns, took, and_(jobs.c.ended_at > after, jobs.c.ended_at <= until))


def asked(conn: Connection, after: int, until: int) -> Rows:
    """The steps at providers that ended in a stretch of time: rule, status, trouble, bucket, times, micros in all.

    A step's time is that from its intention to its result: signing in, a list's pages and both commits are part of it.
    """
    took = steps.c.ended_at - steps.c.started_at
    columns = (
        jobs.c.rule,
        steps.c.evidence["status"].as_string().label("status"),
        steps.c.evidence["trouble"].as_string().label("trouble"),
        _bucket(took, ANSWERED_WITHIN).label("bucket"),
    )
    at_provider = and_(
        jobs.c.id == steps.c.job,
        steps.c.purpose.not_in(sorted(ELSEWHERE)),
        steps.c.ended_at > after,
        steps.c.ended_at <= until,
    )
    return _count(conn, columns, took, at_provider)


def looked(conn: Connection, after: int, until: int) -> Rows:
    """The looks at dead credentials that ended in a stretch of time: rule, found, times."""
    columns = (credentials.c.rule, rechecks.c.found)
    when = and_(rechecks.c.ended_at > after, rechecks.c.ended_at <= until)
    query = select(*columns, func.count().label("times")).where(when, credentials.c.id == rechecks.c.credential)
    return conn.execute(query.group_by(*columns)).all()


def oldest_unsealed(conn: Connection) -> Unsealed | None:
    """The oldest row that has no seal; they are sealed in their order, so only those near the last are looked at."""
    last = select(seals.c.job, seals.c.audit_number).order_by(seals.c.number.desc()).limit(1).subquery()
    sealed = conn.scalar(select(audit.c.at).where(audit.c.job == last.c.job, audit.c.number == last.c.audit_number))
    query = select(audit.c.job, audit.c.number, audit.c.at).where(not_(exists().where(PLACE)))
    if sealed is not None:
        query = query.where(audit.c.at > sealed - SLACK)
    row = conn.execute(query.order_by(audit.c.at).limit(1)).one_or_none()
    return None if row is None else Unsealed(row.job, row.number, row.at)


def _bucket(took: ColumnElement[int], within: Sequence[float]) -> ColumnElement[int]:
    """The number of the first limit that a time keeps to."""
    return case(*((took <= int(limit * SECOND), number) for number, limit in enumerate(within)), else_=len(within))


def _count(
    conn: Connection, columns: Sequence[ColumnElement[Any]], took: ColumnElement[int], which: ColumnElement[bool]
) -> Rows:
    single = select(*columns, took.label("took")).where(which).subquery()
    named = [single.c[column.name] for column in columns]
    sums: tuple[ColumnElement[Any], ...] = (func.count().label("times"), func.sum(single.c.took).label("micros"))
    return conn.execute(select(*named, *sums).group_by(*named)).all()
