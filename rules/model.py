"""What every model read from a file stands on, the rules' and the settings': strictness, durations in words, names.

Durations are texts such as `90s`, `15m`, `24h` or `7d` and are kept in seconds.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 100 * 366 * 86400.0
"""Seconds; the ledger could not count the microseconds of just any."""


def shown(value: object) -> str:
    """What came instead, for a sentence: of what is nested wrongly nothing, since a secret may be further in."""
    return repr(value) if isinstance(value, str | int | float | None) else "something else"


def parse_duration(value: object) -> float:
    """Seconds out of `90s`, `15m`, `24h`, `7d`; anything else is refused, a bare number too: nobody knows its unit."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value) if isinstance(value, str) else None
    if found is None or (seconds := float(found[1]) * UNITS[found[2]]) > LONGEST:
        raise ValueError(f"expected a duration such as 90s, 15m, 24h or 7d, got {shown(value)}")
    return seconds


Duration = Annotated[float, BeforeValidator(parse_duration)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Model(BaseModel):
    """Frozen, strict, and closed: an unknown key is a mistake, not a comment."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ignored_types=(cached_property,))
