"""The clock's side of the Celery application: its queue and the periodic table, on top of the worker's app."""

from __future__ import annotations

from typing import Any

from scheduler import tasks
from scheduler.beat import CLOCK, Ringer, Times
from worker.app import app
from worker.settings import settings

SHRED_EVERY = 60.0
SEAL_EVERY = 5.0
WATCH_EVERY = 60.0

__all__ = ["CLOCK", "app"]


def periodic() -> dict[str, Any]:
    """A tick carries no more than a schedule's name, and is worth nothing by itself: the ledger has what is due."""
    chosen = settings()
    ticks = {
        tasks.sweep.name: chosen.sweep_every,
        tasks.slots.name: chosen.sweep_every,
        tasks.look_again.name: chosen.sweep_every,
        tasks.leavers.name: chosen.sweep_every,
        tasks.shred.name: SHRED_EVERY,
        tasks.tell.name: chosen.sweep_every,
        tasks.watch.name: WATCH_EVERY,
        tasks.seal.name: SEAL_EVERY,
        tasks.deliver.name: SEAL_EVERY,
    }
    table: dict[str, Any] = {name: {"task": name, "schedule": seconds} for name, seconds in ticks.items()}
    for name, schedule in chosen.schedules.items():
        table[f"schedule {name}"] = {"task": tasks.slots.name, "schedule": Times(schedule.calendar), "args": (name,)}
    return {
        "beat_schedule": {name: {**entry, "options": {"queue": CLOCK}} for name, entry in table.items()},
        "beat_scheduler": f"{Ringer.__module__}:{Ringer.__name__}",
        "beat_max_loop_interval": 1.0,
    }


app.add_defaults(periodic)
