"""A ledger that was restored from a backup: noticed by delivered heads that it does not know, and held.

What happened since the backup is not in it, so nothing is changed before `revoq db reconcile` has asked what is so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from worker.ledger import heads, moves, reads
from worker.ledger.database import Database
from worker.ledger.exports import head_of, read_heads
from worker.ledger.heads import Signed
from worker.ledger.rows import EVERYTHING
from worker.settings import Settings

log = structlog.get_logger(__name__)

OURS = "revoq"
WHY = "this ledger does not know the last delivered audit head"
TAIL = 256 * 1024
"""Bytes at the end of a file of heads in which the last one is looked for."""


@dataclass(frozen=True, slots=True)
class Behind:
    """The last head that was delivered, the last one that the ledger has, and the sentence about both."""

    delivered: Signed
    known: int

    @property
    def says(self) -> str:
        return (
            f"{WHY}: number {self.delivered.number} was delivered, and it has {self.known or 'none'}; "
            "was it restored from a backup? revoq db reconcile looks what is so, and lifts this hold"
        )


def find_behind(settings: Settings, db: Database) -> Behind | None:
    """Whether a head was delivered that the ledger does not have, or has another one for."""
    # The files are read first: a head is committed before it is delivered.
    delivered = max(_last_heads(settings), key=lambda head: head.number, default=None)
    if delivered is None:
        return None
    with db.read() as conn:
        same = heads.find(conn, [delivered.number]).get(delivered.number)
        following = heads.behind(conn, delivered.number, 1)
        last = heads.latest(conn)
    if same is not None and same.statement == delivered.statement:
        return None
    if following and following[0].said is not None and _covers(following[0].said.lost, delivered.number):
        return None
    return Behind(delivered, last.number if last is not None else 0)


def hold_if_behind(settings: Settings, db: Database) -> bool:
    """Hold everything where the ledger was restored; whether it was. Another hold on everything stays as it is."""
    behind = find_behind(settings, db)
    if behind is None:
        return False
    if EVERYTHING not in {hold.connection for hold in reads.holds(db)}:
        moves.hold_on(db, EVERYTHING, actor=OURS, why=behind.says)
        log.error("ledger_held", why=behind.says)
    return True


def find_lost(settings: Settings, db: Database) -> tuple[int, int] | None:
    """The numbers of the delivered heads that the ledger does not have, from the first to the last."""
    lost = []
    with db.read() as conn:
        for path in settings.head_files:
            for page in heads.pages(read_heads(path) if path.exists() else ()):
                there = heads.find(conn, (head.number for head in page))
                lost += [
                    head.number
                    for head in page
                    if head.number not in there or there[head.number].statement != head.statement
                ]
        walked = heads.Walk()
        list(heads.walk(conn, walked))
        last = heads.latest(conn)
    lost = [number for number in lost if not walked.has_lost(number)]
    return (min(lost), max(*lost, last.number if last is not None else 0)) if lost else None


def _covers(lost: tuple[int, int] | None, number: int) -> bool:
    return lost is not None and lost[0] <= number <= lost[1]


def _last_heads(settings: Settings) -> Iterator[Signed]:
    for path in settings.head_files:
        found = [head for line in _tail(path) if (head := head_of(line)) is not None]
        yield from found[-1:]


def _tail(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return file.read().splitlines()
    except OSError:
        return []
