"""What is wrong with the shape of a rule file, in sentences of our own and with the place; finding it is pydantic's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rules.model import Model
from rules.strictyaml import Place

KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "nothing",
}
PATTERNS = {
    r"^[A-Za-z_][A-Za-z0-9_]*$": "a name of letters, digits and _, which does not begin with a digit",
    r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$": "an id such as provider.token",
    r"^[a-z0-9_]+$": "a name of small letters, digits and _",
}


def explain(error: ValidationError, model: type[Model], value: object) -> Iterator[tuple[Place, str]]:
    """Give each mistake its place in the value, and a sentence; several at one place become one."""
    found: dict[Place, list[tuple[ErrorDetails, frozenset[type[Model]]]]] = {}
    for details in error.errors(include_url=False):
        place, models = _locate(details["loc"], model, value)
        if details["type"] == "missing":
            place = (*place, str(details["loc"][-1]))
        found.setdefault(place, []).append((details, models))
    for place, mistakes in found.items():
        yield place, _say(place, mistakes)


def describe(value: object) -> str:
    """Tell what stands there, shortly."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = str(value)
    return repr(text if len(text) <= 60 else text[:59] + "…")


def nearest(name: str, known: Sequence[str]) -> str:
    """Name the known word that is nearest, as the end of a sentence."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(sorted(known))}"


def _locate(location: Sequence[str | int], model: type[Model], value: object) -> tuple[Place, frozenset[type[Model]]]:
    """Follow pydantic's location through the value. It also names the kinds of unions, which are no keys."""
    place: Place = ()
    models = frozenset({model})
    for step in location:
        if isinstance(value, Mapping) and step in value:
            place, value = (*place, step), value[step]
            models = _models_at(models, str(step)) or models
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            place, value = (*place, step), value[step]
        else:
            models = frozenset(kind for kind in models if kind.__name__ == step or _kind_of(kind) == step) or models
    return place, models


def _models_at(models: frozenset[type[Model]], key: str) -> frozenset[type[Model]]:
    fields = [kind.model_fields[name] for kind in models for name in kind.model_fields if _key(kind, name) == key]
    return frozenset(found for field in fields for found in _models_in(field.annotation))


def _models_in(annotation: Any) -> frozenset[type[Model]]:
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, Model):
        return frozenset({annotation})
    return frozenset(found for part in get_args(annotation) for found in _models_in(part))


def _kind_of(model: type[Model]) -> str:
    field = model.model_fields.get("type")
    return next((str(kind) for kind in get_args(field.annotation) if kind), "") if field is not None else ""


def _key(model: type[Model], name: str) -> str:
    return model.model_fields[name].alias or name


def _say(place: Place, mistakes: Sequence[tuple[ErrorDetails, frozenset[type[Model]]]]) -> str:
    details, models = mistakes[0]
    name = f"{place[-1]}: " if place and isinstance(place[-1], str) else ""
    if details["type"] == "extra_forbidden":
        keys = [_key(kind, key) for kind in models for key in kind.model_fields]
        return f"unknown key {place[-1]!r}{nearest(str(place[-1]), keys)}"
    if details["type"] == "missing":
        return f"expected the key {place[-1]!r} here"
    kinds = [KINDS[mistake["type"]] for mistake, _ in mistakes if mistake["type"] in KINDS]
    if kinds:
        expected = " or ".join(dict.fromkeys(kinds))
        quoted = isinstance(details["input"], int | float) and "text" in kinds
        return f"{name}expected {expected}, got {describe(details['input'])}{': put it in quotes' if quoted else ''}"
    return name + WORDS.get(details["type"], _by_default)(details, details.get("ctx") or {})


def _by_default(details: ErrorDetails, _context: Mapping[str, Any]) -> str:
    return f"{details['msg'][:1].lower()}{details['msg'][1:]}, got {describe(details['input'])}"


def _by_tag(details: ErrorDetails, context: Mapping[str, Any]) -> str:
    tags = str(context.get("expected_tags", "")).replace("'", "")
    given = details["input"].get("type") if isinstance(details["input"], dict) else details["input"]
    return f"expected a type, one of {tags}; got {describe(given)}"


def _by_pattern(details: ErrorDetails, context: Mapping[str, Any]) -> str:
    pattern = str(context.get("pattern", ""))
    return f"expected {PATTERNS.get(pattern, f'text that matches {pattern}')}, got {describe(details['input'])}"


WORDS: dict[str, Callable[[ErrorDetails, Mapping[str, Any]], str]] = {
    "value_error": lambda details, _: details["msg"].removeprefix("Value error, "),
    "literal_error": lambda details, context: f"expected {context.get('expected')}, got {describe(details['input'])}",
    "union_tag_invalid": _by_tag,
    "union_tag_not_found": lambda details, _: f"expected a mapping with a key 'type', got {describe(details['input'])}",
    "string_pattern_mismatch": _by_pattern,
    "too_short": lambda _, context: f"expected at least {context.get('min_length')} of them, got none",
    "greater_than_equal": lambda details, context: f"expected {context.get('ge')} or more, got {details['input']}",
    "less_than_equal": lambda details, context: f"expected {context.get('le')} or less, got {details['input']}",
}
