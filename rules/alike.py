"""What differs between two lists that have to hold the same; reading them is `worker.steps.alike`'s."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rules.errors import ExtractError
from rules.escape import Encoded, Place
from rules.extract import find, scalar
from rules.schema import Alike


@dataclass(frozen=True, slots=True)
class Difference:
    """The rows that the second list lacks, and how many it has too many."""

    lacking: Sequence[object]
    more: int

    @property
    def says(self) -> str:
        """In words, without a value; empty where there is none."""
        said = [f"{len(self.lacking)} lacking"] if self.lacking else []
        return ", and ".join([*said, *([f"{self.more} too many"] if self.more else [])])


def compare(alike: Alike, source: Sequence[object], target: Sequence[object]) -> Difference:
    """What a list has that another lacks, and the other way round; a row that is there twice has to be there twice."""
    there = Counter(_key(alike, row) for row in target)
    lacking = []
    for row in source:
        key = _key(alike, row)
        if there[key]:
            there[key] -= 1
        else:
            lacking.append(row)
    return Difference(lacking, there.total())


def values_of(alike: Alike, row: object) -> dict[str, str]:
    """What the templates of `each` know of a row; an object or a list goes into a JSON body as it came."""
    return {name: _value(row, path) for name, path in alike.row.items()}


def _value(row: object, path: str) -> str:
    value = _one(row, path)
    text = scalar(value)
    return text if text is not None else Encoded(json.dumps(value), Place.BODY_JSON)


def _key(alike: Alike, row: object) -> str:
    return json.dumps([_ordered(_one(row, path)) for path in alike.by], sort_keys=True)


def _one(row: object, path: str) -> object:
    found = find(path, row)
    if len(found) != 1:
        raise ExtractError(f"expected one value at {path} in every row, found {len(found) or 'none'}")
    return found[0]


def _ordered(value: object) -> object:
    """A value whose lists are in one order: providers give sets as lists, in any order."""
    if isinstance(value, dict):
        return {name: _ordered(part) for name, part in value.items()}
    if isinstance(value, list):
        return sorted((_ordered(part) for part in value), key=lambda part: json.dumps(part, sort_keys=True))
    return value
