"""How Celery beat rings for the clock: at the times of a schedule's calendar, and not into a room that nobody is in.

Beat only rings. It keeps no state, its own clock decides nothing, and two of them ring twice for what happens once.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import BaseSchedule, schedstate
from kombu.exceptions import ChannelError, OperationalError

from rules.calendar import Calendar, next_due
from scheduler import pulse
from worker.settings import settings

CLOCK = "clock"
MOST_UNHEARD = 50
"""Bells that may lie in the clock's queue. They carry no expiry: a worker whose clock is wrong would hear none."""
NEVER = 3600.0
"""Seconds after which is looked again for a schedule that is never due."""


class Times(BaseSchedule):  # type: ignore[misc]  # Celery has no types
    """The times of a calendar, as beat asks for them."""

    def __init__(self, calendar: Calendar) -> None:
        """Whatever zone the calendar has: to beat it is all UTC."""
        super().__init__(nowfun=lambda: datetime.now(UTC))
        self.calendar = calendar

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether a slot became due since beat last rang, and how many seconds are left until the next."""
        now = self.now()
        following = next_due(self.calendar, now)
        left = NEVER if following is None else (following - now).total_seconds()
        due = next_due(self.calendar, last_run_at)
        return schedstate(is_due=due is not None and due <= now, next=left)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Times) and other.calendar == self.calendar

    def __hash__(self) -> int:
        return hash(self.calendar)


class Ringer(Scheduler):  # type: ignore[misc]  # as above
    """Keeps in memory when it rang; a file of that would be one more state to lose."""

    def setup_schedule(self) -> None:
        """Before the first bell: none of them is told to Flower, where jobs are looked for."""
        super().setup_schedule()
        self.app.conf.task_send_sent_event = False

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Ring, unless nobody has listened for a while: what is due waits in the ledger."""
        if self.unheard() < MOST_UNHEARD:
            super().apply_entry(entry, producer)
        else:
            pulse.tick(settings(), pulse.BEAT)

    def apply_async(self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **options: Any) -> Any:  # noqa: FBT001, FBT002 - as Celery has it
        """Send one bell, which raises where the broker does not take it."""
        sent = super().apply_async(entry, producer, advance, **options)
        pulse.tick(settings(), pulse.BEAT)
        return sent

    def unheard(self) -> int:
        """How many bells lie in the clock's queue."""
        return waiting(self.connection, CLOCK)


def waiting(connection: Any, queue: str) -> int:
    """How many messages nobody has taken from a queue; none, where the broker cannot tell."""
    try:
        return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
    except ChannelError:
        return 0  # A queue that is empty does not exist.
    except (OperationalError, *connection.connection_errors, *connection.channel_errors):
        return 0  # Away, or out of memory: ringing fails in the same way, and says so.
