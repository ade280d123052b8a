"""Whose bell is rung next: jobs that are due, by turns over the accounts, as far as each account's budget lets.

Budgets are spent here and not when a job is claimed, so that jobs of a slow provider wait in the ledger and do not
circle through the queue. Sending the messages is the scheduler's.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Row, and_, case, exists, func, or_, select, update

from rules.budget import Bucket, Candidate, Limits, Purse, choose, spend, strictest
from rules.lifecycle import Intent
from rules.units import SECOND
from worker.ledger import accounts, counters
from worker.ledger.accounts import LimitsOf
from worker.ledger.counters import Counter
from worker.ledger.rows import URGENT, Ring
from worker.ledger.tables import accounts as table
from worker.ledger.tables import jobs, steps

Rows = Sequence[Row[tuple[str, ...]]]
"""Jobs that are due, with what their bells are chosen by."""
BECAME_DUE = func.coalesce(jobs.c.lease_until, jobs.c.not_before)
MEANWHILE = exists().where(
    table.c.connection == jobs.c.account, or_(jobs.c.rung_at < table.c.retry_at, jobs.c.rung_at < table.c.broken_until)
)
"""Whether the job was rung for nothing: its account was to rest then, and rests no more."""


def is_silent(at: int, ring_after: float) -> ColumnElement[bool]:
    """Whether a due job was never rung for this time, was not let begin when it was, or its bell counts as lost."""
    lost = jobs.c.rung_at <= at - int(ring_after * SECOND)
    return or_(jobs.c.rung_at.is_(None), jobs.c.rung_at < BECAME_DUE, MEANWHILE, lost)


def ring_fairly(
    conn: Connection,
    at: int,
    found: ColumnElement[bool],
    room: int,
    limits: LimitsOf,
    share: float,
    *,
    rescues: bool = True,
) -> list[Ring]:
    """Mark jobs as rung, at most `room` of those that are `found` to be due, and spend their accounts' budgets.

    Incidents come first, then the smaller priority; among equals the accounts take turns. Whoever looks for more than
    there may be `room` for keeps others from that by a lock; a row that somebody else is just moving is left to them.
    What was rung for this time before is counted as rescued, unless it is rung once more for another reason.
    """
    rows = _queue(conn, found, room, room + 1)
    buckets, chosen = _choose(conn, at, rows, room, limits, share)
    if len(chosen) < room < len(rows):
        # Some of them cannot be paid for; behind them, others may.
        rows = _queue(conn, found, room)
        buckets, chosen = _choose(conn, at, rows, room, limits, share)
    rung = _mark(conn, at, found, [candidate.job for candidate in chosen])
    marked = {ring.job_id for ring in rung}
    for candidate in chosen:
        if candidate.job in marked and candidate.account in buckets:
            buckets[candidate.account] = spend(buckets[candidate.account], candidate.cost)
    accounts.keep(conn, buckets)
    if rescues:
        counters.add(conn, Counter.BELLS_LOST, sum(row.lost for row in rows if row.id in marked))
    return rung


def _choose(
    conn: Connection, at: int, rows: Rows, room: int, limits: LimitsOf, share: float
) -> tuple[dict[str, Bucket], list[Candidate]]:
    """Lock the accounts of these jobs, and say what they have and which jobs that pays for."""
    said = _limits(rows, limits)
    known = accounts.lock_all(conn, said.keys() | _resting(conn, rows))
    buckets = {name: accounts.fill(known.get(name), limit, at) for name, limit in said.items()}
    purses = {
        name: Purse(said.get(name), buckets.get(name), known[name].broken_until is not None)
        for name in {row.account for row in rows} & known.keys()
    }
    costs = {row.id: _cost(row, limits) for row in rows}
    queue = [Candidate(row.id, row.account, costs[row.id], row.queue == URGENT) for row in rows]
    return buckets, choose(queue, purses, room, share)


def _queue(conn: Connection, found: ColumnElement[bool], room: int, most: int | None = None) -> Rows:
    """The jobs in the order of their turns, at most so many; of each account no more than could be rung."""
    rank = case((jobs.c.queue == URGENT, 0), else_=1)
    turn = func.row_number().over(
        partition_by=(rank, jobs.c.priority, jobs.c.account), order_by=(jobs.c.first_seen, jobs.c.id)
    )
    columns = (jobs.c.id, jobs.c.account, jobs.c.rule, jobs.c.queue, jobs.c.priority, jobs.c.cost, jobs.c.drive)
    paid = and_(jobs.c.rung_at.is_not(None), jobs.c.rung_at >= BECAME_DUE)
    lost = and_(paid, ~MEANWHILE)
    told = (rank.label("rank"), turn.label("turn"), paid.label("paid"), lost.label("lost"))
    due = select(*columns, *told, jobs.c.first_seen).where(found)
    ranked = due.subquery()
    taken = select(func.count()).where(steps.c.job == ranked.c.id, steps.c.drive == ranked.c.drive).scalar_subquery()
    order = (ranked.c.rank, ranked.c.priority, ranked.c.turn, ranked.c.first_seen, ranked.c.id)
    return conn.execute(
        select(ranked, taken.label("taken")).where(ranked.c.turn <= room).order_by(*order).limit(most)
    ).all()


def _limits(rows: Rows, limits: LimitsOf) -> dict[str, Limits]:
    """What each account allows: where its rules say different things, the strictest of what is due."""
    said: dict[str, list[Limits]] = {}
    for account, rule in {(row.account, row.rule) for row in rows}:
        limit = limits(account, rule)
        if limit is not None:
            said.setdefault(account, []).append(limit)
    return {account: limit for account, found in said.items() if (limit := strictest(found)) is not None}


def _resting(conn: Connection, rows: Rows) -> set[str]:
    """The accounts that are tried again: their rows are needed, whether they have a limit or not."""
    names = {row.account for row in rows}
    return set(conn.scalars(select(table.c.connection).where(table.c.broken_until.is_not(None)))) & names


def _cost(row: Row[tuple[str, ...]], limits: LimitsOf) -> int:
    """The requests that are still to be sent, as far as that can be told; a bell that is rung again is paid for."""
    if row.paid or limits(row.account, row.rule) is None:
        return 0
    return max(int(row.cost) - int(row.taken), 1)


def _mark(conn: Connection, at: int, found: ColumnElement[bool], ids: Sequence[str]) -> list[Ring]:
    free = select(jobs.c.id).where(jobs.c.id.in_(ids), found).with_for_update(skip_locked=True, key_share=True)
    due = free.cte("due")
    statement = (
        update(jobs)
        .where(jobs.c.id.in_(select(due.c.id)))
        .values(rung_at=at, rings=jobs.c.rings + 1)
        .returning(jobs.c.id, jobs.c.rings, jobs.c.queue, jobs.c.rule, jobs.c.intent, jobs.c.batch)
    )
    place = {job: number for number, job in enumerate(ids)}
    rows = sorted(conn.execute(statement).all(), key=lambda row: place[row.id]) if ids else []
    return [Ring(row.id, row.rings, row.queue, row.rule, Intent(row.intent), row.batch) for row in rows]
