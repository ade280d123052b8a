"""When a schedule is due: cron in a time zone, windows, blackout days, jitter and what becomes of missed slots.

Nothing here knows what time it is: `now` is handed in, by whoever read the ledger's clock. Cron is Debian's, as cronsim
has it: what falls into the hour that a change of the clocks leaves out runs once right after it, and what falls into
the hour that comes twice runs once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import takewhile

from cronsim import CronSim, CronSimError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
USUAL_WINDOW = timedelta(hours=1)
"""How long after it is due a slot may begin where nothing is said; never longer than to the slot after it."""
HORIZON = timedelta(days=4000)
"""How far ahead is looked for the next slot: from one leap day to the next there may be eight years."""
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


def read_moment(microseconds: int) -> datetime:
    """A time of the ledger as a moment."""
    return EPOCH + microseconds * MICROSECOND


def count_microseconds(moment: datetime) -> int:
    """A moment as the ledger keeps it."""
    return (moment - EPOCH) // MICROSECOND


@dataclass(frozen=True, slots=True)
class Blackout:
    """Days on which no slot begins: weekdays (Monday is 0), and ranges of dates with both their ends."""

    weekdays: frozenset[int] = frozenset()
    ranges: tuple[tuple[date, date], ...] = ()

    @classmethod
    def parse(cls, entries: list[str]) -> Blackout:
        """Read `SAT`, `2026-12-24` and `2026-12-24/2027-01-02`; raises ValueError with a sentence for all mistakes."""
        days = frozenset(WEEKDAYS.index(entry.upper()) for entry in entries if entry.upper() in WEEKDAYS)
        others = [entry for entry in entries if entry.upper() not in WEEKDAYS]
        ranges = [_read_range(entry) for entry in others]
        wrong = [repr(entry) for entry, found in zip(others, ranges, strict=True) if found is None]
        if wrong:
            raise ValueError(f"expected days such as SAT, 2026-12-24 or 2026-12-24/2027-01-02, got {', '.join(wrong)}")
        if len(days) == len(WEEKDAYS):
            raise ValueError("expected at least one day of the week on which a slot may begin, got none")
        return cls(days, tuple(found for found in ranges if found is not None))

    def __contains__(self, day: date) -> bool:
        return day.weekday() in self.weekdays or any(first <= day <= last for first, last in self.ranges)


def _read_range(entry: str) -> tuple[date, date] | None:
    day = r"\d{4}-\d{2}-\d{2}"
    if re.fullmatch(f"{day}(/{day})?", entry, re.ASCII) is None:
        return None
    first, _, last = entry.partition("/")
    try:
        found = date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError:
        return None
    return found if found[0] <= found[1] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """When slots are due: by `cron` in a time zone, or at every full multiple of `every` since 1970.

    `catch_up`: after a time in which nobody was there, the last slot that was missed is made up for.
    """

    zone: tzinfo = UTC
    cron: str = ""
    every: timedelta | None = None
    window: timedelta | None = None
    catch_up: bool = False
    blackout: Blackout = field(default=Blackout())


@dataclass(frozen=True, slots=True)
class Slot:
    """One time at which a schedule is due, and until when it may begin."""

    due: datetime
    closes: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """What became due: slots that may begin, and how many were missed, with the last of them."""

    slots: tuple[Slot, ...] = ()
    missed: int = 0
    last_missed: datetime | None = None


def check_cron(expression: str) -> None:
    """Raise ValueError with a sentence where this is no cron expression of five fields."""
    if len(expression.split()) != 5:
        raise ValueError(
            f"expected five fields: minute hour day month weekday, got {expression!r}; seconds are `every`"
        )
    try:
        CronSim(expression, EPOCH)
    except CronSimError as error:
        wrong = str(error).removeprefix("Bad ")
        raise ValueError(f"the {wrong} of {expression!r} is not one that cron knows") from None


def dues(calendar: Calendar, after: datetime) -> Iterator[datetime]:
    """Every time at which a slot is due, later than `after`, in UTC; ends where none comes within ten years."""
    last, latest = after, after + HORIZON
    times = _times(calendar, after)
    while (due := next(times, None)) is not None and due <= latest:
        if due <= last:
            continue
        day = due.astimezone(calendar.zone).date()
        if day in calendar.blackout:
            times = _times(calendar, _midnight(day + DAY, calendar.zone) - MICROSECOND)
        else:
            last, latest = due, due + HORIZON
            yield due


def next_due(calendar: Calendar, now: datetime) -> datetime | None:
    """The first slot after now, or None where none comes."""
    return next(dues(calendar, now), None)


def due_slots(calendar: Calendar, after: datetime, now: datetime) -> Found:
    """What became due later than `after` and no later than now: to be begun, or missed.

    Where every one of them was missed and the calendar says so, the last is made up for in a window from now on.
    """
    slots: list[Slot] = []
    missed, last_missed = 0, None
    for due in takewhile(lambda due: due <= now, dues(calendar, after)):
        # Of months of slots nearly all are too old for any window: to look up each one's own would take minutes.
        if now - due <= (calendar.window or USUAL_WINDOW) and now <= (closes := due + _window(calendar, due)):
            slots.append(Slot(due, closes))
        else:
            missed, last_missed = missed + 1, due
    if last_missed is not None and calendar.catch_up and not slots:
        slots = [Slot(last_missed, _first_clear(calendar, now) + _window(calendar, last_missed))]
        missed, last_missed = missed - 1, None
    return Found(tuple(slots), missed, last_missed)


def is_blackout(calendar: Calendar, now: datetime) -> bool:
    """Whether nothing may begin at this moment."""
    return now.astimezone(calendar.zone).date() in calendar.blackout


def window_from(calendar: Calendar, now: datetime) -> Slot:
    """The slot of somebody who wants one now, at whatever time of the calendar: no blackout speaks against a person."""
    due = now.replace(microsecond=0)
    return Slot(due, due + (calendar.window or USUAL_WINDOW))


def spread(schedule: str, due: datetime, target: str, jitter: timedelta) -> timedelta:
    """How long this target of this slot waits: anything up to `jitter`, and the same whoever works it out."""
    drawn = hashlib.sha256("\0".join((schedule, due.astimezone(UTC).isoformat(), target)).encode()).digest()
    return jitter * (int.from_bytes(drawn[:6]) / 2**48)


def _times(calendar: Calendar, after: datetime) -> Iterator[datetime]:
    """The bare times of cron or of the interval, from about `after` on; some may come before it, or twice."""
    if calendar.every is not None:
        number = (after - EPOCH) // calendar.every
        while True:
            number += 1
            yield EPOCH + number * calendar.every
    for due in CronSim(calendar.cron, after.astimezone(calendar.zone)):
        yield due.astimezone(UTC)


def _window(calendar: Calendar, due: datetime) -> timedelta:
    if calendar.window is not None:
        return calendar.window
    following = next_due(calendar, due)
    return USUAL_WINDOW if following is None else min(USUAL_WINDOW, following - due)


def _first_clear(calendar: Calendar, now: datetime) -> datetime:
    """The first moment from now on that is not on a blackout day."""
    while is_blackout(calendar, now):
        now = _midnight(now.astimezone(calendar.zone).date() + DAY, calendar.zone)
    return now


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
