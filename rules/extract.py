"""Taking values out of an answer; which row of a list is meant is `select`'s, and how a secret looks is `pattern`'s."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache

from jsonpath_ng import JSONPath
from jsonpath_ng.ext.parser import parse

from rules.errors import ExtractError, RuleError
from rules.message import Answer
from rules.pattern import TIME_LIMIT, compile_filled, compile_pattern, find_secret, fits, match_secret
from rules.schema import Body, Extraction, Header, JsonPath, Regex, StatusCode
from rules.secret import Secret
from rules.template import Place, compile_template

__all__ = [
    "compile_pattern",
    "find",
    "find_secret",
    "fits",
    "match_secret",
    "parse_path",
    "row_answer",
    "scalar",
    "take",
    "take_all",
]

Values = Mapping[str, str | Secret]
MISSING = object()


@lru_cache(maxsize=1024)
def parse_path(path: str) -> JSONPath:
    """Read a JSONPath; a mistake in it, or a function in it, is a RuleError."""
    if "`" in path or "=~" in path:
        raise RuleError(f"the JSONPath {path!r} holds a function or a pattern; revoq's paths only say where a value is")
    problem = ""
    try:
        return parse(path)
    except Exception as error:  # noqa: BLE001 - the library raises its own, warnings and what its parser trips over
        problem = str(error).partition("\n")[0]
    raise RuleError(f"the JSONPath {path!r} cannot be read: {problem}")


def find(path: str, document: object) -> list[object]:
    """Every value at a JSONPath; a path that does not fit the document finds nothing."""
    steps = parse_path(path)
    try:
        return [found.value for found in steps.find(document)]
    except Exception:  # noqa: BLE001 - the library raises whatever its operators meet in a document of another shape
        return []


def scalar(value: object) -> str | None:
    """Write a JSON scalar as JSON does, text without its quotes; None for null, an object or an array."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.dumps(value) if isinstance(value, bool | int | float) else None


def take(extraction: Extraction, answer: Answer, values: Values) -> str | None:
    """Take the one value that an extractor names; None where it is missing and may be."""
    if isinstance(extraction, JsonPath):
        found = _take_path(extraction.path, answer, whole=extraction.json_value)
    elif isinstance(extraction, Regex):
        found = _take_pattern(extraction.pattern, answer, values)
    elif isinstance(extraction, Header):
        found = answer.headers.get(extraction.name.lower())
    elif isinstance(extraction, StatusCode):
        found = str(answer.status)
    else:
        found = answer.text or None
    if found is None and not extraction.optional:
        raise ExtractError(f"expected {_describe(extraction)} in the answer (status {answer.status}); it is not there")
    return found


def take_all(extractions: Mapping[str, Extraction], answer: Answer, values: Values) -> dict[str, str]:
    """Take every value; those that are missing and may be are left out."""
    taken = {name: take(extraction, answer, values) for name, extraction in extractions.items()}
    return {name: value for name, value in taken.items() if value is not None}


def row_answer(row: object) -> Answer:
    """Wrap one row of a list as an answer of its own, so that extractors read it with paths relative to the row."""
    return Answer(200, {"content-type": "application/json"}, json.dumps(row).encode())


def _take_path(path: str, answer: Answer, *, whole: bool) -> str | None:
    try:
        document = answer.json
    except ValueError:
        document = MISSING
    if document is MISSING:
        raise ExtractError(f"expected JSON with a value at {path}, got a body that is not JSON")
    found = find(path, document)
    if len(found) > 1:
        raise ExtractError(f"expected one value at {path}, found {len(found)}; revoq never takes the first of several")
    if not found or found[0] is None:
        return None
    if whole:
        return json.dumps(found[0])
    text = scalar(found[0])
    if text is None:
        kind = "an object" if isinstance(found[0], dict) else "a list" if isinstance(found[0], list) else "no number"
        raise ExtractError(f"expected text, a number, true or false at {path}, found {kind}")
    return text


def _take_pattern(source: str, answer: Answer, values: Values) -> str | None:
    problem = ""
    found: set[str] = set()
    try:
        pattern = compile_filled(compile_template(source).fill(values, Place.REGEX))
        for match in pattern.finditer(answer.text, timeout=TIME_LIMIT):
            text = match[1] if pattern.groups else match[0]
            found |= {text} if text is not None else set()
    except RuleError:
        problem = "with its values filled in, it is no pattern"
    except TimeoutError:
        problem = f"it did not come to an end in {TIME_LIMIT:.0f} s"
    if problem:
        raise ExtractError(f"the pattern {source!r} cannot be used on the answer: {problem}")
    if len(found) > 1:
        raise ExtractError(f"expected {source!r} to fit one place in the body, it fits {len(found)} different ones")
    return found.pop() if found else None


def _describe(extraction: Extraction) -> str:
    if isinstance(extraction, JsonPath):
        return f"a value at {extraction.path}"
    if isinstance(extraction, Regex):
        return f"a place that fits {extraction.pattern!r}"
    if isinstance(extraction, Header):
        return f"the header {extraction.name}"
    return "a body" if isinstance(extraction, Body) else "a status"
