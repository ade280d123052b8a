"""What a worker says to its broker: its events leave together, and its channels keep their client."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu.transport import redis as stock

from tests.servers.broker import Broker
from worker import transport
from worker.app import configuration
from worker.settings import load_settings

TASKS = 40


@pytest.fixture
def app(shared_redis: Broker) -> Iterator[Celery]:
    """An application with a worker's own configuration, and one task that does nothing."""
    made = Celery("test", broker=shared_redis.url, set_as_current=False)
    made.conf.update({**configuration(load_settings({})), "broker_url": shared_redis.url, "worker_concurrency": 4})

    @made.task(name="nothing")  # type: ignore[untyped-decorator]
    def nothing() -> None:
        """Nothing."""

    yield made
    made.close()


def test_events_leave_together(app: Celery, shared_redis: Broker) -> None:
    """Every task's three events arrive, in far fewer messages, the last ones before the worker is gone."""
    shared_redis.flushall()
    done = threading.Semaphore(0)
    seen: list[list[dict[str, str]]] = []

    def listen() -> None:
        with shared_redis.connect() as client, client.pubsub() as listener:  # type: ignore[no-untyped-call]
            listener.psubscribe("*celeryev*task.multi*")
            listener.get_message(timeout=5)
            ready.set()
            while sum(len(events) for events in seen) < 3 * TASKS:
                message = listener.get_message(timeout=20)
                if message is None:
                    break
                seen.append(json.loads(b64decode(json.loads(message["data"])["body"])))
        done.release()

    ready = threading.Event()
    threading.Thread(target=listen, daemon=True).start()
    assert ready.wait(10)
    for _ in range(TASKS):
        app.send_task("nothing", queue="bulk")
    with start_worker(app, pool="threads", concurrency=4, perform_ping_check=False, queues=["bulk"]):
        assert done.acquire(timeout=30)

    told = [(event["uuid"], event["type"]) for events in seen for event in events]
    assert len(told) == len(set(told)) == 3 * TASKS
    assert {kind for _, kind in told} == {"task-received", "task-started", "task-succeeded"}
    assert len(seen) < TASKS


def test_a_channel_keeps_its_client(app: Celery) -> None:
    """Every address of Redis leads to our transport; its commands share a client until its connections are new ones."""
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        assert isinstance(channel, transport.Channel)
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
        channel._disconnect_pools()  # type: ignore[no-untyped-call]  # noqa: SLF001 - what kombu does when the broker has gone
        channel._pool = None  # noqa: SLF001 - as above
        with channel.conn_or_acquire() as third:
            assert third is not first
            assert third.ping()
        assert channel.client is not third


def test_kombu_still_makes_clients_like_this(app: Celery) -> None:
    """What is kept is what kombu would have made: a newer kombu that does it otherwise is to be looked at."""
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        original: Any = stock.Channel
        made = original._create_client(channel)  # noqa: SLF001 - the method that ours stands for
        kept = channel._create_client()  # noqa: SLF001 - as above
        assert (type(kept), kept.connection_pool) == (type(made), made.connection_pool)
