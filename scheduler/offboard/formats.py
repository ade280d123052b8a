"""Which format a file has, by its content and then by its name, and the reader that goes with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rules.errors import BadInput
from scheduler.offboard import csv_rows, gitleaks, json_rows, kingfisher, trufflehog, yaml_rows
from scheduler.offboard.items import Items
from scheduler.offboard.json_text import NotJson, parse
from scheduler.offboard.source import Source

READERS: dict[str, Callable[[Source], Items]] = {
    "csv": csv_rows.read,
    "jsonl": json_rows.read,
    "yaml": yaml_rows.read,
    "kingfisher": kingfisher.read,
    "trufflehog": trufflehog.read,
    "gitleaks": gitleaks.read,
}
REPORTS = frozenset({"kingfisher", "trufflehog", "gitleaks"})
ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".yaml": "yaml", ".yml": "yaml"}
LIST_OF_KINGFISHER = re.compile(r'\s*(\{\s*"findings"\s*:\s*\[|\[\s*\{\s*"rule"\s*:\s*\{)')
LIST_OF_GITLEAKS = re.compile(r'\s*\[\s*(\]|\{[^{}]*"(RuleID|StartLine)"\s*:)')


def recognise(source: Source) -> str:
    """The format's name; raises BadInput where the content is none that is known."""
    head = source.head()
    if LIST_OF_KINGFISHER.match(head):
        return "kingfisher"
    if LIST_OF_GITLEAKS.match(head):
        return "gitleaks"
    beginning = head.lstrip()[:1]
    if beginning == "{":
        return _of_lines(head)
    if beginning == "[":
        raise BadInput(
            f"{source.path}: a list in JSON, and no report of gitleaks or kingfisher: write rows as JSON Lines, one "
            "object a line, or say what it is with --as"
        )
    named = ENDINGS.get(source.path.suffix.lower())
    return named or ("yaml" if re.match(r"(\s*#[^\n]*\n|\s*\n)*\s*(---|- )", head) else "csv")


def _of_lines(head: str) -> str:
    """The kind of the first line that is an object."""
    for line in head.splitlines():
        try:
            value: Any = parse(line)
        except NotJson:
            break
        if isinstance(value, dict) and {"DetectorName", "SourceMetadata"} & value.keys():
            return "trufflehog"
        if isinstance(value, dict) and ("finding" in value or {"audit", "findings"} & value.keys()):
            return "kingfisher"
        if isinstance(value, dict) and {"level", "msg"} <= value.keys():
            continue
        break
    return "kingfisher" if re.search(r'"findings"\s*:\s*\[', head) else "jsonl"
