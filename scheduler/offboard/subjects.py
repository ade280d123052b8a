"""A subject into the orders for everything that is theirs."""

from __future__ import annotations

from collections.abc import Iterator

from rules.errors import BadInput
from scheduler.offboard.items import Row
from scheduler.submit import Order
from worker.connections import NOBODY
from worker.runtime import Runtime


def orders_of_subject(runtime: Runtime, row: Row, connection: str) -> Iterator[Order]:
    """The orders for a subject's credentials. So far a subject is only checked, and then refused in so many words."""
    name = row.connection or connection
    if name == NOBODY:
        raise BadInput("a subject needs a connection: name it in the row, or with --connection")
    runtime.settings.connection(name)
    raise BadInput("this version cannot yet list what a subject has: name each of its credentials in a row of its own")
