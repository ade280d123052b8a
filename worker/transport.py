"""kombu's transport for Redis, with one client for each channel instead of a new one for each command.

A client holds nothing but the pool that it takes connections from; but redis-py fills a table of some 150 answers for
each, and kombu makes one for every acknowledgement, event and message that is noted: a quarter of the processor that a
worker took for a message, with nothing to do for it.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):
    """A channel that keeps its client."""

    _kept: Any = None

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
