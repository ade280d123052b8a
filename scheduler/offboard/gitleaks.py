"""Gitleaks' reports: one JSON array of findings."""

from __future__ import annotations

from scheduler.offboard.items import TOKEN, Items, Mistake
from scheduler.offboard.json_text import NotJson, parse
from scheduler.offboard.reports import LARGEST, read_finding, text_of
from scheduler.offboard.source import Source

SCANNER = "gitleaks"


def read(source: Source) -> Items:
    """Every finding by its number."""
    text = source.text(LARGEST, "scan in parts, and hand each report in by itself")
    if isinstance(text, Mistake):
        yield text
        return
    try:
        entries = parse(text)
    except NotJson as error:
        yield Mistake("1", str(error))
        return
    if not isinstance(entries, list):
        yield Mistake("1", "expected a report of gitleaks, which is a list of findings")
        return
    for number, entry in enumerate(entries, start=1):
        rule = text_of(entry, "RuleID")
        line = entry.get("StartLine") if isinstance(entry, dict) else None
        where = text_of(entry, "File") + (f", line {line}" if isinstance(line, str) else "")
        # Since 8.19 --redact takes a percentage: then the match is what tells it.
        secret = text_of(entry, "Secret")
        names = (f"{SCANNER}.{rule}", rule) if rule else ()
        yield from read_finding(f"finding {number}", SCANNER, names, {TOKEN: secret}, where)
