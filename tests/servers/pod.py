"""A loopback of its own that processes and this test share, so that services listen where compose.yaml says.

Nobody else's Redis is in the way there, and nobody from outside can reach in; it needs root on Linux.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.servers.missing import report_missing

CLONE_NEWNET = 0x40000000
UP = """
import fcntl, socket, struct, sys
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sh", b"lo", 0x41))  # SIOCSIFFLAGS: up and running
print("up", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Pod:
    """One network, held open by a process that does nothing else."""

    namespace: Path

    def enter(self, command: Sequence[str | Path], *, alone: bool = False) -> list[str]:
        """The command line by which a command runs in here; `alone`, with mounts and a host name of its own."""
        words = ["nsenter", f"--net={self.namespace}"]
        words += ["unshare", "--mount", "--uts", "--propagation", "private"] if alone else []
        return [*words, *map(str, command)]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets that this thread, and every thread that it starts, makes meanwhile are in here."""
        with Path(f"/proc/self/task/{threading_id()}/ns/net").open() as outside, self.namespace.open() as within:
            move(within)
            try:
                yield
            finally:
                move(outside)


def threading_id() -> int:
    return int(ctypes.CDLL(None).gettid())


def move(namespace: IO[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def open_pod() -> Iterator[Pod]:
    """A network that is there until the end; a test that may not make one is skipped, and fails in CI."""
    if sys.platform != "linux" or os.geteuid() != 0:
        report_missing("A network namespace", "it takes root on Linux")
    command = ["unshare", "--net", sys.executable, "-c", UP]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "up\n":
            report_missing("A network namespace", "the container that this runs in has to allow CAP_SYS_ADMIN")
        yield Pod(Path(f"/proc/{holder.pid}/ns/net"))
        holder.communicate("")
