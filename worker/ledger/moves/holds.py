"""A hold stops what changes something at one connection, or at all; the moves of a worker respect it."""

from __future__ import annotations

from sqlalchemy import Connection, and_, func, select, update

from rules.lifecycle import OPEN, State
from worker.ledger import audit
from worker.ledger import statements as sql
from worker.ledger.database import Database, Lock, lock
from worker.ledger.moves.pieces import plain
from worker.ledger.rows import EVERYTHING, Hold
from worker.ledger.tables import accounts, jobs

HELD = "held"
"""What the reason of a job says that waits for a hold to be lifted."""


def hold_on(db: Database, connection: str, *, actor: str, why: str) -> int:
    """Stop every mutating request for a connection, or for all ("*"); how many unfinished jobs that concerns.

    A request that was intended before this may still be under way; none is intended after it has returned.
    """
    with db.begin() as conn:
        lock(conn, Lock.HOLDS)
        at = db.now()
        hold = {"held_at": at, "held_by": plain(actor), "held_why": plain(why)}
        conn.execute(sql.put_hold(conn.dialect.name), {"connection": connection, **hold})
        concerned = [] if connection == EVERYTHING else [jobs.c.connection == connection]
        unfinished = jobs.c.state.in_(OPEN - {State.PARKED})
        count = conn.scalar(select(func.count()).select_from(jobs).where(unfinished, *concerned)) or 0
        audit.append_global(conn, at=at, event="hold off→on", actor=plain(actor), connection=connection, why=plain(why))
    return count


def hold_off(db: Database, connection: str, *, actor: str, why: str) -> int:
    """Lift a hold; how many jobs waited because of it and are due now. Lifting what is not there does nothing."""
    with db.begin() as conn:
        lock(conn, Lock.HOLDS)
        at = db.now()
        held = and_(accounts.c.connection == connection, accounts.c.held_at.is_not(None))
        if conn.execute(update(accounts).where(held).values(held_at=None, held_by=None, held_why=None)).rowcount == 0:
            return 0
        # A job that another hold still stops goes on waiting.
        waits = and_(jobs.c.state == State.WAITING, jobs.c.reason == HELD, jobs.c.not_before > at)
        free = and_(waits, ~sql.is_held(jobs.c.connection))
        count = conn.execute(update(jobs).where(free).values(not_before=at)).rowcount
        audit.append_global(
            conn,
            at=at,
            event="hold on→off",
            actor=plain(actor),
            connection=connection,
            why=plain(why),
            due=count,
        )
    return count


def why_held(conn: Connection, connection: str) -> str:
    """What to say of the first of the holds that stop a connection; there has to be one."""
    concerned = and_(accounts.c.connection.in_([connection, EVERYTHING]), accounts.c.held_at.is_not(None))
    columns = (accounts.c.connection, accounts.c.held_at, accounts.c.held_by, accounts.c.held_why)
    return Hold(*conn.execute(select(*columns).where(concerned).order_by(accounts.c.held_at).limit(1)).one()).says
