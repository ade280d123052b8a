"""What scanners' reports have in common: texts taken out with care, and secrets that the report itself hides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from scheduler.offboard.items import TOKEN, Finding, Item, Mistake, refuse_text

LARGEST = 32 << 20
HIDDEN = re.compile(r"\[?REDACT(ED)?(:[0-9a-f]+)?\]?|.{0,64}(\.\.\.|\*{3,})", re.IGNORECASE | re.DOTALL)
REDACTED = (
    "the report hides the secret, so nothing can be revoked with it: let the scanner write it again without redaction"
)


def text_of(value: Any, *keys: str) -> str:
    """The text at the end of a path of keys, or nothing."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return str(value) if isinstance(value, str) else ""


def read_finding(
    place: str, scanner: str, names: tuple[str, ...], values: Mapping[str, str], where: str
) -> Iterator[Item]:
    """A finding, or what is wrong with it."""
    secret = values.get(TOKEN, "")
    if not secret or not any(names):
        yield Mistake(
            place, f"expected a finding of {scanner} with its rule and its secret, got none of one of the two"
        )
    elif HIDDEN.fullmatch(secret):
        yield Mistake(place, REDACTED)
    elif (
        why := next((says for value in (*values.values(), *names) if (says := refuse_text(value))), None)
    ) is not None:
        yield Mistake(place, why)
    else:
        kept = tuple(name for name in names if name)
        yield Finding(
            place=place, scanner=scanner, names=kept, values=values, where=where if not refuse_text(where) else ""
        )
