"""A worker that is told to stop in the middle of a batch, with real processes: nothing is lost, doubled or waited for.

A claim and a bell last ten minutes here, which no test waits for: what goes on did not wait until either ran out.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from rules.lifecycle import State, StepState
from tests.acceptance.conftest import Build
from tests.acceptance.test_big_batch import check_verdicts, settled, write_file
from tests.sandbox import Sandbox
from tests.sandbox.crowd import gather
from tests.sandbox.fixtures import sandbox
from tests.worker.bench import SANDBOX_RULES
from worker.engine import STOPPING
from worker.ledger import batches, reads
from worker.ledger.database import Database

__all__ = ["sandbox"]

COUNT = 40
GRACE = 60.0
"""What compose.yaml gives a container until it is killed."""

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]


def test_a_worker_stopped_in_mid_batch(
    build_system: Build, sandbox: Sandbox, postgres_url: str, ledger: Database, tmp_path: Path
) -> None:
    """It ends its steps, returns every claim, and is gone within its grace; another worker goes on at once."""
    crowd = gather(sandbox, COUNT)
    for provider in {member.provider for member in crowd.members if member.provider}:
        sandbox.fault(provider, "delay", times=None, seconds=0.3)
    system = build_system(
        postgres_url,
        connections=crowd.connections({}),
        secrets=crowd.environment(),
        settings={
            "rules_path": [str(SANDBOX_RULES)],
            "claim": "10m",
            "ring_after": "10m",
            "bulk_threads": 12,
            "log_level": "info",
        },
    )
    system.start("bulk", "clock", "beat")
    told = json.loads(system.revoq("offboard", str(write_file(tmp_path, crowd)), "--format", "json").stdout)
    wait_until_settled(ledger, told["batch"], COUNT // 6)

    system.processes["bulk"].send(signal.SIGTERM)

    assert system.processes["bulk"].exit_code(within=GRACE) == 0, system.logs()[-6000:]
    jobs = reads.jobs(ledger, batch=told["batch"], limit=COUNT + 1)
    assert [job.id for job in jobs if job.state is State.RUNNING] == []
    assert STOPPING in {reads.job(ledger, job.id).says for job in jobs}
    assert settled(ledger, told["batch"]) < COUNT

    system.start("bulk-2")
    wait_until_settled(ledger, told["batch"], COUNT)

    jobs = reads.jobs(ledger, batch=told["batch"], limit=COUNT + 1)
    check_verdicts(crowd, sandbox, {job.cause: job for job in jobs})
    steps = [step for job in jobs for step in reads.steps(ledger, job.id)]
    assert [step for step in steps if step.state == StepState.LOST] == []
    assert max(reads.job(ledger, job.id).attempt for job in jobs) == 0
    assert system.revoq("audit", "verify").returncode == 0


def wait_until_settled(db: Database, batch: str, count: int) -> None:
    """Until so many have a verdict or wait for a person."""
    deadline = time.monotonic() + 300
    while settled(db, batch) < count:
        assert time.monotonic() < deadline, batches.counts(db, batch)
        time.sleep(0.05)
