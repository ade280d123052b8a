"""Tables for the ledger of a test, copied from a database that was upgraded; the upgrade itself is not tried here.

The migrations take a tenth of a second, and more than a thousand tests begin with them.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL

from tests.servers.database import creating
from worker.ledger.database import Database, upgrade

PATTERN = "upgraded"
"""The database that is copied; there is one on each server."""


def make_tables(url: URL) -> None:
    """As `upgrade` does: an empty database, which nobody may have open, gets its tables; another one keeps its own."""
    if url.get_backend_name() == "sqlite":
        _copy_file(Path(str(url.database)))
        return
    with _connected(url) as conn:
        empty = conn.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)
    if empty:
        _copy_database(url)


def _copy_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "wb") as file:
        if file.tell() == 0:
            file.write(_upgraded_file())


@cache
def _upgraded_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        _upgrade(f"sqlite:///{path}")
        return path.read_bytes()


def _copy_database(url: URL) -> None:
    """Put a copy in the place of the empty one."""
    name = str(url.database)
    with _connected(url.set(database="postgres")) as conn:
        if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (PATTERN,)).fetchone() is None:
            conn.execute(creating(PATTERN))
            _upgrade(url.set(database=PATTERN).render_as_string(hide_password=False))
        conn.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        conn.execute(creating(name, PATTERN))


def _connected(url: URL) -> psycopg.Connection:
    return psycopg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, dbname=url.database, autocommit=True
    )


def _upgrade(url: str) -> None:
    database = Database(url)
    upgrade(database)
    database.dispose()
