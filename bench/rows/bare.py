"""B1 and B2: a whole job on each database beside a bare Celery task that makes the same two calls, at 0 ms."""

from __future__ import annotations

from bench.measure import Findings, Goal, Line, interleave, middle, ratios
from bench.rows import Bench, Group
from bench.stand import Metered, Pool

OURS = Pool("threads", 2, 2)
BARE = Pool("prefork", 2)
"""Celery's settings choose our pool, and its -P prefork gives way to them: processes are started one by one."""
JOBS = 600
TASKS = 1200
WARM = 40


def run(bench: Bench, wanted: frozenset[str]) -> Findings:
    findings = Findings()
    if "B1" in wanted:
        findings.lines.append(_compare(bench, "B1", "PostgreSQL"))
    if "B2" in wanted:
        findings.lines.append(_compare(bench, "B2", "SQLite, synchronous=FULL"))
    return findings


def _compare(bench: Bench, row: str, database: str) -> Line:
    jobs, tasks = bench.some(JOBS), bench.some(TASKS)
    with (
        bench.stand.rig(sqlite=row == "B2") as rig,
        rig.working(OURS, WARM) as workers,
        bench.stand.bare(BARE) as bare,
    ):
        bare.run(WARM)
        a_job = Metered(bench.stand, workers, jobs, lambda: rig.run(workers, jobs))
        a_task = Metered(bench.stand, bare.workers, tasks, lambda: bare.run(tasks))
        rounds = interleave([a_job, a_task])
    ours, theirs = middle(rounds, 0), middle(rounds, 1)
    return Line(
        row,
        f"jobs/s on {database} ÷ bare Celery task",
        Goal(0.5),
        ratios(rounds),
        f"{ours:.0f} ÷ {theirs:.0f} a second",
        f"{bench.size}{OURS} ÷ {BARE}; a job takes {a_job.cost}, its staging included, and a task "
        f"{a_task.cost}: what is between them is sealing, the trail, the claim and the statements that B11 counts",
    )


GROUP = Group(("B1", "B2"), run)
