"""Keeps the processes of one revoq running, through supervisord, and leaves none behind; what they are is `processes`'.

The supervisor is started in a session of its own, which all its children stay in: whatever happens to it, they are
found by that session and ended.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from supervisor.xmlrpc import SupervisorTransport

from scheduler.errors import NotStarted
from scheduler.processes import (
    Process,
    broker_dir,
    config_text,
    control_socket,
    environment,
    log_file,
    run_dir,
)
from worker.settings import Settings

READY_WITHIN = 10.0
SHUTDOWN_SLACK = 5.0
"""Seconds that the supervisor may take on top of its slowest process."""
GONE_WITHIN = 5.0
PROC = Path("/proc/self").parent


@dataclass(frozen=True, slots=True)
class Kept:
    """How one process is: the supervisor's word for its state, and its process id while it has one."""

    name: str
    state: str
    pid: int | None


class Keeper:
    """One supervisor and its processes; use it as a context manager."""

    def __init__(self, settings: Settings, processes: Sequence[Process], environ: Mapping[str, str]) -> None:
        """Hold what is to run; nothing is started yet."""
        self._settings, self._processes, self._environ = settings, processes, environ
        self._supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Write the supervisor's text and start it; returns when it answers."""
        refuse_second(self._settings)
        config = self._write()
        output = log_file(self._settings, "supervisor").with_suffix(".out")
        with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-P", "-m", "supervisor.supervisord", "-n", "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(self._environ),
                start_new_session=True,
                # What the processes write is for their owner alone.
                umask=0o077,
            )
        try:
            self._wait_ready(output)
        except BaseException:
            self.stop()
            raise

    def states(self) -> list[Kept]:
        """How each process is; empty where the supervisor does not answer."""
        transport = SupervisorTransport(None, None, f"unix://{control_socket(self._settings)}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
                rows: Any = server.supervisor.getAllProcessInfo()
        except (OSError, xmlrpc.client.Error):
            return []
        found = {str(row["name"]): Kept(str(row["name"]), str(row["statename"]), row["pid"] or None) for row in rows}
        return [found[process.name] for process in self._processes if process.name in found]

    @property
    def alive(self) -> bool:
        """Whether the supervisor runs."""
        return self._supervisor is not None and self._supervisor.poll() is None

    def stop(self) -> None:
        """End everything: asked first, then killed. A KeyboardInterrupt meanwhile kills at once."""
        supervisor = self._supervisor
        if supervisor is None:
            return
        try:
            supervisor.terminate()
            slowest = max((process.patience for process in self._processes), default=0)
            supervisor.wait(slowest * 2 + SHUTDOWN_SLACK)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            pass
        finally:
            self._end_session(supervisor)
            self._supervisor = None

    def _write(self) -> Path:
        self._settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (run_dir(self._settings), log_file(self._settings, "").parent, broker_dir(self._settings)):
            private_dir(folder)
        path = run_dir(self._settings) / "supervisor.conf"
        text = config_text(self._settings, self._processes)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def _wait_ready(self, output: Path) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while not self.states():
            if not self.alive or time.monotonic() > deadline:
                said = output.read_text("utf-8", "replace").strip().splitlines()
                raise NotStarted(f"the supervisor does not start: {said[-1] if said else f'see {output.parent}'}")
            time.sleep(0.05)

    def _end_session(self, supervisor: subprocess.Popen[bytes]) -> None:
        """Kill whoever is left of the session: nobody, unless the supervisor itself was killed or too slow."""
        deadline = time.monotonic() + GONE_WITHIN
        while left := members(supervisor.pid):
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            supervisor.poll()
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        supervisor.wait()
        control_socket(self._settings).unlink(missing_ok=True)


def refuse_second(settings: Settings) -> None:
    """Refuse to run twice in one folder: the two would share a broker's files."""
    if is_listening(control_socket(settings)):
        raise NotStarted(f"revoq up is running already with the folder {settings.data_dir}: stop that one first")


def begun(settings: Settings) -> float | None:
    """Seconds since a `revoq up` that runs with this folder was started; None where none does."""
    path = control_socket(settings)
    if not is_listening(path):
        return None
    return max(time.time() - path.stat().st_mtime, 0.0)


def members(session: int) -> list[int]:
    """The processes of a session, without those that are dead and only wait for their parent to notice."""
    return [pid for pid, state in list_processes() if state != "Z" and _session_of(pid) == session]


def list_processes() -> Iterator[tuple[int, str]]:
    """Every process with the letter of its state; a bare Linux has no `ps`, and macOS has no /proc."""
    if not (PROC / "self").exists():
        listed = subprocess.run(["/bin/ps", "-axo", "pid=,stat="], capture_output=True, text=True, check=False)
        for line in listed.stdout.splitlines():
            pid, _, state = line.strip().partition(" ")
            yield int(pid), state.strip()[:1]
        return
    for path in PROC.glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name stands in parentheses and may hold anything, parentheses too.
            yield int(path.parent.name), path.read_text("utf-8", "replace").rpartition(") ")[2][:1]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def is_listening(path: Path) -> bool:
    """Whether somebody answers at this socket; a file that a dead process left behind is nobody."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def private_dir(path: Path) -> None:
    """A folder for its owner alone, also where it was made before with another mode."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
