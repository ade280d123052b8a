"""The database: its schema, its transactions, its clock, its ids, and what a forked child may not inherit."""

from __future__ import annotations

import os
import re
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from tests.worker.ledger.samples import at_once, claimed, column, execute, findings, new_job
from worker.errors import SchemaMismatch, SettingsError
from worker.ledger import moves
from worker.ledger.database import Database, check, upgrade
from worker.ledger.migrations import REVISIONS
from worker.ledger.tables import jobs, metadata


def test_migrations_make_the_tables(db: Database) -> None:
    """What the migrations make is what the code works with, to the last index."""
    with db.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_upgraded_twice(db: Database) -> None:
    """An upgrade of what is up to date changes nothing."""
    upgrade(db)
    check(db)


def test_two_upgrades_at_once(database_url: str) -> None:
    """Two processes that start at the same moment may both upgrade."""
    databases = [Database(database_url), Database(database_url)]
    results = at_once(*(lambda database=database: upgrade(database) for database in databases))
    assert results == [None, None]
    check(databases[0])
    for database in databases:
        database.dispose()


def test_missing_tables(database_url: str) -> None:
    """An empty database is refused with both versions and the command that helps."""
    database = Database(database_url)
    with pytest.raises(SchemaMismatch, match=r"at version none, .* works with \S+: run `revoq db upgrade`"):
        check(database)
    database.dispose()


def test_newer_tables(db: Database) -> None:
    """A database that belongs to a newer revoq is left alone."""
    execute(db, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match=r"at version 9999, which this revoq does not know; it works with 0"):
        check(db)
    with pytest.raises(SchemaMismatch, match="newer revoq"):
        upgrade(db)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET at = 1",
        "DELETE FROM audit",
        "UPDATE seals SET number = 2",
        "DELETE FROM seals",
    ],
)
def test_audit_rows_stay(db: Database, statement: str) -> None:
    """Nobody changes or removes an audit row or a seal by mistake."""
    claimed(db)
    execute(db, "INSERT INTO seals (number, job, audit_number, hash, head, sealed_at) VALUES (1, 'x', 1, '', '', 1)")
    verb, _, rest = statement.partition(" ")
    table = "seals" if "seals" in rest else "audit"
    with pytest.raises(DBAPIError, match=f"the table {table} is append-only: {verb} is refused"):
        execute(db, statement)


@pytest.mark.parametrize("table", ["audit", "seals"])
def test_audit_is_not_emptied(db: Database, table: str) -> None:
    """TRUNCATE on PostgreSQL and REPLACE on SQLite would get past triggers for UPDATE and DELETE."""
    claimed(db)
    execute(db, "INSERT INTO seals (number, job, audit_number, hash, head, sealed_at) VALUES (1, 'x', 1, '', '', 1)")
    statement = f"TRUNCATE {table}" if db.on_postgres else f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}"  # noqa: S608
    with pytest.raises(DBAPIError, match=rf"the table {table} is append-only: (TRUNCATE|REPLACE) is refused"):
        execute(db, statement)


def test_the_versions_are_those_of_the_migrations() -> None:
    """They stand in a list of their own, so that nobody has to load Alembic for a look at the version."""
    known = [script.revision for script in ScriptDirectory.from_config(migrations()).walk_revisions()]
    assert tuple(reversed(known)) == REVISIONS


def test_every_migration_keeps_the_guard(database_url: str) -> None:
    """At each version that the tables ever had, rows of the trail stay as they were written."""
    config = migrations()
    guarded = ["audit", "seals"]
    database = Database(database_url)
    for script in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
        with database.begin() as conn:
            config.attributes["connection"] = conn
            command.upgrade(config, script.revision)
        guarded += ["heads", "seams"] if script.revision == "0002_signed_heads" else []
        for table in guarded:
            with database.begin() as conn:
                if conn.scalar(select(func.count()).select_from(metadata.tables[table])) == 0:
                    conn.execute(metadata.tables[table].insert(), example(table))
            for change in (metadata.tables[table].update().values(EDITS[table]), metadata.tables[table].delete()):
                with pytest.raises(DBAPIError, match=f"the table {table} is append-only"), database.begin() as conn:
                    conn.execute(change)
    database.dispose()


EDITS: dict[str, dict[str, object]] = {
    "audit": {"at": 2},
    "seals": {"head": "y"},
    "heads": {"signature": "y"},
    "seams": {"last": 9},
}
"""A change to a row of each table of the trail."""


def example(table: str) -> dict[str, object]:
    """A row that the table takes; the seam is not over the audit row's seal."""
    texts = dict.fromkeys(("job", "hash", "signature"), "x") | ({"head": "x"} if table == "seals" else {})
    values = {**dict.fromkeys(("number", "at", "audit_number", "sealed_at", "head"), 1), "first": 8, "last": 8}
    all_values: dict[str, object] = {**values, **texts, "row": b"x", "statement": b"x"}
    return {name: all_values[name] for name in metadata.tables[table].c.keys()}  # noqa: SIM118 - no mapping


def migrations() -> Config:
    """Where Alembic finds the ledger's."""
    config = Config()
    config.set_main_option("script_location", "worker.ledger:migrations")
    config.set_main_option("path_separator", "os")
    return config


def test_errors_hide_values(db: Database) -> None:
    """An error of the database never shows what was to be written."""
    with pytest.raises(DBAPIError) as caught:
        execute(db, "INSERT INTO nowhere (x) VALUES (:x)", x="s3cret")
    assert "s3cret" not in str(caught.value)


def test_writers_wait(db: Database) -> None:
    """Many threads may write at once: none is told that the database is busy, and none is lost."""
    results = at_once(*(lambda: moves.submit(db, new_job()) for _ in range(20)))
    assert len({result.job_id for result in results}) == 20


def test_rolled_back(db: Database) -> None:
    """An exception leaves nothing behind."""
    job = claimed(db).job.id

    def fail_halfway() -> None:
        with db.begin() as conn:
            conn.execute(jobs.update().values(says="half done"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert column(db, job, "says") is None


def test_reads_see_one_moment(db: Database) -> None:
    """A long read does not see what is written meanwhile."""
    claimed(db)
    count = text("SELECT count(*) FROM jobs")
    with db.read() as conn:
        before = conn.scalar(count)
        claimed(db)
        assert before == conn.scalar(count)


def test_clock(db: Database) -> None:
    """The clock is UTC in microseconds, close to the machine's, and never goes back while nobody sets it."""
    times = [db.now() for _ in range(100)]
    assert abs(times[0] / 1e6 - time.time()) < 5
    assert sorted(times) == times


def test_clock_is_the_servers(postgres_url: str) -> None:
    """On PostgreSQL the time does not depend on this machine's clock."""
    database = Database(postgres_url)
    with database.read() as conn:
        server = conn.scalar(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
        assert abs(database.now() - int(server or 0)) < 100_000
    database.dispose()


def test_ids(db: Database) -> None:
    """Ids are short, sort by time, and say what they name."""
    ids = []
    for _ in range(10):
        ids.append(db.new_id("job"))
        time.sleep(0.001)
    assert sorted(ids) == ids
    assert re.fullmatch(r"job_[0-9a-hjkmnp-tv-z]{20}", ids[0])


def test_broken_connections_are_replaced(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that died while it rested is not handed out."""
    monkeypatch.setattr("worker.ledger.database.IDLE_TRUST", 0)
    database, other = Database(postgres_url), Database(postgres_url)
    with database.read() as conn:
        backend = conn.scalar(text("SELECT pg_backend_pid()"))
    with other.begin() as conn:
        conn.execute(text("SELECT pg_terminate_backend(:backend)"), {"backend": backend})
    time.sleep(0.1)
    with database.read() as conn:
        assert conn.scalar(text("SELECT 1")) == 1
    database.dispose()
    other.dispose()


def test_file_is_the_owners(tmp_path: Path) -> None:
    """Nobody else on the machine reads the ledger's file, its companions or its folder."""
    path = tmp_path / "data" / "ledger.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    with database.read():
        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert {0o600} == modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    database.dispose()


def test_sqlite_is_durable(sqlite_url: str) -> None:
    """A committed intent survives a power cut, and what was shredded does not survive in a free page."""
    database = Database(sqlite_url)
    with database.read() as conn:
        pragmas = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "secure_delete")
        }
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000, "secure_delete": 1}
    assert expected == pragmas
    database.dispose()


def test_nothing_is_opened_early(tmp_path: Path) -> None:
    """Making the object opens nothing: a process that forks afterwards shares nothing."""
    Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert list(tmp_path.iterdir()) == []


def test_forked_child(db: Database) -> None:
    """A forked child works, and so does its parent afterwards."""
    job = claimed(db).job.id
    assert run_in_child(lambda: moves.submit(db, new_job())) == 0
    with db.read() as conn:
        assert {job} < set(conn.scalars(select(jobs.c.id)))


def test_forked_child_connects_anew(postgres_url: str) -> None:
    """A forked child talks over a connection of its own: two processes on one would mix their answers."""
    database = Database(postgres_url)
    parents = backend(database)
    assert run_in_child(lambda: check_other(backend(database), parents)) == 0
    assert backend(database) == parents
    database.dispose()


def backend(database: Database) -> int:
    """The server's process behind the connection in use."""
    with database.read() as conn:
        return int(conn.scalar(text("SELECT pg_backend_pid()")) or 0)


def check_other(one: int, other: int) -> None:
    """Fail where two processes are the same."""
    if one == other:
        raise ValueError(one)


def run_in_child(action: Callable[[], object]) -> int:
    """Do it in a forked process; 0 where nothing was raised."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:  # noqa: BLE001 - the parent reads the code
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "mysql://me:s3cret@db/x", "sqlite://", "sqlite:///:memory:", "postgresql://a:s3cret@db:port/x"],
)
def test_bad_url(url: str) -> None:
    """A URL that cannot be used gets a sentence without the password in it."""
    with pytest.raises(SettingsError, match=r"database_url: expected postgresql://") as caught:
        Database(url)
    assert "s3cret" not in str(caught.value)


def test_writers_of_one_file_queue(sqlite_url: str) -> None:
    """A writer in another process waits as long as the one before it, and for nobody who was killed meanwhile."""
    database = Database(sqlite_url)
    upgrade(database)
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        with database.begin():
            os.write(tells, b"x")
            time.sleep(60)
        os._exit(0)
    os.read(told, 1)
    waiting = threading.Thread(target=moves.submit, args=(database, new_job()), daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    waiting.join(30)
    assert not waiting.is_alive()
    assert findings(database) == []
    database.dispose()
