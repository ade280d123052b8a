"""What a step that did not go well means: one function says it, and the breaker of an account counts by it.

What is then done with the job is `rules.decide`'s.
"""

from __future__ import annotations

from enum import StrEnum

from rules.decision import backoff
from rules.lifecycle import Outcome

FAILURES = 5
"""So many in a row, and an account is left alone."""
FIRST_REST, LONGEST_REST = 5.0, 900.0
"""Seconds; the first rest is about the first, and each that follows twice as long."""


class Trouble(StrEnum):
    """Who has to do something about it."""

    TRANSIENT = "transient"  # nobody: later it will do
    NEEDS_PERMISSION = "needs_permission"  # whoever gives us rights at the provider
    NEEDS_FIX = "needs_fix"  # whoever wrote the rule
    PROVIDER_BROKEN = "provider_broken"  # the provider: it does not answer, or with an error of its own
    UNREVOCABLE = "unrevocable"  # a person: this credential cannot be ended by itself


REFUSALS = {
    Outcome.DENIED: Trouble.NEEDS_PERMISSION,
    Outcome.NOT_OURS: Trouble.UNREVOCABLE,
    Outcome.NO_ROW: Trouble.UNREVOCABLE,
    Outcome.AMBIGUOUS: Trouble.UNREVOCABLE,
    Outcome.BROKEN: Trouble.NEEDS_FIX,
    Outcome.RETRY: Trouble.TRANSIENT,
    Outcome.NOT_SENT: Trouble.TRANSIENT,
    Outcome.LOST: Trouble.PROVIDER_BROKEN,
    Outcome.INCONCLUSIVE: Trouble.TRANSIENT,
}
HERE = frozenset({"host", "proxy"})
"""What keeps a request from leaving on our own side (`worker.errors.Trouble`): no provider is to blame."""
PUT_OFF = "put_off"
"""The provider let nobody sign in for now (the same list): it works, and is to be left alone."""


def classify(outcome: Outcome, status: int | None = None, trouble: str | None = None) -> Trouble | None:
    """What a step's outcome means, with the status of its answer, or the kind of trouble where there was none.

    None: nothing went wrong.
    """
    if outcome not in REFUSALS:
        return None
    if trouble in HERE:
        return Trouble.NEEDS_FIX
    if trouble == PUT_OFF:
        return Trouble.TRANSIENT
    if trouble is not None or (status is not None and status >= 500):
        return Trouble.PROVIDER_BROKEN
    return REFUSALS[outcome]


def rest_after(failures: int, chance: float) -> float | None:
    """Seconds for which an account is left alone that has failed so often in a row; None where it goes on."""
    if failures < FAILURES:
        return None
    return min(FIRST_REST * backoff(failures - FAILURES + 1, chance), LONGEST_REST)
