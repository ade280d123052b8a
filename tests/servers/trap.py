"""A trap on the way between a process and a server: it kills the process at its n-th message; it understands none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class When(StrEnum):
    """On which side of the n-th message its sender dies."""

    BEFORE = "before"  # the server never sees the message
    AFTER = "after"  # the server has done what it says, and its answer never arrives


@dataclass(frozen=True)
class Edge:
    """One place between two messages; with a `label`, only messages that begin like it count."""

    number: int
    when: When
    label: str = ""


@dataclass
class Trap:
    """Counts messages from `arm` on, and kills at one of them. `labels` are what the messages were, in order."""

    kill: Callable[[], None]
    edge: Edge | None = None
    labels: list[str] = field(default_factory=list)
    sprung: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, edge: Edge | None) -> None:
        """Begin to count anew; without an edge, only count."""
        with self.lock:
            self.edge, self.labels = edge, []
            self.sprung.clear()

    def count(self, label: str) -> int:
        """A message has come; its number, or 0 where it does not count."""
        wanted = self.edge.label if self.edge is not None else ""
        with self.lock:
            self.labels.append(label)
            return sum(each.startswith(wanted) for each in self.labels) if label.startswith(wanted) else 0

    def springs(self, number: int, when: When) -> bool:
        """Whether this is the edge; the sender is dead by then."""
        if not self.is_set_for(number, when):
            return False
        self.kill()
        self.sprung.set()
        return True

    def is_set_for(self, number: int, when: When) -> bool:
        """Whether this is where it kills, once."""
        edge = self.edge
        return edge is not None and (edge.number, edge.when) == (number, when) and not self.sprung.is_set()
