"""The peer: a bare Celery task that makes the same two HTTP calls with httpx and records nothing.

BENCH_BROKER=… BENCH_PROVIDER=… celery -A bench.bare worker -P prefork -c 2
"""

from __future__ import annotations

import os
import threading

import httpx
from celery import Celery

app = Celery("bare", broker=os.environ.get("BENCH_BROKER", "memory://"))
app.conf.update(
    task_ignore_result=True,
    task_default_queue="bare",
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
)
PROVIDER = os.environ.get("BENCH_PROVIDER", "")
_own = threading.local()


@app.task(name="bare")
def revoke(token: str) -> None:
    """Look the token up, and delete it."""
    if not hasattr(_own, "client"):
        _own.client = httpx.Client(base_url=PROVIDER, timeout=30)
    headers = {"Authorization": f"Bearer {token}"}
    found = _own.client.get("/v1/token", headers=headers).raise_for_status().json()
    _own.client.delete(f"/v1/tokens/{found['id']}", headers=headers).raise_for_status()
