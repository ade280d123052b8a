"""What a decision is made of, and what it can say; the policy itself is `rules.decide`'s."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rules.lifecycle import Outcome, Reason, Verdict
from rules.plan import Planned, Purpose

FIRST_DELAY = 1.0
LONGEST_DELAY = 3600.0
AGAIN = frozenset({Outcome.RETRY, Outcome.NOT_SENT})
"""Outcomes after which the provider has certainly done nothing, so that sending again is sound."""
TELLING = frozenset({Outcome.ALIVE, Outcome.DEAD, Outcome.DISABLED, Outcome.UNPROVABLE})
"""What a look can say of the credential itself."""
REFUSALS = {Outcome.DENIED: Reason.DENIED, Outcome.NOT_OURS: Reason.NOT_OURS, Outcome.FULL: Reason.NO_ROOM}
"""Answers to a step that say why it will never go through; any other is one that the rule does not know."""


@dataclass(frozen=True, slots=True)
class Record:
    """One step that was taken; `at` is when it ended, in microseconds, `earlier` that it was in a drive before this."""

    name: str
    purpose: Purpose
    outcome: Outcome
    at: int
    retry_after: float | None = None
    says: str = ""
    taken: frozenset[str] = frozenset()
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the records of this drive.

    `given`: names known from the start · `known`: this account once knew the credential (an earlier alive answer or
    ending in our own ledger) · `acted`: an earlier drive sent a mutating request · `picked`: a person chose the
    candidate · `trusted`: the settings lift promise 1 for this rule · `probe`: probing is allowed · `refused`: a guard
    of promise 8 speaks against acting · `unshown`: it does so as long as nothing has shown more · `retry_for`: how long
    something is tried, in seconds · `chance`: a random number in [0, 1) · `forgotten`: the revocation has lapsed and is
    not repeated, for this reason · `returned`: an earlier look of this incident found the credential at work, and
    nobody has answered that yet · `used_at`: when the old key of a rotation was last used, in microseconds ·
    `trusts_sinks`: an old key may be retired although a sink cannot be read back · `goes_back`: a person
    wants the old key in place again.
    """

    given: frozenset[str]
    retry_for: float
    chance: float
    refused: tuple[Reason, str] | None = None
    unshown: tuple[Reason, str] | None = None
    known: bool = False
    acted: bool = False
    picked: bool = False
    trusted: bool = False
    probe: bool = True
    expires_at: int | None = None
    forgotten: str = ""
    returned: bool = False
    used_at: int | None = None
    trusts_sinks: bool = False
    goes_back: bool = False


@dataclass(frozen=True, slots=True)
class Do:
    """Take this step now."""

    step: Planned


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`, in microseconds."""

    until: int
    why: str


@dataclass(frozen=True, slots=True)
class Park:
    """A person is needed."""

    reason: Reason
    says: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is done."""

    verdict: Verdict
    says: str


@dataclass(frozen=True, slots=True)
class Expire:
    """The credential's own expiry has passed while it could not be acted on."""

    says: str


Decision = Do | Wait | Park | Finish | Expire


def in_a_row(looks: Sequence[Record], outcomes: Collection[Outcome]) -> int:
    """How many of the last looks came to one of these, without another between them."""
    return len(list(itertools.takewhile(lambda look: look.outcome in outcomes, reversed(looks))))


def backoff(tries: int, chance: float) -> float:
    """Seconds before the next try: doubling from one second to an hour, of which half is left to chance."""
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(tries - 1, 20))
    return longest * (0.5 + 0.5 * chance)
