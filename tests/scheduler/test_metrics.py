"""The figures are the ledger's own, cheap to ask for, and understood by a real Prometheus, dashboard and alerts too."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, event

import scheduler.metrics
from rules.lifecycle import Reason, State, Verdict
from scheduler.metrics.collector import LedgerCollector
from scheduler.recheck import start_due
from scheduler.sweep import seal
from tests.sandbox import Sandbox
from tests.sandbox.cast import connections, environment, seed
from tests.sandbox.fixtures import sandbox
from tests.sandbox.sendgrid import draw_secret
from tests.scheduler.test_notices import HUB, WEEKLY, list_old_key, park
from tests.servers.ports import find_free_port
from tests.servers.process import Process
from tests.servers.prometheus import answers, find, running_prometheus
from tests.worker.bench import Bench, open_bench
from tests.worker.ledger.samples import claimed, execute, lapse
from worker.ledger import accounts, moves

__all__ = ["sandbox"]

ROOT = Path(__file__).parents[2]
PLACE = Path(scheduler.metrics.__file__).parent
SENDGRID = {"rule": "sendgrid.api_key", "intent": "revoke"}


@pytest.fixture
def bench(tmp_path: Path, database_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A ledger of each kind with a provider beside it, and a schedule."""
    cast = seed(sandbox)
    for name, value in environment(cast).items():
        monkeypatch.setenv(name, value)
    known = {**connections(cast), "hub": connections(cast).get("hub", HUB["hub"])}
    with open_bench(
        tmp_path, database_url, sandbox, connections=known, settings={"schedules": WEEKLY, "recheck": ["1h"]}
    ) as opened:
        yield opened


def run_some(bench: Bench, sandbox: Sandbox) -> None:
    """A little of everything that is told."""
    db = bench.runtime.database
    key = sandbox.sendgrid.add_key()
    assert bench.run("sendgrid.api_key", key.secret, "sendgrid-demo").verdict is Verdict.REVOKED
    execute(db, "UPDATE rechecks SET due = 0")
    for job in start_due(bench.runtime):
        assert bench.carry(job, rounds=20).verdict is Verdict.DEAD
    assert bench.run("sendgrid.api_key", draw_secret()[1], "sendgrid-demo").reason == Reason.NOT_RECOGNISED
    sandbox.fault("sendgrid", status=429, headers={"Retry-After": "60"})
    throttled = bench.submit("sendgrid.api_key", sandbox.sendgrid.add_key().secret, "sendgrid-demo")
    assert bench.carry(throttled).state is State.WAITING
    park(db, Reason.STILL_ALIVE)
    park(db, Reason.CAME_BACK)
    moves.finish(db, claimed(db), Verdict.ACKNOWLEDGED, "it said yes")
    lost = claimed(db)
    lapse(db, lost.job.id)
    assert moves.claim(db, lost.job.id, lease=60, worker="w2") is not None
    accounts.fail(db, "hub", 0.5, actor="w1", says="503")
    moves.hold_on(db, "hub", actor="ada", why="one moment")
    list_old_key(db)


def page(collector: LedgerCollector) -> str:
    """What Prometheus gets."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def value(told: str, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    """One sample of a page; None where it is not there."""
    for line in told.splitlines():
        found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if found and found[1] == name and dict(re.findall(r'(\w+)="([^"]*)"', found[2] or "")) == (labels or {}):
            return float(found[3])
    return None


def test_what_is_told(bench: Bench, sandbox: Sandbox) -> None:
    """Every figure comes from the ledger, on both databases, and is the same for whoever asks first, again or anew."""
    run_some(bench, sandbox)
    collector = LedgerCollector(bench.runtime.database, bench.runtime.settings, lag=0)
    told = page(collector)

    expected: list[tuple[str, Mapping[str, str], float]] = [
        ("revoq_ledger_up", {}, 1),
        ("revoq_jobs", {"state": "waiting", **SENDGRID}, 1),
        ("revoq_jobs_parked", {"reason": "not_recognised", "rule": "sendgrid.api_key"}, 1),
        ("revoq_jobs_parked", {"reason": "still_alive", "rule": "pangolin.user"}, 1),
        ("revoq_jobs_parked", {"reason": "came_back", "rule": "pangolin.user"}, 1),
        ("revoq_jobs_ended_total", {"state": "done", "verdict": "revoked", **SENDGRID}, 1),
        ("revoq_rechecks_total", {"rule": "sendgrid.api_key", "found": "dead"}, 1),
        ("revoq_provider_steps_total", {"provider": "sendgrid", "answer": "429"}, 1),
        ("revoq_time_to_proved_death_seconds_count", {"rule": "sendgrid.api_key"}, 1),
        ("revoq_time_to_proved_death_seconds_bucket", {"rule": "sendgrid.api_key", "le": "+Inf"}, 1),
        ("revoq_account_failures", {"account": "hub"}, 1),
        ("revoq_breaker_open", {"account": "hub"}, 0),
        ("revoq_hold", {"account": "hub"}, 1),
        ("revoq_schedule_overdue_keys", {"schedule": "weekly"}, 1),
        ("revoq_sweep_rescues_total", {"cause": "workers_lost"}, 1),
        ("revoq_sweep_rescues_total", {"cause": "bells_lost"}, 0),
        ("revoq_notices_unsent", {}, 0),
    ]
    assert [(name, labels, value(told, name, labels)) for name, labels, _ in expected] == expected
    assert (value(told, "revoq_schedule_oldest_key_age_seconds", {"schedule": "weekly"}) or 0) >= 30 * 86400
    assert (value(told, "revoq_audit_unsealed_age_seconds") or 0) > 0
    steps = value(told, "revoq_provider_step_seconds_count", {"provider": "sendgrid"})
    assert steps == sum(
        float(line.rpartition(" ")[2])
        for line in told.splitlines()
        if line.startswith("revoq_provider_steps_total{") and "sendgrid" in line
    )
    # A second look counts nothing twice, and what ends later is added.
    db = bench.runtime.database
    moves.finish(db, claimed(db), Verdict.ACKNOWLEDGED, "it said yes")
    acknowledged = {"state": "done", "verdict": "acknowledged", "rule": "pangolin.user", "intent": "revoke"}
    again, anew = page(collector), page(LedgerCollector(db, bench.runtime.settings, lag=0))
    for later in (again, anew):
        assert value(later, "revoq_jobs_ended_total", acknowledged) == 2
        assert value(later, "revoq_jobs_ended_total", {"state": "done", "verdict": "revoked", **SENDGRID}) == 1
        assert value(later, "revoq_provider_step_seconds_count", {"provider": "sendgrid"}) == steps


def test_a_ledger_that_does_not_answer(bench: Bench) -> None:
    """Is told as such; the page itself is served."""
    db = bench.runtime.database
    collector = LedgerCollector(db, bench.runtime.settings, lag=0)
    execute(db, "ALTER TABLE counters RENAME TO gone")
    told = page(collector)
    execute(db, "ALTER TABLE gone RENAME TO counters")

    assert [line for line in told.splitlines() if not line.startswith("#")] == ["revoq_ledger_up 0.0"]
    assert value(page(collector), "revoq_ledger_up") == 1


LARGE = ("audit", "credentials", "jobs", "notices", "rechecks", "seals", "secrets", "steps")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_query_reads_a_large_table_whole(bench: Bench) -> None:
    """After the first scrape, which begins at the beginning, each one looks at what is open and what is new."""
    db = bench.runtime.database
    list_old_key(db)
    seal(bench.runtime)
    collector = LedgerCollector(db, bench.runtime.settings, lag=0)
    page(collector)
    asked: list[tuple[str, Any]] = []

    def note(_conn: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        page(collector)
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    with db.read() as conn:
        plans = [
            (str(row[3]), statement)
            for statement, parameters in asked
            if statement.startswith("SELECT")
            for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    scans = [(plan, statement) for plan, statement in plans if re.match(rf"SCAN ({'|'.join(LARGE)})\b", plan)]
    # The newest seal is the first row of its index.
    fine = ("SCAN jobs USING COVERING INDEX ix_jobs_standing", "SCAN seals USING INDEX")
    assert [scan for scan in scans if not scan[0].startswith(fine)] == []
    assert any("COVERING INDEX ix_jobs_standing" in plan for plan, _ in plans)
    for index in ("ix_jobs_ended_at", "ix_steps_ended_at", "ix_rechecks_due"):
        assert any(index in plan for plan, _ in plans), index


@pytest.fixture
def exporter(bench: Bench, sandbox: Sandbox, tmp_path: Path) -> Iterator[str]:
    """`revoq metrics` beside a ledger with something in it; its address."""
    run_some(bench, sandbox)
    port = find_free_port()
    environ = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
    environ |= {
        "REVOQ_CONFIG": str(tmp_path / "revoq.yaml"),
        "REVOQ_DATABASE_URL": bench.runtime.settings.database_url,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "scheduler.cli", "metrics", "--listen", f"127.0.0.1:{port}"]
    with Process.start(command, log=tmp_path / "metrics.log", cwd=tmp_path, env=environ) as process:
        process.wait_until(lambda: answers(f"http://127.0.0.1:{port}/metrics"))
        yield f"127.0.0.1:{port}"
        process.send(signal.SIGTERM)
        assert process.exit_code(within=60) == 0


def expressions() -> list[str]:
    """Every query of the dashboard, without the zero that stands in where there is nothing."""
    board = json.loads((PLACE / "dashboard.json").read_text())
    return [target["expr"].removesuffix(" or vector(0)") for panel in board["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_prometheus_and_the_dashboard(exporter: str, tmp_path: Path) -> None:
    """There is nothing to say against page and alerts, each query of the dashboard has an answer, alerts are raised."""
    told = httpx.get(f"http://{exporter}/metrics", trust_env=False, timeout=30).text
    checked = subprocess.run(
        [find("promtool"), "check", "metrics"], input=told, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    alerts = PLACE / "alerts.yml"
    subprocess.run([find("promtool"), "check", "rules", str(alerts)], check=True, capture_output=True)

    with running_prometheus(tmp_path, exporter, alerts) as prometheus:
        for expression in expressions():
            assert prometheus.wait_for(expression), expression
        raised = prometheus.wait_for('ALERTS{alertname="RevoqStillAlive", alertstate="firing"}')
        assert raised[0]["metric"]["rule"] == "pangolin.user"
        assert prometheus.wait_for('ALERTS{alertname="RevoqCameBack", alertstate="firing"}')
        assert prometheus.wait_for('ALERTS{alertname="RevoqRotationOverdue"}')
    assert not re.findall(r"ada|leavers\.csv|demo-", told)
