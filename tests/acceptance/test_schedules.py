"""A schedule under two of everything, one clock two hours ahead, and kill -9: every slot and target exactly once.

A slot is due every five seconds. There are ten of them; REVOQ_TEST_SLOTS says another number, as `make slots` does.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from rules.calendar import read_moment
from rules.lifecycle import SlotState, TargetState
from rules.units import SECOND
from tests.acceptance.conftest import Build
from tests.acceptance.system import System
from tests.sandbox import Sandbox
from tests.sandbox.cast import environment, seed
from tests.sandbox.fixtures import sandbox
from tests.scheduler.listed import CONNECTION, RULE, connect, write_rule
from tests.servers.missing import report_missing
from worker.ledger import audit
from worker.ledger.database import Database
from worker.ledger.tables import jobs, slot_targets, slots

__all__ = ["sandbox"]

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1200)]

SLOTS = int(os.environ.get("REVOQ_TEST_SLOTS", "10"))
EVERY = 5
OUTAGE = 3
"""Slots that become due while no clock and no beat is there."""
TARGETS = ("job-a", "job-b")
AHEAD = timedelta(hours=2)


def wrong_clock() -> dict[str, str]:
    """What makes a process believe that it is two hours later."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        report_missing("libfaketime", "apt-get install libfaketime")
    # What is steady stays steady: this is about what the clock on the wall says.
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": "+2h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_every_slot_and_target_exactly_once(
    build_system: Build, postgres_url: str, ledger: Database, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Two beats, two clocks, two workers; beats and clocks are killed and come back; the database decides."""
    ahead = wrong_clock()
    cast = seed(sandbox)
    for name in TARGETS:
        sandbox.tailscale.add_key(description=name)
    schedule = {
        "intent": "probe",
        "rule": RULE,
        "connection": CONNECTION,
        "every": f"{EVERY}s",
        "window": "10m",
        "catch_up": "once",
        "concurrency": len(TARGETS),
        "targets": {"names": ["job-*"]},
    }
    system = build_system(
        postgres_url,
        connections=connect(cast.base_url),
        secrets=environment(cast),
        settings={"rules_path": [write_rule(tmp_path / "rules")], "schedules": {"often": schedule}},
    )
    system.start("bulk", "bulk-2", "clock", "beat", "beat-2")
    system.start("clock-2", environ=ahead)
    wait(lambda: len(ended(ledger)) >= SLOTS // 3, system)

    kill(system, "beat", "beat-2", "clock", "clock-2")
    alone = ledger.now()
    wait(lambda: ledger.now() - alone > OUTAGE * EVERY * SECOND, system)
    system.start("clock-2", environ=ahead)
    system.start("beat", "beat-2", "clock")
    wait(lambda: len(ended(ledger)) >= SLOTS // 2, system)
    kill(system, "clock", "beat")  # From here on the clock that is two hours ahead is the only one.
    wait(lambda: len(ended(ledger)) >= SLOTS, system)
    kill(system, "clock-2", "beat-2")
    wait(lambda: not read(ledger, select(jobs.c.id).where(jobs.c.state != "done")), system)

    found = read(ledger, select(slots).order_by(slots.c.due))
    whole = found[:SLOTS]
    first, last = whole[0].due, whole[-1].due
    assert [row.due for row in whole] == list(range(first, last + 1, EVERY * SECOND))
    assert {row.state for row in whole} == {SlotState.DONE}
    rows = read(ledger, select(slot_targets).where(slot_targets.c.state != TargetState.SKIPPED))
    per_slot = Counter((row.due, row.name) for row in rows if row.due <= last)
    assert per_slot == {(row.due, name): 1 for row in whole for name in TARGETS}
    assert {row.state for row in rows if row.due <= last} == {TargetState.WELL}
    begun = [row.job for row in rows if row.job is not None]
    made = read(ledger, select(jobs.c.id))
    assert sorted(begun) == sorted(row.id for row in made)
    assert len(set(begun)) == len(begun) >= SLOTS * len(TARGETS)
    probes = [call for call in sandbox.calls("tailscale", "GET", "*/keys/*") if call.status == 200]
    assert len(probes) == len(begun)

    assert all(row.due <= row.opened_at < row.due + 3600 * SECOND for row in found)
    opened_ahead = [line for line in told_by(system, "clock-2") if line.get("event") == "slots" and line["opened"]]
    assert opened_ahead, "the clock that is ahead has opened nothing"
    for line in opened_ahead:
        assert datetime.fromisoformat(line["timestamp"]) > read_moment(last) + AHEAD / 2
    with ledger.read() as conn:
        assert list(audit.verify(conn)) == []


def kill(system: System, *names: str) -> None:
    """SIGKILL to all of them."""
    for name in names:
        system.kill(name)


def wait(until: Callable[[], bool], system: System) -> None:
    """Look again until it is so; an error shows what the processes wrote."""
    deadline = time.monotonic() + 180 + SLOTS * EVERY * 3
    while not until():
        assert time.monotonic() < deadline, system.logs()[-8000:]
        time.sleep(0.5)


def read(database: Database, query: Any) -> list[Any]:
    """Rows of the ledger."""
    with database.read() as conn:
        return list(conn.execute(query).all())


def ended(database: Database) -> list[Any]:
    """The slots that are done."""
    return read(database, select(slots.c.due).where(slots.c.state == SlotState.DONE))


def told_by(system: System, name: str) -> list[dict[str, Any]]:
    """What a process has logged, line by line."""
    lines = (system.directory / f"{name}.log").read_text(errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]
