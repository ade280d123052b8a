"""The arithmetic of a benchmark: pairs, ratios, their spread, and whether a goal is met; nothing is started here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

PAIRS = 5


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio should be: at least, or at most, so much."""

    limit: float
    at_most: bool = False

    def met_by(self, ratio: float) -> bool:
        return ratio <= self.limit if self.at_most else ratio >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: what was compared, its ratio in each pair, the goal, and what stands in the way."""

    row: str
    compared: str
    goal: Goal
    ratios: tuple[float, ...]
    measured: str
    """Both sides in their own unit, as medians."""
    note: str = ""

    @property
    def ratio(self) -> float:
        """The middle of all pairs."""
        return median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest."""
        return min(self.ratios), max(self.ratios)

    @property
    def met(self) -> bool:
        """Whether the middle meets the goal."""
        return self.goal.met_by(self.ratio)

    def as_json(self) -> dict[str, Any]:
        low, high = self.spread
        return {
            "row": self.row,
            "compared": self.compared,
            "ratio": round(self.ratio, 4),
            "spread": [round(low, 4), round(high, 4)],
            "pairs": [round(each, 4) for each in self.ratios],
            "goal": str(self.goal),
            "met": self.met,
            "measured": self.measured,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: what it is of, and its points."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """Curves over one axis."""

    title: str
    across: str
    up: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a group of rows came to."""

    lines: list[Line] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.lines.extend(other.lines)
        self.plots.extend(other.plots)


def interleave(sides: Sequence[Callable[[], float]], rounds: int = PAIRS) -> list[tuple[float, ...]]:
    """Measure every side in each round, beginning with another one each time; the rounds, in the order of the sides.

    A machine that is shared gets slower and faster by itself: what is compared was measured within seconds.
    """
    found = []
    for number in range(rounds):
        begin = number % len(sides)
        order = [*range(begin, len(sides)), *range(begin)]
        said = {place: sides[place]() for place in order}
        found.append(tuple(said[place] for place in range(len(sides))))
    return found


def middle(rounds: Sequence[Sequence[float]], place: int) -> float:
    """The median of one side."""
    return median(each[place] for each in rounds)


def ratios(rounds: Sequence[Sequence[float]], above: int = 0, below: int = 1) -> tuple[float, ...]:
    """One side divided by another, round by round."""
    return tuple(each[above] / each[below] for each in rounds)
