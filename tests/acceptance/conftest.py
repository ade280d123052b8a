"""Fixtures of the acceptance suite: a whole revoq for one test, on the database that the test asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.system import System
from tests.servers.broker import Broker
from tests.servers.hub import Hub

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of tests/acceptance/test_rotation_edges.py, whichever process ran them."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    ended = [report for report in reports if getattr(report, "when", "") == "call"]
    rows = [value for report in ended for name, value in report.user_properties if name == "edges"]
    if not rows:
        return
    rows = sorted(rows)
    rows.append(["all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
    terminalreporter.section("edges of a rotation")
    head = ("killed", "edges", "runs", "rotated", "parked", "lost", "stray")
    for way, *numbers in (head, *rows):
        terminalreporter.write_line(f"{way:74}" + "".join(f"{number:>9}" for number in numbers))
    _, edges, _, _, parked, lost, stray = rows[-1]
    terminalreporter.write_line(
        f"{edges} edges, {lost} keys lost, {stray} live keys neither sealed nor in a sink, {parked} rotations parked"
    )
