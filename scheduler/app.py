"""The clock's side of the Celery application: its queue and the periodic table, on top of the worker's app."""

from __future__ import annotations

from typing import Any

from scheduler import tasks
from worker.app import app
from worker.settings import settings

CLOCK = "clock"
SHRED_EVERY = 60.0
SEAL_EVERY = 5.0

__all__ = ["CLOCK", "app"]


def periodic() -> dict[str, Any]:
    """A tick carries nothing and is worth nothing when it is late: what is due is read from the ledger."""
    chosen = settings()
    table = {
        tasks.sweep.name: chosen.sweep_every,
        tasks.shred.name: SHRED_EVERY,
        tasks.seal.name: SEAL_EVERY,
        tasks.look_again.name: chosen.sweep_every,
    }
    return {
        "beat_schedule": {
            name: {"task": name, "schedule": seconds, "options": {"queue": CLOCK, "expires": max(seconds, 10.0)}}
            for name, seconds in table.items()
        },
        # In memory: a file of last runs would be one more state to lose, and the ticks mean nothing by themselves.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": 1.0,
    }


app.add_defaults(periodic)
