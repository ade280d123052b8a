"""`revoq up`: everything in one terminal; what the processes are is `processes`', keeping them `keeper`'s."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType

import click

from scheduler.cli.desk import adopt, open_ledger, open_settings, sqlite_file
from scheduler.cli.following import Follower
from scheduler.cli.output import note, say
from scheduler.errors import NotStarted
from scheduler.keeper import Keeper, Kept, refuse_second
from scheduler.processes import Process, commands, log_file
from worker.ledger.database import Database, upgrade
from worker.safe import Ring, write_ring
from worker.settings import Settings, load_settings
from worker.signing import write_signer

LOOK_EVERY = 0.3
STATES_EVERY = 1.0
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TROUBLE = frozenset({"BACKOFF", "EXITED", "FATAL", "UNKNOWN"})


@click.command(name="up")
@click.option("--quiet", is_flag=True, help="Do not repeat here what the processes write to their logs.")
def command(*, quiet: bool) -> None:
    """Start broker, workers, clock and Flower, keep them running, and stop them all on Ctrl-C.

    Without a broker in the settings it brings its own. On the first run with the defaults it makes the keys and the
    database as well. The logs are in the folder run/log of the data folder.
    """
    settings = open_settings()
    refuse_second(settings)
    check_free(settings)
    settings = prepare(settings)
    processes = commands(settings)
    with noticing() as signals:
        keeper = Keeper(settings, processes, environ(settings))
        keeper.start()
        try:
            say(f"revoq is up: {', '.join(process.name for process in processes)}.")
            say(f"Flower: {flower_url(settings)}  Logs: {log_file(settings, '').parent}  Ctrl-C stops everything.")
            watch(settings, keeper, processes, signals, quiet=quiet)
        finally:
            # From here on a second Ctrl-C interrupts the waiting, and what is left is killed.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            say("Stopping; requests under way are finished first. Ctrl-C again stops at once.")
            keeper.stop()
    say("Everything has stopped.")


def prepare(settings: Settings) -> Settings:
    """What the first run needs: keys, where no setting names others, and the tables of an embedded database."""
    if settings.seal_keys is None:
        write_ring(settings.keys_file, Ring.generate())
        say(f"Made the keys: {settings.keys_file}, mode 0600. Keep a copy elsewhere.")
        settings = adopt(load_settings())
    if settings.audit_keys is None:
        public = write_signer(settings.audit_keys_file).public
        say(
            f"Made the key that signs the audit trail: {settings.audit_keys_file}, mode 0600. Its public half: {public}"
        )
        settings = adopt(load_settings())
    path = sqlite_file(settings)
    if path is not None:
        fresh = not path.exists()
        db = Database(settings.database_url)
        upgrade(db)
        db.dispose()
        if fresh:
            say(f"Made the database: {path}")
    open_ledger(settings)
    return settings


def check_free(settings: Settings) -> None:
    """Refuse a port that is taken: whoever wants it would die of it again and again."""
    wanted = (
        ("Flower", settings.flower_address, settings.flower_port, "REVOQ_FLOWER_PORT"),
        ("revoq metrics", settings.metrics_address, settings.metrics_port, "REVOQ_METRICS_PORT"),
    )
    for who, address, port, setting in wanted:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                raise NotStarted(
                    f"{who} cannot listen on {address} port {port} ({error.strerror}): "
                    f"choose another one with {setting}"
                ) from None


def environ(settings: Settings) -> dict[str, str]:
    """Our own environment; where the logs are shown on a terminal, they are written for people."""
    people = {"REVOQ_LOG_FORMAT": "console"} if settings.log_format == "auto" and sys.stdout.isatty() else {}
    return {**os.environ, **people}


def flower_url(settings: Settings) -> str:
    address = f"[{settings.flower_address}]" if ":" in settings.flower_address else settings.flower_address
    return f"http://{address}:{settings.flower_port}"


@contextmanager
def noticing() -> Iterator[list[int]]:
    """Collect the signals that ask us to end, instead of being ended by them."""
    received: list[int] = []

    def notice(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, notice) for number in ENDS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(
    settings: Settings, keeper: Keeper, processes: Sequence[Process], signals: Sequence[int], *, quiet: bool
) -> None:
    """Show what the processes write and when one of them dies, until a signal comes."""
    logs = {} if quiet else {process.name: log_file(settings, process.name) for process in processes}
    known: dict[str, Kept] = {}
    looked = 0.0
    with closing(Follower(logs)) as follower:
        while not signals:
            if not keeper.alive:
                raise NotStarted("the supervisor was killed; everything that it ran is stopped as well")
            if time.monotonic() - looked >= STATES_EVERY:
                looked = time.monotonic()
                known = tell_changes(known, keeper.states())
            follower.show()
            time.sleep(LOOK_EVERY)


def tell_changes(before: dict[str, Kept], now: Sequence[Kept]) -> dict[str, Kept]:
    """Say which process died and which was started again; how they are now."""
    for kept in now:
        old = before.get(kept.name)
        if old is not None and old != kept and kept.state in TROUBLE:
            note(f"{kept.name} has died and is started again; its log tells why")
        elif old is not None and old.pid != kept.pid and kept.pid is not None:
            note(f"{kept.name} was started again, as process {kept.pid}")
    return {kept.name: kept for kept in now} or before
