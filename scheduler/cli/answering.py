"""Who answers over the broker: which workers are there and which queues they serve; what that means is the caller's."""

from __future__ import annotations

from dataclasses import dataclass, field

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.app import app

FAILURES = (OperationalError, RedisError, OSError)
"""What a broker that is down, or has just come back, makes of a question."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The queues by the worker that serves them; `broker` is why the broker could not be asked, or nothing."""

    queues: dict[str, frozenset[str]] = field(default_factory=dict)
    broker: str = ""

    def serves(self, queue: str) -> bool:
        """Whether anybody takes jobs from this queue."""
        return any(queue in served for served in self.queues.values())


def ask_workers(timeout: float) -> Answers:
    """Ask all workers which queues they serve; never raises."""
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
            inspect = app.control.inspect(timeout=timeout, connection=connection)
            found = inspect.active_queues() or {}
    except FAILURES as error:
        return Answers(broker=type(error).__name__)
    return Answers({worker: frozenset(queue["name"] for queue in queues) for worker, queues in found.items()})
