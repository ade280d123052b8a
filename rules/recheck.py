"""When a credential that a job has ended is looked at again, and whether it may be revoked again without asking.

It only decides: rows are `worker.ledger.rechecks`', jobs are started by `scheduler.recheck`. Times are microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from rules.lifecycle import Intent, Outcome, Verdict
from rules.loader import LoadedRule
from rules.parts import groups_of
from rules.plan import TOKEN, Plan
from rules.planning import plan
from rules.schema import Rule
from rules.units import SECOND

SWEPT = 24
"""What a provider forgets it may sweep a little later, and refuse a repetition until then: a 24th part is waited."""
PROVED = frozenset({Verdict.REVOKED, Verdict.ALREADY_REVOKED, Verdict.DISABLED})
"""Endings that a probe has shown. What is disabled is among them: it is the end that is undone most easily."""
ENDED = PROVED | {Verdict.ACKNOWLEDGED}
"""Endings after which the provider has done something that may lapse."""
DONE = frozenset({Outcome.OK, Outcome.ALREADY_GONE, Outcome.LOST})
"""How an act came out whose effect may be there, and may lapse."""
LEAK = re.compile(
    r"\b(leak\w*|expos\w+|compromis\w+|stolen|publish\w*|phish\w*|breach\w*|public (repo\w*|gist|bucket))\b",
    re.IGNORECASE,
)
"""Words by which a person says that a credential got about; one that is found wrongly costs an option, no more."""


class Kind(StrEnum):
    """What the clock does when a recheck is due."""

    LOOK = "look"  # ask whether it works
    AGAIN = "again"  # revoke it again, since the provider has forgotten the revocation


class Found(StrEnum):
    """What a recheck came to."""

    DEAD = "dead"  # still as it was left
    CAME_BACK = "came_back"  # it works
    UNPROVABLE = "unprovable"  # nothing could be asked
    EXPIRED = "expired"  # its own expiry has passed
    REPEATED = "repeated"  # it was revoked again
    LEFT = "left"  # it was not: a person has to
    STOPPED = "stopped"  # never looked: it came back before, was restored, or was ended by another job


@dataclass(frozen=True, slots=True)
class Due:
    """One recheck that is to come."""

    kind: Kind
    at: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job left its credential.

    `lapses`: seconds after which the provider forgets what was done · `can_look`: it can be asked whether it works, and
    may be · `expires_at`: its own expiry · `sealed_until`: when the secret that a look needs is destroyed at the
    latest; None where it needs none.
    """

    verdict: Verdict
    at: int
    lapses: float | None = None
    can_look: bool = False
    expires_at: int | None = None
    sealed_until: int | None = None

    @property
    def lapsed_at(self) -> int | None:
        """When the provider has forgotten it, and has swept."""
        return None if self.lapses is None else self.at + int(self.lapses * SECOND * (SWEPT + 1) / SWEPT)


def series(ended: Ended, spans: Iterable[float]) -> tuple[Due, ...]:
    """What is to come after this end: looks where one is possible, and the repetition of what lapses where none is."""
    if ended.verdict not in ENDED:
        return ()
    wanted = {ended.at + int(span * SECOND) for span in spans}
    forgotten = ended.lapsed_at
    looks: set[int] = set()
    if wanted and ended.can_look and ended.verdict in PROVED:
        wanted |= {forgotten} if forgotten is not None else set()
        looks = {at for at in wanted if ended.sealed_until is None or at <= ended.sealed_until}
    coming = [Due(Kind.LOOK, at) for at in sorted(looks)]
    if forgotten is not None and forgotten not in looks:
        coming.append(Due(Kind.AGAIN, forgotten))
    coming.sort(key=lambda due: due.at)
    return tuple(due for due in coming if ended.expires_at is None or due.at < ended.expires_at)


def lapse_of(made: Plan, acted: Collection[str]) -> float | None:
    """How soon the provider forgets what these steps did; None where it keeps it."""
    return min((step.lapses for step in made.steps if step.name in acted and step.lapses is not None), default=None)


def expiry(expires_at: int | None, first_seen: int, rule: Rule) -> int | None:
    """The credential's own end: as the provider says it, or, not known, the longest that the rule lets one live."""
    if expires_at is not None or rule.lifetime is None:
        return expires_at
    return first_seen + int(rule.lifetime * SECOND)


def look_plan(loaded: LoadedRule, given: Collection[str], verdict: Verdict) -> Plan:
    """The plan of one look: what shows "disabled" where that was the end, else whether it works. Raises BadInput."""
    made = plan(loaded, Intent.RECHECK, given)
    showing = [step for step in made.steps if step.disables] if verdict is Verdict.DISABLED else []
    steps = showing or [step for step in made.steps if not step.disables] or list(made.steps)
    return replace(made, steps=tuple(steps[:1]))


def kinds_of(rule: Rule, uses: Iterable[str]) -> frozenset[str]:
    """The kinds of sealed secrets that hold these names: of a token, also what its pattern tells."""
    own = groups_of(rule.pattern) | {TOKEN}
    names = {TOKEN if name in own else name for name in uses}
    kinds = {f"{kind}:{name}" for name in names for kind in ("variable", "extracted")}
    return frozenset(kinds | ({"token"} if TOKEN in names else set()))


# ── again, without asking ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Past:
    """What has happened to a credential since it was ended, and how often the clock has revoked within a day."""

    restored: bool = False
    rotated: bool = False
    of_credential: int = 0
    of_connection: int = 0


def refuse_again(past: Past, *, per_credential: int, per_connection: int) -> str | None:
    """Why it must not be revoked again without asking, or None."""
    if past.restored:
        return "it was restored since"
    if past.rotated:
        return "it was rotated since, so its id may belong to its successor"
    if past.of_credential >= per_credential:
        return f"it was revoked again {past.of_credential} times within a day, and the settings allow {per_credential}"
    if past.of_connection >= per_connection:
        return (
            f"{past.of_connection} credentials of the connection were revoked again within a day, "
            f"and the settings allow {per_connection}"
        )
    return None


def told_leak(causes: Sequence[str | None], *, finding: bool) -> str | None:
    """What says that a credential got about: a scanner's finding, or a person's word for why it was ended."""
    if finding:
        return "a scanner found it"
    found = next((match[0] for cause in causes if cause and (match := LEAK.search(cause))), None)
    return None if found is None else f"the reason that was given says {found!r}"
