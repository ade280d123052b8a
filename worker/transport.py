"""kombu's transport for Redis: one client for each channel, and no note in the broker of what was delivered.

A client holds nothing but the pool that it takes connections from; but redis-py fills a table of some 150 answers for
each, which takes 75 microseconds, and kombu makes one for every bell that is sent and every message of events.

What was delivered is the process's own to remember. Redis would give what a dead worker had taken to another one after
an hour; the ledger knows the jobs, and rings them again within seconds.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis, virtual


class QoS(virtual.QoS):
    """How many messages were taken and not acknowledged; a process that ends in order gives them back."""

    def restore_unacked(self) -> list[Any]:
        """Give them back. What a broker that has gone does not take is rung again: nothing is kept for it in a file."""
        super().restore_unacked()  # type: ignore[no-untyped-call]
        return []


class Channel(redis.Channel):
    """A channel that keeps its client."""

    ack_emulation = False
    _kept: Any = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self.QoS = QoS  # type: ignore[assignment]  # kombu sets its own here, in the same way

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's own signature
        if asynchronous:
            # Of these there are two for as long as the channel lives, with a connection each.
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = super()._create_client()  # type: ignore[no-untyped-call]
        return self._kept


class Transport(redis.Transport):
    """Redis, with such channels."""

    Channel = Channel
