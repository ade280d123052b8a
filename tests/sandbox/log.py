"""Every call that came in, in order, so that tests can count them; secrets are kept in memory only."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from threading import Lock
from typing import Any

from tests.sandbox.exchange import Call

READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass
class Received:
    """One call. `status` is None where no answer was sent; `handled` says whether the provider acted on it.

    `actor` is the id of the credential that signed it, and is empty where that credential is dead or unknown.
    """

    at: float
    provider: str
    method: str
    path: str
    actor: str
    call: Call = field(repr=False)
    status: int | None = None
    handled: bool = False
    fault: str = ""

    @property
    def mutating(self) -> bool:
        """Whether its method may change something."""
        return self.method not in READING

    def shown(self) -> dict[str, Any]:
        """What may leave the process: no header, no query and no body."""
        names = ("at", "provider", "method", "path", "actor", "status", "handled", "fault")
        return {name: getattr(self, name) for name in names}


class Log:
    """The calls, oldest first."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.entries: list[Received] = []

    def add(self, received: Received) -> None:
        with self.lock:
            self.entries.append(received)

    def clear(self) -> None:
        with self.lock:
            self.entries.clear()

    def find(self, provider: str = "", method: str = "", path: str = "*") -> Iterator[Received]:
        """The calls that fit; an empty word fits all, and the path may hold `*`."""
        with self.lock:
            entries = list(self.entries)
        for entry in entries:
            if provider in ("", entry.provider) and method in ("", entry.method) and fnmatchcase(entry.path, path):
                yield entry
