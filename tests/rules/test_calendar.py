"""When slots are due: what a person expects of cron around changes of the clocks, and laws that hold for every zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.calendar import (
    HORIZON,
    Blackout,
    Calendar,
    Found,
    check_cron,
    due_slots,
    dues,
    is_blackout,
    next_due,
    read_moment,
    spread,
    window_from,
)
from rules.calendar import count_microseconds as micros

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Africa/Casablanca", "Australia/Lord_Howe", "Africa/Cairo"]
CRONS = ["30 2 * * *", "0 3 * * MON", "*/20 * * * *", "15 */4 * * *", "0 0 1 * *", "0,30 2-3 * * *", "5 1 31 * *"]
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001 - UTC is added
SPANS = st.timedeltas(timedelta(0), timedelta(days=3))
CALENDARS = st.builds(
    Calendar,
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    cron=st.sampled_from(CRONS),
    window=st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=3)),
    catch_up=st.booleans(),
    blackout=st.sampled_from([Blackout(), Blackout.parse(["SAT", "SUN"]), Blackout.parse(["2026-12-24/2027-01-02"])]),
)
INTERVALS = st.builds(
    Calendar, every=st.timedeltas(timedelta(minutes=5), timedelta(days=9)), window=st.none(), catch_up=st.booleans()
)


def berlin(*parts: int, fold: int = 0) -> datetime:
    """A time on the wall in Berlin."""
    return datetime(*parts, tzinfo=BERLIN, fold=fold)  # type: ignore[misc,arg-type]


def local(calendar: Calendar, after: datetime, count: int) -> list[str]:
    """The next times on the wall of the calendar's zone."""
    return [due.astimezone(calendar.zone).isoformat() for due in islice(dues(calendar, after), count)]


# ── changes of the clocks ─────────────────────────────────────────────────────────────────────────────────────────────


def test_in_the_hour_that_is_left_out_it_runs_once_right_after() -> None:
    """At two the clocks go to three: half past two does not exist, and the job is not lost."""
    nightly = Calendar(zone=BERLIN, cron="30 2 * * *")
    assert local(nightly, berlin(2027, 3, 27, 12), 2) == ["2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"]


def test_two_times_in_the_hour_that_is_left_out_run_once() -> None:
    """They would fall on the same moment."""
    often = Calendar(zone=BERLIN, cron="0,30 2 * * *")
    assert local(often, berlin(2027, 3, 27, 12), 2) == ["2027-03-28T03:00:00+02:00", "2027-03-29T02:00:00+02:00"]


@pytest.mark.parametrize("after", [berlin(2027, 10, 30, 12), berlin(2027, 10, 31, 2, 10)])
def test_in_the_hour_that_comes_twice_it_runs_once(after: datetime) -> None:
    """At three the clocks go back to two: half past two comes twice, and the job the first time only."""
    nightly = Calendar(zone=BERLIN, cron="30 2 * * *")
    assert local(nightly, after, 2) == ["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"]


def test_looked_at_in_the_second_of_two_equal_hours_it_has_run() -> None:
    """Whoever starts up at 02:10 the second time finds nothing left to do that night."""
    nightly = Calendar(zone=BERLIN, cron="30 2 * * *")
    assert local(nightly, berlin(2027, 10, 31, 2, 10, fold=1), 1) == ["2027-11-01T02:30:00+01:00"]


def test_what_runs_all_day_runs_in_both_hours() -> None:
    """Every half hour is every half hour, whatever the clocks on the wall do."""
    often = Calendar(zone=BERLIN, cron="*/30 * * * *")
    for night in (berlin(2027, 3, 28), berlin(2027, 10, 31)):
        times = list(islice(dues(often, night), 12))
        assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(minutes=30)}


def test_a_zone_whose_clocks_change_with_the_moon() -> None:
    """Morocco goes back for Ramadan and forward after it, at dates that its zone file lists: each day has one slot."""
    casablanca = Calendar(zone=ZoneInfo("Africa/Casablanca"), cron="30 2 * * *")
    year = list(islice(dues(casablanca, datetime(2026, 1, 1, tzinfo=UTC)), 365))
    days = [due.astimezone(casablanca.zone).date() for due in year]
    assert days == [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]
    assert {due.astimezone(casablanca.zone).utcoffset() for due in year} == {timedelta(0), timedelta(hours=1)}


def test_a_zone_that_gave_up_changing_its_clocks() -> None:
    """Moscow had summer time until 2011, then its hour all year, then another: three in the morning stays three."""
    moscow = Calendar(zone=ZoneInfo("Europe/Moscow"), cron="0 3 1 * *")
    times = [due.astimezone(moscow.zone) for due in islice(dues(moscow, datetime(2010, 1, 1, tzinfo=UTC)), 72)]
    assert {time.hour for time in times} == {3}
    assert {time.utcoffset() for time in times} == {timedelta(hours=3), timedelta(hours=4)}


def test_a_day_that_an_island_left_out() -> None:
    """Samoa went from the 29th to the 31st of December 2011; what was due on the 30th runs once after it."""
    apia = Calendar(zone=ZoneInfo("Pacific/Apia"), cron="0 3 30 12 *")
    assert local(apia, datetime(2011, 12, 28, tzinfo=UTC), 2) == [
        "2011-12-31T00:00:00+14:00",
        "2012-12-30T03:00:00+14:00",
    ]


# ── days ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_leap_day_comes_every_four_years() -> None:
    """In other years there is no such slot, and the search goes on."""
    leap = Calendar(zone=BERLIN, cron="0 3 29 2 *")
    assert [time[:10] for time in local(leap, berlin(2026, 1, 1), 2)] == ["2028-02-29", "2032-02-29"]


def test_the_31st_leaves_short_months_out() -> None:
    """There is no day that stands in for it."""
    monthly = Calendar(zone=BERLIN, cron="0 3 31 * *")
    days = [time[5:10] for time in local(monthly, berlin(2027, 1, 1), 7)]
    assert days == ["01-31", "03-31", "05-31", "07-31", "08-31", "10-31", "12-31"]


def test_the_year_ends_like_any_other_day() -> None:
    """One slot in each year, and none between."""
    nightly = Calendar(zone=BERLIN, cron="59 23 * * *")
    assert local(nightly, berlin(2026, 12, 31, 12), 2) == ["2026-12-31T23:59:00+01:00", "2027-01-01T23:59:00+01:00"]


def test_an_interval_is_counted_from_1970() -> None:
    """Whoever looks, and since when, finds the same times."""
    often = Calendar(every=timedelta(seconds=5))
    assert [due.second for due in islice(dues(often, datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)), 3)] == [5, 10, 15]


def test_on_a_blackout_day_nothing_is_due() -> None:
    """Days are those of the schedule's own zone: 23:30 UTC on Friday is Saturday in Berlin."""
    weekend = Calendar(zone=BERLIN, cron="30 0 * * *", blackout=Blackout.parse(["sat", "SUN", "2026-12-28/2026-12-29"]))
    days = [time[:10] for time in local(weekend, berlin(2026, 12, 25, 0, 0), 3)]
    assert days == ["2026-12-25", "2026-12-30", "2026-12-31"]
    assert is_blackout(weekend, datetime(2026, 12, 25, 23, 30, tzinfo=UTC))
    assert not is_blackout(weekend, datetime(2026, 12, 25, 22, 30, tzinfo=UTC))


def test_what_is_due_on_blackout_days_only_is_never_due() -> None:
    """And the search for it ends."""
    never = Calendar(zone=BERLIN, cron="* * * * MON", blackout=Blackout.parse(["MON"]))
    assert next_due(never, berlin(2026, 1, 1)) is None


# ── windows ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def found(calendar: Calendar, after: datetime, now: datetime) -> tuple[list[datetime], int]:
    """What may begin, and how many were missed."""
    result = due_slots(calendar, after, now)
    return [slot.due for slot in result.slots], result.missed


def test_a_window_goes_across_midnight() -> None:
    """Due at 23:00 with four hours: at 02:59 it may begin, and at 03:01 it was missed."""
    late = Calendar(zone=BERLIN, cron="0 23 * * *", window=timedelta(hours=4))
    due = berlin(2026, 12, 31, 23)
    assert found(late, berlin(2026, 12, 31, 22), berlin(2027, 1, 1, 2, 59)) == ([due], 0)
    assert found(late, berlin(2026, 12, 31, 22), berlin(2027, 1, 1, 3, 1)) == ([], 1)


def test_a_window_is_as_long_as_it_says_when_the_clocks_change() -> None:
    """Four hours from 23:00 end at 04:00 on the wall in spring, and at 02:00 the second time in autumn."""
    late = Calendar(zone=BERLIN, cron="0 23 * * *", window=timedelta(hours=4))
    (spring,) = due_slots(late, berlin(2027, 3, 27, 22), berlin(2027, 3, 27, 23)).slots
    (autumn,) = due_slots(late, berlin(2027, 10, 30, 22), berlin(2027, 10, 30, 23)).slots
    assert spring.closes.astimezone(BERLIN).isoformat() == "2027-03-28T04:00:00+02:00"
    assert autumn.closes.astimezone(BERLIN).isoformat() == "2027-10-31T02:00:00+01:00"


def test_where_no_window_is_said_it_is_an_hour_or_the_time_to_the_next() -> None:
    """So that a slot never begins when the next one is due."""
    now = datetime(2026, 6, 1, 12, tzinfo=UTC)
    (daily,) = due_slots(Calendar(cron="0 12 * * *"), now - timedelta(hours=1), now).slots
    (often,) = due_slots(Calendar(cron="*/5 * * * *"), now - timedelta(minutes=1), now).slots
    assert (daily.closes - now, often.closes - now) == (timedelta(hours=1), timedelta(minutes=5))


def test_after_three_weeks_one_slot_is_made_up_for() -> None:
    """The last of those that were missed, in a window of its own; without catch_up none is."""
    weekly = {"zone": BERLIN, "cron": "0 3 * * MON", "window": timedelta(hours=4)}
    after, now = berlin(2026, 6, 1, 12), berlin(2026, 6, 24, 12)
    once = due_slots(Calendar(**weekly, catch_up=True), after, now)  # type: ignore[arg-type]
    none = due_slots(Calendar(**weekly), after, now)  # type: ignore[arg-type]
    assert [(slot.due, slot.closes) for slot in once.slots] == [(berlin(2026, 6, 22, 3), now + timedelta(hours=4))]
    assert (once.missed, once.last_missed) == (2, None)
    assert none == Found((), 3, berlin(2026, 6, 22, 3).astimezone(UTC))


def test_nothing_is_made_up_for_where_a_slot_can_still_begin() -> None:
    """That slot does for all of them."""
    weekly = Calendar(zone=BERLIN, cron="0 3 * * MON", window=timedelta(hours=4), catch_up=True)
    assert found(weekly, berlin(2026, 6, 1, 12), berlin(2026, 6, 22, 5)) == ([berlin(2026, 6, 22, 3)], 2)


def test_what_is_made_up_for_waits_for_the_end_of_a_blackout() -> None:
    """Its window begins when something may begin."""
    weekly = Calendar(cron="0 3 * * FRI", window=timedelta(hours=1), catch_up=True, blackout=Blackout.parse(["SAT"]))
    saturday = datetime(2026, 6, 6, 12, tzinfo=UTC)
    (slot,) = due_slots(weekly, saturday - timedelta(days=2), saturday).slots
    assert slot.closes == datetime(2026, 6, 7, 1, tzinfo=UTC)


def test_a_persons_own_slot_is_now() -> None:
    """To the second, so that two who press at once get one."""
    now = datetime(2026, 6, 6, 12, 0, 0, 999, tzinfo=UTC)
    assert window_from(Calendar(cron="0 3 * * MON"), now).due == now.replace(microsecond=0)


# ── mistakes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrong", ["", "* * * *", "*/5 * * * * *", "60 * * * *", "0 0 30 2 *", "0 3 * * MOON"])
def test_what_is_no_cron_is_refused(wrong: str) -> None:
    """With a sentence; six fields too, since what cron does with seconds is nobody's custom."""
    with pytest.raises(ValueError, match=r"expected five fields|is not one that cron knows"):
        check_cron(wrong)


@pytest.mark.parametrize("wrong", ["MONDAY", "2026-13-01", "2026-12-24/2026-12-01", "24.12.2026", "2026-12-24/"])
def test_what_is_no_day_is_refused(wrong: str) -> None:
    """With the entry that is wrong."""
    with pytest.raises(ValueError, match="expected days such as SAT"):
        Blackout.parse(["SUN", wrong])


def test_a_week_without_a_day_is_refused() -> None:
    """Such a schedule would never run."""
    with pytest.raises(ValueError, match="at least one day of the week"):
        Blackout.parse(["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"])


# ── laws ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(CALENDARS | INTERVALS, MOMENTS, SPANS, SPANS)
def test_it_does_not_matter_when_one_looks(
    calendar: Calendar, start: datetime, first: timedelta, then: timedelta
) -> None:
    """What is due between two moments is the same for one who looked in between: no slot twice, none lost."""
    middle, end = start + first, start + first + then

    def between(after: datetime, until: datetime) -> list[datetime]:
        return list(takewhile(lambda due: due <= until, dues(calendar, after)))

    assert between(start, middle) + between(middle, end) == between(start, end)


@given(CALENDARS | INTERVALS, MOMENTS)
def test_slots_come_later_and_later_and_never_on_a_blackout_day(calendar: Calendar, start: datetime) -> None:
    """Strictly, from the moment on that one asks for, and within the horizon."""
    times = [start, *islice(dues(calendar, start), 30)]
    assert all(earlier < later <= earlier + HORIZON for earlier, later in pairwise(times))
    assert not any(is_blackout(calendar, due) for due in times[1:])


@given(CALENDARS | INTERVALS, MOMENTS, SPANS)
def test_a_slot_begins_or_was_missed_and_never_both(calendar: Calendar, start: datetime, span: timedelta) -> None:
    """Every one that became due is in one of the two; with catch_up none is missed without one that makes up for it."""
    now = start + span
    became_due = len(list(takewhile(lambda due: due <= now, dues(calendar, start))))
    result = due_slots(calendar, start, now)
    assert all(start < slot.due <= now <= slot.closes for slot in result.slots)
    assert became_due == len(result.slots) + result.missed
    assert not (calendar.catch_up and result.missed and not result.slots)


@given(st.text(), MOMENTS, st.text(), st.timedeltas(timedelta(0), timedelta(days=2)))
def test_a_target_waits_the_same_whoever_works_it_out(name: str, due: datetime, target: str, jitter: timedelta) -> None:
    """Within the jitter, and in whatever zone the moment is told."""
    wait = spread(name, due, target, jitter)
    assert timedelta(0) <= wait <= jitter
    assert wait == spread(name, due.astimezone(BERLIN), target, jitter)


def test_targets_are_spread_over_the_jitter() -> None:
    """A thousand targets in ten minutes: each minute has some hundred."""
    due = datetime(2026, 6, 1, tzinfo=UTC)
    waits = [spread("weekly", due, f"key-{n}", timedelta(minutes=10)) // timedelta(minutes=1) for n in range(1000)]
    assert all(60 < waits.count(minute) < 140 for minute in range(10))


@given(MOMENTS)
def test_the_ledgers_times_come_back(moment: datetime) -> None:
    """To the microsecond."""
    assert read_moment(micros(moment)) == moment
