"""A real PostgreSQL that makes fresh databases for the tests; tables are not made here."""

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

from tests.servers.missing import report_missing
from tests.servers.ports import find_free_port
from tests.servers.process import Process

# The tests kill workers, never the database's machine, so a commit need not reach the disk.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "synchronous_commit": "off",
    "timezone": "UTC",
}


@dataclass
class Postgres:
    """One PostgreSQL server with any number of databases. Stopped and started again it keeps its port and its data."""

    port: int
    directory: Path
    command: list[str | Path]
    process: Process
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def stop(self) -> None:
        """An orderly end that cuts its clients off."""
        self.process.stop()

    def kill(self) -> None:
        """A sudden end."""
        self.process.kill()
        self.process.stop()

    def start(self) -> None:
        """Start again after `stop` or `kill`."""
        self.process = start_process(self.command, self.directory, self.port)

    def create_database(self) -> str:
        """A new, empty database, and the SQLAlchemy URL at which it is found."""
        name = f"test_{next(self.numbers)}"
        self.execute(creating(name))
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Away with a database, even while somebody is still connected to it."""
        name = url.rpartition("/")[2]
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def copy_database(self, name: str, copy: str) -> None:
        """The same database once more, while nobody is connected to it."""
        self.execute(creating(copy, name))

    def execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", autocommit=True) as connection:
            connection.execute(statement)


def creating(name: str, template: str = "template0") -> sql.Composed:
    """The statement that makes a database: an empty one, or a copy of one to which nobody is connected."""
    return sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))


def start_process(command: list[str | Path], directory: Path, port: int) -> Process:
    process = Process.start(
        command,
        log=directory / "server.log",
        cwd=directory,
        user="postgres" if os.geteuid() == 0 else None,
        # PostgreSQL waits for its clients on SIGTERM, and cuts them off on SIGINT.
        stop_signal=signal.SIGINT,
    )
    try:
        process.wait_until(lambda: answers(port))
    except BaseException:
        process.stop()
        raise
    return process


@contextmanager
def running_postgres(within: Path | None = None, settings: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """A server with a cluster of its own, which goes away with it; `within` is the folder in which that is made."""
    programs = find_programs()
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    # pytest's own folders are closed to other users, and root may not run PostgreSQL; a short path also leaves room
    # for the socket's name, which may have about a hundred characters.
    directory = Path(tempfile.mkdtemp(prefix="revoq-pg-", dir=within))
    try:
        shutil.chown(directory, user)
        data = directory / "data"
        initialise(programs / "initdb", data, user)
        port = find_free_port()
        chosen = [f"--{name}={value}" for name, value in {**SETTINGS, **(settings or {})}.items()]
        command: list[str | Path] = [programs / "postgres", "-D", data, "-p", str(port), "-k", directory, *chosen]
        server = Postgres(port, directory, command, start_process(command, directory, port))
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def initialise(initdb: Path, data: Path, user: str) -> None:
    """Make the cluster, whose superuser is called postgres whoever runs it."""
    as_root = os.geteuid() == 0
    subprocess.run(
        [initdb, "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"],
        cwd=data.parent,
        check=True,
        capture_output=True,
        user=user if as_root else None,
        group=user if as_root else None,
        extra_groups=[] if as_root else None,
    )


def find_programs() -> Path:
    """The folder of initdb and postgres, which Debian keeps off the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name), reverse=True
    )
    if versions:
        return versions[0].parent
    return report_missing("PostgreSQL", "Debian: apt install postgresql, macOS: brew install postgresql")


def answers(port: int) -> bool:
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
