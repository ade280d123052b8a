"""How long a provider asks us to wait, out of an answer's headers; waiting is the ledger's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 24 * 3600.0
"""Seconds; a provider that asks for more is asked again after a day."""
RESETS = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
"""Headers that hold either seconds or the epoch second at which a budget is full again."""
EPOCH = 1_000_000_000


def retry_after(status: int, headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait (RFC 9110 10.2.3: a number or a date), or None where the answer does not say.

    The reset headers count only for 429: elsewhere they describe a budget that is not spent.
    """
    asked = _seconds(headers.get("retry-after", ""), now)
    if asked is None and status == 429:
        asked = next((s for name in RESETS if (s := _seconds(headers.get(name, ""), now)) is not None), None)
    return None if asked is None else min(max(asked, 0.0), LONGEST)


def _seconds(value: str, now: datetime) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return _until(value, now)
    if not 0 <= number < float("inf"):
        return None
    return number - now.timestamp() if number > EPOCH else number


def _until(value: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
