"""The sandbox's own clock, which can be moved forward, and how its times are written."""

import time
from datetime import UTC, datetime


class Clock:
    """The machine's time plus what was skipped."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.skipped

    def advance(self, seconds: float) -> None:
        """Move forward; a clock that goes back is refused."""
        if seconds < 0:
            raise ValueError(f"expected a time to skip, got {seconds!r} seconds")
        self.skipped += seconds


def write_time(seconds: float) -> str:
    """UTC to the second, as most APIs write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
