"""One row's fields, whichever format they came in, into a Row, or into what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rules.wording import nearest
from scheduler.offboard.items import Item, Mistake, Row, refuse_text

FIELDS = ("rule", "secret", "variables", "connection", "reason", "ticket", "owner", "subject", "except")
NAMES = ("rule", "connection", "reason", "ticket", "owner", "subject")
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
EITHER = "expected a credential (`rule`, with `secret` or variables) or a subject (`connection` and `subject`)"
SEPARATORS = re.compile(r"[\s,;]+")


def read_row(place: str, fields: Mapping[str, Any]) -> Iterator[Item]:
    """A row, or every mistake in it. A field that is empty or None was not given."""
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    mistakes = [*_unknown(given), *_texts(given), *_variables(given.get("variables"))]
    spared = _spared(given.get("except"))
    if isinstance(spared, str):
        mistakes.append(spared)
    if not mistakes:
        mistakes = list(_parts(given))
    if mistakes:
        yield from (Mistake(place, says) for says in mistakes)
        return
    texts = {name: given[name].strip() for name in NAMES if name in given}
    variables = {name: value for name, value in given.get("variables", {}).items() if value not in (None, "")}
    yield Row(place=place, **texts, secret=given.get("secret"), variables=variables, spared=tuple(spared))


def _unknown(given: Mapping[str, Any]) -> Iterator[str]:
    for name in given:
        if name not in FIELDS:
            yield f"there is no field {_shown(name)}{nearest(name, FIELDS)}"


def _texts(given: Mapping[str, Any]) -> Iterator[str]:
    for name in (*NAMES, "secret"):
        if name in given:
            yield from _refuse(name, given[name])


def _variables(variables: Any) -> Iterator[str]:
    if variables is None:
        return
    if not isinstance(variables, Mapping):
        yield f"variables: expected names with their values, got {_kind(variables)}"
        return
    for name, value in variables.items():
        if not VARIABLE.fullmatch(name):
            yield f"variables: expected names in capitals such as TOKEN_ID, got {_shown(name)}"
        elif value is not None:
            yield from _refuse(name, value)


def _refuse(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str) or isinstance(value, Number):
        yield f"{name}: expected a text, got {_kind(value)}: put it in quotes"
    elif (why := refuse_text(value)) is not None:
        yield f"{name}: {why}"


def _spared(value: Any) -> Sequence[str] | str:
    """The ids under `except`; where they cannot be read, the sentence."""
    if isinstance(value, str) and not isinstance(value, Number):
        value = [part for part in SEPARATORS.split(value) if part]
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(part, str) and not isinstance(part, Number) for part in value):
        return "except: expected ids, one text or a list of texts"
    return next((f"except: {why}" for part in value if (why := refuse_text(part)) is not None), None) or value


def _parts(given: Mapping[str, Any]) -> Iterator[str]:
    """What has to stand together, and what may not."""
    credential = [name for name in ("rule", "secret", "variables") if name in given]
    if "subject" in given:
        if credential:
            yield f"{EITHER}, got both: `subject` and {', '.join(f'`{name}`' for name in credential)}"
    elif "except" in given:
        yield "`except` says what a subject keeps, and this row names none: take it out, or add `subject`"
    elif "rule" not in given:
        yield f"`rule` is missing: {EITHER}" if credential else EITHER


class Number(str):
    """A number as it was written: it may have been meant as a text, and how long it is must not matter."""

    __slots__ = ()


def _kind(value: Any) -> str:
    if isinstance(value, Number | int | float) and not isinstance(value, bool):
        return "a number"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else "nothing"


def _shown(name: str) -> str:
    """A name that a file gave, as far as it is one: anything else might be a secret in the wrong place."""
    return repr(name) if re.fullmatch(r"[A-Za-z][A-Za-z0-9_ -]{0,39}", name) else "like one that stands there"
