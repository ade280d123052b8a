"""Hundreds of credentials at eight providers in one file, with mixed faults and three killed workers: nobody is lost.

REVOQ_TEST_BATCH says how many; `make batch` takes 10,000.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from rules.lifecycle import BatchState, Reason, State, Verdict
from tests.acceptance.conftest import Build
from tests.acceptance.system import System
from tests.sandbox import Sandbox
from tests.sandbox.crowd import Crowd, gather, trouble
from tests.sandbox.fixtures import sandbox
from tests.worker.bench import SANDBOX_RULES
from worker.ledger import batches, reads
from worker.ledger.database import Database
from worker.ledger.rows import JobLine

__all__ = ["sandbox"]

COUNT = int(os.environ.get("REVOQ_TEST_BATCH", "240"))
WITHIN = 600.0 + COUNT / 4
"""Seconds until it is called stuck. A worker of bulk leaves the processor to whoever else wants it: other tests do."""
SETTLED = frozenset({State.DONE, State.PARKED})
ENDED = frozenset({Verdict.REVOKED, Verdict.ALREADY_REVOKED})
UNSURE = frozenset({Reason.OUTCOME_UNKNOWN, Reason.PROVIDER_BROKEN, Reason.NOT_RECOGNISED, Reason.BUDGET_SPENT})
"""A person is asked, since an answer was of no use: the credential may be dead, and nobody says that it is."""
LIMITS = {
    "tailscale-demo": {"requests": max(COUNT, 400), "per": "10s"},
    "keyring-demo": {"requests": 300, "per": "10s"},
}

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(WITHIN + 240)]


def write_file(folder: Path, crowd: Crowd) -> Path:
    """The whole crowd in one CSV; the reason of each is its name here."""
    file = folder / "leavers.csv"
    variables = sorted({name for member in crowd.members for name in member.vars})
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, ["rule", "secret", "connection", "reason", *variables])
        writer.writeheader()
        for member in crowd.members:
            common = {"rule": member.rule, "connection": member.connection, "reason": member.title}
            writer.writerow({**common, "secret": member.secret or "", **member.vars})
    return file


def settled(db: Database, batch: str) -> int:
    """How many have a verdict, or wait for a person."""
    return sum(count.count for count in batches.counts(db, batch) if count.state in SETTLED)


def follow(system: System, db: Database, batch: str) -> None:
    """Wait for the last of them, and kill the worker at a seventh, a third and two thirds of the way.

    Strangers at the end of the slowest provider's turn look like a series of failures, at which the batch stops itself:
    it is resumed as a person would who has looked at them.
    """
    deadline, marks = time.monotonic() + WITHIN, [COUNT // 7, COUNT // 3, COUNT * 2 // 3]
    while (done := settled(db, batch)) < COUNT:
        assert time.monotonic() < deadline, f"{done} of {COUNT}: {batches.counts(db, batch)}\n{system.logs()[-3000:]}"
        if batches.find(db, batch).state is BatchState.PAUSED:
            system.revoq("batches", "resume", batch)
        if marks and done >= marks[0]:
            marks.pop(0)
            system.kill("bulk")
            system.restart("bulk")
        time.sleep(0.3)
    assert not marks


def test_everyone_ends_in_a_verdict_or_with_a_cause(
    build_system: Build, sandbox: Sandbox, postgres_url: str, ledger: Database, tmp_path: Path
) -> None:
    """No wrong delete, each killed at most once, and the counts at the providers are the counts of the batch."""
    crowd = gather(sandbox, COUNT)
    system = build_system(
        postgres_url,
        connections=crowd.connections(LIMITS),
        secrets=crowd.environment(),
        settings={
            "rules_path": [str(SANDBOX_RULES)],
            "claim": "20s",
            "request_timeout": "8s",
            "ring_after": "15s",
            "bulk_threads": 64,
            "log_level": "info",
        },
    )
    hit = trouble(sandbox, COUNT)
    system.start("bulk", "clock", "beat")
    began = time.monotonic()
    told = json.loads(system.revoq("offboard", str(write_file(tmp_path, crowd)), "--format", "json", within=600).stdout)
    loaded = time.monotonic()
    assert told["submitted"] == COUNT

    follow(system, ledger, told["batch"])

    took = time.monotonic() - loaded
    jobs = {job.cause: job for job in reads.jobs(ledger, batch=told["batch"], limit=COUNT + 1)}
    assert len(jobs) == COUNT
    check_verdicts(crowd, sandbox, jobs)
    shown = system.ask("batches", "show", told["batch"])
    assert sum(shown["by_verdict"].values()) + sum(shown["by_cause"].values()) == COUNT
    assert system.revoq("audit", "verify", within=600).returncode == 0
    print(  # noqa: T201 - the figures are what the long variant is for
        f"\n{COUNT} credentials, {hit} faults: loaded in {loaded - began:.0f} s, settled in {took:.0f} s, "
        f"{shown['by_verdict']} {shown['by_cause']}"
    )


def check_verdicts(crowd: Crowd, sandbox: Sandbox, jobs: dict[str | None, JobLine]) -> None:
    """Compare what revoq says of each with what is so at its provider."""
    state = sandbox.state()
    wrongly_dead = [each for each in crowd.bystanders if not state[each[0]][each[1]]]
    assert wrongly_dead == []
    said, true = Counter[str](), Counter[str]()
    for member in crowd.members:
        job = jobs[member.title]
        dead = bool(member.id) and not state[member.provider].get(member.id, False)
        true[member.provider] += dead
        said[member.provider] += job.verdict in ENDED
        if job.verdict is None:
            assert job.state is State.PARKED
            assert job.says
            expected = job.reason == member.reason or (not member.reason and job.reason in UNSURE)
            assert expected, (member.rule, job.reason, job.says)
            said[member.provider] += dead
            assert member.reason == "" or not dead, (member.rule, job.reason)
        else:
            assert (job.verdict in ENDED, dead) == (True, True), (member.rule, job.verdict, job.says)
    assert said == true
    deletions = [call for call in sandbox.calls(method="DELETE") if call.handled and (call.status or 0) // 100 != 4]
    handled = Counter((call.provider, call.path) for call in deletions if not call.path.endswith("/current"))
    assert [place for place, times in handled.items() if times > 1] == []
