"""A revoq inside the test's own process: its ledger, its rules and the sandbox; jobs are carried by plain calls."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rules.lifecycle import State
from rules.secret import Secret
from scheduler.submit import Order, check, new_job
from tests.sandbox import Sandbox
from tests.servers.tables import make_tables
from worker.client import hang_up
from worker.engine import carry
from worker.ledger import moves, reads
from worker.ledger.rows import Job, Step
from worker.runtime import Runtime, build
from worker.safe import Ring
from worker.settings import load_settings

SANDBOX_RULES = Path(__file__).parents[1] / "sandbox" / "rules"


@dataclass
class Bench:
    """One runtime and its sandbox. Nothing is rung: the test carries each job itself."""

    runtime: Runtime
    sandbox: Sandbox

    def submit(self, rule: str, secret: str | None = None, connection: str = "", **options: Any) -> str:
        """Open a job as the operator's door would; its id."""
        order = Order(
            rule=rule,
            secret=None if secret is None else Secret(secret),
            connection=connection,
            requester="tester",
            **options,
        )
        return moves.submit(self.runtime.database, new_job(self.runtime, check(self.runtime, order))).job_id

    def carry(self, job_id: str, *, rounds: int = 1) -> Job:
        """Carry a job once, or as often as it only waits."""
        database = self.runtime.database
        for left in reversed(range(rounds)):
            carry(self.runtime, job_id, "bench")
            job = reads.job(database, job_id)
            if job.state is not State.WAITING or not left:
                break
            time.sleep(max(job.not_before - database.now(), 0) / 1_000_000)
        return reads.job(database, job_id)

    def run(self, rule: str, secret: str | None = None, connection: str = "", **options: Any) -> Job:
        """Submit and carry to its end."""
        return self.carry(self.submit(rule, secret, connection, **options), rounds=20)

    def steps(self, job: Job) -> list[Step]:
        """What was done."""
        return list(reads.steps(self.runtime.database, job.id))

    def outline(self, job: Job) -> list[tuple[str, str, str]]:
        """Purpose, name and outcome of each step."""
        return [(step.purpose, step.name, str(step.outcome)) for step in self.steps(job)]


@contextmanager
def open_bench(
    directory: Path,
    database_url: str,
    sandbox: Sandbox,
    *,
    connections: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Bench]:
    """Settings from a real file and real variables, an upgraded database, and everything closed at the end."""
    config = directory / "revoq.yaml"
    chosen = {
        "data_dir": str(directory / "data"),
        "claim": "20s",
        "request_timeout": "2s",
        "rules_path": [str(SANDBOX_RULES)],
        "connections": dict(connections),
        **(settings or {}),
    }
    config.write_text(yaml.safe_dump(chosen))
    variables = {
        "REVOQ_CONFIG": str(config),
        "REVOQ_DATABASE_URL": database_url,
        "REVOQ_SEAL_KEYS": Ring.generate().text.reveal(),
    }
    # The variables by which tests themselves are set up are no settings, and the person's own are not for tests.
    others = {name: value for name, value in os.environ.items() if not name.startswith("REVOQ_")}
    runtime = build(load_settings({**others, **variables}))
    make_tables(runtime.database.url)
    try:
        yield Bench(runtime, sandbox)
    finally:
        runtime.connections.close()
        hang_up()
        runtime.database.dispose()
