"""Provider accounts on the ledger: what is left of a budget, until when nothing begins, and the breaker of each.

Ringing is `bells`', holds are `moves`', the arithmetic is `rules.budget`'s and `rules.trouble`'s. An account's row is
locked before any job's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, or_, select, update

from rules.budget import Bucket, Limits, refill
from rules.notice import Event
from rules.trouble import rest_after
from rules.units import SECOND
from worker.ledger import audit
from worker.ledger import statements as sql
from worker.ledger.database import Database
from worker.ledger.notices import note
from worker.ledger.tables import accounts

LimitsOf = Callable[[str, str], Limits | None]
"""(account, rule) → what the provider allows, or None."""


def unlimited(_account: str, _rule: str) -> Limits | None:
    """No provider limits anything."""
    return None


@dataclass(frozen=True, slots=True)
class Standing:
    """A row of `accounts` without its hold."""

    name: str
    retry_at: int | None
    bucket: Bucket | None
    failures: int
    broken_until: int | None

    def rests_until(self, at: int) -> int | None:
        """When something may begin again; None where it may now."""
        until = max(self.retry_at or 0, self.broken_until or 0)
        return until if until > at else None


COLUMNS = tuple(
    accounts.c[name] for name in ("connection", "retry_at", "tokens", "refilled_at", "failures", "broken_until")
)


# ── the clock's ───────────────────────────────────────────────────────────────────────────────────────────────────────


def lock_all(conn: Connection, names: Collection[str]) -> dict[str, Standing]:
    """The accounts of these names, made where they are not there, locked in one order until the transaction ends."""
    if not names:
        return {}
    rows = [{"connection": name} for name in sorted(names)]
    conn.execute(sql.insert_missing(conn.dialect.name, accounts), rows)
    query = select(*COLUMNS).where(accounts.c.connection.in_(names)).order_by(accounts.c.connection)
    return {standing.name: standing for standing in (_standing(*row) for row in conn.execute(sql.locking(query)))}


def fill(standing: Standing | None, limits: Limits, at: int) -> Bucket:
    """An account's bucket as it is now."""
    return refill(standing.bucket if standing is not None else None, limits, at)


def keep(conn: Connection, buckets: Mapping[str, Bucket]) -> None:
    """Write down what is left."""
    for name, bucket in sorted(buckets.items()):
        row = update(accounts).where(accounts.c.connection == name)
        conn.execute(row.values(tokens=bucket.tokens, refilled_at=bucket.at))


# ── a worker's ────────────────────────────────────────────────────────────────────────────────────────────────────────


def put_off(db: Database, name: str, until: int) -> None:
    """Begin nothing before a time: the provider asked for it. Never sooner than what it asked for before."""
    with db.begin() as conn:
        conn.execute(sql.insert_missing(conn.dialect.name, accounts), [{"connection": name}])
        sooner = and_(accounts.c.connection == name, func.coalesce(accounts.c.retry_at, 0) < until)
        conn.execute(update(accounts).where(sooner).values(retry_at=until))


def fail(db: Database, name: str, chance: float, *, actor: str, says: str, trial: bool = False) -> int | None:
    """Count a failure; until when the account is left alone, where this one was enough or the trial went wrong.

    What failed beside others while the breaker was opening, or is open, counts once.
    """
    with db.begin() as conn:
        at = db.now()
        standing = lock_all(conn, [name])[name]
        if standing.broken_until is not None and not trial:
            return None
        failures = standing.failures + 1
        rest = rest_after(failures, chance)
        until = None if rest is None else at + int(rest * SECOND)
        row = update(accounts).where(accounts.c.connection == name)
        conn.execute(row.values(failures=failures, broken_until=until))
        if until is not None and not trial:
            note(conn, at, Event.BREAKER_OPENED, f"{name}:{at}", {"account": name}, says=says)
        if until is not None:
            event = "breaker tried→open" if trial else "breaker closed→open"
            audit.append_global(
                conn, at=at, event=event, actor=actor, account=name, failures=failures, until=until, says=says
            )
        return until


def succeed(db: Database, name: str, *, actor: str) -> bool:
    """Forget the failures; whether that closed the breaker. What was rung before it opened is then rung again."""
    with db.begin() as conn:
        at = db.now()
        mine = and_(accounts.c.connection == name, or_(accounts.c.failures > 0, accounts.c.broken_until.is_not(None)))
        row = conn.execute(sql.locking(select(*COLUMNS).where(mine))).one_or_none()
        if row is None:
            return False
        closes = row.broken_until is not None
        rung_again = {"retry_at": max(row.retry_at or 0, at)} if closes else {}
        conn.execute(update(accounts).where(mine).values(failures=0, broken_until=None, **rung_again))
        if closes:
            audit.append_global(
                conn, at=at, event="breaker open→closed", actor=actor, account=name, failures=row.failures
            )
        return closes


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def standings(db: Database) -> dict[str, Standing]:
    """Every account that is known, by its name."""
    with db.read() as conn:
        rows = conn.execute(select(*COLUMNS).order_by(accounts.c.connection)).all()
    return {row.connection: _standing(*row) for row in rows}


def _standing(
    name: str,
    retry_at: int | None,
    tokens: int | None,
    refilled_at: int | None,
    failures: int,
    broken_until: int | None,
) -> Standing:
    bucket = None if tokens is None or refilled_at is None else Bucket(tokens, refilled_at)
    return Standing(name, retry_at, bucket, failures, broken_until)
