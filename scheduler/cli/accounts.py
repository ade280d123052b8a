"""How provider accounts stand: what is left of a budget, who asked for patience, whose breaker is open; in words."""

from __future__ import annotations

from typing import Any

from rules.budget import REQUEST, Limits, capacity, strictest
from rules.errors import RevoqError
from rules.loader import Catalogue
from scheduler.cli.desk import open_ledger
from scheduler.cli.present import ago, moment
from worker.ledger.accounts import Standing, fill, standings
from worker.settings import Connection, Settings


def read_standings(settings: Settings) -> tuple[dict[str, Standing], int]:
    """Every account that the ledger knows, and its time; nothing where there is no ledger yet."""
    try:
        database = open_ledger(settings)
    except RevoqError:
        return {}, 0
    return standings(database), database.now()


def limits_of_connection(connection: Connection, catalogue: Catalogue) -> Limits | None:
    """What the settings say, or else the strictest of its provider's rules."""
    if connection.limits is not None:
        return connection.limits
    rules = (loaded.rule for loaded in catalogue if loaded.rule.provider == connection.provider)
    return strictest(rule.limits for rule in rules if rule.limits is not None)


def account_row(standing: Standing | None, limits: Limits | None, now: int) -> dict[str, Any]:
    """The same as keys that stay."""
    return {
        "limits": None if limits is None else {"requests": limits.requests, "per": limits.per},
        "left": None if limits is None else fill(standing, limits, now).tokens / REQUEST,
        "retry_at": moment(standing.retry_at) if standing is not None else None,
        "failures": standing.failures if standing is not None else 0,
        "broken_until": moment(standing.broken_until) if standing is not None else None,
    }


def tell_account(standing: Standing | None, limits: Limits | None, now: int) -> str:
    """The same for a person."""
    told = [trouble] if standing is not None and (trouble := tell_trouble(standing, now)) is not None else []
    if limits is not None:
        left, full = fill(standing, limits, now).tokens, capacity(limits)
        told.append(
            f"{max(left, 0) // REQUEST} of {full // REQUEST} requests left, {limits.requests} in {limits.per:g} s"
        )
    return "; ".join(told) or "ready"


def tell_trouble(standing: Standing, now: int) -> str | None:
    """Why nothing begins there now, or None."""
    until = standing.rests_until(now)
    if standing.broken_until is not None:
        rest = f"is left alone for {ago(now, until)}" if until is not None else "is tried again with one job"
        return f"it failed {standing.failures} times in a row and {rest}"
    return None if until is None else f"the provider asked for patience: nothing begins for {ago(now, until)}"
