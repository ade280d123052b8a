"""A ledger with its tables, on each database, and jobs to put into it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.tables import make_tables
from worker.ledger.database import Database


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """An upgraded, empty ledger; once of each kind."""
    database = Database(database_url)
    make_tables(database.url)
    yield database
    database.dispose()
