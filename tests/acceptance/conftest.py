"""Fixtures of the acceptance suite: a whole revoq for one test, on the database that the test asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.system import System
from tests.servers.broker import Broker
from tests.servers.hub import Hub
from worker.ledger.database import Database

Build = Callable[..., System]


@pytest.fixture
def build_system(tmp_path: Path, redis_server: Broker) -> Iterator[Build]:
    """Make a system; whatever it started ends with the test."""
    built: list[System] = []

    def build(database_url: str, **options: Any) -> System:
        system = System.build(tmp_path, redis_server, database_url, **options)
        built.append(system)
        return system

    yield build
    for system in built:
        system.stop()


def hub_connection(hub: Hub) -> Mapping[str, Any]:
    """The connection to a JupyterHub as a user would write it."""
    return {"hub": {"provider": "jupyterhub", "base_url": hub.base_url, "identity": {"token": "env:HUB_TOKEN"}}}


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[Database]:
    """A look of the test's own into the system's PostgreSQL; it is closed however the test ends."""
    db = Database(postgres_url)
    yield db
    db.dispose()


@pytest.fixture
def hub_system(build_system: Build, jupyterhub: Hub, database_url: str) -> System:
    """A system with a connection to the real JupyterHub, on SQLite and on PostgreSQL."""
    return build_system(
        database_url, connections=hub_connection(jupyterhub), secrets={"HUB_TOKEN": jupyterhub.admin_token}
    )


@pytest.fixture
def sqlite_hub_system(build_system: Build, jupyterhub: Hub, sqlite_url: str) -> System:
    """The same on SQLite alone, where a test is about the processes and not about the database."""
    return build_system(
        sqlite_url, connections=hub_connection(jupyterhub), secrets={"HUB_TOKEN": jupyterhub.admin_token}
    )


TABLES = {
    "edges": ("edges of a rotation", ("killed", "edges", "runs", "rotated", "parked", "lost", "stray")),
    "canaries": ("canaries", ("database", "planted", "places", "encodings", "found")),
    "faults": ("faults", ("hurt", "cases", "jobs", "lost", "doubled", "wrong")),
}
"""What tests record under these names is told at the end: a title, and the columns."""
SUMMED = {"edges", "faults"}
"""Tables whose last line adds the others up."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The tables, whichever process ran their tests; rows of the same name are added up."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    ended = [report for report in reports if getattr(report, "when", "") == "call"]
    for kind, (title, head) in TABLES.items():
        rows: dict[str, list[int]] = {}
        for way, *numbers in (value for report in ended for name, value in report.user_properties if name == kind):
            for name in (way, "all") if kind in SUMMED else (way,):
                rows[name] = [a + b for a, b in zip(rows.get(name, [0] * len(numbers)), numbers, strict=True)]
        if rows:
            terminalreporter.section(title)
            names = (*sorted(rows.keys() - {"all"}), *(rows.keys() & {"all"}))
            for name, *cells in (head, *((name, *rows[name]) for name in names)):
                terminalreporter.write_line(f"{name:74}" + "".join(f"{cell:>9}" for cell in cells))
