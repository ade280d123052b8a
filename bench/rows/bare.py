"""B1 and B2: a whole job on each database beside a bare Celery task that makes the same two calls, at 0 ms."""

from __future__ import annotations

from bench.measure import Findings, Goal, Line, interleave, middle, ratios
from bench.rows import Bench, Group
from bench.stand import Pool

OURS = Pool("prefork", 2)
OURS_SQLITE = Pool("prefork", 2)
BARE = Pool("prefork", 2)
JOBS = 600
TASKS = 1200
WARM = 40


def run(bench: Bench, wanted: frozenset[str]) -> Findings:
    findings = Findings()
    if "B1" in wanted:
        findings.lines.append(_compare(bench, "B1", "PostgreSQL", OURS))
    if "B2" in wanted:
        findings.lines.append(_compare(bench, "B2", "SQLite, synchronous=FULL", OURS_SQLITE))
    return findings


def _compare(bench: Bench, row: str, database: str, pool: Pool) -> Line:
    jobs, tasks = bench.some(JOBS), bench.some(TASKS)
    with (
        bench.stand.rig(sqlite=row == "B2") as rig,
        rig.working(pool, WARM) as workers,
        bench.stand.bare(BARE) as bare,
    ):
        bare.run(WARM)
        rounds = interleave([lambda: rig.run(workers, jobs), lambda: bare.run(tasks)])
    ours, theirs = middle(rounds, 0), middle(rounds, 1)
    return Line(
        row,
        f"jobs/s on {database} ÷ bare Celery task",
        Goal(0.5),
        ratios(rounds),
        f"{ours:.0f} ÷ {theirs:.0f} a second",
        f"{bench.size}{pool} ÷ {BARE}; a job takes {1000 / ours - 1000 / theirs:.1f} ms more than a task",
    )


GROUP = Group(("B1", "B2"), run)
