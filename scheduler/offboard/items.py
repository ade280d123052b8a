"""What a file says, item by item: a row, a scanner's finding, or a mistake with its place; nothing is looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

LONGEST_FIELD = 1 << 16
"""Characters of one value: no credential is longer."""
TOKEN = "TOKEN"  # noqa: S105 - the name under which rules know the secret itself


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with one place of a file; the sentence never holds a value that may be secret."""

    place: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: a credential (`rule` with a secret or variables), or a subject (`connection` and `subject`).

    `spared` are the ids of what a subject keeps.
    """

    place: str
    rule: str | None = None
    secret: str | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    connection: str | None = None
    reason: str | None = None
    ticket: str | None = None
    owner: str | None = None
    subject: str | None = None
    spared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A credential that a scanner reported. `names` are the ids that its kind may have here, the surest first.

    `values` holds the secret under TOKEN, and under other names what the scanner found beside it.
    """

    place: str
    scanner: str
    names: tuple[str, ...]
    values: Mapping[str, str] = field(repr=False)
    where: str


Item = Row | Finding | Mistake
Items = Iterator[Item]


def refuse_text(value: str) -> str | None:
    """Say why a text cannot be used, or None."""
    if len(value) > LONGEST_FIELD:
        return f"expected at most {LONGEST_FIELD} characters, got {len(value)}"
    if "\0" in value:
        return "it holds a NUL character, which no credential has: was the file saved as text?"
    if not _is_unicode(value):
        return "it holds half a surrogate pair, which is no text: write the character itself"
    return None


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
