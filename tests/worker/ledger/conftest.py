"""A ledger with its tables, on each database, and jobs to put into it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.ledger.database import Database, upgrade


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """An upgraded, empty ledger; once of each kind."""
    database = Database(database_url)
    upgrade(database)
    yield database
    database.dispose()
