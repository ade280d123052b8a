"""The pulse of the clock and of its bell: each leaves a mark in its data folder whenever it has ticked, for `doctor`.

Nothing that is decided depends on it: what is due stands in the ledger.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from worker.settings import Settings

BEAT = "beat"
CLOCK = "clock"


def tick(settings: Settings, name: str) -> None:
    """Mark that this one has ticked; where nothing can be written, nobody is told."""
    mark = mark_of(settings, name)
    with suppress(OSError):
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch(mode=0o600)


def since(settings: Settings, name: str) -> float | None:
    """Seconds since it has ticked, on this host; None where it never has."""
    try:
        return max(time.time() - mark_of(settings, name).stat().st_mtime, 0.0)
    except OSError:
        return None


def mark_of(settings: Settings, name: str) -> Path:
    return settings.data_dir / "run" / f"{name}.tick"
