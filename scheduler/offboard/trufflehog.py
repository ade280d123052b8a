"""TruffleHog's reports: one JSON object a line, between lines of its log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scheduler.offboard.items import TOKEN, Item, Items, Mistake
from scheduler.offboard.json_text import NotJson, parse
from scheduler.offboard.reports import read_finding, text_of
from scheduler.offboard.source import Source

SCANNER = "trufflehog"


def read(source: Source) -> Items:
    """Every finding with its line."""
    for line in source.lines():
        if isinstance(line, Mistake):
            yield line
        elif line[1].strip():
            try:
                entry = parse(line[1])
            except NotJson as error:
                yield Mistake(str(line[0]), str(error))
            else:
                yield from _read_entry(str(line[0]), entry)


def _read_entry(place: str, entry: Any) -> Iterator[Item]:
    if isinstance(entry, dict) and "DetectorName" not in entry and "level" in entry:
        return  # A line of its log, where both were sent to one file.
    detector = text_of(entry, "DetectorName")
    names = (f"{SCANNER}.{detector}", f"{SCANNER}.{detector.lower()}") if detector else ()
    yield from read_finding(place, SCANNER, names, _values(entry), _where(entry))


def _values(entry: Any) -> dict[str, str]:
    """`Raw` is the secret or the id of a pair; `RawV2` is a pair whole, the one behind the other."""
    raw, pair = text_of(entry, "Raw"), text_of(entry, "RawV2")
    values = {TOKEN: raw}
    if raw and pair.startswith(raw) and len(pair) > len(raw):
        values["PAIR"] = pair.removeprefix(raw).lstrip(":")
    elif raw and pair.endswith(raw) and len(pair) > len(raw):
        values["PAIR"] = pair.removesuffix(raw).rstrip(":")
    return {name: value for name, value in values.items() if value or name == TOKEN}


def _where(entry: Any) -> str:
    """The file and the line, in whatever kind of place it was found."""
    places = entry.get("SourceMetadata") if isinstance(entry, dict) else None
    data = places.get("Data") if isinstance(places, Mapping) else None
    for place in data.values() if isinstance(data, Mapping) else ():
        if isinstance(place, Mapping):
            line = place.get("line")
            return text_of(place, "file") + (f", line {line}" if isinstance(line, str) else "")
    return ""
