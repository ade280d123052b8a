"""How long a provider asks us to wait, in every form that providers use."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.throttle import LONGEST, retry_after

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "7"}, 7.0),
        (503, {"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        (429, {"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        (429, {"x-ratelimit-reset": str(int(NOW.timestamp()) + 90)}, 90.0),
        (429, {"x-ratelimit-reset": "15"}, 15.0),
        (200, {"x-ratelimit-reset": "15"}, None),
        (429, {}, None),
        (429, {"retry-after": "soon"}, None),
        (429, {"retry-after": "nan"}, None),
        (429, {"retry-after": "999999"}, LONGEST),
    ],
)
def test_every_form_is_read(status: int, headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, dates and the epoch seconds of a full budget; nonsense is as if nothing had been said."""
    assert retry_after(status, headers, NOW) == seconds


@given(st.text(max_size=40))
def test_no_header_makes_it_fail(value: str) -> None:
    """A provider's header is not ours to trust: the answer is a number within bounds, or none."""
    seconds = retry_after(429, {"retry-after": value}, NOW)

    assert seconds is None or 0 <= seconds <= LONGEST
