"""The Celery application and its settings, nothing else; the tasks are in `worker.tasks`.

Why these values: reference measurements say that early acknowledgement with a ledger and a sweep loses nothing, that
threads with prefetch 4 are the fastest for calls that wait, and that results and arguments are where secrets leak.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from kombu.transport import TRANSPORT_ALIASES

from rules.errors import RevoqError
from worker.ledger.rows import URGENT
from worker.log import configure
from worker.settings import Settings, settings

BULK = "bulk"
ROTATION = "rotation"

__all__ = ["BULK", "ROTATION", "URGENT", "app", "configuration"]

app = Celery("revoq", include=["worker.tasks"])
# The settings name a transport too, but a URL goes before it.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "worker.transport:Transport"))


def configuration(chosen: Settings) -> dict[str, Any]:
    """Celery's own settings, out of ours."""
    return {
        "broker_url": chosen.broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {"socket_connect_timeout": 3, "socket_timeout": 30, "max_retries": 1},
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": BULK,
        "task_create_missing_queues": True,
        "worker_consumer": "worker.consumer:Teller",
        "worker_pool": "threads",
        "worker_concurrency": chosen.bulk_threads,
        "worker_prefetch_multiplier": 4,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "timezone": "UTC",
    }


def _configuration() -> dict[str, Any]:
    try:
        return configuration(settings())
    except RevoqError as error:
        # A wrong setting stops the start with its sentence; a traceback would bury it.
        sys.exit(f"revoq: {error}")


app.add_defaults(_configuration)


@setup_logging.connect
def _log(**_options: object) -> None:
    configure(settings())
