"""What Kingfisher says about finding a credential, beside its pattern; read, and left to the scanner."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from rules.model import Model, Name


def read_confidence(value: object) -> object:
    """Kingfisher reads `High` and `high` alike."""
    return value.lower() if isinstance(value, str) else value


Confidence = Annotated[Literal["low", "medium", "high"], BeforeValidator(read_confidence)]


class DependsOn(Model):
    """A value that another rule finds; it becomes a variable, a required one unless it is optional.

    `within` and `verify_candidates` say how a scanner pairs the two; here a person or a report has paired them.
    """

    rule_id: str
    variable: Name
    optional: bool = False
    within: str | None = None
    verify_candidates: bool = False


class ChecksumActual(Model):
    """Where a token's own checksum stands."""

    template: str
    requires_capture: str | None = None


class Checksum(Model):
    """How a token's own checksum is told from the rest of it."""

    actual: ChecksumActual
    expected: str
    skip_if_missing: bool = False


class PatternRequirements(Model):
    """What Kingfisher demands of a match beside its pattern; read, and left to the scanner."""

    min_digits: int | None = None
    min_uppercase: int | None = None
    min_lowercase: int | None = None
    min_special_chars: int | None = None
    special_chars: str | None = None
    ignore_if_contains: list[str] | None = None
    checksum: Checksum | None = None
