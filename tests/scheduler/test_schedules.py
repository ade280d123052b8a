"""A schedule from its slot to its targets' last word, tick by tick within this process, on both databases."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from rules.calendar import read_moment
from rules.errors import BadInput
from rules.lifecycle import Intent, SlotState, TargetState, Verdict
from rules.units import SECOND
from scheduler.schedules import (
    LIST_AGAIN,
    advance,
    find_targets,
    list_overdue,
    open_due,
    open_now,
    rehearse,
    unusable_rules,
)
from scheduler.submit import Order, check, new_job
from tests.sandbox import Sandbox
from tests.sandbox.cast import connections, environment, seed
from tests.sandbox.fixtures import sandbox
from tests.sandbox.tailscale import Key
from tests.scheduler.listed import CONNECTION, RULE, connect, write_rule
from tests.worker.bench import SANDBOX_RULES, Bench, open_bench
from tests.worker.ledger.samples import at_once, findings
from worker.client import hang_up
from worker.ledger import moves, reads, slots
from worker.ledger.database import Database
from worker.ledger.rows import SlotRow, TargetRow
from worker.ledger.tables import jobs, schedules, slot_targets
from worker.ledger.tables import slots as slots_table
from worker.schedules import Schedule

__all__ = ["sandbox"]

HOUR = 3600 * SECOND
DAY = 24 * HOUR


@dataclass
class Clockwork:
    """A bench whose clock is ticked by hand; slots are hourly, unless a test says otherwise."""

    bench: Bench
    sandbox: Sandbox

    @property
    def database(self) -> Database:
        return self.bench.runtime.database

    def schedule(self, **changes: Any) -> Schedule:
        """A schedule that looks whether the keys work that are named `job-…`."""
        given = {"intent": "probe", "rule": RULE, "connection": CONNECTION, "every": "1h", **changes}
        return Schedule.model_validate({"name": "hourly", "targets": {"names": ["job-*"]}, **given})

    def add_keys(self, *names: str, **options: Any) -> list[Key]:
        """Keys at the provider."""
        return [self.sandbox.tailscale.add_key(description=f"job-{name}", **options) for name in names]

    def rewind(self, microseconds: int = HOUR) -> None:
        """As if nobody had looked for so long."""
        with self.database.begin() as conn:
            conn.execute(update(schedules).values(until=schedules.c.until - microseconds))

    def due(self, schedule: Schedule) -> None:
        """Bring one slot of the schedule about."""
        advance(self.bench.runtime, schedule)
        self.rewind()

    def tick(self, schedule: Schedule, times: int = 1) -> list[str]:
        """What the clock does, and what the workers do with it; the jobs that were begun."""
        begun: list[str] = []
        for _ in range(times):
            new = advance(self.bench.runtime, schedule)
            for job in new:
                self.bench.carry(job, rounds=20)
            begun += new
        return begun

    def advance(self, schedule: Schedule) -> list[str]:
        """One step of a clock in a thread of its own."""
        try:
            return advance(self.bench.runtime, schedule)
        finally:
            hang_up()

    def slot(self) -> SlotRow:
        """The last slot."""
        found = slots.latest(self.database, "hourly")
        assert found is not None
        return found

    def rows(self) -> dict[str, TargetRow]:
        """The last slot's targets by their names, in their order."""
        return {row.name.removeprefix("job-"): row for row in slots.targets(self.database, self.slot().key)}

    def states(self) -> dict[str, str]:
        """How the targets stand that the schedule means."""
        return {name: row.state.value for name, row in self.rows().items() if row.state is not TargetState.SKIPPED}

    def count(self, table: Any) -> int:
        """How many rows there are."""
        with self.database.read() as conn:
            return conn.scalar(select(func.count()).select_from(table)) or 0


@pytest.fixture
def clockwork(
    tmp_path: Path, database_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clockwork]:
    """A clock, a ledger and a provider, on SQLite and on PostgreSQL."""
    cast = seed(sandbox)
    for name, value in environment(cast).items():
        monkeypatch.setenv(name, value)
    chosen = {"rules_path": [str(SANDBOX_RULES), write_rule(tmp_path / "rules")]}
    with open_bench(
        tmp_path, database_url, sandbox, connections={**connections(cast), **connect(cast.base_url)}, settings=chosen
    ) as bench:
        yield Clockwork(bench, sandbox)


# ── slots ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_schedule_has_no_past(clockwork: Clockwork) -> None:
    """What was due before it was written down is not run after the event."""
    assert clockwork.tick(clockwork.schedule(), 2) == []
    assert clockwork.count(slots_table) == 0


def test_another_calendar_has_no_past_either(clockwork: Clockwork) -> None:
    """What it would have had in the hour before is no slot that was missed."""
    clockwork.due(clockwork.schedule(every="2h"))
    minute = (read_moment(clockwork.database.now()).minute + 30) % 60
    clockwork.tick(clockwork.schedule(every=None, cron=f"{minute} * * * *", catch_up="once"))
    assert clockwork.count(slots_table) == 0


def test_clocks_with_different_settings_hide_no_slot(clockwork: Clockwork) -> None:
    """While a change is rolled out, two calendars take turns; what is due in both is opened all the same, once."""
    old, new = clockwork.schedule(every="1s", window="1h"), clockwork.schedule(every="2s", window="1h")
    advance(clockwork.bench.runtime, old)
    since = clockwork.database.now()
    while clockwork.database.now() < since + 4 * SECOND:
        slots.watch(clockwork.database, "hourly", new.digest)
        slots.watch(clockwork.database, "hourly", old.digest)
        time.sleep(0.1)

    open_due(clockwork.bench.runtime, new)

    with clockwork.database.read() as conn:
        found = [due for due in conn.execute(select(slots_table.c.due)).scalars() if due > since]
    assert len(found) == len(set(found)) >= 2


def test_a_slot_runs_once_and_every_target_in_it_once(clockwork: Clockwork) -> None:
    """However often the clock ticks: one slot, one job for each key that is meant, and a trail that is whole."""
    schedule = clockwork.schedule(concurrency=2)
    clockwork.add_keys("a", "b", "c")
    clockwork.due(schedule)

    begun = clockwork.tick(schedule, 5)

    assert clockwork.slot().state is SlotState.DONE
    assert clockwork.states() == {"a": "well", "b": "well", "c": "well"}
    assert sorted(begun) == sorted(row.job or "" for row in clockwork.rows().values() if row.job)
    assert (clockwork.count(slots_table), clockwork.count(jobs)) == (1, 3)
    assert findings(clockwork.database) == []
    job = reads.job(clockwork.database, begun[0])
    assert (job.intent, job.queue, job.requester, job.verdict) == (Intent.PROBE, "bulk", "clock", Verdict.ALIVE)
    assert job.cause is not None
    assert job.cause.startswith("schedule hourly, slot 20")


def test_clocks_that_tick_at_once_do_it_once(clockwork: Clockwork) -> None:
    """Four clocks, twenty rounds: each slot is opened once, listed once, and each target begun once."""
    schedule = clockwork.schedule(concurrency=3, window="9h")
    clockwork.add_keys("a", "b", "c")
    clockwork.due(schedule)
    clockwork.rewind(3 * HOUR)

    for _ in range(20):
        begun = at_once(*(lambda: clockwork.advance(schedule) for _ in range(4)))
        for job in [job for each in begun for job in each]:
            clockwork.bench.carry(job, rounds=20)

    assert (clockwork.count(slots_table), clockwork.count(jobs)) == (4, 12)
    with clockwork.database.read() as conn:
        states = set(conn.execute(select(slots_table.c.state)).scalars())
        meant = slot_targets.c.state != TargetState.SKIPPED
        found = conn.execute(select(slot_targets.c.job, slot_targets.c.state).where(meant)).all()
    assert states == {SlotState.DONE}
    assert {row.state for row in found} == {TargetState.WELL}
    assert len({row.job for row in found}) == len(found) == 12
    assert findings(clockwork.database) == []


def test_one_target_is_under_way_in_one_slot_only(clockwork: Clockwork) -> None:
    """Two slots that are due together: the second waits with a key until the first has done with it."""
    schedule = clockwork.schedule(concurrency=9, window="9h")
    clockwork.add_keys("a", "b")
    clockwork.due(schedule)
    clockwork.rewind()

    first = advance(clockwork.bench.runtime, schedule)
    assert (len(first), advance(clockwork.bench.runtime, schedule)) == (2, [])
    for job in first:
        clockwork.bench.carry(job, rounds=20)

    assert len(clockwork.tick(schedule)) == 2


def test_after_a_time_without_a_clock_one_slot_is_made_up_for(clockwork: Clockwork) -> None:
    """Of three days of hourly slots the last one runs under `catch_up: once`."""
    schedule = clockwork.schedule(window="1s", catch_up="once")
    clockwork.add_keys("a")
    clockwork.due(schedule)
    clockwork.rewind(3 * DAY)

    clockwork.tick(schedule, 3)

    assert (clockwork.slot().state, clockwork.count(slots_table)) == (SlotState.DONE, 1)


def test_without_catch_up_what_was_missed_is_said_and_stays_missed(clockwork: Clockwork) -> None:
    """One row stands for all of them."""
    schedule = clockwork.schedule(window="1s")
    clockwork.add_keys("a")
    clockwork.due(schedule)
    clockwork.rewind(3 * DAY)

    assert clockwork.tick(schedule, 3) == []

    assert clockwork.count(slots_table) == 1
    assert clockwork.slot().state is SlotState.MISSED
    assert "slots that were missed: 73" in (clockwork.slot().says or "")


def test_a_person_may_want_one_now(clockwork: Clockwork) -> None:
    """Whatever the calendar says, with the person's name on it, and once in a second."""
    schedule = clockwork.schedule(cron="0 3 1 1 *", every=None, blackout=["2000-01-01/2100-01-01"])
    clockwork.add_keys("a")
    key, new = open_now(clockwork.bench.runtime, schedule, "kim@host")
    assert new

    (job,) = clockwork.tick(schedule, 3)

    assert (clockwork.slot().key, clockwork.slot().state) == (key, SlotState.DONE)
    assert reads.job(clockwork.database, job).requester == "kim@host"


def test_on_a_blackout_day_an_open_slot_waits(clockwork: Clockwork) -> None:
    """Its window reaches into a day on which nothing begins; the provider is not even asked."""
    schedule = clockwork.schedule(window="9h")
    clockwork.due(schedule)
    clockwork.sandbox.fault("tailscale", method="GET", path="*/keys")
    clockwork.tick(schedule)
    _look_again(clockwork)
    clockwork.sandbox.forget_calls()

    assert clockwork.tick(clockwork.schedule(window="9h", blackout=["2000-01-01/2100-01-01"])) == []

    assert (clockwork.slot().state, clockwork.sandbox.calls("tailscale")) == (SlotState.OPEN, [])
    clockwork.tick(schedule, 2)
    assert clockwork.slot().state is SlotState.DONE


def test_a_schedule_that_is_for_something_else_now_ends_its_slots(clockwork: Clockwork) -> None:
    """What was listed to be looked at is never revoked because somebody edited the settings."""
    schedule = clockwork.schedule()
    keys = clockwork.add_keys("a", "b")
    clockwork.due(schedule)
    clockwork.tick(schedule)

    clockwork.tick(clockwork.schedule(intent="revoke"), 3)

    assert clockwork.slot().state is SlotState.STOPPED
    assert clockwork.states()["b"] == "left"
    assert all(clockwork.sandbox.alive("tailscale", key.id) for key in keys)


# ── listing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_listing_that_fails_is_tried_again(clockwork: Clockwork) -> None:
    """The first answer is an error; the slot says so, waits, and runs when the provider is well again."""
    schedule = clockwork.schedule()
    clockwork.add_keys("a")
    clockwork.due(schedule)
    clockwork.sandbox.fault("tailscale", method="GET", path="*/keys", times=1)

    assert clockwork.tick(schedule) == []
    assert clockwork.slot().state is SlotState.OPEN
    assert "answered 503" in (clockwork.slot().says or "")
    assert clockwork.tick(schedule) == []  # It is not asked again at once.
    _look_again(clockwork)

    clockwork.tick(schedule, 2)
    assert (clockwork.slot().state, clockwork.slot().says) == (SlotState.DONE, None)


def test_a_listing_that_never_works_is_an_incident(clockwork: Clockwork) -> None:
    """When its window ends the slot has failed, with what the provider said, and nobody was begun."""
    schedule = clockwork.schedule()
    clockwork.add_keys("a")
    clockwork.due(schedule)
    clockwork.sandbox.fault("tailscale", method="GET", path="*/keys", times=None)
    clockwork.tick(schedule)
    with clockwork.database.begin() as conn:
        conn.execute(update(slots_table).values(closes=clockwork.database.now() - 1))

    assert clockwork.tick(schedule) == []

    assert clockwork.slot().state is SlotState.FAILED
    assert "answered 503" in (clockwork.slot().says or "")


def test_a_clock_that_died_over_the_listing_is_replaced(clockwork: Clockwork) -> None:
    """Who takes the listing puts it off for the others, and not for ever."""
    schedule = clockwork.schedule()
    clockwork.add_keys("a")
    clockwork.due(schedule)
    clockwork.sandbox.fault("tailscale", method="GET", path="*/keys")
    clockwork.tick(schedule)
    _look_again(clockwork)
    key, again = clockwork.slot().key, clockwork.database.now() + LIST_AGAIN

    assert at_once(*(lambda: slots.take_listing(clockwork.database, key, again) for _ in range(4))).count(True) == 1

    assert clockwork.tick(schedule) == []
    _look_again(clockwork)
    clockwork.tick(schedule, 2)
    assert clockwork.slot().state is SlotState.DONE


def _look_again(clockwork: Clockwork) -> None:
    """Let the pause after a listing be over."""
    with clockwork.database.begin() as conn:
        conn.execute(update(slots_table).values(look_at=slots_table.c.look_at - LIST_AGAIN))


# ── targets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_at_most_so_many_at_once(clockwork: Clockwork) -> None:
    """The next one begins when one has ended."""
    schedule = clockwork.schedule(concurrency=2)
    clockwork.add_keys("a", "b", "c")
    clockwork.due(schedule)

    first = advance(clockwork.bench.runtime, schedule)
    assert (len(first), advance(clockwork.bench.runtime, schedule)) == (2, [])
    clockwork.bench.carry(first[0], rounds=20)

    assert len(advance(clockwork.bench.runtime, schedule)) == 1


def test_the_canary_goes_first_and_the_others_after_it(clockwork: Clockwork) -> None:
    """One job, and when it ended well all the others."""
    schedule = clockwork.schedule(concurrency=9, canary="job-c")
    clockwork.add_keys("a", "b", "c")
    clockwork.due(schedule)

    (canary,) = advance(clockwork.bench.runtime, schedule)
    assert clockwork.states() == {"c": "started", "a": "waiting", "b": "waiting"}
    assert advance(clockwork.bench.runtime, schedule) == []
    clockwork.bench.carry(canary, rounds=20)

    assert len(clockwork.tick(schedule, 2)) == 2
    assert clockwork.slot().state is SlotState.DONE


def test_where_the_canary_dies_the_others_are_left_alone(clockwork: Clockwork) -> None:
    """The slot is stopped with a sentence, and no other key was touched."""
    schedule = clockwork.schedule(concurrency=9, canary="job-c", intent="revoke")
    keys = clockwork.add_keys("a", "b", "c")
    clockwork.due(schedule)
    clockwork.sandbox.fault("tailscale", method="DELETE", status=403, times=None)

    clockwork.tick(schedule, 3)

    assert clockwork.slot().state is SlotState.STOPPED
    assert f"the canary {keys[2].id} did not end well" in (clockwork.slot().says or "")
    assert clockwork.states() == {"c": "failed", "a": "left", "b": "left"}
    assert {call.path.rpartition("/")[2] for call in clockwork.sandbox.calls("tailscale", "DELETE")} == {keys[2].id}
    assert findings(clockwork.database) == []


def test_a_canary_that_is_not_there_lets_nobody_begin(clockwork: Clockwork) -> None:
    """Nothing went first, so nothing goes."""
    schedule = clockwork.schedule(canary="job-x")
    clockwork.add_keys("a")
    clockwork.due(schedule)

    assert clockwork.tick(schedule) == []
    assert "the canary job-x has to go first" in (clockwork.slot().says or "")


def test_after_so_many_failures_it_stops(clockwork: Clockwork) -> None:
    """Two of four are refused; the other two are left alone, and their keys live."""
    schedule = clockwork.schedule(intent="revoke", stop_after_failures=2)
    keys = clockwork.add_keys("a", "b", "c", "d")
    clockwork.due(schedule)
    clockwork.sandbox.fault("tailscale", method="DELETE", status=403, times=None)

    clockwork.tick(schedule, 6)

    assert clockwork.slot().state is SlotState.STOPPED
    assert clockwork.states() == {"a": "failed", "b": "failed", "c": "left", "d": "left"}
    assert all(clockwork.sandbox.alive("tailscale", key.id) for key in keys)


def test_a_schedule_revokes_what_is_too_old(clockwork: Clockwork) -> None:
    """The old key dies and is proved dead; the young one and the one of another kind live."""
    schedule = clockwork.schedule(intent="revoke", targets={"max_age": "30d", "names": ["job-*"], "roles": ["api"]})
    young, old = clockwork.add_keys("young", "old")
    (other,) = clockwork.add_keys("other", kind="client")
    old.created, other.created = old.created - 40 * 86400, other.created - 40 * 86400
    clockwork.due(schedule)

    (job,) = clockwork.tick(schedule, 3)

    assert reads.job(clockwork.database, job).verdict is Verdict.REVOKED
    alive = {key.description: clockwork.sandbox.alive("tailscale", key.id) for key in (young, old, other)}
    assert alive == {"job-young": True, "job-old": False, "job-other": True}
    assert clockwork.rows()["young"].says == "it is 0.0 days old"
    assert clockwork.rows()["other"].says == "its role is 'client'"


def test_a_key_that_our_ledger_saw_rotated_is_as_young_as_that(clockwork: Clockwork) -> None:
    """What the provider says of its creation is not the last word."""
    schedule = clockwork.schedule(targets={"names": ["job-*"], "max_age": "30d"})
    old, rotated = clockwork.add_keys("old", "rotated")
    old.created, rotated.created = old.created - 40 * 86400, rotated.created - 40 * 86400
    _rotate(clockwork, rotated)

    chosen = {each.row.name: each.why for each in find_targets(clockwork.bench.runtime, schedule, 0)}

    assert (chosen["job-old"], chosen["job-rotated"]) == ("", "it is 0.0 days old")


def test_what_should_never_get_so_old_is_told(clockwork: Clockwork) -> None:
    """By the ledger alone: the last slot's rows, their ages, and what was rotated since."""
    schedule = clockwork.schedule(targets={"names": ["job-*"], "max_age": "30d"})
    old, rotated, _ = clockwork.add_keys("old", "rotated", "young")
    old.created, rotated.created = old.created - 40 * 86400, rotated.created - 40 * 86400
    clockwork.due(schedule)
    clockwork.tick(schedule, 4)
    _rotate(clockwork, rotated)
    clockwork.sandbox.forget_calls()

    since = slots.last_rotated(clockwork.database, RULE, CONNECTION)
    found = list_overdue(schedule, clockwork.rows().values(), since, clockwork.database.now())

    assert [row.name for row in found] == ["job-old"]
    assert clockwork.sandbox.calls("tailscale") == []


def test_what_cannot_be_ordered_fails_with_its_sentence(clockwork: Clockwork) -> None:
    """No job is made of it, and the slot ends all the same."""
    schedule = clockwork.schedule(intent="rotate")
    clockwork.add_keys("a")
    clockwork.due(schedule)

    assert clockwork.tick(schedule, 2) == []

    assert (clockwork.slot().state, clockwork.count(jobs)) == (SlotState.DONE, 0)
    row = clockwork.rows()["a"]
    assert row.state is TargetState.FAILED
    assert row.says


def test_a_job_that_is_parked_since_the_last_slot_is_joined(clockwork: Clockwork) -> None:
    """One open job for each credential and intent: the new slot says what the old one waits for, and goes on."""
    schedule = clockwork.schedule(intent="revoke")
    clockwork.add_keys("a")
    clockwork.due(schedule)
    clockwork.sandbox.fault("tailscale", method="DELETE", status=403, times=None)
    first = clockwork.tick(schedule, 2)
    open_now(clockwork.bench.runtime, schedule, "kim@host")

    again = clockwork.tick(schedule, 2)

    assert again == first
    assert clockwork.rows()["a"].state is TargetState.FAILED
    assert (clockwork.rows()["a"].says or "").startswith("denied: ")


def test_a_rehearsal_changes_nothing(clockwork: Clockwork) -> None:
    """It reads the list, says of each key what a slot would do, and leaves no row and no request behind."""
    schedule = clockwork.schedule(intent="revoke", targets={"names": ["job-*"], "except": ["job-b"]}, canary="job-c")
    clockwork.add_keys("a", "b", "c")

    found = rehearse(clockwork.bench.runtime, schedule, "kim@host")

    told = {row.name: (row.canary, why) for row, why in found if row.name.startswith("job-")}
    assert told == {
        "job-c": (True, ""),
        "job-a": (False, ""),
        "job-b": (False, "the schedule excepts it"),
    }
    assert [clockwork.count(table) for table in (schedules, slots_table, slot_targets, jobs)] == [0, 0, 0, 0]
    assert {call.method for call in clockwork.sandbox.calls("tailscale")} == {"GET"}


def test_a_rule_that_names_nothing_by_its_id_is_refused(clockwork: Clockwork) -> None:
    """It needs the secret itself, which no listing has."""
    with pytest.raises(BadInput, match="does not say how a credential is named by its id alone"):
        find_targets(
            clockwork.bench.runtime, clockwork.schedule(rule="tailscale.api_key", connection="tailscale-demo"), 0
        )


def _rotate(clockwork: Clockwork, key: Key) -> None:
    """As if a job had just rotated this key."""
    runtime = clockwork.bench.runtime
    order = Order(rule=RULE, connection=CONNECTION, requester="t", intent=Intent.PROBE, variables={"KEY_ID": key.id})
    new = replace(new_job(runtime, check(runtime, order)), provider_id=key.id)
    claim = moves.claim(clockwork.database, moves.submit(clockwork.database, new).job_id, lease=60, worker="w")
    assert claim is not None
    moves.finish(clockwork.database, claim, Verdict.ROTATED, "it has a new secret")


# ── variables ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_schedule_gives_its_targets_further_variables(clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is secret is followed when a job is made, and sealed; which one is meant stays the listing's to say."""
    monkeypatch.setenv("TEST_HIDDEN", "ssssh-nobody-reads-this")
    (key,) = clockwork.add_keys("a")
    schedule = clockwork.schedule(variables={"NOTE": "weekly", "HIDDEN": "env:TEST_HIDDEN"})
    open_now(clockwork.bench.runtime, schedule, "kim@host")

    (job_id,) = clockwork.tick(schedule)

    job = reads.job(clockwork.database, job_id)
    assert job.inputs == {"KEY_ID": key.id, "NOTE": "weekly"}
    assert [secret.kind for secret in reads.secrets_of(clockwork.database, job_id)] == ["variable:HIDDEN"]
    assert "ssssh" not in repr(job)


def test_a_reference_that_leads_nowhere_fails_the_target(clockwork: Clockwork) -> None:
    """With the schedule's name and the variable's; no job is made."""
    clockwork.add_keys("a")
    schedule = clockwork.schedule(variables={"HIDDEN": "env:TEST_NOT_SET"})
    open_now(clockwork.bench.runtime, schedule, "kim@host")

    assert clockwork.tick(schedule) == []

    assert clockwork.states() == {"a": "failed"}
    says = "schedule hourly: variables.HIDDEN: the environment variable TEST_NOT_SET is not set"
    assert says in (clockwork.rows()["a"].says or "")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("NOTES", "weekly", "tailnet.key has no such variable; did you mean NOTE?"),
        ("KEY_ID", "k1", "it says which one is meant, and that is the listing's to say"),
        ("HIDDEN", "ssssh", "it is secret: expected a reference to it, such as file:/run/secrets/NAME or env:NAME"),
    ],
)
def test_variables_that_a_schedule_cannot_give(clockwork: Clockwork, name: str, value: str, says: str) -> None:
    """The place in the settings and a sentence, which never repeats what may be secret."""
    schedule = clockwork.schedule(variables={name: value})

    (mistake,) = unusable_rules({"hourly": schedule}, clockwork.bench.runtime.catalogue)

    assert (mistake.setting, mistake.says) == (f"schedules.hourly.variables.{name}", says)
