"""B1 and B2: a whole job on each database beside a bare Celery task that makes the same two calls, at 0 ms."""

from __future__ import annotations

from bench.measure import Findings, Goal, Line, interleave, middle, ratios
from bench.rows import Bench, Group
from bench.stand import Pool

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
        before = bench.stand.processor(workers), bench.stand.processor(bare.workers)
        rounds = interleave([lambda: rig.run(workers, jobs), lambda: bare.run(tasks)])
        after = bench.stand.processor(workers), bench.stand.processor(bare.workers)
    done = jobs * len(rounds), tasks * len(rounds)
    a_job, a_task = (
        {name: (after[side][name] - before[side][name]) * 1000 / done[side] for name in after[side]} for side in (0, 1)
    )
    ours, theirs = middle(rounds, 0), middle(rounds, 1)
    return Line(
        row,
        f"jobs/s on {database} ÷ bare Celery task",
        Goal(0.5),
        ratios(rounds),
        f"{ours:.0f} ÷ {theirs:.0f} a second",
        f"{bench.size}{OURS} ÷ {BARE}; processor for a job: {a_job['worker']:.1f} ms of the worker's and "
        f"{a_job['PostgreSQL']:.1f} ms of PostgreSQL's (with its staging), for a task {a_task['worker']:.1f} ms: "
        "what is between them is sealing, the trail, the claim and the statements that B11 counts",
    )


GROUP = Group(("B1", "B2"), run)
