"""Fixtures of the worker's tests: the bench, on the database that the test asks for, with the whole cast on stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox import Sandbox
from tests.sandbox.cast import Cast, connections, environment, seed
from tests.sandbox.fixtures import sandbox
from tests.worker.bench import Bench, open_bench

__all__ = ["sandbox"]


@pytest.fixture
def cast(sandbox: Sandbox) -> Cast:
    """A dozen credentials at the pretend providers."""
    return seed(sandbox)


@pytest.fixture
def connected(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A connection to every pretend provider, with the variables that they refer to set."""
    for name, value in environment(cast).items():
        monkeypatch.setenv(name, value)
    return connections(cast)


@pytest.fixture
def bench(tmp_path: Path, database_url: str, sandbox: Sandbox, connected: dict[str, Any]) -> Iterator[Bench]:
    """A runtime with a connection to every pretend provider, on SQLite and on PostgreSQL."""
    with open_bench(tmp_path, database_url, sandbox, connections=connected) as opened:
        yield opened


@pytest.fixture
def sqlite_bench(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, connected: dict[str, Any]) -> Iterator[Bench]:
    """The same on SQLite alone, where a test is not about the database."""
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connected) as opened:
        yield opened


@pytest.fixture
def impatient_bench(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, connected: dict[str, Any]) -> Iterator[Bench]:
    """One that gives up after a second, for providers that never answer as they should."""
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connected, settings={"retry_for": "1s"}) as opened:
        yield opened
