"""CSV: a first row with the names of the columns, then one row for each credential or subject.

A column in capitals is a variable of the rule; an empty cell says nothing.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from scheduler.offboard.items import Items, Mistake
from scheduler.offboard.rows import FIELDS, VARIABLE, read_row
from scheduler.offboard.source import Source

WANTED = (
    f"expected a first row with names of columns, such as: {','.join(name for name in FIELDS if name != 'variables')}"
)
OTHERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
MOST_COLUMNS = 200


def read(source: Source) -> Items:
    """Every row with the line that it begins on."""
    feed = _Feed(source)
    reader = csv.reader(feed, strict=True)
    names: list[str] | None = None
    while True:
        begins = feed.number + 1
        cells, broken = _next(reader)
        yield from feed.take()
        if broken:
            yield Mistake(str(begins), broken)
            if names is None:
                return
        if cells is None and not broken:
            break
        if not cells or not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = [cell.strip() for cell in cells]
            wrong = list(_check_header(names))
            yield from (Mistake(str(begins), says) for says in wrong)
            if wrong:
                return
        elif len(cells) > len(names):
            says = (
                f"expected {len(names)} cells as in the first row, got {len(cells)}: put a text with a comma in quotes"
            )
            yield Mistake(str(begins), says)
        else:
            yield from read_row(str(begins), _fields(names, cells))
    if names is None:
        yield Mistake("1", WANTED)


class _Feed(Iterator[str]):
    """Lines for the csv module; those that cannot be read are kept apart."""

    def __init__(self, source: Source) -> None:
        self._lines = source.lines()
        self._mistakes: list[Mistake] = []
        self.number = 0

    def __next__(self) -> str:
        for line in self._lines:
            if isinstance(line, Mistake):
                self._mistakes.append(line)
                self.number += 1
            else:
                self.number = line[0]
                return line[1] + "\n"
        raise StopIteration

    def take(self) -> list[Mistake]:
        """The mistakes since the last time."""
        taken, self._mistakes = self._mistakes, []
        return taken


def _next(reader: Iterator[list[str]]) -> tuple[list[str] | None, str]:
    """The next row's cells, or what is wrong with it; nothing at the end."""
    try:
        return next(reader), ""
    except StopIteration:
        return None, ""
    except csv.Error as error:
        if "limit" in str(error):
            return None, "a cell is far longer than any credential: is a quotation mark not closed?"
        return None, 'the quotation marks do not pair: write "" for one inside of a text in quotes'


def _check_header(names: list[str]) -> Iterator[str]:
    if len(names) > MOST_COLUMNS:
        yield f"expected at most {MOST_COLUMNS} columns, got {len(names)}"
        return
    other = next((word for sign, word in OTHERS.items() if len(names) == 1 and sign in names[0]), None)
    if other is not None:
        yield f"the columns are separated by {other}: save the file with commas"
        return
    known = [name for name in names if name in FIELDS or VARIABLE.fullmatch(name)]
    if not {"rule", "subject"} & set(known):
        yield WANTED
        return
    for number, name in enumerate(names, start=1):
        if name == "variables":
            yield "a variable is a column of its own, with the variable's name in capitals, such as TOKEN_ID"
        elif name in names[: number - 1]:
            yield (
                f"column {number}: {name or 'the empty name'} stands there twice"
                if name in known
                else (f"column {number} has the name of an earlier one")
            )
        elif name not in known:
            yield f"column {number} has a name that is none of {', '.join(FIELDS)}, nor a variable in capitals"


def _fields(names: list[str], cells: list[str]) -> dict[str, Any]:
    given = dict(zip(names, cells, strict=False))
    variables = {name: value for name, value in given.items() if VARIABLE.fullmatch(name) and value}
    rest = {name: value for name, value in given.items() if not VARIABLE.fullmatch(name)}
    return {**rest, "variables": variables or None}
