"""What went wrong, and how long an account is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.lifecycle import Outcome
from rules.trouble import FAILURES, FIRST_REST, LONGEST_REST, Trouble, classify, rest_after


@pytest.mark.parametrize(
    ("outcome", "status", "trouble", "expected"),
    [
        (Outcome.OK, 200, None, None),
        (Outcome.DEAD, 401, None, None),
        (Outcome.RETRY, 429, None, Trouble.TRANSIENT),
        (Outcome.RETRY, 503, None, Trouble.PROVIDER_BROKEN),
        (Outcome.RETRY, None, "reset", Trouble.PROVIDER_BROKEN),
        (Outcome.LOST, 500, None, Trouble.PROVIDER_BROKEN),
        (Outcome.LOST, None, "timeout", Trouble.PROVIDER_BROKEN),
        (Outcome.NOT_SENT, None, "refused", Trouble.PROVIDER_BROKEN),
        (Outcome.NOT_SENT, None, "host", Trouble.NEEDS_FIX),
        (Outcome.NOT_SENT, None, "put_off", Trouble.TRANSIENT),
        (Outcome.NOT_SENT, None, None, Trouble.TRANSIENT),
        (Outcome.INCONCLUSIVE, 502, None, Trouble.PROVIDER_BROKEN),
        (Outcome.INCONCLUSIVE, 403, None, Trouble.TRANSIENT),
        (Outcome.DENIED, 403, None, Trouble.NEEDS_PERMISSION),
        (Outcome.BROKEN, 200, None, Trouble.NEEDS_FIX),
        (Outcome.NOT_OURS, 200, None, Trouble.UNREVOCABLE),
        (Outcome.AMBIGUOUS, 200, None, Trouble.UNREVOCABLE),
    ],
)
def test_who_has_to_act(outcome: Outcome, status: int | None, trouble: str | None, expected: Trouble | None) -> None:
    """An answer of the provider's own fault, or none at all, is the provider's; the rest is somebody else's."""
    assert classify(outcome, status, trouble) is expected


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_the_rest_grows(failures: int, chance: float) -> None:
    """None for a few failures, then longer and longer, with half of it left to chance, and never without end."""
    found = rest_after(failures, chance)
    assert (found is None) == (failures < FAILURES)
    if found is not None:
        longest = min(FIRST_REST * 2.0 ** (failures - FAILURES), LONGEST_REST)
        assert longest / 2 <= found <= longest
        assert found <= (rest_after(failures + 2, chance) or 0.0)
