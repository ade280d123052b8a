"""Counters of what leaves no row of its own, one row each; added to by the transaction that it happens in."""

from __future__ import annotations

from enum import StrEnum
from functools import cache

from sqlalchemy import Connection, Insert, select
from sqlalchemy.dialects import postgresql, sqlite

from worker.ledger.tables import counters
from worker.ledger.together import Write


class Counter(StrEnum):
    """What is counted."""

    WORKERS_LOST = "workers_lost"  # jobs that were taken over, since their worker was gone
    BELLS_LOST = "bells_lost"  # jobs that were rung again, since nobody came


def add(conn: Connection, counter: Counter, count: int) -> None:
    """Count on. Its row is the last that a transaction locks."""
    if count:
        conn.execute(*counting(conn.dialect.name, counter, count))


def counting(dialect: str, counter: Counter, count: int) -> Write:
    """How it is counted on."""
    return Write(_count(dialect), {"name": counter, "value": count})


@cache
def _count(dialect: str) -> Insert:
    into = postgresql.insert(counters) if dialect == "postgresql" else sqlite.insert(counters)
    more = {"value": counters.c.value + into.excluded.value}
    return into.on_conflict_do_update(index_elements=[counters.c.name], set_=more)


def values(conn: Connection) -> dict[Counter, int]:
    """All of them as they are."""
    found = {row.name: int(row.value) for row in conn.execute(select(counters))}
    return {counter: found.get(counter, 0) for counter in Counter}
