"""What is overheard while a system runs, and what it has left behind: every place that a secret could have got into."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from sqlalchemy import text

from tests.servers.broker import Broker
from worker.ledger.database import Database
from worker.ledger.tables import metadata

PAUSE = 0.1


def read_files(directory: Path) -> bytes:
    """Every file below a folder, one after the other; one that goes away meanwhile is left out."""
    read = []
    for path in sorted(directory.rglob("*")):
        with suppress(OSError):
            if path.is_file():
                read.append(path.read_bytes())
    return b"\n".join(read)


def dump(broker: Broker, directory: Path) -> bytes:
    """A snapshot of the broker as `redis-cli --rdb` writes it, or its append-only file where there is no client."""
    if broker.cli is None:
        return read_files(broker.directory)
    target = directory / "dump.rdb"
    subprocess.run([broker.cli, "-p", str(broker.port), "--rdb", target], check=True, capture_output=True)
    return target.read_bytes() + read_files(broker.directory)


def result_backend(broker: Broker) -> list[bytes]:
    """The keys under which Celery would keep results."""
    with broker.connect() as client:
        return [bytes(key) for key in client.scan_iter("*") if b"celery-task-meta" in key or b"result" in key]


def list_processes() -> bytes:
    """What `ps` shows to anybody on the machine."""
    return b"\n".join(" ".join(process.info["cmdline"] or []).encode() for process in psutil.process_iter(["cmdline"]))


def environ_of(pid: int) -> bytes:
    """With what a process was started."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def dump_rows(url: str) -> bytes:
    """Every row of every table, as text: the files of a database may hold it compressed."""
    database = Database(url)
    try:
        with database.read() as connection:
            rows = [
                repr(tuple(bytes(cell) if isinstance(cell, memoryview) else cell for cell in row))
                for table in metadata.sorted_tables
                for row in connection.execute(text(f'SELECT * FROM "{table.name}"'))  # noqa: S608 - our own tables
            ]
    finally:
        database.dispose()
    return "\n".join(rows).encode("utf-8", "surrogatepass")


@contextmanager
def monitoring(broker: Broker) -> Iterator[list[bytes]]:
    """All that the broker was told while the block ran."""
    heard: list[bytes] = []
    with broker.connect() as client, client.monitor() as monitor:  # type: ignore[no-untyped-call]
        stop = threading.Event()

        def listen() -> None:
            for command in monitor.listen():
                heard.append(json.dumps(command, default=str).encode())
                if stop.is_set():
                    return

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            stop.set()
            with broker.connect() as other:
                other.ping()
            thread.join(timeout=10)


@contextmanager
def events(broker: Broker) -> Iterator[list[bytes]]:
    """Celery's events, and whatever else is published."""
    heard: list[bytes] = []
    with broker.connect() as client, client.pubsub(ignore_subscribe_messages=True) as subscription:  # type: ignore[no-untyped-call]
        subscription.psubscribe("*")
        with repeatedly(lambda: heard.extend(map(bytes, taken(subscription)))):
            yield heard


def taken(subscription: object) -> Iterator[bytes]:
    """What has come in meanwhile."""
    while (message := subscription.get_message()) is not None:  # type: ignore[attr-defined]
        yield message["channel"] + b" " + message["data"]


@contextmanager
def repeatedly(look: Callable[[], None]) -> Iterator[None]:
    """Look every now and then, and a last time at the end."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(PAUSE):
            look()
        look()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)


@contextmanager
def overhearing(broker: Broker, temporary: Path) -> Iterator[dict[str, set[bytes] | list[bytes]]]:
    """What passes by and is gone again: commands to the broker, events, `ps`, temporary files."""
    lines: set[bytes] = set()
    files: set[bytes] = set()
    with ExitStack() as stack:
        heard = stack.enter_context(monitoring(broker))
        published = stack.enter_context(events(broker))
        stack.enter_context(repeatedly(lambda: lines.update(list_processes().splitlines())))
        stack.enter_context(repeatedly(lambda: files.add(read_files(temporary))))
        yield {"MONITOR": heard, "Celery events": published, "ps": lines, "temporary files": files}


def written_since(folder: Path, begun: float) -> bytes:
    """A running server's files as they are at the moment, but for those that are as the server was delivered with."""
    read = []
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):
            if path.is_file() and path.stat().st_mtime >= begun:
                read.append(path.read_bytes())
    return b"\n".join(read)
