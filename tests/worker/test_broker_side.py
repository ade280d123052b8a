"""What a worker says to its broker: events leave together, a channel keeps its client, nothing taken is noted."""

from __future__ import annotations

import json
import tempfile
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu.transport import redis as stock

from tests.acceptance.system import CELERY, QUIET, ROOT
from tests.servers.broker import Broker
from tests.servers.process import Process
from worker import transport

TASKS = 40


@pytest.fixture
def app(shared_redis: Broker) -> Iterator[Celery]:
    """The application of a process that sends to the worker."""
    shared_redis.flushall()
    made = Celery("test", broker=shared_redis.url, set_as_current=False)
    yield made
    made.close()


@pytest.fixture
def worker(tmp_path: Path, shared_redis: Broker) -> Iterator[Process]:
    """A worker in a process of its own, whose signals are nobody else's."""
    environ = {"IDLE_BROKER": shared_redis.url, "PYTHONPATH": str(ROOT)}
    command = [*CELERY, "-A", "tests.worker.idle_app", "worker", *QUIET, "-l", "info", "-n", "idle@test", "-c", "4"]
    with Process.start(command, log=tmp_path / "worker.log", cwd=ROOT, env=environ) as process:
        process.wait_until(lambda: "ready." in process.output())
        yield process


def test_events_leave_together(app: Celery, worker: Process, shared_redis: Broker) -> None:
    """Every task's three events arrive, in far fewer messages."""
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
    assert done.acquire(timeout=60), worker.output()

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


def take(app: Celery, connection: Any, number: int) -> Any:
    """A channel to which so many messages were delivered that it has not acknowledged."""
    for _ in range(number):
        app.send_task("nothing", queue="bulk")
    channel = connection.channel()
    assert all(channel.basic_get("bulk") is not None for _ in range(number))
    return channel


def test_what_was_taken_is_given_back(app: Celery, shared_redis: Broker) -> None:
    """The broker holds no note of what a process has, and gets back what that has not acknowledged when it ends."""
    with app.connection_for_read() as connection, shared_redis.connect() as client:
        channel = take(app, connection, 3)
        assert list(client.scan_iter("unacked*")) == []
        channel.basic_ack(next(iter(channel.qos._delivered)))  # noqa: SLF001 - the first one's number
        channel.close()
        assert client.llen("bulk") == 2


def test_what_cannot_be_given_back_is_kept_nowhere(
    redis_server: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger rings again; kombu would write the messages into a file of its own, for nobody to read."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    with Celery("test", broker=redis_server.url, set_as_current=False) as app, app.connection_for_read() as connection:
        channel = take(app, connection, 3)
        redis_server.kill()
        channel.qos.restore_unacked_once()
        assert set(tmp_path.iterdir()) == before
