"""Every row, in the order in which the groups are measured."""

from __future__ import annotations

from bench.rows import bare, door, growth, intake, kingfisher, ledger, messages, trail, urgent, waiting

GROUPS = (
    bare.GROUP,
    kingfisher.GROUP,
    waiting.GROUP,
    intake.GROUP,
    urgent.GROUP,
    ledger.GROUP,
    growth.GROUP,
    messages.GROUP,
    trail.GROUP,
    door.GROUP,
)
ROWS = tuple(sorted((row for group in GROUPS for row in group.rows), key=lambda row: int(row[1:])))
