"""The sweep and a real broker: a bell that was lost is rung again, and one that only waits in a queue is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import update

from rules.units import SECOND
from scheduler.bell import waiting
from scheduler.sweep import QUEUED, sweep
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.servers.broker import Broker
from tests.worker.bench import Bench, open_bench
from tests.worker.ledger.samples import new_job
from worker.app import BULK
from worker.ledger import batches
from worker.ledger.tables import jobs

__all__ = ["sandbox"]


@pytest.fixture
def broker(shared_redis: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """An empty Redis that the bells go to, and nobody who takes them."""
    app = Celery("test", broker=shared_redis.url, set_as_current=False)
    monkeypatch.setattr("scheduler.bell.app", app)
    yield shared_redis
    app.close()


@pytest.fixture
def bench(tmp_path: Path, sqlite_url: str, sandbox: Sandbox) -> Iterator[Bench]:
    """A runtime without accounts."""
    with open_bench(tmp_path, sqlite_url, sandbox, connections={}) as opened:
        yield opened


def age(bench: Bench, seconds: float) -> None:
    """Let it be so much longer ago that the jobs became due and were rung."""
    with bench.runtime.database.begin() as conn:
        since = int(seconds * SECOND)
        conn.execute(update(jobs).values(rung_at=jobs.c.rung_at - since, not_before=jobs.c.not_before - since))


def test_what_waits_in_the_queue_is_not_rung_again(bench: Bench, broker: Broker) -> None:
    """Workers who fall behind are not sent the same jobs again; an emptied broker is, and so is who waits for ever."""
    runtime = bench.runtime
    batch = batches.begin(runtime.database, name="a.csv", source="s", actor="ada").id
    batches.stage(runtime.database, batch, [new_job(queue=BULK) for _ in range(3)])
    batches.release(runtime.database, batch, actor="ada")
    assert (waiting(BULK), sweep(runtime), waiting(BULK)) == (0, 3, 3)

    age(bench, 2 * runtime.settings.ring_after)
    assert (sweep(runtime), waiting(BULK)) == (0, 3)

    broker.flushall()
    assert (sweep(runtime), waiting(BULK)) == (3, 3)

    age(bench, 2 * QUEUED * runtime.settings.ring_after)
    assert (sweep(runtime), waiting(BULK)) == (3, 6)


def test_a_broker_that_is_away_has_nothing_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ringing fails in the same way, and says so."""
    gone = Celery("gone", broker="redis://127.0.0.1:1/0", set_as_current=False)
    gone.conf.update(broker_transport_options={"max_retries": 0})
    monkeypatch.setattr("scheduler.bell.app", gone)

    assert waiting(BULK) == 0
    gone.close()
