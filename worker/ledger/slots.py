"""The slots of schedules: their moves, each one transaction with its audit row, and what can be asked of them.

A slot is unique by schedule and due time, and a target by its slot: whoever comes second finds the row and changes
nothing, be it another beat, another clock, or the same one a day late. Moves of one schedule wait for each other at its
row in `schedules`. That a target was begun is told by its job's own chain; all else by the chain that has no job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Table, Update, and_, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from rules.lifecycle import INCIDENTS, OPEN, Intent, SlotState, Stage, State, TargetState, Verdict, ended_well
from rules.notice import Event
from rules.units import SECOND
from worker.ledger import audit, moves
from worker.ledger.database import Database
from worker.ledger.notices import LONGEST_KEY, note
from worker.ledger.rows import NewJob, NewSlot, SlotKey, SlotRow, Submitted, TargetRow, slot_of, target_of
from worker.ledger.statements import locking
from worker.ledger.tables import credentials, jobs, schedules, slot_targets, slots

OVERLAP = 60 * SECOND
"""How far back a changed calendar looks: two clocks with different settings must not hide each other's slots."""
UNFINISHED = (SlotState.OPEN, SlotState.RUNNING)

# ── the calendar's side ───────────────────────────────────────────────────────────────────────────────────────────────


def watch(db: Database, schedule: str, digest: str) -> int:
    """Until when the schedule's slots are decided; about now where it is new, or has another calendar than before."""
    columns = schedules.c
    query = select(columns.digest, columns.until).where(columns.name == schedule)
    with db.read() as conn:
        row = conn.execute(query).one_or_none()
    if row is not None and row.digest == digest:
        return int(row.until)
    with db.begin() as conn:
        at = db.now()
        _insert(conn, schedules, {"name": schedule, "digest": "", "until": at})
        row = conn.execute(locking(query)).one()
        if row.digest == digest:
            return int(row.until)
        until = max(int(row.until), at - OVERLAP)
        conn.execute(update(schedules).where(columns.name == schedule).values(digest=digest, until=until))
        audit.append_global(conn, at=at, event="schedule →watched", schedule=schedule, calendar=digest)
    return until


def open_due(
    db: Database,
    schedule: str,
    new: Sequence[NewSlot],
    *,
    after: int,
    until: int,
    missed: NewSlot | None = None,
    missed_count: int = 0,
) -> int:
    """→open for what became due later than `after`, unless somebody decided on that before; how many were opened.

    Of slots that were missed the last stands for all.
    """
    with db.begin() as conn:
        at = db.now()
        if _lock(conn, schedule) != after:
            return 0
        opened = [slot for slot in new if _open(conn, schedule, slot, at)]
        if missed_count:
            says = f"nobody was there within its window; slots that were missed: {missed_count}"
            if missed is not None:
                ended = {"state": SlotState.MISSED, "says": says, "ended_at": at}
                _insert(conn, slots, {**_row(schedule, missed, at), **ended})
                _note(conn, at, SlotKey(schedule, missed.due), SlotState.MISSED, says)
            audit.append_global(conn, at=at, event=f"slots →{SlotState.MISSED}", schedule=schedule, count=missed_count)
        conn.execute(update(schedules).where(schedules.c.name == schedule).values(until=until))
    return len(opened)


def open_now(db: Database, schedule: str, new: NewSlot) -> bool:
    """→open because a person wants it; False where that very slot is there already."""
    with db.begin() as conn:
        at = db.now()
        _lock(conn, schedule)
        return _open(conn, schedule, new, at)


def _open(conn: Connection, schedule: str, new: NewSlot, at: int) -> bool:
    if not _insert(conn, slots, _row(schedule, new, at)):
        return False
    event, due = f"slot →{SlotState.OPEN}", {"schedule": schedule, "due": new.due}
    told = {"intent": new.intent, "rule": new.rule, "connection": new.connection, "closes": new.closes}
    audit.append_global(conn, at=at, event=event, actor=new.requester, **due, **told)
    return True


def _row(schedule: str, new: NewSlot, at: int) -> dict[str, Any]:
    return {"schedule": schedule, **asdict(new), "state": SlotState.OPEN, "look_at": at, "opened_at": at}


# ── listing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def take_listing(db: Database, key: SlotKey, again: int) -> bool:
    """Be the one who lists the slot's targets now; somebody else may from `again` on. Not a move: it leaves no row."""
    with db.begin() as conn:
        mine = and_(_is(key), slots.c.state == SlotState.OPEN, slots.c.look_at <= db.now())
        return bool(conn.execute(update(slots).where(mine).values(look_at=again)).rowcount)


def note_trouble(db: Database, key: SlotKey, says: str) -> None:
    """Keep why the targets could not be listed; it is tried again. Not a move either."""
    with db.begin() as conn:
        still_open = and_(_is(key), slots.c.state == SlotState.OPEN)
        conn.execute(update(slots).where(still_open).values(says=moves.plain(says)))


def list_targets(db: Database, key: SlotKey, targets: Sequence[TargetRow]) -> bool:
    """open→running with these targets, or False: somebody else listed them first."""
    with db.begin() as conn:
        at = db.now()
        _lock(conn, key.schedule)
        still_open = and_(_is(key), slots.c.state == SlotState.OPEN)
        running = {"state": SlotState.RUNNING, "listed_at": at, "says": None}
        if conn.execute(update(slots).where(still_open).values(running)).rowcount == 0:
            return False
        if targets:
            conn.execute(insert(slot_targets), [{**key._asdict(), **_clean(target)} for target in targets])
        waiting = sum(target.state is TargetState.WAITING for target in targets)
        event = f"slot {SlotState.OPEN}→{SlotState.RUNNING}"
        audit.append_global(conn, at=at, event=event, **key._asdict(), targets=waiting, skipped=len(targets) - waiting)
    return True


def _clean(target: TargetRow) -> dict[str, Any]:
    """The row without characters that a database refuses: they came from a provider."""
    values = asdict(target)
    return {name: moves.plain(value) if isinstance(value, str) else value for name, value in values.items()}


# ── targets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def start(db: Database, key: SlotKey, target: str, new: NewJob, *, most: int) -> Submitted | None:
    """waiting→started, with its job in the same transaction; None where there is no place for it, or not any more.

    `most` targets of a schedule are under way at once, and one target in one slot only.
    """
    with db.begin() as conn:
        at = db.now()
        _lock(conn, key.schedule)
        running = conn.scalar(select(slots.c.state).where(_is(key))) == SlotState.RUNNING
        taken = under_way(conn, key.schedule)
        if not running or len(taken) >= most or target in taken:
            return None
        turn = _target(key, target).where(slot_targets.c.state == TargetState.WAITING)
        if conn.execute(turn.values(state=TargetState.STARTED, started_at=at)).rowcount == 0:
            return None
        submitted = moves.submit_within(db, conn, new)
        conn.execute(_target(key, target).values(job=submitted.job_id))
    return submitted


def refuse(db: Database, key: SlotKey, target: str, says: str) -> None:
    """waiting→failed: no job can be made of it."""
    with db.begin() as conn:
        at, says = db.now(), moves.plain(says)
        _lock(conn, key.schedule)
        turn = _target(key, target).where(slot_targets.c.state == TargetState.WAITING)
        if conn.execute(turn.values(state=TargetState.FAILED, says=says, ended_at=at)).rowcount:
            event = f"target {TargetState.WAITING}→{TargetState.FAILED}"
            audit.append_global(conn, at=at, event=event, **key._asdict(), target=target, says=says)
            _note(conn, at, key, TargetState.FAILED, says, target)


def settle(db: Database, schedule: str) -> int:
    """started→well or failed for every target whose job has ended or needs a person, in whatever slot; how many."""
    columns = slot_targets.c
    ended = or_(jobs.c.state.not_in(sorted(OPEN)), jobs.c.state == State.PARKED)
    query = (
        select(columns.due, columns.target, jobs.c.intent, jobs.c.state, jobs.c.verdict, jobs.c.reason, jobs.c.says)
        .join(jobs, jobs.c.id == columns.job)
        .where(columns.schedule == schedule, columns.state == TargetState.STARTED, ended)
    )
    with db.read() as conn:
        if conn.execute(query.limit(1)).one_or_none() is None:
            return 0
    with db.begin() as conn:
        at = db.now()
        _lock(conn, schedule)
        rows = conn.execute(query).all()
        for row in rows:
            key = SlotKey(schedule, row.due)
            verdict = Verdict(row.verdict) if row.verdict else None
            well = ended_well(Intent(row.intent), State(row.state), verdict)
            state = TargetState.WELL if well else TargetState.FAILED
            says = f"{row.verdict or row.reason or row.state}: {row.says or ''}".removesuffix(": ")
            conn.execute(_target(key, row.target).values(state=state, says=says, ended_at=at))
            event = f"target {TargetState.STARTED}→{state}"
            audit.append_global(conn, at=at, event=event, **key._asdict(), target=row.target)
    return len(rows)


def end(db: Database, key: SlotKey, before: SlotState, after: SlotState, says: str | None = None) -> bool:
    """open→failed or missed, running→done or stopped; what was not begun by then is left alone."""
    with db.begin() as conn:
        at = db.now()
        _lock(conn, key.schedule)
        mine = and_(_is(key), slots.c.state == before)
        told = {"says": moves.plain(says)} if says is not None else {}
        if conn.execute(update(slots).where(mine).values(state=after, ended_at=at, **told)).rowcount == 0:
            return False
        waiting = and_(_of(key), slot_targets.c.state == TargetState.WAITING)
        conn.execute(update(slot_targets).where(waiting).values(state=TargetState.LEFT, ended_at=at))
        counts = {state.value: count for state, count in _count(conn, key).items()}
        audit.append_global(conn, at=at, event=f"slot {before}→{after}", **key._asdict(), **counts, **told)
        if after in INCIDENTS:
            _note(conn, at, key, after, told.get("says", ""))
    return True


# ── what can be asked ─────────────────────────────────────────────────────────────────────────────────────────────────


def unfinished(db: Database, schedule: str) -> list[SlotRow]:
    """The slots of a schedule that have not ended, the oldest first."""
    fits = and_(slots.c.schedule == schedule, slots.c.state.in_(UNFINISHED))
    with db.read() as conn:
        return [slot_of(row) for row in conn.execute(select(slots).where(fits).order_by(slots.c.due)).mappings()]


def latest(db: Database, schedule: str, *, listed: bool = False) -> SlotRow | None:
    """The last slot of a schedule, or the last one whose targets were listed."""
    fits = [slots.c.schedule == schedule, *([slots.c.listed_at.is_not(None)] if listed else [])]
    with db.read() as conn:
        row = conn.execute(select(slots).where(*fits).order_by(slots.c.due.desc()).limit(1)).mappings().one_or_none()
        return None if row is None else slot_of(row)


def find(db: Database, key: SlotKey) -> SlotRow:
    """One slot."""
    with db.read() as conn:
        return slot_of(conn.execute(select(slots).where(_is(key))).mappings().one())


def targets(db: Database, key: SlotKey) -> list[TargetRow]:
    """The targets of a slot in the order in which they are begun."""
    query = select(slot_targets).where(_of(key)).order_by(slot_targets.c.number)
    with db.read() as conn:
        return [target_of(row) for row in conn.execute(query).mappings()]


def count_targets(db: Database, key: SlotKey) -> dict[TargetState, int]:
    """How many targets of a slot stand in each way."""
    with db.read() as conn:
        return _count(conn, key)


def busy(db: Database, schedule: str) -> set[str]:
    """The targets of a schedule that are under way, in whatever slot."""
    with db.read() as conn:
        return under_way(conn, schedule)


def under_way(conn: Connection, schedule: str) -> set[str]:
    columns = slot_targets.c
    return set(
        conn.scalars(
            select(columns.target).where(columns.schedule == schedule, columns.state == TargetState.STARTED)
        ).all()
    )


def last_rotated(db: Database, rule: str, connection: str) -> dict[str, int]:
    """When our own ledger last saw each credential rotated, or made, by the provider's id."""
    ours = (credentials.c.rule == rule, credentials.c.connection == connection, credentials.c.provider_id.is_not(None))
    made = select(credentials.c.provider_id, func.max(credentials.c.first_seen)).where(
        *ours, credentials.c.stage == Stage.CURRENT, credentials.c.target.is_not(None)
    )
    query = (
        select(credentials.c.provider_id, func.max(jobs.c.ended_at))
        .join(jobs, jobs.c.credential == credentials.c.id)
        .where(*ours, jobs.c.verdict == Verdict.ROTATED)
        .group_by(credentials.c.provider_id)
    )
    with db.read() as conn:
        found = [*conn.execute(query), *conn.execute(made.group_by(credentials.c.provider_id))]
    return {row[0]: max(at for identifier, at in found if identifier == row[0]) for row in found}


# ── pieces ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _insert(conn: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert a row; False where it is there."""
    into = postgresql.insert(table) if conn.dialect.name == "postgresql" else sqlite.insert(table)
    return bool(conn.execute(into.values(row).on_conflict_do_nothing()).rowcount)


def _lock(conn: Connection, schedule: str) -> int | None:
    """Wait until no other move of this schedule is under way; until when its slots are decided."""
    until: int | None = conn.scalar(locking(select(schedules.c.until).where(schedules.c.name == schedule)))
    return until


def _note(conn: Connection, at: int, key: SlotKey, state: SlotState | TargetState, says: str, target: str = "") -> None:
    """Have it told that a slot, or one target of it, did not come to what it is for; a target may be a person's."""
    facts = {"schedule": key.schedule, "slot" if not target else "target": state.value}
    same = f"{key.schedule}:{key.due}:{target}"[:LONGEST_KEY]
    note(conn, at, Event.ROTATION_FAILED, same, facts, says=says, about=f"schedule {key.schedule}")


def _is(key: SlotKey) -> Any:
    return and_(slots.c.schedule == key.schedule, slots.c.due == key.due)


def _of(key: SlotKey) -> Any:
    return and_(slot_targets.c.schedule == key.schedule, slot_targets.c.due == key.due)


def _target(key: SlotKey, target: str) -> Update:
    return update(slot_targets).where(_of(key), slot_targets.c.target == target)


def _count(conn: Connection, key: SlotKey) -> dict[TargetState, int]:
    state = slot_targets.c.state
    query = select(state, func.count()).where(_of(key)).group_by(state)
    return {TargetState(row[0]): row[1] for row in conn.execute(query)}
