"""B7: how much longer an incident takes to its first request while thousands of bulk jobs are loaded and worked on."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from bench.measure import PAIRS, Findings, Goal, Line, ratios
from bench.rows import Bench, Group
from bench.rows.intake import write
from bench.stand import CONNECTION, PLAIN, Pool, Rig, Workers
from rules.secret import Secret
from scheduler.submit import Order, submit
from tests.acceptance.system import ROOT
from worker.app import URGENT
from worker.ledger import batches

BULK_JOBS = 10_000
DELAY = 0.1
SAMPLES = 5
"""Incidents of each half of a pair, whose middle counts."""
PAUSE = 0.2


def run(bench: Bench, _wanted: frozenset[str]) -> Findings:
    number = bench.some(BULK_JOBS)
    with bench.stand.rig() as rig:
        rig.work(Pool("threads", rig.runtime.settings.urgent_threads), queue=URGENT)
        bulk = rig.work(Pool("threads", rig.runtime.settings.bulk_threads))
        rig.system.start("clock", "beat")
        bench.stand.provider.reset(DELAY)
        _measure(rig, "urgentwarm")
        loading = _while_loading(rig, number)
        rounds = [_pair(rig, bulk, place) for place in range(PAIRS)]
        (batch,) = batches.newest(rig.runtime.database, 1)
        left = sum(each.count for each in batches.counts(rig.runtime.database, batch.id) if each.verdict is None)
    busy, idle = (median(each[place] for each in rounds) for place in (0, 1))
    line = Line(
        "B7",
        f"urgent job behind {number} bulk jobs, provider at {DELAY * 1000:.0f} ms: time to its first request ÷ idle",
        Goal(2, at_most=True),
        ratios(rounds),
        f"{busy * 1000:.0f} ÷ {idle * 1000:.0f} ms",
        f"{bench.size}idle is the same ledger with the bulk workers held still; "
        f"while the file was loading: {loading * 1000:.0f} ms; {left} jobs had not ended at the last look",
    )
    return Findings([line])


def _pair(rig: Rig, bulk: Workers, place: int) -> tuple[float, float]:
    """While bulk works, and while it is held still."""
    busy = _measure(rig, f"urgentbusy{'abcdefgh'[place]}")
    bulk.freeze()
    time.sleep(DELAY * 2)
    idle = _measure(rig, f"urgentidle{'abcdefgh'[place]}")
    bulk.thaw()
    time.sleep(1)
    return busy, idle


def _while_loading(rig: Rig, number: int) -> float:
    """The middle of the incidents that came while another process loaded the file."""
    command = [sys.executable, "-m", "scheduler.cli", "offboard", str(write(rig, number)), "--format", "json"]
    times: list[float] = []
    with subprocess.Popen(command, cwd=ROOT, env=rig.system.environ, stdout=subprocess.DEVNULL) as loader:
        while not batches.newest(rig.runtime.database, 1) and loader.poll() is None:
            time.sleep(0.05)
        while loader.poll() is None:
            times.append(_one(rig, f"urgentload-{len(times)}"))
            time.sleep(PAUSE)
    if loader.returncode != 0:
        raise RuntimeError(f"the file was not loaded: revoq offboard ended with {loader.returncode}")
    return median(times)


def _measure(rig: Rig, name: str) -> float:
    times = []
    for place in range(SAMPLES):
        times.append(_one(rig, f"{name}-{place}"))
        time.sleep(PAUSE)
    return median(times)


def _one(rig: Rig, identifier: str) -> float:
    """Seconds from the submission until the provider is asked about this token for the first time."""
    order = Order(rule=PLAIN, secret=Secret(f"bt_{identifier}"), connection=CONNECTION, requester="bench")
    began = time.time()
    submit(rig.runtime, order)
    while identifier not in (seen := rig.stand.provider.stats()["watched"]):
        time.sleep(0.005)
    return float(seen[identifier]) - began


GROUP = Group(("B7",), run)
