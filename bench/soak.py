"""A soak: so many jobs with 5 % mixed faults, and whether the worker grows meanwhile; writes bench/soak.json.

    REVOQ_SOAK=100000 python -m bench.soak

Real processes with clock and beat, on PostgreSQL. Every job has to end or to park; the worker's memory in the last
tenth of the jobs is compared with the second tenth, and so are its connections, its open files and its threads.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from sqlalchemy import func, select

from bench.stand import Pool, Rig, Stand, Workers, open_stand
from rules.lifecycle import State
from worker.ledger import batches
from worker.ledger.tables import jobs

COUNT = int(os.environ.get("REVOQ_SOAK", "100000"))
RESULT = Path(__file__).with_name("soak.json")
FAULTS = 0.05
BATCHES = 4
"""At most 500 jobs of a batch are with the workers at a time, so that several keep them busy."""
ACCOUNTS = 10
"""A 429 stops a whole account for a second; jobs of the others go on."""
ALLOWED = 1.05
SPARE = 4
"""Connections, files or threads by which two moments of one process may differ."""
EVERY = 0.5
SETTLED = (State.DONE, State.PARKED, State.EXPIRED, State.CANCELLED)
SETTINGS = {"sweep_every": "2s", "ring_after": "30s"}


@dataclass(frozen=True, slots=True)
class Sample:
    """The worker at one moment; `settled` of all jobs had ended or parked by then."""

    settled: int
    memory: float
    connections: float
    files: float
    threads: float


def soak(stand: Stand, count: int) -> dict[str, Any]:
    """Run it; what came of it, as JSON keeps it."""
    with stand.rig(settings=SETTINGS, accounts=ACCOUNTS) as rig:
        stand.provider.reset(0.0, FAULTS)
        workers = rig.work(Pool("threads", rig.runtime.settings.bulk_threads))
        staged = [rig.stage(part, accounts=ACCOUNTS) for part in parts(count, BATCHES)]
        began = time.monotonic()
        rig.system.start("clock", "beat")
        samples = _watch(rig, workers, count)
        stands: dict[str, int] = {}
        for batch in staged:
            for each in batches.counts(rig.runtime.database, batch):
                key = str(each.verdict or each.reason or each.state)
                stands[key] = stands.get(key, 0) + each.count
        faults = stand.provider.stats()["faults"]
    return {
        "jobs": count,
        "faults": faults,
        "seconds": round(time.monotonic() - began, 1),
        "stands": stands,
        **judge(samples, count),
    }


def parts(count: int, into: int) -> list[int]:
    """A number in so many parts that are nearly alike; none of them is empty."""
    return [part for place in range(into) if (part := count // into + (place < count % into))]


def judge(samples: list[Sample], count: int) -> dict[str, Any]:
    """Medians of each tenth, memory's growth from the second to the last, and what leaked."""
    tenths: dict[int, list[Sample]] = {}
    for sample in samples:
        tenths.setdefault(min(sample.settled * 10 // count, 9), []).append(sample)
    if not {1, 9} <= tenths.keys():
        raise ValueError(f"{count} jobs were over before their second and their last tenth were seen: take more")
    told = {place: _middle(found) for place, found in sorted(tenths.items())}
    second, last = told[1], told[9]
    leaked = [name for name in ("connections", "files", "threads") if last[name] > second[name] * ALLOWED + SPARE]
    growth = last["memory"] / second["memory"]
    return {
        "growth": round(growth, 4),
        "leaked": leaked,
        "tenths": {str(place + 1): found for place, found in told.items()},
        "flat": growth <= ALLOWED and not leaked,
    }


def _middle(samples: list[Sample]) -> dict[str, float]:
    rows = [asdict(sample) for sample in samples]
    return {name: median(row[name] for row in rows) for name in ("memory", "connections", "files", "threads")}


def _watch(rig: Rig, workers: Workers, count: int) -> list[Sample]:
    """Look at the worker until every job has ended or parked."""
    settled = select(func.count()).select_from(jobs).where(jobs.c.state.in_(SETTLED))
    samples: list[Sample] = []
    deadline = time.monotonic() + 300 + count / 5
    while not samples or samples[-1].settled < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{samples[-1].settled} of {count} jobs have ended or parked")
        with rig.runtime.database.read() as connection:
            done = connection.scalar(settled) or 0
        samples.append(_look(workers, done))
        time.sleep(EVERY)
    return samples


def _look(workers: Workers, settled: int) -> Sample:
    family: list[psutil.Process] = workers.family()
    return Sample(
        settled,
        memory=sum(member.memory_info().rss for member in family) / 2**20,
        connections=sum(len(member.net_connections()) for member in family),
        files=sum(member.num_fds() for member in family),
        threads=sum(member.num_threads() for member in family),
    )


def main() -> None:
    """Tell it, write it down, and end with 1 where the worker grew."""
    with open_stand() as stand:
        found = soak(stand, COUNT)
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    sys.exit(not found["flat"])


if __name__ == "__main__":
    main()
