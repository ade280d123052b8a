"""A slot that a person wants now: rehearsed, opened, and followed to its end; running it is the clock's."""

from __future__ import annotations

import time
from typing import Any

import click

from rules.errors import BadInput
from rules.lifecycle import Intent, SlotState, TargetState, worst
from scheduler.beat import CLOCK
from scheduler.bell import BrokerDown, ring_clock
from scheduler.cli.answering import ask_workers
from scheduler.cli.desk import open_runtime, open_settings, requester
from scheduler.cli.output import JSON, note, say, write_json, write_table
from scheduler.cli.present import ago, ending_of, moment, target_row, told
from scheduler.cli.waiting import ANSWER_WITHIN, SILENCE
from scheduler.schedules import open_now, rehearse, unusable_rules
from worker.errors import SettingsErrors
from worker.ledger import reads, slots
from worker.ledger.database import Database
from worker.ledger.rows import SlotKey, SlotRow, TargetRow
from worker.runtime import Runtime
from worker.schedules import Schedule
from worker.sources import nearest

LOOK_EVERY = 0.5
FAILED, NOT_FINISHED = 1, 6
"""The exit codes of a slot whose jobs do not tell one."""


def run_now(
    name: str, *, dry_run: bool, form: str, wait: bool = False, timeout: float = 0.0, only: Intent | None = None
) -> None:
    """Rehearse a slot, or open one and ring the clock; then follow it, where that was asked for.

    `only` is what the schedule has to be for.
    """
    runtime = open_runtime(open_settings())
    schedule = find_schedule(runtime, name)
    if only is not None and schedule.does is not only:
        raise BadInput(f"{name} is for {schedule.intent}, not for {only.value}: revoq schedules run {name}")
    if dry_run:
        try_out(runtime, schedule, form)
        return
    key, new = open_now(runtime, schedule, requester())
    try:
        ring_clock(name)
    except BrokerDown:
        note("the broker does not answer; the slot is safe in the ledger, and the clock finds it when it is back")
    if wait:
        slot = follow(runtime.database, key, timeout)
        tell_end(runtime.database, slot, form)
        click.get_current_context().exit(code_of(runtime.database, slot))
    if form == JSON:
        write_json({"schedule": name, "due": moment(key.due), "new": new})
    else:
        says = "is open" if new else "was open already"
        say(f"The slot {told(key.due)} of {name} {says}. How it goes: revoq schedules list")


def find_schedule(runtime: Runtime, name: str) -> Schedule:
    """The schedule of this name, whose rule has to be one that can be used."""
    schedules = runtime.settings.schedules
    if name not in schedules:
        says = nearest(name, schedules) if schedules else "; the settings have no schedules"
        raise BadInput(f"no schedule is called {name!r}{says}")
    if wrong := unusable_rules({name: schedules[name]}, runtime.catalogue):
        raise SettingsErrors(wrong)
    return schedules[name]


# ── following ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def follow(database: Database, key: SlotKey, timeout: float) -> SlotRow:
    """Look again until the slot has ended or the time is over; the slot as it was last seen."""
    deadline = time.monotonic() + timeout
    ask_at = time.monotonic() + SILENCE
    while (slot := slots.find(database, key)).state in slots.UNFINISHED and time.monotonic() < deadline:
        if slot.state is SlotState.OPEN and time.monotonic() > ask_at:
            ask_at = deadline
            if says := slot.says or why_open():
                note(says)
        time.sleep(LOOK_EVERY)
    return slot


def why_open() -> str:
    """What keeps a slot from being listed, or nothing where it only takes its time."""
    answers = ask_workers(ANSWER_WITHIN)
    if answers.broker or not answers.serves(CLOCK):
        return "no clock answers; the slot is safe in the ledger: is `revoq up` running?"
    return ""


def tell_end(database: Database, slot: SlotRow, form: str) -> None:
    """How the slot stands, and each target that it meant."""
    now = database.now()
    rows = slots.targets(database, slot.key)
    if form == JSON:
        targets = [target_row(row, row.born, now) for row in rows]
        told_of = {"schedule": slot.schedule, "due": moment(slot.due), "state": slot.state.value, "says": slot.says}
        write_json({**told_of, "targets": targets})
        return
    meant = [row for row in rows if row.state is not TargetState.SKIPPED]
    if meant:
        write_table(
            ["target", "name", "came to", "job", "why"],
            [(row.target, row.name, row.state.value, row.job or "", row.says or "") for row in meant],
        )
    why = f": {slot.says}" if slot.says else ""
    say(f"The slot {told(slot.due)} of {slot.schedule} is {slot.state.value}{why}.")
    say(f"It meant {len(meant)} of the {len(rows)} that the provider lists.")


def code_of(database: Database, slot: SlotRow) -> int:
    """The exit code that stands for all of its targets."""
    if slot.state in slots.UNFINISHED:
        return NOT_FINISHED
    codes = [0 if slot.state is SlotState.DONE else FAILED]
    for row in slots.targets(database, slot.key):
        if row.job is not None:
            codes.append(ending_of(reads.job(database, row.job)).exit_code)
        elif row.state in {TargetState.FAILED, TargetState.LEFT}:
            codes.append(FAILED)
    return worst(codes)


# ── rehearsing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def try_out(runtime: Runtime, schedule: Schedule, form: str) -> None:
    """Read what the provider lists, and say what a slot would do with it."""
    found = rehearse(runtime, schedule, requester())
    now = runtime.database.now()
    held = reads.hold_for(runtime.database, schedule.connection)
    if form == JSON:
        rows = [{**rehearsed(schedule, row, why, now), "why": why or None} for row, why in found]
        names = {"intent": schedule.intent, "rule": schedule.rule, "connection": schedule.connection}
        write_json({"dry_run": True, "schedule": schedule.name, **names, "held": held, "targets": rows})
        return
    if held is not None:
        note(f"nothing would be changed for now: {held}")
    if not found:
        say("The provider lists nothing. That is a thing to explain, and no proof that nothing exists.")
        return
    age = {row.target: "" if row.born is None else ago(row.born, now) for row, _ in found}
    lines = [
        (row.target, row.name, age[row.target], rehearsed(schedule, row, why, now)["would"], why) for row, why in found
    ]
    write_table(["target", "name", "age", "would", "why"], lines)
    if any(row.canary and not why for row, why in found):
        say(f"{schedule.canary} is the canary: it goes first, and the others only when it ended well.")
    count = sum(not why for _, why in found)
    say(f"A slot would {schedule.intent} {count} of {len(found)}. Nothing was changed or written down.")


def rehearsed(schedule: Schedule, row: TargetRow, why: str, now: int) -> dict[str, Any]:
    """What would become of one row."""
    shown = target_row(row, row.born, now)
    skipped = row.state is TargetState.SKIPPED
    would = TargetState.SKIPPED.value if skipped else TargetState.FAILED.value if why else schedule.intent
    kept = ("target", "name", "subject", "role", "age", "canary")
    return {**{name: shown[name] for name in kept}, "would": would}
