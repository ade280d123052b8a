"""Time that passes for a bench: the clock of its ledger and that of the pretend providers, set forward together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.worker.bench import Bench
from worker.ledger.database import Database

HOUR = 3600 * 1_000_000


class Shifted(Database):
    """A ledger whose clock goes ahead; every moment that it writes or compares comes from `now`."""

    skipped = 0

    def now(self) -> int:
        return super().now() + self.skipped


@contextmanager
def with_shifted_clock(bench: Bench) -> Iterator[Bench]:
    """The same bench on a ledger whose clock can be set forward."""
    database = Shifted(bench.runtime.database.url.render_as_string(hide_password=False))
    bench.runtime = replace(bench.runtime, database=database)
    yield bench
    database.dispose()


def pass_hours(bench: Bench, hours: float) -> None:
    """Let hours go by for both sides."""
    database = bench.runtime.database
    assert isinstance(database, Shifted)
    database.skipped += int(hours * HOUR)
    bench.sandbox.clock.advance(hours * 3600)
