"""Two workers, of which one is cut off from the ledger in the middle of a step: what it writes later moves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.acceptance.conftest import Build
from tests.acceptance.faults.rig import SETTINGS
from tests.acceptance.faults.stage import Stage
from tests.acceptance.system import System
from tests.servers.database import Postgres
from tests.servers.road import open_road

pytestmark = pytest.mark.acceptance


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A pretend provider with one key that is to die."""
    opened = Stage("cut", tmp_path / "cut")
    opened.open()
    yield opened
    opened.close()


def events(system: System, name: str) -> list[Mapping[str, Any]]:
    """What a process has logged, line by line."""
    lines = (system.directory / f"{name}.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_late_writes_of_a_worker_that_was_cut_off_move_nothing(
    build_system: Build, postgres: Postgres, postgres_url: str, stage: Stage
) -> None:
    """Its claim is taken over, the provider is asked, and there is one effect; then it is heard again, in vain."""
    chosen = {"rules_path": SETTINGS["rules_path"], "log_level": "info"}
    system = build_system(postgres_url, connections=stage.connections, secrets={}, settings=chosen)
    (actor,) = stage.cast(("keyring",))
    assert actor.order.secret is not None
    with open_road("127.0.0.1", postgres.port) as road:
        by_road = make_url(postgres_url).set(port=road.port).render_as_string(hide_password=False)
        system.start("urgent", environ={"REVOQ_DATABASE_URL": by_road})
        system.start("clock", "beat")
        gate = stage.hold("DELETE", after=True)
        order = ("--rule", "keyring.token", "--connection", stage.account("keyring"))
        job_id = system.submit(*order, stdin=actor.secret)
        assert gate.reached.wait(60.0)
        # What it says from here on waits on the way; the provider's answer reaches it.
        road.block()
        gate.opened.set()
        system.start("urgent-2")

        ended = system.wait_ended(job_id, within=90.0)
        trail = system.ask("audit", "list", "--job", job_id)
        road.heal()
        system.processes["urgent"].wait_until(
            lambda: any(line["event"] == "claim_lost" for line in events(system, "urgent")), within=90.0
        )

    assert ended["verdict"] == "revoked", json.dumps(ended, indent=1)
    assert system.job(job_id) == ended
    assert system.ask("audit", "list", "--job", job_id) == trail
    assert [(step["purpose"], step["outcome"]) for step in ended["steps"]].count(("act", "lost")) == 1
    assert [call.handled for call in stage.sandbox.mutations()] == [True]
    assert system.revoq("audit", "verify").returncode == 0
