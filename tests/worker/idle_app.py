"""A Celery application as a worker has it, with one task that does nothing: `celery -A tests.worker.idle_app worker`.

IDLE_BROKER is its broker.
"""

from __future__ import annotations

import os

from celery import Celery

from worker.app import configuration
from worker.settings import load_settings

app = Celery("idle", set_as_current=False)
app.conf.update({**configuration(load_settings({})), "broker_url": os.environ.get("IDLE_BROKER", "memory://")})


@app.task(name="nothing")  # type: ignore[untyped-decorator]
def nothing() -> None:
    """Nothing."""
