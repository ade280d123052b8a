"""`revoq schedules`: list what is done when, and have it done now; how a slot runs is `scheduler.schedules`'."""

from __future__ import annotations

from typing import Any

import click

from rules.calendar import count_microseconds, next_due, read_moment
from rules.errors import BadInput
from rules.lifecycle import TargetState
from scheduler.bell import BrokerDown, ring_clock
from scheduler.cli.desk import open_runtime, open_settings, requester
from scheduler.cli.output import JSON, formatted, note, say, write_json, write_table
from scheduler.cli.present import ago, moment, schedule_row, target_row, told
from scheduler.schedules import born_at, list_overdue, open_now, rehearse
from worker.errors import SettingsErrors
from worker.ledger import reads, slots
from worker.ledger.rows import TargetRow
from worker.runtime import Runtime
from worker.schedules import Schedule, unusable_rules
from worker.sources import nearest


@click.group(name="schedules")
def command() -> None:
    """List what is done when, and have it done now."""


@command.command(name="list")
@formatted
def show_list(form: str) -> None:
    """Show each schedule: how its last slot ended, when the next one is, and which targets are too old.

    What is known of the targets is what the provider listed in the last slot.
    """
    runtime = open_runtime(open_settings())
    schedules = runtime.settings.schedules
    wrong = {mistake.setting.split(".")[1]: mistake.says for mistake in unusable_rules(schedules, runtime.catalogue)}
    rows = [gather(runtime, schedule, wrong.get(name)) for name, schedule in schedules.items()]
    if form == JSON:
        write_json(rows)
    elif not rows:
        say("The settings have no schedules. They stand in revoq.yaml, under `schedules`.")
    else:
        write_table(["name", "does", "when", "last", "state", "next", "too old"], [line(row) for row in rows])
        for row in rows:
            if row["says"]:
                say(f"{row['name']}: {row['says']}")


@command.command(name="run")
@click.argument("name", metavar="NAME")
@click.option("--dry-run", is_flag=True, help="Only look: say what would happen to whom. Nothing is written down.")
@formatted
def run(name: str, dry_run: bool, form: str) -> None:  # noqa: FBT001 - click hands options over by name
    """Open a slot of this schedule now, whatever its calendar says; the clock begins with it."""
    runtime = open_runtime(open_settings())
    schedules = runtime.settings.schedules
    if name not in schedules:
        says = nearest(name, schedules) if schedules else "; the settings have no schedules"
        raise BadInput(f"no schedule is called {name!r}{says}")
    if wrong := unusable_rules({name: schedules[name]}, runtime.catalogue):
        raise SettingsErrors(wrong)
    if dry_run:
        try_out(runtime, schedules[name], form)
        return
    key, new = open_now(runtime, schedules[name], requester())
    try:
        ring_clock(name)
    except BrokerDown:
        note("the broker does not answer; the slot is safe in the ledger, and the clock finds it when it is back")
    if form == JSON:
        write_json({"schedule": name, "due": moment(key.due), "new": new})
    else:
        says = "is open" if new else "was open already"
        say(f"The slot {told(key.due)} of {name} {says}. How it goes: revoq schedules list")


# ── listing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def gather(runtime: Runtime, schedule: Schedule, wrong: str | None) -> dict[str, Any]:
    """All that the ledger knows of a schedule; the provider is not asked."""
    database = runtime.database
    now = database.now()
    last = slots.latest(database, schedule.name)
    listed = slots.latest(database, schedule.name, listed=True)
    following = next_due(schedule.calendar, read_moment(now))
    rows = slots.targets(database, listed.key) if listed is not None else []
    rotated = slots.last_rotated(database, schedule.rule, schedule.connection)
    counts = slots.count_targets(database, last.key) if last is not None else {}
    return {
        **schedule_row(schedule, wrong, last, counts, None if following is None else count_microseconds(following)),
        "overdue": [row.target for row in list_overdue(schedule, rows, rotated, now)],
        "targets": [target_row(row, born_at(row, rotated), now) for row in rows],
    }


def line(row: dict[str, Any]) -> list[object]:
    """A schedule in a line."""
    last = row["last"] or {"due": None, "targets": {}}
    counts = ", ".join(f"{count} {state}" for state, count in last["targets"].items() if count)
    return [
        row["name"],
        f"{row['intent']} {row['rule']}",
        row["when"],
        _short(last["due"]),
        f"{row['state']}: {counts}" if counts else row["state"],
        _short(row["next"]) or "never",
        ", ".join(row["overdue"]) or "none",
    ]


def _short(time: str | None) -> str:
    return "" if time is None else f"{time[:10]} {time[11:19]} UTC"


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
