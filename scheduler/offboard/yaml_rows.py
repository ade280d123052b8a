"""YAML: a list of mappings, each with the fields of a row; read by the same strict reader as rules."""

from __future__ import annotations

from rules import strictyaml
from rules.errors import RuleErrors
from scheduler.offboard.items import Items, Mistake
from scheduler.offboard.rows import read_row
from scheduler.offboard.source import Source

LARGEST = 1 << 20


def read(source: Source) -> Items:
    """Every row with the line that it begins on."""
    text = source.text(LARGEST, "use CSV or JSON Lines for so many rows")
    if isinstance(text, Mistake):
        yield text
        return
    try:
        document = strictyaml.parse(text, "")
    except RuleErrors as errors:
        yield from (Mistake(str(error.line), error.message) for error in errors.mistakes)
        return
    if document.value is None:
        return
    if not isinstance(document.value, list):
        yield Mistake("1", "expected a list of rows, each as `- rule: …` with its other fields below")
        return
    for number, value in enumerate(document.value):
        place = str(document.line([number]))
        if isinstance(value, dict):
            yield from read_row(place, value)
        else:
            yield Mistake(place, "expected a mapping with the fields of a row")
