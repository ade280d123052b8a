"""Ringing: a message with a job id, sent after the row was committed; one that is lost is rung again by the sweep."""

from __future__ import annotations

from collections.abc import Iterable

from kombu.exceptions import OperationalError

from scheduler import beat
from scheduler.beat import CLOCK
from worker.app import app
from worker.ledger.rows import Ring


class BrokerDown(Exception):
    """The broker could not be reached; the ledger has the jobs, and the sweep rings when it is back."""


def ring_clock(schedule: str) -> None:
    """Have the clock look at a schedule now; where it does not hear that, it looks within seconds all the same."""
    try:
        app.send_task("slots", args=(schedule,), queue=CLOCK, retry=False)
    except (OperationalError, OSError) as error:
        raise BrokerDown(f"the broker does not answer ({type(error).__name__})") from None


def waiting(queue: str) -> int:
    """How many messages nobody has taken from a queue; none, where the broker cannot tell."""
    try:
        with app.pool.acquire(block=True, timeout=5) as connection:
            return beat.waiting(connection, queue)
    except (OperationalError, OSError):
        return 0


def ring(bells: Iterable[Ring]) -> None:
    """Send the messages, over one connection. What Flower shows as arguments is a label, never an input."""
    try:
        with app.producer_pool.acquire(block=True, timeout=5) as producer:
            for bell in bells:
                app.send_task(
                    bell.intent.value,
                    args=(bell.job_id,),
                    task_id=f"{bell.job_id}.{bell.number}",
                    queue=bell.queue,
                    argsrepr=f"({bell.label})",
                    kwargsrepr="{}",
                    producer=producer,
                    retry=False,
                )
    except (OperationalError, OSError) as error:
        raise BrokerDown(f"the broker does not answer ({type(error).__name__})") from None
