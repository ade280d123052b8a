"""A file as text: its lines one by one or all of it, within limits, with a digest; what the text means is others'."""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from rules.errors import BadInput
from scheduler.offboard.items import Mistake, Row

LONGEST_LINE = 1 << 20
HEAD = 1 << 16
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MIB = 1 << 20

Line = tuple[int, str]


class Source:
    """One file that is read from its beginning as often as needed. `digest` is that of the last whole reading."""

    def __init__(self, path: Path) -> None:
        """Open it; a pipe is refused, since it cannot be read twice."""
        self.path = path
        self.digest = ""
        self._file = _open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self.path.resolve().parent

    def head(self) -> str:
        """How it begins, as far as that is text."""
        self._file.seek(0)
        data = self._file.read(HEAD).removeprefix(codecs.BOM_UTF8)
        return data.decode("utf-8", "replace")

    def lines(self) -> Iterator[Line | Mistake]:
        """Every line with its number and without its end; one that cannot be read is a mistake and stops no other."""
        self._file.seek(0)
        digest = hashlib.sha256()
        number = 0
        while data := self._file.readline(LONGEST_LINE):
            number += 1
            digest.update(data)
            long = len(data) == LONGEST_LINE and not data.endswith(b"\n")
            while long and (more := self._file.readline(LONGEST_LINE)):
                digest.update(more)
                if more.endswith(b"\n"):
                    break
            if long:
                yield Mistake(
                    str(number), f"the line is longer than {LONGEST_LINE // MIB} MiB: expected one row a line"
                )
            else:
                yield _line(number, data)
        self.digest = digest.hexdigest()

    def text(self, most: int, what: str) -> str | Mistake:
        """All of it, where it is no larger than `most` bytes; `what` says what to do with a larger one."""
        self._file.seek(0)
        data = self._file.read(most + 1)
        if len(data) > most:
            return Mistake("1", f"the file is larger than {most // MIB} MiB, and has to be read as a whole: {what}")
        self.digest = hashlib.sha256(data).hexdigest()
        read = _decoded(1, data)
        return read if isinstance(read, Mistake) else read[1]


class Spoken:
    """A subject that was named on the command line, in place of a file."""

    def __init__(self, row: Row) -> None:
        """It is the same each time it is read."""
        self.row = row
        self.path = Path(f"the subject {row.subject}")
        self.folder = Path.cwd()
        self.digest = hashlib.sha256(repr((row.connection, row.subject, row.spared)).encode()).hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """There is nothing to close."""


def _open(path: Path) -> BinaryIO:
    try:
        # Not blocking: to open a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no path'}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{path} is not a file: it is read twice, first to check it, so write it to a file")
    return os.fdopen(descriptor, "rb")


def _line(number: int, data: bytes) -> Line | Mistake:
    return _decoded(number, data.removesuffix(b"\n").removesuffix(b"\r"))


def _decoded(number: int, data: bytes) -> Line | Mistake:
    if number == 1 and data.startswith(WIDE):
        return Mistake("1", "the file is UTF-16: save it as UTF-8")
    if number == 1:
        data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return Mistake(str(number), "expected UTF-8 text, got other bytes: save the file as UTF-8")
    if "\0" in text:
        return Mistake(str(number), "it holds a NUL character, which no text has: was the file saved as text?")
    return number, text
