"""B8: what a long ledger costs: the same look or move on a ledger with a million finished jobs and on a short one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median

from bench.fill import OF_A_BATCH, fill, fingerprint_of
from bench.measure import Findings, Goal, Line, Plot, Series, interleave, middle, ratios
from bench.rows import Bench, Group
from bench.stand import Pool, Rig
from scheduler.sweep import sweep
from worker.ledger import batches, moves, reads

SMALL, MIDDLING, LARGE = 10_000, 100_000, 1_000_000
REPEATED = 30
"""Times that a look or a move is repeated for one half of a pair, of which the middle counts."""
WORKER = Pool("threads", 1)
SETTINGS = {"claim": "1h"}
"""No claim ends while this takes, so that every sweep finds the same: nothing to ring."""
SLOWEST = 5.0
"""Seconds after which a half is not repeated any further."""


def run(bench: Bench, _wanted: frozenset[str]) -> Findings:
    sizes = [bench.some(size) for size in (SMALL, MIDDLING, LARGE)]
    with ExitStack() as stack:
        rigs = [stack.enter_context(bench.stand.rig(settings=SETTINGS)) for _ in sizes]
        took = [_fill(rig, size) for rig, size in zip(rigs, sizes, strict=True)]
        lines, series = [], []
        for name in ("claim", "sweep", "jobs list", "batches show", "history"):
            sides = [partial(_half, _operations(rig, size)[name]) for rig, size in zip(rigs, sizes, strict=True)]
            rounds = interleave(sides)
            times = [middle(rounds, place) * 1000 for place in range(3)]
            lines.append(
                Line(
                    "B8",
                    f"{name}: {sizes[2]:,} finished jobs ÷ {sizes[0]:,}",
                    Goal(1.2, at_most=True),
                    ratios(rounds, 2, 0),
                    f"{times[2]:.2f} ÷ {times[0]:.2f} ms",
                    f"{bench.size}filled by SQL in {took[2]:.0f} s from one real job's rows",
                )
            )
            series.append(Series(name, tuple(zip(map(float, sizes), times, strict=True))))
    return Findings(lines, [Plot("Cost on a longer ledger", "finished jobs", "milliseconds", tuple(series))])


def _fill(rig: Rig, size: int) -> float:
    with rig.working(WORKER, 1):
        pass
    (job,) = reads.jobs(rig.runtime.database, limit=1)
    began = time.monotonic()
    fill(rig, job.id, size)
    return time.monotonic() - began


def _operations(rig: Rig, size: int) -> dict[str, Callable[[], float]]:
    """Each gives the seconds that it took; what has to be there first is made outside of them."""
    db = rig.runtime.database
    batch = f"batch_0{size // OF_A_BATCH // 2:012}"
    fingerprints = [fingerprint_of(size // 2)]

    def show() -> None:
        found = batches.find(db, batch)
        batches.counts(db, batch)
        batches.ended_lately(db, found)

    return {
        "claim": partial(_claim, rig),
        "sweep": partial(_timed, lambda: sweep(rig.runtime)),
        "jobs list": partial(_timed, lambda: reads.jobs(db, limit=50)),
        "batches show": partial(_timed, show),
        "history": partial(_timed, lambda: reads.history(db, fingerprints)),
    }


def _timed(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def _claim(rig: Rig) -> float:
    """Claim one job of a batch that is open for this; it stays claimed."""
    db, settings = rig.runtime.database, rig.runtime.settings
    if not rig.spare:
        batch = rig.stage(REPEATED)
        rig.ring(REPEATED)
        rig.spare.extend(line.id for line in reads.jobs(db, batch=batch, limit=REPEATED))
    job = rig.spare.pop()
    began = time.perf_counter()
    claim = moves.claim(db, job, lease=settings.claim, worker="bench")
    took = time.perf_counter() - began
    if claim is None:
        raise RuntimeError(f"{job} could not be claimed")
    return took


def _half(do: Callable[[], float]) -> float:
    began = time.monotonic()
    times: list[float] = []
    while len(times) < REPEATED and time.monotonic() - began < SLOWEST:
        times.append(do())
    return median(times)


GROUP = Group(("B8",), run)
