"""A warm process that has one real Celery worker as its child, and forks another whenever that one dies.

Settings and rules are read before the fork and nothing is opened, so that each worker is like one that was started
alone, but for the seconds that reading takes: a test that kills hundreds of workers would be spending its time there.
SIGUSR1 has it fork one more beside those that it has. Its arguments are the worker's.
"""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

import psycopg  # noqa: F401 - loaded once, for every child
import sqlalchemy.dialects.postgresql.psycopg  # noqa: F401 - as above

import worker.tasks  # noqa: F401 - as above
from worker import runtime
from worker.app import app

READY = "The nursery is ready."


def main() -> None:
    """Until we are ended, and our family with us."""
    warm = runtime.runtime()
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    children: set[int] = set()

    def bear(_number: int = 0, _frame: FrameType | None = None) -> None:
        child = os.fork()
        if child == 0:
            be_worker(warm)
        children.add(child)

    signal.signal(signal.SIGUSR1, bear)
    while True:
        if not children:
            bear()
        with suppress(ChildProcessError):
            children.discard(os.waitpid(-1, 0)[0])


def be_worker(warm: runtime.Runtime) -> None:
    """Never returns."""
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    runtime._built[os.getpid()] = warm  # noqa: SLF001 - what each process builds for itself, after the same rules
    try:
        app.worker_main(["worker", *sys.argv[1:]])
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
