"""The guard that runs one server as its child and never lets it outlive the tests; it knows nothing of any server.

It is a program of its own, started by `process.py`. Its standard input is a pipe whose other end only the test process
holds, so that the pipe closes when the tests ask for the end and just as surely when they are killed. It prints the
server's process id on its first line, and the server's exit code on the second, when there is one.
"""

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

import psutil

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Start the server, wait for the pipe to close, end the server and all that it started."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--patience", type=float, required=True)
    parser.add_argument("--user")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    outlive_signals()
    adopt_orphans()
    # On its way out the guard ends whatever is left, so it needs no Popen object beyond the server's start.
    server = subprocess.Popen(
        options.command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        user=options.user,
        group=options.user,
        extra_groups=None if options.user is None else [],
        start_new_session=True,
    )
    say(server.pid)
    ended = threading.Event()
    threading.Thread(target=reap, args=(server.pid, ended), daemon=True).start()

    sys.stdin.buffer.read()

    if not ended.is_set():
        os.kill(server.pid, options.signal)
    ended.wait(options.patience)
    end_family()
    # Popen's own clean-up would complain about a child that the thread has reaped.
    os._exit(0)


def outlive_signals() -> None:
    """A guard that dies of Ctrl-C or of a shutdown would leave its server behind: only the closed pipe ends it.

    A handler that does nothing is used instead of SIG_IGN, since the server would inherit the latter.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_over)


def pass_over(_number: int, _frame: FrameType | None) -> None:
    pass


def adopt_orphans() -> None:
    """On Linux, children of a killed server become the guard's, so that it can still find and end them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap(server: int, ended: threading.Event) -> None:
    """Collect every child that ends, adopted ones too, and tell of the server's end."""
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        if pid == server:
            ended.set()
            say(os.waitstatus_to_exitcode(status))


def end_family() -> None:
    """Kill until nobody is left; a dying parent may still start a child."""
    while family := psutil.Process().children(recursive=True):
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=1)


def say(number: int) -> None:
    """One line for the tests, who may be gone already."""
    try:
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return


if __name__ == "__main__":
    main()
