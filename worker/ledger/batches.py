"""Batches on the ledger: staged in bulk behind a gate, opened by one UPDATE, paused, cancelled, rung a few at a time.

What a single job's moves are is `moves`'. Every transaction here is short, since an urgent job may be waiting for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from random import shuffle
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Compiled,
    Connection,
    Dialect,
    RowMapping,
    Select,
    String,
    and_,
    bindparam,
    exists,
    func,
    insert,
    not_,
    or_,
    select,
    true,
    update,
)

from rules.errors import BadInput, MoveRefused
from rules.lifecycle import OPEN, BatchState, Reason, State, Verdict
from rules.notice import Event
from rules.units import SECOND
from worker.ledger import audit, moves
from worker.ledger import statements as sql
from worker.ledger.accounts import LimitsOf, unlimited
from worker.ledger.bells import is_silent, ring_fairly
from worker.ledger.database import Database, Lock, lock, planned_anew
from worker.ledger.notices import note
from worker.ledger.rows import Count, NewJob, Ring, SealedSecret, credential_row, job_of
from worker.ledger.tables import audit as audit_rows
from worker.ledger.tables import batches, credentials, jobs, joined, leavers, secrets

SILENT_AFTER = 120 * SECOND
"""A loader that has given no sign of life for this long is gone."""
AT_ONCE = 200
"""Jobs that one transaction of a cancellation moves."""
KEPT = tuple(each.name for each in fields(SealedSecret))
LATELY = 300 * SECOND
"""The time over which the rate of a batch is measured."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A row of `batches`. `abandoned`: it is loading, and its loader is gone."""

    id: str
    state: BatchState
    name: str
    requester: str
    plan: str | None
    source: str | None
    beat_at: int | None
    created_at: int
    opened_at: int | None
    watched_from: int | None
    says: str | None
    ended_at: int | None
    abandoned: bool


@dataclass(frozen=True, slots=True)
class Staged:
    """What became of rows: jobs of their own, jobs that were open already, and jobs that this very batch has."""

    opened: int
    joined: int
    repeated: int


# ── loading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def begin(db: Database, *, name: str, source: str, actor: str, plan: str | None = None) -> Batch:
    """→loading: open a batch for a file, or go on with the one that a loader of the same file left behind."""
    with db.begin() as conn:
        at = db.now()
        same = select(batches).where(batches.c.source == source, batches.c.state == BatchState.LOADING)
        row = conn.execute(sql.locking(same.order_by(batches.c.id).limit(1))).mappings().one_or_none()
        if row is None:
            batch = db.new_id("batch")
            values: dict[str, Any] = {
                "id": batch,
                "state": BatchState.LOADING,
                "name": moves.plain(name),
                "source": source,
            }
            values["plan"] = plan
            conn.execute(insert(batches).values(**values, requester=moves.plain(actor), created_at=at, beat_at=at))
            _tell(conn, at, batch, f"batch →{BatchState.LOADING}", actor, name=moves.plain(name), source=source)
        elif _batch_of(row, at).abandoned:
            batch = row["id"]
            conn.execute(update(batches).where(batches.c.id == batch).values(beat_at=at))
            _tell(conn, at, batch, "batch loaded further", actor)
        else:
            raise MoveRefused(
                f"{row['id']} is being loaded from the same file right now: revoq batches show {row['id']}"
            )
        return _batch_of(conn.execute(select(batches).where(batches.c.id == batch)).mappings().one(), at)


def stage(db: Database, batch: str, news: Sequence[NewJob]) -> Staged:
    """Write jobs down behind the gate of a batch, in one transaction; where that is open, they are due at once."""
    wanted: dict[tuple[str, str, str, str], NewJob] = {}
    for new in news:
        wanted.setdefault(
            (new.fingerprint, new.rule, new.connection, new.intent), replace(moves.cleaned(new), batch=batch)
        )
    repeated = len(news) - len(wanted)
    # In one order for all, so that no two loaders wait for each other.
    ordered = [wanted[key] for key in sorted(wanted)]
    with db.begin() as conn:
        at = db.now()
        mine = update(batches).where(batches.c.id == batch, batches.c.state.in_([BatchState.LOADING, BatchState.OPEN]))
        if conn.execute(mine.values(beat_at=at)).rowcount == 0:
            raise MoveRefused(f"{batch} is open or loading no more: somebody paused or cancelled it")
        known = _credentials(db, conn, ordered, at)
        there = _open_jobs(conn, {(known[_key(new)], new.connection, new.intent) for new in ordered})
        fresh, repeats, joins = [], 0, []
        for new in ordered:
            place = known[_key(new)], new.connection, new.intent
            if place not in there:
                fresh.append(new)
            elif there[place] == batch:
                repeats += 1
            else:
                joins.append(new)
        lost = _insert(db, conn, fresh, known, at)
        joins += lost
        for new in joins:
            _join(db, conn, batch, new, known[_key(new)], at)
    return Staged(len(fresh) - len(lost), len(joins), repeated + repeats)


def release(db: Database, batch: str, *, actor: str) -> None:
    """loading→open: everything that was staged can be claimed from now on, by this one UPDATE."""
    at = db.now()
    _move(db, batch, {BatchState.LOADING}, BatchState.OPEN, actor, opened_at=at, watched_from=at)


def abandon(db: Database, batch: str) -> None:
    """Say that the loader is gone, so that the next one need not wait until its silence tells."""
    with db.begin() as conn:
        conn.execute(
            update(batches).where(batches.c.id == batch, batches.c.state == BatchState.LOADING).values(beat_at=0)
        )


def _key(new: NewJob) -> tuple[str, str, str]:
    return new.fingerprint, new.rule, new.connection


def _credentials(db: Database, conn: Connection, news: Sequence[NewJob], at: int) -> dict[tuple[str, str, str], str]:
    """The ids of the credentials' rows, inserted where there are none."""
    once = {_key(new): new for new in news}.values()
    rows = [credential_row(db.new_id("cred"), new, new.rule, new.connection, at) for new in once]
    conn.execute(sql.insert_missing(conn.dialect.name, credentials), rows)
    known = (credentials.c.fingerprint, credentials.c.rule, credentials.c.connection)
    found = _look_up(conn, known, {_key(new) for new in once}, credentials.c.id)
    return {(fingerprint, rule, connection): id_ for fingerprint, rule, connection, id_ in found}


def _open_jobs(conn: Connection, wanted: Collection[tuple[str, str, str]]) -> dict[tuple[str, str, str], str | None]:
    """The batch of each job that is open for one of these credentials, over its connection and with its intent."""
    same = (jobs.c.credential, jobs.c.connection, jobs.c.intent)
    found = _look_up(conn, same, wanted, jobs.c.batch, sql.IS_OPEN)
    return {(credential, connection, intent): batch for credential, connection, intent, batch in found}


def _look_up(
    conn: Connection,
    columns: Sequence[Column[Any]],
    keys: Collection[tuple[str, ...]],
    value: Column[Any],
    *conditions: ColumnElement[bool],
) -> Iterator[Sequence[Any]]:
    """The keys that a table has, each with a value beside it; no two of its rows have the same key.

    PostgreSQL is made to ask an index for one key after the other, and to plan that anew each time: while a table grows
    its planner knows nothing of it, and would rather look at all that is open, or keep a plan that was for ten rows.
    """
    if conn.dialect.name == "postgresql":
        arrays = {column.name: [str(key[place]) for key in keys] for place, column in enumerate(columns)}
        compiled = _each(conn.dialect, tuple(columns), value, conditions)
        with planned_anew(conn):
            found = conn.exec_driver_sql(compiled.string, compiled.construct_params(arrays)).all()
        yield from found
    else:
        about = columns[0].in_({key[0] for key in keys})
        for row in conn.execute(select(*columns, value).where(about, *conditions)):
            if tuple(row[:-1]) in keys:
                yield row


@lru_cache
def _each(
    dialect: Dialect,
    columns: tuple[Column[Any], ...],
    value: Column[Any],
    conditions: tuple[ColumnElement[bool], ...],
) -> Compiled:
    names = [column.name for column in columns]
    arrays = (bindparam(name, type_=ARRAY(String)) for name in names)
    wanted = func.unnest(*arrays).table_valued(*names, name="wanted").render_derived()
    same = (column == wanted.c[column.name] for column in columns)
    one = select(value).where(*same, *conditions).limit(1).lateral("one")
    query = select(*wanted.c, one.c[value.name]).select_from(wanted.join(one, true()))
    return query.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})


def _insert(
    db: Database, conn: Connection, news: Sequence[NewJob], known: dict[tuple[str, str, str], str], at: int
) -> list[NewJob]:
    """Insert jobs with their chains and secrets; those for which another one was opened just now are given back."""
    if not news:
        return []
    openings = [(new, *moves.opening(db, new, known[_key(new)], at)) for new in news]
    # Asked afterwards instead of by RETURNING, with which many rows become one statement that is slow to write down.
    conn.execute(sql.insert_missing(conn.dialect.name, jobs), [row for _, _, row in openings])
    inserted = {job for job, _ in _look_up(conn, (jobs.c.id,), {(row["id"],) for _, _, row in openings}, jobs.c.batch)}
    entries = [audit.writing(first).values for _, first, _ in openings if first.job in inserted]
    sealed = [
        {**{name: getattr(secret, name) for name in KEPT}, "job": first.job, "credential": known[_key(new)]}
        for new, first, _ in openings
        if first.job in inserted
        for secret in new.secrets
    ]
    if entries:
        conn.execute(insert(audit_rows), entries)
    if sealed:
        conn.execute(insert(secrets), sealed)
    said = [
        moves.word_of(new, known[_key(new)])
        for new, first, _ in openings
        if first.job in inserted and (new.provider_id is not None or new.subject is not None)
    ]
    if said:
        conn.execute(sql.FILL_GAPS, said)
    return [new for new, first, _ in openings if first.job not in inserted]


def _join(db: Database, conn: Connection, batch: str, new: NewJob, credential: str, at: int) -> None:
    """Count the job that is open already; where it ended between two looks, its place is free for one of our own."""
    while True:
        job = moves.join(conn, new, credential, at)
        if job is not None:
            moves.leave_gate(conn, batch, job)
            return
        if not _insert(db, conn, [new], {_key(new): credential}, at):
            return


# ── a person's moves ──────────────────────────────────────────────────────────────────────────────────────────────────


def pause(db: Database, batch: str, *, actor: str, why: str) -> None:
    """open→paused: nothing of it is claimed any more; what is being carried now goes on to its next rest."""
    _move(db, batch, {BatchState.OPEN}, BatchState.PAUSED, actor, why=why)


def resume(db: Database, batch: str, *, actor: str) -> None:
    """paused→open; failures are counted anew."""
    _move(db, batch, {BatchState.PAUSED}, BatchState.OPEN, actor, watched_from=db.now())


def cancel(db: Database, batch: str, *, actor: str, why: str) -> int:
    """loading, open or paused→cancelled, and every job of it that has changed nothing; how many jobs those are.

    What has changed something, or is being carried now, leaves the batch's gate and goes on to its end by itself. Asked
    for again, it goes on where it was interrupted.
    """
    if find(db, batch).state is not BatchState.CANCELLED:
        states = {BatchState.LOADING, BatchState.OPEN, BatchState.PAUSED}
        _move(db, batch, states, BatchState.CANCELLED, actor, ended_at=db.now(), why=why)
    cancelled = 0
    while (found := _cancel_some(db, batch, actor, why)) is not None:
        cancelled += found
    return cancelled


def _cancel_some(db: Database, batch: str, actor: str, why: str) -> int | None:
    mine = and_(jobs.c.batch == batch, jobs.c.state.in_(sorted(OPEN)))
    with db.begin() as conn:
        at = db.now()
        rows = conn.execute(sql.locking(select(jobs).where(mine).order_by(jobs.c.id).limit(AT_ONCE))).mappings().all()
        if not rows:
            return None
        cancelled = 0
        for job in map(job_of, rows):
            if job.acted or job.state is State.RUNNING:
                moves.leave_gate(conn, batch, job.id)
                conn.execute(update(jobs).where(jobs.c.id == job.id).values(batch=None))
            else:
                moves.cancel_within(conn, job, at, actor=actor, why=why, shred_by=at)
                cancelled += 1
    return cancelled


def parked(db: Database, batch: str, reason: Reason) -> list[str]:
    """The jobs of a batch that are parked for one reason."""
    query = select(jobs.c.id).where(_counted(batch), jobs.c.state == State.PARKED, jobs.c.reason == reason)
    with db.read() as conn:
        return list(conn.scalars(query.order_by(jobs.c.id)))


def _move(
    db: Database,
    batch: str,
    before: set[BatchState],
    after: BatchState,
    actor: str,
    *,
    why: str | None = None,
    **changes: int,
) -> None:
    with db.begin() as conn:
        at = db.now()
        row = conn.execute(sql.locking(select(batches).where(batches.c.id == batch))).mappings().one_or_none()
        state = _batch_of(_there(row, batch), at).state
        if state not in before:
            raise MoveRefused(f"{batch} is {state}: it can become {after} only from {' or '.join(sorted(before))}")
        says = moves.plain(why) if why is not None and after is BatchState.PAUSED else None
        conn.execute(update(batches).where(batches.c.id == batch).values(state=after, says=says, **changes))
        _tell(conn, at, batch, f"batch {state}→{after}", actor, why=None if why is None else moves.plain(why))
        if after is BatchState.ENDED:
            came_to = {str(count.verdict or count.state): str(count.count) for count in _counts(conn, batch)}
            note(conn, at, Event.BATCH_ENDED, batch, {"batch": batch, **came_to}, about=batch)


def _tell(conn: Connection, at: int, batch: str, event: str, actor: str, **facts: str | None) -> None:
    audit.append_global(conn, at=at, event=event, actor=moves.plain(actor), batch=batch, **facts)


# ── the clock's ───────────────────────────────────────────────────────────────────────────────────────────────────────


def ring_due(
    db: Database, window: int, ring_after: float, limits: LimitsOf = unlimited, share: float = moves.INCIDENT_SHARE
) -> list[Ring]:
    """Ring jobs of every open batch, as far as its window and the accounts' budgets let.

    At most `window` of a batch are rung and unfinished at a time; more are rung when a tenth of it is free.
    """
    with db.read() as conn:
        found = list(
            conn.scalars(select(batches.c.id).where(batches.c.state == BatchState.OPEN).order_by(batches.c.id))
        )
    # No batch is the first to spend every time.
    shuffle(found)
    return [ring for batch in found for ring in _top_up(db, batch, window, ring_after, limits, share)]


def _top_up(db: Database, batch: str, window: int, ring_after: float, limits: LimitsOf, share: float) -> list[Ring]:
    mine = jobs.c.batch == batch
    # Two transactions, since the accounts of each are locked in one order.
    with db.begin() as conn:
        lock(conn, Lock.BELLS)
        at = db.now()
        lost = and_(mine, _is_rung(at), sql.is_due(at), is_silent(at, ring_after))
        again = ring_fairly(conn, at, lost, window, limits, share)
    with db.begin() as conn:
        lock(conn, Lock.BELLS)
        at = db.now()
        room = window - (conn.scalar(select(func.count()).select_from(jobs).where(mine, _is_rung(at))) or 0)
        # Looking through a long batch for a handful of bells would cost more than they bring.
        if room <= window // 10:
            return again
        return again + ring_fairly(conn, at, and_(mine, sql.is_due(at), not_(_is_rung(at))), room, limits, share)


def _is_rung(at: int) -> ColumnElement[bool]:
    """Whether a job is with the workers: rung for the time at which it became due, or being carried.

    Where its account rests it is not, and takes no place from the jobs of others.
    """
    due = and_(jobs.c.state.in_([State.QUEUED, State.WAITING]), jobs.c.not_before <= at, ~sql.is_resting(at))
    rung = and_(jobs.c.rung_at.is_not(None), jobs.c.rung_at >= jobs.c.not_before)
    return or_(jobs.c.state == State.RUNNING, and_(due, rung))


def end_finished(db: Database) -> int:
    """open→ended for every batch whose last job has ended, and that looks for no more; how many.

    A parked job has not ended.
    """
    waits = jobs.c.state.in_(sorted(OPEN))
    of_its_own = exists().where(jobs.c.batch == batches.c.id, waits)
    beside = exists().where(joined.c.batch == batches.c.id, joined.c.job == jobs.c.id, waits)
    looking = exists().where(leavers.c.batch == batches.c.id, leavers.c.ended_at.is_(None))
    finished = select(batches.c.id).where(batches.c.state == BatchState.OPEN, ~of_its_own, ~beside, ~looking)
    with db.read() as conn:
        ids = list(conn.scalars(finished))
    for batch in ids:
        with suppress(MoveRefused):  # Somebody paused or cancelled it just now.
            _move(db, batch, {BatchState.OPEN}, BatchState.ENDED, "revoq", ended_at=db.now())
    return len(ids)


def stop_failing(db: Database, most: int) -> list[str]:
    """open→paused for every batch of which so many jobs in a row did not end well; their ids."""
    with db.read() as conn:
        found = conn.execute(
            select(batches.c.id, batches.c.watched_from).where(batches.c.state == BatchState.OPEN)
        ).all()
    return [batch for batch, since in found if _stop_failing(db, batch, since or 0, most)]


def _stop_failing(db: Database, batch: str, since: int, most: int) -> bool:
    # The last bell tells the order in which they were begun; a parked job has no other time of its own.
    columns = (jobs.c.state, jobs.c.reason)
    resting = select(*columns).where(
        jobs.c.batch == batch, jobs.c.state.in_([State.PARKED, State.DONE]), jobs.c.rung_at > since
    )
    with db.read() as conn:
        last = conn.execute(resting.order_by(jobs.c.rung_at.desc(), jobs.c.id.desc()).limit(most)).all()
    if len(last) < most or any(row.state != State.PARKED for row in last):
        return False
    causes = ", ".join(sorted({str(row.reason) for row in last}))
    with suppress(MoveRefused):  # Somebody else was there first.
        pause(db, batch, actor="revoq", why=f"{most} jobs in a row did not end well ({causes})")
        return True
    return False


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def find(db: Database, prefix: str) -> Batch:
    """The batch with this id, or the only one whose id begins like this; else BadInput."""
    begins = batches.c.id.startswith("batch_" + prefix.removeprefix("batch_"), autoescape=True)
    with db.read() as conn:
        rows = conn.execute(select(batches).where(begins).order_by(batches.c.id).limit(2)).mappings().all()
    if len(rows) > 1:
        raise BadInput(f"several batches begin with {prefix}: give more of the id")
    return _batch_of(_there(rows[0] if rows else None, prefix), db.now())


def newest(db: Database, limit: int) -> list[Batch]:
    """The newest batches first."""
    with db.read() as conn:
        rows = conn.execute(select(batches).order_by(batches.c.id.desc()).limit(limit)).mappings().all()
    return [_batch_of(row, db.now()) for row in rows]


def counts(db: Database, batch: str) -> list[Count]:
    """How the jobs of a batch stand, those too that it counts and does not gate."""
    with db.read() as conn:
        return _counts(conn, batch)


def _counts(conn: Connection, batch: str) -> list[Count]:
    columns = (jobs.c.state, jobs.c.verdict, jobs.c.reason)
    told: Counter[tuple[str, str | None, str | None]] = Counter()
    for query in _both(batch, *columns, func.count()):
        for row in conn.execute(query.group_by(*columns)):
            # Two jobs that wait for different things both wait.
            told[row.state, row.verdict, row.reason if row.state == State.PARKED else None] += row[3]
    return [
        Count(State(state), Verdict(verdict) if verdict else None, reason, count)
        for (state, verdict, reason), count in sorted(told.items(), key=lambda item: tuple(map(str, item[0])))
    ]


def ended_lately(db: Database, batch: Batch) -> float:
    """Jobs that ended, a second, over the last minutes or since the batch was opened."""
    at = db.now()
    since = max(at - LATELY, batch.opened_at or batch.created_at)
    with db.read() as conn:
        ended = sum(conn.scalar(query.where(jobs.c.ended_at > since)) or 0 for query in _both(batch.id, func.count()))
    return ended * SECOND / max(at - since, SECOND)


def _both(batch: str, *columns: ColumnElement[Any]) -> tuple[Select[Any], Select[Any]]:
    of_its_own = select(*columns).select_from(jobs).where(jobs.c.batch == batch)
    beside = select(*columns).select_from(jobs.join(joined, joined.c.job == jobs.c.id)).where(joined.c.batch == batch)
    return of_its_own, beside


def _counted(batch: str) -> ColumnElement[bool]:
    return or_(jobs.c.batch == batch, jobs.c.id.in_(select(joined.c.job).where(joined.c.batch == batch)))


def _there(row: RowMapping | None, named: str) -> RowMapping:
    if row is None:
        raise BadInput(f"there is no batch {named}; `revoq batches list` shows them")
    return row


def _batch_of(row: RowMapping, at: int) -> Batch:
    state = BatchState(row["state"])
    abandoned = state is BatchState.LOADING and (row["beat_at"] or 0) <= at - SILENT_AFTER
    return Batch(**{**row, "state": state, "abandoned": abandoned})
