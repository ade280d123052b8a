"""Celery's consumer, with events that leave together: each message of them costs as much as a job's own."""

from __future__ import annotations

from celery.worker.consumer import Consumer
from kombu.asynchronous import Hub

FLUSH_EVERY = 0.25
"""Seconds for which what happened to a task may wait until it is told."""


class Teller(Consumer):  # type: ignore[misc]  # Celery has no types
    """A consumer that sends what was collected a few times a second, instead of after each turn of its loop."""

    def register_with_event_loop(self, hub: Hub) -> None:
        """Begin to send; Celery ends that when the connection is lost, and begins again with the next one."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(FLUSH_EVERY, self._flush_events)  # type: ignore[no-untyped-call]

    def on_send_event_buffered(self) -> None:
        """Nothing: the next turn sends it."""

    def shutdown(self) -> None:
        """Send what is left, and end."""
        self._flush_events()
        super().shutdown()
