"""What processes write to their logs, line by line with their names before it; the logs are the supervisor's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import click

COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_black")
CHUNK = 1 << 16


@dataclass
class Tail:
    """One file from its present end on; when the supervisor begins a new one, the old one is read to its end first."""

    path: Path
    file: BinaryIO | None = None
    rest: bytes = b""

    def read(self) -> Iterator[str]:
        """The whole lines that were written since the last time."""
        while True:
            if self.file is None:
                self.file = self._open()
            if self.file is None:
                return
            while chunk := self.file.read(CHUNK):
                *lines, self.rest = (self.rest + chunk).split(b"\n")
                yield from (line.decode("utf-8", "replace").rstrip() for line in lines)
            if not self._replaced():
                return
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def _open(self) -> BinaryIO | None:
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            return None

    def _replaced(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self.file.fileno()) if self.file is not None else there
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)


@dataclass
class Follower:
    """The logs of all processes on one terminal."""

    paths: Mapping[str, Path]
    tails: dict[str, Tail] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin at the end of what is there: what earlier runs wrote is in the files."""
        for name, path in self.paths.items():
            tail = Tail(path)
            tail.file = path.open("rb") if path.exists() else None
            if tail.file is not None:
                tail.file.seek(0, os.SEEK_END)
            self.tails[name] = tail

    def show(self) -> None:
        """Print what is new."""
        width = max(map(len, self.tails), default=0)
        for (name, tail), colour in zip(self.tails.items(), COLOURS * len(self.tails), strict=False):
            label = f"{name:{width}} │ "
            before = click.style(label, fg=colour) if coloured() else label
            for line in tail.read():
                click.echo(before + line)

    def close(self) -> None:
        """Let go of the files."""
        for tail in self.tails.values():
            tail.close()


def coloured() -> bool:
    """Colours on a terminal, and not with NO_COLOR."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
