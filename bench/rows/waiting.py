"""B5 and B9: how close to the ideal workers come that mostly wait for a slow provider, and how processes add up."""

from __future__ import annotations

from bench.measure import PAIRS, Findings, Goal, Line, Plot, Series, interleave, middle, ratios
from bench.rows import Bench, Group
from bench.stand import Metered, Pool, Rig
from worker.app import ROTATION

FAST, SLOW = 0.1, 1.0
FIFTY = Pool("threads", 25, 2)
ONE, FOUR = Pool("threads", 64), Pool("threads", 64, 4)
STEPS = 2
WARM = 64
LONG = 3072
"""Twelve jobs for each of 256 threads, 24 s of waiting. That all of these begin at once costs what 256 jobs take of the
processor, one time however long they go on."""
CONCURRENCY = (1, 4, 16, 32, 64)
LATENCY = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)


def ideal(pool: Pool, delay: float) -> float:
    """Jobs per second if all that is ever done is waiting."""
    return pool.at_once * pool.processes / (STEPS * delay)


def run(bench: Bench, wanted: frozenset[str]) -> Findings:
    findings = Findings()
    with bench.stand.rig() as rig:
        if "B5" in wanted:
            findings.add(_against_ideal(bench, rig, FIFTY, FAST, 750, Goal(0.85)))
            findings.add(_against_ideal(bench, rig, FOUR, SLOW, LONG, Goal(0.9)))
            findings.plots.append(_concurrency(bench, rig))
            findings.plots.append(_latency(bench, rig))
        if "B9" in wanted:
            findings.lines.append(_processes(bench, rig))
    return findings


def _rates(bench: Bench, rig: Rig, pool: Pool, delay: float, number: int, rounds: int) -> tuple[list[float], str]:
    """Jobs per second in each round, and what a job took of the processor."""
    with rig.working(pool, WARM) as workers:
        jobs = bench.some(number)
        side = Metered(bench.stand, workers, jobs, lambda: rig.run(workers, jobs, delay=delay))
        return [side() for _ in range(rounds)], side.cost


def _against_ideal(bench: Bench, rig: Rig, pool: Pool, delay: float, number: int, goal: Goal) -> Findings:
    best = ideal(pool, delay)
    rates, cost = _rates(bench, rig, pool, delay, number, PAIRS)
    line = Line(
        "B5",
        f"jobs/s with a provider at {delay * 1000:.0f} ms, {pool.at_once * pool.processes} at a time ÷ ideal",
        goal,
        tuple(rate / best for rate in rates),
        f"{sorted(rates)[len(rates) // 2]:.0f} ÷ {best:.0f} a second",
        f"{bench.size}{pool}; the ideal is a number, so these are {len(rates)} runs and no pairs; a job takes {cost}",
    )
    return Findings([line])


def _concurrency(bench: Bench, rig: Rig) -> Plot:
    """At 100 ms, one process with more and more threads."""
    measured, best = [], []
    for threads in CONCURRENCY:
        pool = Pool("threads", threads)
        number = max(WARM, round(2 * ideal(pool, FAST)))
        measured.append((float(threads), _rates(bench, rig, pool, FAST, number, 1)[0][0]))
        best.append((float(threads), ideal(pool, FAST)))
    curves = (Series("revoq", tuple(measured)), Series("ideal", tuple(best)))
    return Plot("One process, provider at 100 ms", "threads", "jobs a second", curves)


def _latency(bench: Bench, rig: Rig) -> Plot:
    """Two processes of 32 threads, a slower and slower provider."""
    pool = Pool("threads", 32, 2)
    measured = []
    with rig.working(pool, WARM) as workers:
        for delay in LATENCY:
            number = min(400, round(6 * ideal(pool, delay))) if delay else 400
            measured.append((delay * 1000, rig.run(workers, bench.some(number), delay=delay)))
    best = tuple((delay * 1000, ideal(pool, delay)) for delay in LATENCY if delay >= FAST)
    curves = (Series("revoq", tuple(measured)), Series("ideal", best))
    return Plot(f"{pool}", "milliseconds of each answer", "jobs a second", curves)


def _processes(bench: Bench, rig: Rig) -> Line:
    """Sixteen seconds of waiting for each side; the one and the four are there together, each at a queue of its own."""
    one, four = rig.work(ONE), rig.work(FOUR, queue=ROTATION)
    rig.run(one, WARM)
    rig.run(four, FOUR.processes * WARM)
    number = bench.some(512)
    all_of_them = FOUR.processes * number
    side = Metered(bench.stand, four, all_of_them, lambda: rig.run(four, all_of_them, delay=SLOW))
    rounds = interleave([side, lambda: rig.run(one, number, delay=SLOW)])
    return Line(
        "B9",
        "jobs/s of four processes of 64 threads ÷ one, provider at 1 s",
        Goal(3.8),
        ratios(rounds),
        f"{middle(rounds, 0):.0f} ÷ {middle(rounds, 1):.0f} a second",
        f"{bench.size}{number} jobs for each process, 16 s of waiting at full size; there a job takes {side.cost}",
    )


GROUP = Group(("B5", "B9"), run)
