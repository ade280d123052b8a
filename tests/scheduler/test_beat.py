"""How beat rings: at a calendar's times, whatever its zone, and not for ever where nobody listens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery

from rules.calendar import Blackout, Calendar
from scheduler.beat import CLOCK, MOST_UNHEARD, NEVER, Ringer, Times
from tests.servers.broker import Broker


class At(Times):
    """A calendar's times, asked for at a time of the test's own."""

    def __init__(self, calendar: Calendar, now: datetime) -> None:
        super().__init__(calendar)
        self.nowfun = lambda: now


NIGHTLY = Calendar(zone=ZoneInfo("Europe/Berlin"), cron="0 3 * * *")


def test_it_rings_when_a_slot_became_due_since_it_last_rang() -> None:
    """Three in the morning in Berlin is one in UTC, in summer; then it is a day to the next."""
    last = datetime(2026, 6, 1, 0, 59, tzinfo=UTC)
    assert tuple(At(NIGHTLY, last + timedelta(seconds=30)).is_due(last)) == (False, 30)
    assert tuple(At(NIGHTLY, last + timedelta(minutes=1)).is_due(last)) == (True, 86400)


def test_what_is_never_due_is_looked_at_again_all_the_same() -> None:
    """A clock that rings on Mondays and never on a Monday must not stop the others."""
    now = datetime(2026, 6, 1, tzinfo=UTC)
    always_dark = Calendar(cron="0 3 * * MON", blackout=Blackout.parse(["MON"]))
    found = At(always_dark, now).is_due(now)
    assert (found.is_due, found.next) == (False, NEVER)


@pytest.fixture
def app(shared_redis: Broker) -> Iterator[Celery]:
    """A Celery application with a schedule of ours, on a real broker."""
    made = Celery("test", broker=shared_redis.url, set_as_current=False)
    entry: dict[str, Any] = {"task": "slots", "schedule": Times(Calendar(every=timedelta(seconds=1)))}
    made.conf.update(beat_schedule={"often": {**entry, "args": ("often",), "options": {"queue": CLOCK}}})
    yield made
    made.close()


def test_bells_that_nobody_hears_do_not_pile_up(app: Celery) -> None:
    """A clock that comes back after a night finds a handful of bells, and not ten thousand."""
    ringer = Ringer(app)
    entry = ringer.schedule["often"]
    assert ringer.unheard() == 0

    for _ in range(MOST_UNHEARD + 20):
        ringer.apply_entry(entry)

    assert ringer.unheard() == MOST_UNHEARD
    ringer.close()


def test_where_the_broker_is_away_beat_goes_on(app: Celery, shared_redis: Broker) -> None:
    """It says that it could not ring, and rings again the next time."""
    gone = Celery("gone", broker="redis://127.0.0.1:1/0", set_as_current=False)
    gone.conf.update(beat_schedule=app.conf.beat_schedule, broker_transport_options={"max_retries": 0})
    ringer = Ringer(gone)
    ringer.apply_entry(ringer.schedule["often"])
    gone.close()
