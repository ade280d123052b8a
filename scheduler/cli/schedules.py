"""`revoq schedules`: list what is done when, and have it done now; how a slot is had now is `slotting`'s."""

from __future__ import annotations

from typing import Any

import click

from rules.calendar import count_microseconds, next_due, read_moment
from scheduler.cli.desk import open_runtime, open_settings
from scheduler.cli.output import JSON, formatted, say, write_json, write_table
from scheduler.cli.present import schedule_row, target_row
from scheduler.cli.slotting import run_now
from scheduler.schedules import born_at, list_overdue, unusable_rules
from worker.ledger import slots
from worker.runtime import Runtime
from worker.schedules import Schedule


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
    run_now(name, dry_run=dry_run, form=form)


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
