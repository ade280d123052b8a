"""A process that the tests start and that ends with them, whatever happens to either; what it serves is not known."""

import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

GUARD = Path(__file__).with_name("guard.py")
PAUSE = 0.02


class NotReadyError(Exception):
    """A process did not come to where a test needs it; the message ends with what it last wrote."""


@dataclass
class Process:
    """One running command with its whole family. Use it as a context manager, or call `stop`."""

    name: str
    pid: int
    log: Path
    guard: subprocess.Popen[bytes]
    ended_with: int | None = None

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        patience: float = 10.0,
    ) -> Self:
        """Run the command under a guard; its output goes to the log, and a `user` other than ours needs root."""
        options = [f"--signal={int(stop_signal)}", f"--patience={patience}"]
        if user is not None:
            options.append(f"--user={user}")
        with log.open("ab") as output:
            guard = subprocess.Popen(
                [sys.executable, "-P", GUARD, *options, "--", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                # Unbuffered, so that `poll` knows of every line that was not read yet.
                bufsize=0,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
        name = Path(command[0]).name
        assert guard.stdout is not None
        first = guard.stdout.readline()
        if not first:
            close(guard)
            message = f"{name} could not be started; its log says:\n{tail(log)}"
            raise NotReadyError(message)
        return cls(name=name, pid=int(first), log=log, guard=guard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the command itself still runs; its children may outlive it until `stop`."""
        return self.exit_code() is None

    def exit_code(self, within: float = 0.0) -> int | None:
        """What the command ended with (minus the signal's number, if one ended it), or None while it runs."""
        if self.ended_with is None and not self.guard_closed():
            assert self.guard.stdout is not None
            # Not select.select, which knows no descriptor above 1023.
            waiting = select.poll()
            waiting.register(self.guard.stdout, select.POLLIN)
            if waiting.poll(within * 1000):
                self.ended_with = int(self.guard.stdout.readline() or -signal.SIGKILL)
        return self.ended_with

    def family(self) -> list[psutil.Process]:
        """The command's process and its descendants, oldest first."""
        try:
            head = psutil.Process(self.pid)
            return [head, *head.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: signal.Signals) -> None:
        """One signal, to the command alone."""
        psutil.Process(self.pid).send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the command and all its children at once, as a machine that loses power would."""
        for member in self.family():
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self.exit_code(within=10.0)

    def stop(self) -> None:
        """Ask the command to end, then end whatever is left of its family; a second call does nothing."""
        if self.guard_closed():
            return
        close(self.guard)
        if self.ended_with is None:
            self.ended_with = -signal.SIGKILL

    def guard_closed(self) -> bool:
        return self.guard.stdin is None or self.guard.stdin.closed

    def output(self) -> str:
        """All that the command has written so far."""
        return self.log.read_text(errors="replace")

    def wait_until(self, ready: Callable[[], bool], *, within: float = 60.0) -> None:
        """Wait until `ready` says so; a command that ends meanwhile, or takes too long, is an error with its log."""
        deadline = time.monotonic() + within
        while not ready():
            if not self.alive:
                message = f"{self.name} ended with {self.ended_with} instead of getting ready:\n{tail(self.log)}"
                raise NotReadyError(message)
            if time.monotonic() > deadline:
                message = f"{self.name} was not ready within {within:g} s; its log says:\n{tail(self.log)}"
                raise NotReadyError(message)
            time.sleep(PAUSE)


def close(guard: subprocess.Popen[bytes]) -> None:
    """Close the pipe, which is the guard's sign to end everything, and wait until it has."""
    assert guard.stdin is not None
    assert guard.stdout is not None
    guard.stdin.close()
    guard.wait()
    guard.stdout.close()


def tail(log: Path, lines: int = 30) -> str:
    """The last lines of a log, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
