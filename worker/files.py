"""Files of keys: written once, changed in one step, and on the disk before anybody relies on them.

What stands in one is for `worker.safe` and `worker.signing` to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rules.secret import Secret
from worker.errors import SafeError


def write_first(path: Path, text: Secret, *, taken: str) -> None:
    """Write a first file, mode 0600; an existing one is never overwritten, since its keys may be in use.

    Raises SafeError with the path and what it means that it is `taken`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _write_new(path, text)
    except FileExistsError:
        raise SafeError(f"{path} {taken}") from None
    sync_folder(path.parent)


def change(path: Path, alter: Callable[[Secret], Secret]) -> Secret:
    """Replace what a file says in one step that cannot lose a key, and give the new text; raises SafeError."""
    with _sole_writer(path) as beside:
        try:
            before = Secret(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            says = getattr(error, "strerror", None) or "not UTF-8"
            raise SafeError(f"cannot read {path}: {says}; revoq keys generate makes a first one") from None
        after = alter(before)
        _write_new(beside, after)
        beside.replace(path)
    sync_folder(path.parent)
    return after


def sync_folder(path: Path) -> None:
    """A file whose name was not written out is gone after a power loss, and with it all that it sealed."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _sole_writer(path: Path) -> Iterator[Path]:
    """The file that becomes the new one is also the lock: two rotations at once would lose one's key."""
    lock, beside = path.with_name(f"{path.name}.lock"), path.with_name(f"{path.name}.new")
    try:
        os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise SafeError(f"another rotation holds {lock}: take it away if none is running") from None
    except OSError as error:
        raise SafeError(f"cannot write beside {path}: {error.strerror}") from None
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)
        lock.unlink()


def _write_new(path: Path, text: Secret) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text.reveal())
        file.flush()
        os.fsync(file.fileno())
