"""Subjects of a batch on the ledger: who is looked for where, how far that is; listing and judging are others'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, exists, func, insert, or_, select, true, update

from rules.leaving import Turn
from rules.lifecycle import BatchState, State
from worker.ledger import audit, moves
from worker.ledger.database import Database
from worker.ledger.tables import batches, credentials, jobs, joined, leavers

UNDER_WAY = (State.QUEUED, State.RUNNING, State.WAITING)


@dataclass(frozen=True, slots=True)
class Leaver:
    """A row of `leavers`."""

    batch: str
    connection: str
    subject: str
    terms: Mapping[str, Any] = field(default_factory=dict)
    turn: Turn = Turn.FIRST
    round: int = 0
    known: Sequence[Mapping[str, Any]] = ()
    unplanned: Sequence[Mapping[str, Any]] = ()
    owned: Sequence[Mapping[str, Any]] = ()
    residual: Sequence[Mapping[str, Any]] = ()
    says: Sequence[str] = ()
    look_at: int = 0
    ended_at: int | None = None


def register(db: Database, leaver: Leaver) -> bool:
    """Write a subject down with their batch; False where the batch has them already."""
    with db.begin() as conn:
        at = db.now()
        if conn.execute(select(leavers.c.turn).where(_key(leaver))).one_or_none() is not None:
            return False
        columns = ("batch", "connection", "subject", "turn", "round", "ended_at")
        values: dict[str, Any] = {name: getattr(leaver, name) for name in columns}
        values |= {name: list(getattr(leaver, name)) for name in ("known", "unplanned", "owned", "residual", "says")}
        conn.execute(insert(leavers).values(**values, terms=dict(leaver.terms), look_at=at))
        _tell(conn, at, leaver, f"leaver →{leaver.turn}", actor=leaver.terms.get("requester"))
    return True


def of_batch(db: Database, batch: str) -> list[Leaver]:
    """Every subject of a batch."""
    query = select(leavers).where(leavers.c.batch == batch).order_by(leavers.c.connection, leavers.c.subject)
    with db.read() as conn:
        return [_leaver_of(row) for row in conn.execute(query).mappings()]


def looking(db: Database, batch: str) -> int:
    """How many subjects of a batch there may be more of."""
    given_up = exists().where(batches.c.id == leavers.c.batch, batches.c.state == BatchState.CANCELLED)
    query = select(func.count()).where(leavers.c.batch == batch, leavers.c.ended_at.is_(None), ~given_up)
    with db.read() as conn:
        return conn.scalar(query) or 0


def due(db: Database, limit: int, batch: str | None = None) -> list[Leaver]:
    """Whom it is time to look for again, of batches that are open."""
    is_open = exists().where(batches.c.id == leavers.c.batch, batches.c.state == BatchState.OPEN)
    mine = true() if batch is None else leavers.c.batch == batch
    query = select(leavers).where(leavers.c.ended_at.is_(None), leavers.c.look_at <= db.now(), is_open, mine)
    with db.read() as conn:
        return [_leaver_of(row) for row in conn.execute(query.order_by(leavers.c.look_at).limit(limit)).mappings()]


def take(db: Database, leaver: Leaver, until: int) -> bool:
    """Put the next look off, so that of two clocks one has it: the one that finds the time as it was."""
    mine = update(leavers).where(_key(leaver), leavers.c.look_at == leaver.look_at, leavers.c.ended_at.is_(None))
    with db.begin() as conn:
        return conn.execute(mine.values(look_at=until)).rowcount == 1


def save(db: Database, before: Leaver, **changes: Any) -> None:
    """Write down how far it is; a turn that ends, or begins, is told."""
    with db.begin() as conn:
        at = db.now()
        turn = changes.get("turn", before.turn)
        if turn in {Turn.DONE, Turn.STUCK}:
            changes["ended_at"] = at
        conn.execute(update(leavers).where(_key(before)).values(**changes))
        if turn is not before.turn:
            known = len(changes.get("known", before.known))
            _tell(conn, at, before, f"leaver {before.turn}→{turn}", listed=known, round=before.round)


def standing(db: Database, leaver: Leaver) -> tuple[int, int]:
    """How many jobs for what is theirs are under way, and how many are parked."""
    prints = sorted({str(each["fingerprint"]) for each in leaver.known})
    beside = jobs.c.id.in_(select(joined.c.job).where(joined.c.batch == leaver.batch))
    theirs = and_(credentials.c.fingerprint.in_(prints), credentials.c.connection == leaver.connection)
    query = select(jobs.c.state, func.count()).join(credentials, credentials.c.id == jobs.c.credential)
    with db.read() as conn:
        rows = conn.execute(query.where(theirs, or_(jobs.c.batch == leaver.batch, beside)).group_by(jobs.c.state)).all()
    counts = {State(state): count for state, count in rows}
    return sum(counts.get(state, 0) for state in UNDER_WAY), counts.get(State.PARKED, 0)


def _key(leaver: Leaver) -> Any:
    return and_(
        leavers.c.batch == leaver.batch,
        leavers.c.connection == leaver.connection,
        leavers.c.subject == leaver.subject,
    )


def _tell(conn: Connection, at: int, leaver: Leaver, event: str, **facts: Any) -> None:
    about = {"batch": leaver.batch, "connection": leaver.connection, "subject": moves.plain(leaver.subject)}
    audit.append_global(conn, at=at, event=event, **{"actor": "revoq", **about, **facts})


def _leaver_of(row: RowMapping) -> Leaver:
    return Leaver(**{**row, "turn": Turn(row["turn"])})
