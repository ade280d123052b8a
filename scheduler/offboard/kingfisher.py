"""Kingfisher's reports, JSON and JSON Lines, as its versions 1 and 2 write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scheduler.offboard.items import TOKEN, Item, Items, Mistake
from scheduler.offboard.json_text import NotJson, parse
from scheduler.offboard.reports import LARGEST, read_finding, text_of
from scheduler.offboard.source import Source

SCANNER = "kingfisher"
CAPTURES = "dependent_captures"


def read(source: Source) -> Items:
    """Every finding, one a line or all in one document."""
    if _is_one_document(source.head()):
        yield from _read_document(source)
        return
    for line in source.lines():
        if isinstance(line, Mistake):
            yield line
        elif line[1].strip():
            try:
                value = parse(line[1])
            except NotJson as error:
                yield Mistake(str(line[0]), str(error))
            else:
                yield from _read_entry(str(line[0]), value)


def _is_one_document(head: str) -> bool:
    """Lines are objects of their own; a document has its findings in a list, and may have line breaks anywhere."""
    compact = "".join(head[:200].split())
    return compact.startswith(('{"findings":[', "[")) or not head.partition("\n")[0].rstrip().endswith("}")


def _read_document(source: Source) -> Items:
    text = source.text(LARGEST, "let kingfisher write --format jsonl, which is read line by line")
    if isinstance(text, Mistake):
        yield text
        return
    try:
        value = parse(text)
    except NotJson as error:
        yield Mistake("1", str(error))
        return
    entries = value.get("findings") if isinstance(value, dict) else value
    if not isinstance(entries, list):
        yield Mistake("1", "expected a report of kingfisher, with a list of findings")
        return
    for number, entry in enumerate(entries, start=1):
        yield from _read_entry(f"finding {number}", entry)


def _read_entry(place: str, entry: Any) -> Iterator[Item]:
    if isinstance(entry, dict) and "finding" not in entry and {"audit", "findings", "metadata"} & entry.keys():
        return  # What a run says of itself, at the end of its lines.
    captures = (
        entry.get("finding", {}).get(CAPTURES)
        if isinstance(entry, dict) and isinstance(entry.get("finding"), dict)
        else {}
    )
    beside = (
        {name: value for name, value in captures.items() if isinstance(value, str)}
        if isinstance(captures, dict)
        else {}
    )
    values = {**beside, TOKEN: text_of(entry, "finding", "snippet")}
    line = entry["finding"].get("line") if isinstance(entry, dict) and isinstance(entry.get("finding"), dict) else None
    where = text_of(entry, "finding", "path") + (f", line {line}" if isinstance(line, str) else "")
    yield from read_finding(place, SCANNER, (text_of(entry, "rule", "id"),), values, where)
