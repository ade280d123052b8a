"""What all chains of the ledger share: how a row is written and hashed, and how it is said that one is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from worker.ledger.rows import Head

GENESIS = Head(0, "0" * 64)
"""What stands before the first row of every chain."""
PAGE = 1000
"""Rows that a check holds in memory at once."""


class Fault(StrEnum):
    """What is wrong with a row."""

    EDITED = "edited"  # its bytes, its time or its hash are not what was written
    MISSING = "missing"  # rows between it and the one before, or rows that were sealed, are gone
    CUT = "cut"  # the chain ends before its job, or a delivered head, says that it does
    INSERTED = "inserted"  # it stands where no row was written
    MOVED = "moved"  # it was written for another place
    BARE = "bare"  # a job that has no rows
    ORPHAN = "orphan"  # rows whose job is gone
    FORGED = "forged"  # nobody who may has signed it


@dataclass(frozen=True, slots=True)
class Finding:
    """The first wrong row of one chain (`seals` and `heads` are the sealer's), and how it is wrong."""

    chain: str
    number: int
    fault: Fault
    says: str


def canonical(row: Mapping[str, Any]) -> bytes:
    """The one way to write a row: JSON, sorted keys, no spaces, UTF-8. A Secret in it is a TypeError."""
    written = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, which a provider may well send, has no UTF-8; its escape is the same JSON.
    return written.encode("utf-8", "backslashreplace")


def link(previous_hash: str, row: bytes) -> str:
    """SHA-256 over the hash before and the stored bytes."""
    return hashlib.sha256(previous_hash.encode("ascii") + row).hexdigest()


def parsed(row: bytes | str) -> dict[str, Any] | None:
    """What a row says, or None where it is not JSON or no object."""
    try:
        # Told that it is UTF-8, since to find that out takes as long as to read it.
        found = json.loads(row if isinstance(row, str) else row.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
