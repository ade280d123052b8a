"""One program, run to its end or to its deadline: its own process group, its output within a limit, and nothing else.

Which program may run is decided by the caller. What it is given: its arguments, an environment of its own, an empty
folder that is gone afterwards, and its input. What it writes to its error output is thrown away unread.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from rules.secret import Secret
from worker.errors import ExchangeError, Trouble

AT_ONCE = 64 * 1024
GLANCE = 0.05
"""Seconds after which it is asked whether the program has ended, while something else keeps its output open."""
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code, or minus the signal that ended it, and what it wrote."""

    code: int
    output: bytes = field(repr=False)


def run(
    arguments: Sequence[str], *, environment: Mapping[str, Secret], stdin: Secret | None, timeout: float, limit: int
) -> Ended:
    """Run a program. Raises ExchangeError, sent, where it did not end by itself in time or wrote too much.

    Whatever it started is ended with it: the whole process group, in every case.
    """
    program = arguments[0]
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryDirectory(prefix="revoq-") as folder:
        opened = {name: value.reveal() for name, value in environment.items()}
        try:
            process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={**ENVIRONMENT, "HOME": folder, "TMPDIR": folder, **opened},
                start_new_session=True,
            )
        except OSError as error:
            # Its text may name the folder, which is gone by the time that somebody reads this.
            says = f"{program} could not be started: {error.strerror}"
            raise ExchangeError(Trouble.REFUSED, sent=False, says=says) from None
        with process:
            try:
                output = _converse(process, (stdin or Secret("")).reveal().encode(), deadline, limit)
                return Ended(process.wait(max(deadline - time.monotonic(), 0.0)), output)
            except subprocess.TimeoutExpired:
                pass
            finally:
                _end(process)
        raise ExchangeError(Trouble.TIMEOUT, sent=True, says=f"{program} did not end in {timeout:g} seconds")


def _converse(process: subprocess.Popen[bytes], unsent: bytes, deadline: float, limit: int) -> bytes:
    """Write what it reads and read what it writes, until it has ended or closes its output."""
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101 - see above
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe, event in ((process.stdin, selectors.EVENT_WRITE), (process.stdout, selectors.EVENT_READ)):
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, event)
        while process.stdout in selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            ended = process.poll() is not None
            ready = [key.fileobj for key, _ in selector.select(0 if ended else min(left, GLANCE))]
            if process.stdin in ready:
                unsent = _write(process, unsent, selector)
            if process.stdout in ready:
                piece = os.read(process.stdout.fileno(), AT_ONCE)
                output += piece
                if len(output) > limit:
                    raise ExchangeError(Trouble.TOO_LARGE, sent=True, says=f"the program wrote more than {limit} bytes")
                if not piece:
                    selector.unregister(process.stdout)
            elif ended:
                break
    return bytes(output)


def _write(process: subprocess.Popen[bytes], unsent: bytes, selector: selectors.BaseSelector) -> bytes:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    # A program need not read what it is given.
    with suppress(BrokenPipeError):
        unsent = unsent[os.write(process.stdin.fileno(), unsent[:AT_ONCE]) :] if unsent else b""
        if unsent:
            return unsent
    selector.unregister(process.stdin)
    with suppress(BrokenPipeError):
        process.stdin.close()
    return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group, and wait for the program itself, so that none is left behind as a zombie."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.close()
    process.wait()
