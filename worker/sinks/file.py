"""A sink that is a file for each target: mode 0600, replaced as a whole, in a folder that exists already.

Nothing here follows a link that a target's name could lead through. A process that is killed leaves the old file or the
new one, and at most one unfinished file beside it, which the next delivery takes away.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath

from worker.errors import SinkBroken, SinkConflict, SinkDenied, SinkLost, SinkUnavailable
from worker.settings import FilePlace
from worker.sink import Held, Record, Sink, Visit, close, is_same, opened, parse, write

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC
GLANCE = 0.02
"""Seconds between two looks at a folder that somebody else has locked."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENFILE, errno.EMFILE, errno.ESTALE, errno.ETIMEDOUT}
"""What passes, or is somebody else's to mend."""


class File(Sink):
    """One file for each target."""

    PLACE = FilePlace
    _place: FilePlace

    def kept(self, record: Record) -> Record:
        """A file of the format `text` keeps a single field."""
        field = self._place.field
        if field is None:
            return record
        if field not in record:
            says = f"it keeps the field {field}, and the record has {', '.join(sorted(record))}: set `field`"
            raise SinkBroken(self.name, "", says)
        return {field: record[field]}

    def _check(self, visit: Visit) -> None:
        with self._folder(visit) as (folder, name):
            self._load(visit, folder, name)
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
                raise visit.error(SinkDenied, "the folder of its file cannot be written: look at its owner and mode")

    def _read(self, visit: Visit) -> Held | None:
        with self._folder(visit) as (folder, name):
            data = self._load(visit, folder, name)
        if data is None:
            return None
        record = self._parse(data)
        if record is None:
            raise visit.error(SinkBroken, f"its file holds something else than {self._place.format}")
        return Held(record, self.safe.digest(data))

    def _put(self, visit: Visit, record: Record, over: Held | None) -> None:
        text = self._write(visit, record)
        with self._folder(visit) as (folder, name):
            _lock(visit, folder)
            data = self._load(visit, folder, name)
            found = self._parse(data) if data is not None else None
            if found is not None and is_same(found, record):
                return
            if (self.safe.digest(data) if data is not None else None) != (over.version if over is not None else None):
                raise visit.error(SinkConflict, "its file was changed since it was read; nothing was written")
            _replace(visit, folder, name, text)

    # ── the form ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _write(self, visit: Visit, record: Record) -> bytes:
        with suppress(UnicodeEncodeError):
            match self._place.format:
                case "json":
                    return f"{write(record)}\n".encode()
                case "text":
                    return next(iter(opened(record).values())).encode()
            if names := [name for name in record if not name.isidentifier() or not name.isascii()]:
                raise visit.error(SinkBroken, f"no variable can be called {', '.join(names)}: choose another format")
            return "".join(f"{name}={shlex.quote(value)}\n" for name, value in opened(record).items()).encode()
        raise visit.error(SinkBroken, "a value is not text that UTF-8 can write: choose the format json")

    def _parse(self, data: bytes) -> Record | None:
        if self._place.format == "json":
            return parse(data)
        try:
            text = data.decode()
            if self._place.format == "text":
                return close({self._place.field or "": text})
            return close(dict(_pair(word) for word in shlex.split(text)))
        except ValueError:
            return None

    # ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _folder(self, visit: Visit) -> Iterator[tuple[int, str]]:
        """The folder, opened, and the file's name in it. Below the first part in braces, no link is followed."""
        template = PurePosixPath(self._place.path).parts
        *folders, name = PurePosixPath(visit.fill(self._place.path)).parts
        fixed = next((number for number, part in enumerate(template[:-1]) if "{" in part), len(folders))
        folder = None
        try:
            folder = os.open(PurePosixPath(*folders[:fixed]), FOLDER)
            for part in folders[fixed:]:
                inner = os.open(part, FOLDER | NO_LINK, dir_fd=folder)
                os.close(folder)
                folder = inner
            if os.fstat(folder).st_mode & stat.S_IWOTH:
                raise visit.error(SinkBroken, "everybody can write to the folder of its file: chmod o-w it")
            yield folder, name
        except OSError as error:
            raise _told(visit, error) from None
        finally:
            if folder is not None:
                os.close(folder)

    def _load(self, visit: Visit, folder: int, name: str) -> bytes | None:
        try:
            file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | NO_LINK, dir_fd=folder)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise visit.error(SinkBroken, "at its path is something else than a file: move it away")
        with open(file, "rb") as opened_file:  # noqa: PTH123 - it is open already
            data = opened_file.read(self.settings.body_limit + 1)
        if len(data) > self.settings.body_limit:
            raise visit.error(SinkBroken, f"its file is longer than {self.settings.body_limit} bytes")
        return data


SINK = File


def _lock(visit: Visit, folder: int) -> None:
    """Hold the folder until it is closed: two deliveries must not both find the old file."""
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(min(GLANCE, visit.left()))
        else:
            return


def _replace(visit: Visit, folder: int, name: str, data: bytes) -> None:
    """Write a new file beside the old one, have the disk keep it, and put it in the old one's place."""
    unfinished = f".{name}.revoq"
    with suppress(FileNotFoundError):
        os.unlink(unfinished, dir_fd=folder)
    try:
        file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o600, dir_fd=folder)
        with open(file, "wb") as opened_file:  # noqa: PTH123 - it is open already
            opened_file.write(data)
            opened_file.flush()
            os.fsync(file)
        os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(unfinished, dir_fd=folder)
        raise
    try:
        os.fsync(folder)
    except OSError as error:
        raise visit.error(SinkLost, f"the disk does not say that it kept the file: {error.strerror}") from None


def _told(visit: Visit, error: OSError) -> Exception:
    """What an error of the system means; its text names a file and holds none of its content."""
    if isinstance(error, PermissionError):
        return visit.error(SinkDenied, f"{error.strerror} at its file or folder: look at owner and mode")
    if error.errno in FULL:
        return visit.error(SinkUnavailable, f"its file cannot be written for now: {error.strerror}")
    says = f"{error.strerror} at its path: the folder has to exist, and no link may lead to it or to the file"
    return visit.error(SinkBroken, says)


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise ValueError("no variable")
    return name, value
