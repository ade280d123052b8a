"""JSON Lines: one object a line, its keys the fields of a row."""

from __future__ import annotations

from scheduler.offboard.items import Items, Mistake
from scheduler.offboard.json_text import NotJson, parse
from scheduler.offboard.rows import read_row
from scheduler.offboard.source import Source


def read(source: Source) -> Items:
    """Every row; empty lines say nothing."""
    for line in source.lines():
        if isinstance(line, Mistake):
            yield line
            continue
        number, text = line
        if not text.strip():
            continue
        try:
            value = parse(text)
        except NotJson as error:
            yield Mistake(str(number), str(error))
            continue
        if isinstance(value, dict):
            yield from read_row(str(number), value)
        else:
            yield Mistake(str(number), 'expected one object a line, such as {"rule": "…", "secret": "…"}')
