"""JSON, strictly: no key twice, no NaN, numbers as they were written, and no nesting that could exhaust anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from scheduler.offboard.rows import Number


class NotJson(ValueError):
    """What keeps a text from being used as JSON; the sentence holds none of its values."""


def parse(text: str) -> Any:
    """The value of one JSON text; raises NotJson."""
    problem = ""
    try:
        return json.loads(
            text, parse_int=Number, parse_float=Number, parse_constant=_constant, object_pairs_hook=_mapping
        )
    except NotJson:
        raise
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} at column {error.colno}"
    except RecursionError:
        problem = "not JSON that can be read: nested too deep"
    # Raised out here, since the original carries the whole text.
    raise NotJson(problem)


def _constant(name: str) -> NoReturn:
    raise NotJson(f"not JSON: {name} is no value there")


def _mapping(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotJson("a key stands twice in one object, so one of the two values would be lost")
    return found
