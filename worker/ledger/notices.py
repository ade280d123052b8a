"""The outbox of notices: written with the moves that they tell of, made into messages, taken one by one to be sent.

A notice is written whether anybody wants it or not; who does is for the settings, and for the moment at which messages
are composed. Sending is the scheduler's, and whatever becomes of it changes nothing here but the message's own row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, exists, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from rules.lifecycle import BatchState, Intent, Reason, State
from rules.notice import Event, Message, Notice, Severity, compose, parked
from worker.ledger.database import Database
from worker.ledger.rows import Job
from worker.ledger.tables import batches, jobs, messages, notices
from worker.log import clean

ALONE = ""
"""What a notice is about that is told by itself."""
LONGEST_KEY = 500
"""Characters by which a notice about a target is known again, however long its name is."""
AT_WORK = (State.QUEUED, State.RUNNING, State.WAITING)
RESTING = (BatchState.PAUSED, BatchState.CANCELLED, BatchState.ENDED)

Wanted = Mapping[str, Collection[Event]]
"""Receiver → the events that it is told of."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message on its way: how often it was tried before, and since when."""

    id: str
    receiver: str
    message: Message
    created_at: int
    tries: int


# ── in the transaction of a move ──────────────────────────────────────────────────────────────────────────────────────


def note(
    conn: Connection, at: int, event: Event, key: str, facts: Mapping[str, str], *, says: str = "", about: str = ALONE
) -> bool:
    """Write down that something happened; False where that is known already. `key` is what makes it the same again."""
    into = postgresql.insert(notices) if conn.dialect.name == "postgresql" else sqlite.insert(notices)
    row = {
        "key": f"{event}:{key}",
        "event": event,
        "about": about,
        "facts": {name: fact for name, fact in facts.items() if fact},
        # The secrets of a job are held while it is carried, so here the sentence is looked at once more.
        "says": clean(says),
        "at": at,
    }
    return bool(conn.execute(into.values(row).on_conflict_do_nothing()).rowcount)


def note_parked(conn: Connection, at: int, job: Job, reason: Reason, says: str) -> None:
    """Write down that a job needs a person. What came back is one incident, however often it is looked at."""
    event = parked(Intent(job.intent), reason)
    key = job.id if event is Event.CAME_BACK else f"{job.id}:{job.drive}"
    facts = {
        "job": job.id,
        "intent": job.intent,
        "rule": job.rule,
        "connection": job.connection,
        "reason": reason,
        "batch": job.batch or "",
    }
    note(conn, at, event, key, facts, says=says, about=job.batch or ALONE)


# ── the clock's ───────────────────────────────────────────────────────────────────────────────────────────────────────


def compose_due(db: Database, wanted: Wanted, patience: int) -> int:
    """Make messages of what was written down; how many.

    What belongs to a batch waits until nothing of it is at work, or for so long: it becomes one digest for each
    receiver. Of the others, those of one event that are found at once share a message.
    """
    with db.read() as conn:
        found = _ready(conn, db.now() - patience)
    return sum(_compose(db, about, wanted) for about in found)


def _ready(conn: Connection, long_ago: int) -> list[str]:
    """What there is something to say about now."""
    at_work = exists().where(jobs.c.batch == notices.c.about, jobs.c.state.in_(AT_WORK))
    stopped = exists().where(batches.c.id == notices.c.about, batches.c.state.in_(RESTING))
    oldest = func.min(notices.c.at) <= long_ago
    waiting = select(notices.c.about).where(notices.c.composed_at.is_(None)).group_by(notices.c.about)
    return list(conn.scalars(waiting.having(or_(oldest, ~at_work, stopped)).order_by(notices.c.about)))


def _compose(db: Database, about: str, wanted: Wanted) -> int:
    fresh = and_(notices.c.about == about, notices.c.composed_at.is_(None))
    columns = (notices.c.event, notices.c.facts, notices.c.says, notices.c.at, notices.c.key)
    with db.begin() as conn:
        at = db.now()
        # Of two clocks the second finds that there is nothing left.
        taken = conn.execute(update(notices).where(fresh).values(composed_at=at).returning(*columns)).all()
        told = [
            Notice(Event(row.event), row.facts, row.says or "")
            for row in sorted(taken, key=lambda row: (row.at, row.key))
        ]
        rows = [
            _letter(db, receiver, together, about, at)
            for receiver, events in wanted.items()
            for together in _together([notice for notice in told if notice.event in events], about)
        ]
        if rows:
            conn.execute(insert(messages), rows)
    return len(rows)


def _together(told: Sequence[Notice], about: str) -> list[list[Notice]]:
    """What goes into one message."""
    if about != ALONE:
        return [list(told)] if told else []
    events = dict.fromkeys(notice.event for notice in told)
    return [[notice for notice in told if notice.event is event] for event in events]


def _letter(db: Database, receiver: str, told: Sequence[Notice], about: str, at: int) -> dict[str, Any]:
    message = compose(told, about)
    return {
        "id": db.new_id("msg"),
        "receiver": receiver,
        "severity": message.severity,
        "title": message.title,
        "body": message.body,
        "created_at": at,
        "tries": 0,
        "not_before": at,
    }


UNSENT = and_(messages.c.sent_at.is_(None), messages.c.given_up_at.is_(None))


def take(db: Database, lease: int) -> Letter | None:
    """Be the one who sends the oldest message that is due; who dies over it lets it go after `lease`."""
    with db.begin() as conn:
        at = db.now()
        due = select(messages.c.id).where(UNSENT, messages.c.not_before <= at).order_by(messages.c.not_before)
        first = due.limit(1).with_for_update(skip_locked=True).scalar_subquery()
        mine = update(messages).where(messages.c.id == first)
        row = conn.execute(
            mine.values(not_before=at + lease, tries=messages.c.tries + 1).returning(messages)
        ).one_or_none()
    if row is None:
        return None
    return Letter(row.id, row.receiver, Message(row.title, row.body, Severity(row.severity)), row.created_at, row.tries)


def end(db: Database, letter: Letter, *, sent: bool) -> None:
    """It was sent, or is given up."""
    with db.begin() as conn:
        column = messages.c.sent_at if sent else messages.c.given_up_at
        conn.execute(update(messages).where(messages.c.id == letter.id).values({column: db.now()}))


def put_off(db: Database, receiver: str, until: int) -> None:
    """Try a receiver again later, with this message and every other one."""
    with db.begin() as conn:
        conn.execute(update(messages).where(messages.c.receiver == receiver, UNSENT).values(not_before=until))


def count_unsent(conn: Connection) -> int:
    """How many messages wait."""
    return conn.scalar(select(func.count()).select_from(messages).where(UNSENT)) or 0
