"""The way to the ledger's database: connections, transactions, its clock, its ids and its schema's version; no rows.

Every write on SQLite takes the write lock before it reads (`BEGIN IMMEDIATE`), so that no writer finds out too late
that another one was there first. On PostgreSQL writes are READ COMMITTED, and repeat what they rely on in their WHERE.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from rules.units import SECOND
from worker.errors import SchemaMismatch, SettingsError
from worker.ledger.migrations import REVISIONS

BUSY_TIMEOUT = 30
"""Seconds for which a writer waits for the one before it on SQLite."""
CLOCK_TRUST = 30
"""Seconds after which the distance between the server's clock and ours is measured again."""
IDLE_TRUST = 5
"""Seconds of rest after which a connection is asked whether it still lives, before it is used."""
SILENCE = 30
"""Seconds of silence after which PostgreSQL ends a transaction: who is cut off holds no row for longer."""
CUT_OFF = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
"""When a server that does not answer any more counts as gone; by themselves, systems wait for hours."""
STEADY_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that nobody sets; on Linux the one that goes on while the machine sleeps, since leases do too."""
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no i, l, o, u, so that an id can be read aloud."""
ADVISORY_SPACE = 0x7265766F
"""The first half of our advisory locks' keys on PostgreSQL, so that they meet nobody else's."""
PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # What is shredded is overwritten with zeros instead of being left in a free page.
    "PRAGMA secure_delete = ON",
)


class Lock(IntEnum):
    """What only one transaction at a time may do where rows alone cannot keep two apart."""

    SCHEMA = 1  # upgrading
    SEALER = 2  # folding audit rows into the seals
    CHAIN = 3  # writing to the chain that belongs to no job; taken last
    HOLDS = 4  # alone: switching a hold; shared: intending a mutating request
    AGAIN = 5  # counting what the clock revoked again, and revoking one more
    BELLS = 6  # looking for what is to be rung, and ringing it


class Database:
    """One database, by its URL. Nothing is opened before the first use, and nothing is shared with a forked child."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """Check the URL; at most `pool_size` connections are opened, as they are needed, and then kept."""
        self.url = _checked(url)
        self.pool_size = pool_size
        self.on_postgres = self.url.get_backend_name() == "postgresql"
        self._forget()
        _DATABASES.add(self)

    @contextmanager
    def begin(self, *, sharing: Lock | None = None) -> Iterator[Connection]:
        """A transaction that may write; it commits at the end, and rolls back when an exception passes.

        It begins with the shared lock `sharing`, where one is named.
        """
        with self._turn:
            engine = self._writer() if sharing is None else self._sharer(sharing)
            with engine.begin() as connection:
                self._keep_time(connection)
                yield connection

    @contextmanager
    def single(self) -> Iterator[Connection]:
        """A connection for what one statement writes: each is a transaction of its own; on SQLite all are in one."""
        with self._turn:
            self._writer()
            with self._single.begin() as connection:
                self._keep_time(connection)
                yield connection

    @contextmanager
    def read(self, *, once: bool = False) -> Iterator[Connection]:
        """A transaction that only reads, and sees one moment however long it lasts.

        `once`: what is read is one statement, which sees one moment by itself.
        """
        self._writer()
        with (self._glance if once else self._reader).begin() as connection:
            self._keep_time(connection)
            yield connection

    def now(self) -> int:
        """Microseconds since 1970, UTC: the server's on PostgreSQL, without asking it each time."""
        if not self.on_postgres:
            return time.time_ns() // 1000
        if self._clock_is_old():
            with self.read():
                pass
        return self._offset + _steady()

    def new_id(self, prefix: str) -> str:
        """`job` → `job_` and 20 characters: 55 bits of time in microseconds, then 45 bits of chance."""
        number = self.now() << 45 | secrets.randbits(45)
        return f"{prefix}_" + "".join(ALPHABET[number >> shift & 31] for shift in range(95, -1, -5))

    def dispose(self) -> None:
        """Close the connections that are not in use; the next use opens new ones."""
        if self._engine is not None:
            self._engine.dispose()

    def _forget(self) -> None:
        """Start without connections: at first, and in a forked child, where they still belong to the parent."""
        # The parent's are kept rather than dropped: dropping would close them, and SQLite would let go of file locks.
        self._inherited = getattr(self, "_engine", None)
        self._engine: Engine | None = None
        self._sharers: dict[Lock, Engine] = {}
        self._opening = threading.Lock()
        inherited_turn = getattr(self, "_turn", None)
        if inherited_turn is not None:
            inherited_turn.close()
        self._turn = _NoTurn() if self.on_postgres else _Turn(Path(f"{self.url.database}-turn"))
        self._measured: int | None = None
        self._offset = 0

    def _writer(self) -> Engine:
        if self._engine is None:
            with self._opening:
                if self._engine is None:
                    engine = self._open()
                    kind = _BEGINNINGS[self.on_postgres]
                    self._reader = engine.execution_options(beginning=kind.reading)
                    self._single = engine.execution_options(beginning=kind.single)
                    self._glance = engine.execution_options(beginning="")
                    self._engine = engine
        return self._engine

    def _sharer(self, what: Lock) -> Engine:
        """The engine whose transactions begin with a shared lock, in the same message."""
        engine = self._writer()
        if not self.on_postgres:
            return engine
        if what not in self._sharers:
            beginning = (
                f"{_BEGINNINGS[True].writing}; SELECT pg_advisory_xact_lock_shared({ADVISORY_SPACE}, {int(what)})"
            )
            self._sharers[what] = engine.execution_options(beginning=beginning)
        return self._sharers[what]

    def _open(self) -> Engine:
        """Make the engine: parameters never show in its errors, since they hold what was sealed."""
        if not self.on_postgres:
            _make_file(Path(str(self.url.database)))
        engine = create_engine(
            self.url,
            hide_parameters=True,
            pool_size=self.pool_size,
            # One that is closed after use costs PostgreSQL a process for each transaction: more than the transaction.
            max_overflow=0,
            pool_use_lifo=True,
            # The drivers would begin transactions by rules of their own; `_begin` does it by ours.
            connect_args={"connect_timeout": 10, "autocommit": True, **CUT_OFF}
            if self.on_postgres
            else {"timeout": BUSY_TIMEOUT, "isolation_level": None},
            execution_options={"beginning": _BEGINNINGS[self.on_postgres].writing},
        )
        event.listen(engine, "begin", _begin)
        if self.on_postgres:
            event.listen(engine, "connect", _prepare_postgres)
            event.listen(engine, "checkin", _note_use)
            event.listen(engine, "checkout", _ask_after_rest)
        else:
            event.listen(engine, "connect", _prepare_sqlite)
        return engine

    def _clock_is_old(self) -> bool:
        return self._measured is None or _steady() - self._measured > CLOCK_TRUST * SECOND

    def _keep_time(self, connection: Connection) -> None:
        """Measure how far the server's clock is from our steady one, when that was long ago."""
        if not self.on_postgres or not self._clock_is_old():
            return
        before = _steady()
        server = connection.scalar(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
        after = _steady()
        self._offset = int(server) - (before + after) // 2
        self._measured = after


class _Turn:
    """Where all who write to one SQLite file queue: its own waiting is polling, which starves some of many.

    Threads wait for a lock, and processes for a lock on a file, which ends with whoever holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.RLock()
        self._file: int | None = None
        self._depth = 0
        self._closing: weakref.finalize[..., Any] | None = None

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            if self._depth == 0:
                if self._file is None:
                    _make_folder(self._path)
                    self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                    self._closing = weakref.finalize(self, os.close, self._file)
                fcntl.flock(self._file, fcntl.LOCK_EX)
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def close(self) -> None:
        """Let go of the file in a forked child: the parent has it still."""
        if self._closing is not None:
            self._closing()


class _NoTurn:
    """Stands where SQLite has a queue: PostgreSQL's writers wait for rows only."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...


_DATABASES: weakref.WeakSet[Database] = weakref.WeakSet()


class _Beginnings(NamedTuple):
    """With which statement a transaction begins that writes, that only reads, or that is a single statement."""

    writing: str
    reading: str
    single: str


_BEGINNINGS = {
    True: _Beginnings("BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ""),
    False: _Beginnings("BEGIN IMMEDIATE", "BEGIN", "BEGIN IMMEDIATE"),
}


def lock(connection: Connection, what: Lock) -> None:
    """Wait until no other transaction does this; until the end of the transaction. A SQLite writer is alone anyway."""
    if connection.dialect.name == "postgresql":
        statement = text("SELECT pg_advisory_xact_lock(:space, :what)")
        connection.execute(statement, {"space": ADVISORY_SPACE, "what": int(what)})


@contextmanager
def planned_anew(connection: Connection) -> Iterator[None]:
    """Have PostgreSQL plan what is executed here for the tables as they are, and keep no plan of it."""
    driver: Any = connection.connection.driver_connection
    usual = driver.prepare_threshold
    driver.prepare_threshold = None
    try:
        yield
    finally:
        driver.prepare_threshold = usual


def upgrade(database: Database) -> None:
    """Bring the tables to the version that this code works with; two at once wait for each other."""
    # Alembic takes a tenth of a second to load, and only whoever upgrades needs it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "worker.ledger:migrations")
    config.set_main_option("path_separator", "os")
    with database.begin() as connection:
        lock(connection, Lock.SCHEMA)
        _find_version(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check(database: Database) -> None:
    """Raise SchemaMismatch unless the tables are at the version that this code works with."""
    with database.read() as connection:
        there = _find_version(connection)
    if there != REVISIONS[-1]:
        raise SchemaMismatch(
            f"the database's tables are at version {there or 'none'}, and this revoq works with {REVISIONS[-1]}: "
            "run `revoq db upgrade`"
        )


def _find_version(connection: Connection) -> str | None:
    """The version that the tables are at; raises SchemaMismatch where it is a newer one."""
    noted = inspect(connection).has_table("alembic_version")
    there: str | None = connection.scalar(text("SELECT version_num FROM alembic_version")) if noted else None
    if there is not None and there not in REVISIONS:
        raise SchemaMismatch(
            f"the database's tables are at version {there}, which this revoq does not know; it works with "
            f"{REVISIONS[-1]}: they belong to a newer revoq, so use that one "
            "(`revoq db upgrade` goes forward only)"
        )
    return there


def _checked(url: str) -> URL:
    """The URL with the driver that we use, or a sentence; the text itself is never shown, since it holds a password."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        backend = ""
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        return parsed.set(drivername="sqlite+pysqlite")
    raise SettingsError(
        "database_url", "expected postgresql://USER@HOST/NAME or sqlite:////PATH/TO/FILE (a file, not memory)"
    )


def _make_file(path: Path) -> None:
    """Create the file and its folder for the owner alone; SQLite gives its two companions the file's mode."""
    _make_folder(path)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _make_folder(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _prepare_postgres(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.cursor().execute(f"SET idle_in_transaction_session_timeout = '{SILENCE}s'")
    # For what is a transaction by itself, whatever the server's own default may be.
    connection.cursor().execute("SET default_transaction_isolation = 'read committed'")


def _begin(connection: Connection) -> None:
    beginning = connection.get_execution_options()["beginning"]
    if beginning:
        connection.exec_driver_sql(beginning)


def _note_use(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    entry.info["used"] = _steady()


def _ask_after_rest(connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: object) -> None:
    """Ping a connection that has rested; one in steady use proves itself, and a ping each time is a round trip each."""
    if _steady() - entry.info.get("used", _steady()) < IDLE_TRUST * SECOND:
        return
    try:
        connection.cursor().execute("")
    except Exception as error:
        raise DisconnectionError from error


def _steady() -> int:
    return time.clock_gettime_ns(STEADY_CLOCK) // 1000


def _forget_all() -> None:
    for database in _DATABASES:
        database._forget()  # noqa: SLF001 - the class's own hook


os.register_at_fork(after_in_child=_forget_all)
