"""What becomes of somebody who leaves, decided: by which rules, in which order, what lives on; asking is not ours.

Times are the ledger's microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rules.checks import SUBJECT
from rules.errors import BadInput
from rules.naming import naming_variable
from rules.parts import names_of_action
from rules.schema import Rule
from rules.units import SECOND


class Turn(StrEnum):
    """Where the offboarding of one subject is at one provider."""

    FIRST = "first"  # In: asked for. What keeps them from signing in. Out: now.
    NOW = "now"  # Their credentials: listed, ended, and listed again until nothing is new. Out: last, stuck.
    LAST = "last"  # In: everything of theirs is ended. The account itself. Out: done.
    DONE = "done"  # Final.
    STUCK = "stuck"  # In: new ones kept coming, or they could not be listed any more: for a person. Final.


NEXT = {Turn.FIRST: Turn.NOW, Turn.NOW: Turn.LAST, Turn.LAST: Turn.DONE}
MOST_ROUNDS = 5
"""Lists that showed something new: then somebody makes tokens as fast as they are ended."""


@dataclass(frozen=True, slots=True)
class Route:
    """One rule by which something of a subject is ended; `listed`: what that is, its listing says."""

    rule: Rule
    turn: Turn
    listed: bool

    @property
    def variable(self) -> str:
        """The name that a row's id, or the subject itself, goes under."""
        return naming_variable(self.rule)


def routes(rules: Iterable[Rule], provider: str) -> list[Route]:
    """How a subject is ended at a provider; raises BadInput where nothing here knows what a person has there."""
    ours = [rule for rule in rules if rule.provider == provider and rule.revocation is not None]
    found = [route for rule in ours if (route := _route(rule)) is not None]
    if not found:
        raise BadInput(
            f"nobody but the person can list what they have at {provider}: hand in each credential in a row of its own"
        )
    return found


def _route(rule: Rule) -> Route | None:
    if rule.secret == "required":  # noqa: S105 - what nobody hands in has to be named
        return None
    if lists_a_person(rule):
        return Route(rule, Turn(rule.leaving or Turn.NOW), listed=True)
    return Route(rule, Turn(rule.leaving), listed=False) if rule.leaving is not None else None


def lists_a_person(rule: Rule) -> bool:
    """Whether its listing is of one person's credentials."""
    return rule.listing is not None and SUBJECT in names_of_action(rule.listing.action)


def machine_rules(rules: Iterable[Rule], provider: str) -> list[Rule]:
    """The rules whose listing shows the machines of a whole account, among which a person's own may be."""
    ending = [rule for rule in rules if rule.provider == provider and rule.revocation is not None]
    return [rule for rule in ending if rule.listing and not lists_a_person(rule)]


# ── what lives on ─────────────────────────────────────────────────────────────────────────────────────────────────────


def exposure(rules: Iterable[Rule], now: int) -> list[dict[str, Any]]:
    """What lives on although everything was ended, and until when at the latest; None where that is not known."""
    return [
        {
            "rule": rule.id,
            "says": says,
            "until": None if rule.residual_for is None else now + int(rule.residual_for * SECOND),
        }
        for rule in rules
        for says in rule.residual
    ]


def estimate(requests: Mapping[str, int], rules: Mapping[str, Rule]) -> float:
    """Seconds that so many requests by rule take, by what the providers allow; they do not wait for each other."""
    spent: dict[str, float] = {}
    for name, count in requests.items():
        limits = rules[name].limits
        if limits is not None:
            provider = rules[name].provider
            spent[provider] = spent.get(provider, 0.0) + count * limits.per / limits.requests
    return max(spent.values(), default=0.0)


# ── a plan, held against what there is ────────────────────────────────────────────────────────────────────────────────

SAME = ("id", "would", "verdict", "reason", "plan")
GONE = frozenset({"already_revoked", "not_recognised", "dead"})
"""Ends of a job that finds nothing to do."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one item of a plan; `gone`: it vanished, and its job decides."""

    says: str
    gone: bool


def compare(planned: Mapping[str, Any], now: Mapping[str, Any]) -> Moved | None:
    """How an item differs from what was planned, or None."""
    different = [name for name in SAME if planned.get(name) != now.get(name)]
    if not different:
        return None
    gone = now.get("verdict") in GONE or now.get("reason") in GONE
    told = [f"{name} was {_shown(planned.get(name))} and is {_shown(now.get(name))}" for name in different]
    return Moved("; ".join(told), gone and planned.get("plan") == now.get("plan"))


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)


# ── breakers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def refuse_many(
    acting: Mapping[str, int], living: Mapping[str, int], most: int | None, percent: float | None
) -> list[str]:
    """Why so many credentials of a connection are too many for one batch; `living` is known for some of them alone."""
    says = []
    for connection, count in sorted(acting.items()):
        if most is not None and count > most:
            says.append(f"{count} credentials of {connection or 'no connection'}: the settings allow {most} in a batch")
        alive = living.get(connection)
        if percent is not None and alive and count * 100 > alive * percent:
            says.append(
                f"{count} of the {alive} live credentials of {connection}: the settings allow {percent:g} percent"
            )
    return says
