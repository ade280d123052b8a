"""The rows of the table, a file for each group that shares its workers; here is what every one of them is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.measure import Findings
from bench.stand import Stand


@dataclass(frozen=True, slots=True)
class Bench:
    """What every row is given: the servers, and how much of the full size is wanted."""

    stand: Stand
    scale: float = 1.0

    def some(self, number: int) -> int:
        """So many at full size; never so few that nothing is measured."""
        return max(min(number, 20), round(number * self.scale))

    @property
    def size(self) -> str:
        """What a note says of a run that was made smaller."""
        return "" if self.scale == 1 else f"{self.scale:g} of the full size; "


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are measured together. `run` is told which of them are wanted."""

    rows: tuple[str, ...]
    run: Callable[[Bench, frozenset[str]], Findings]
