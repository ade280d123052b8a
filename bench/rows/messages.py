"""B11: what one two-step job says to PostgreSQL and to Redis, and which promise each statement keeps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event

from bench.measure import Findings, Goal, Line
from bench.rows import Bench, Group
from bench.stand import Pool, Rig
from worker.client import hang_up
from worker.engine import carry
from worker.ledger import reads

LEAST = 3
"""The claim (promise 3), the deletion's intent before it leaves (4), and its result with the job's end (6)."""
JOBS = 100
PROMISES = (
    (r"INSERT INTO audit", "6: every move leaves a row"),
    (r"INSERT INTO steps", "4: written down before it is done"),
    (r"UPDATE steps|SELECT steps", "4: what was done before, and what came of it"),
    (r"UPDATE jobs|SELECT jobs", "3: the claim, its fence and the state"),
    (r"accounts", "7: a provider that is broken is left alone"),
    (r"secrets|INSERT INTO seals", "5: sealed, opened by its owner alone, shredded at the end"),
    (r"rechecks|credentials", "2: what is known of the credential, and when it is looked at again"),
    (r"batches|joined", "3: the gate of its batch"),
)
PART = re.compile(r"(?:(?:^|AS \(|\) )(?:INSERT INTO|UPDATE|DELETE FROM)|^SELECT) \w+")
"""Where a statement begins, or one of the writes that are sent together as one."""


def run(bench: Bench, _wanted: frozenset[str]) -> Findings:
    with bench.stand.rig() as rig:
        statements, commits = _of_one_job(rig)
        redis = _redis(bench, rig)
    kept = Counter(promise for statement in statements for promise in promises_of(statement))
    said = "; ".join(f"{number} for {promise}" for promise, number in sorted(kept.items(), key=lambda each: each[0]))
    told = ", ".join(f"{name} {number:.1f}" for name, number in redis.most_common() if number >= 0.05)
    line = Line(
        "B11",
        f"transactions of a two-step job ÷ the least that the promises allow, which is {LEAST}",
        Goal(1, at_most=True),
        (commits / LEAST,),
        f"{len(statements)} statements, {commits} transactions, {sum(redis.values()):.1f} Redis commands a job",
        "counted, so there is no spread. One more than the promises need is what a look costs whose intent is written "
        "before it leaves: without it, nobody would know of a look during which its worker died. "
        "BEGIN and COMMIT are not counted; the lock of promise 8, past which no mutating step gets while there is a "
        f"hold, goes with a BEGIN. Parts, of which several are one statement, by promise: {said}. "
        f"Redis, its sender's and its events' included: {told}",
    )
    return Findings([line])


def promises_of(statement: str) -> list[str]:
    """Which promises a statement keeps, by the tables that its parts are about."""
    flat = " ".join(statement.split())
    return [
        next((says for pattern, says in PROMISES if re.search(pattern, part)), f"none: {part}")
        for part in PART.findall(flat)
    ]


def _of_one_job(rig: Rig) -> tuple[list[str], int]:
    """What carrying one job sends, after another one has opened connections and filled every cache."""
    batch = rig.stage(2)
    rig.ring(2)
    rig.stand.provider.reset(0)
    first, second = (line.id for line in reads.jobs(rig.runtime.database, batch=batch))
    try:
        carry(rig.runtime, first, "bench")
        with _listening(rig) as (statements, commits):
            carry(rig.runtime, second, "bench")
    finally:
        hang_up()
    return statements, len(commits)


@contextmanager
def _listening(rig: Rig) -> Iterator[tuple[list[str], list[str]]]:
    # The engine of those who write; that of those who only read hears of nothing but its own.
    with rig.runtime.database.begin() as connection:
        engine = connection.engine
    statements: list[str] = []
    commits: list[str] = []

    def note(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    def count(_connection: Connection) -> None:
        commits.append("commit")

    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "commit", count)
    try:
        yield statements, commits
    finally:
        event.remove(engine, "before_cursor_execute", note)
        event.remove(engine, "commit", count)


def _redis(bench: Bench, rig: Rig) -> Counter[str]:
    """Commands for each job, from the server's own statistics."""
    number = bench.some(JOBS)
    with rig.working(Pool("threads", 8), 8) as workers, bench.stand.broker.connect() as client:
        client.config_resetstat()
        rig.run(workers, number)
        stats: dict[str, Any] = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): entry["calls"] / number for name, entry in stats.items()}
    return Counter({name: number for name, number in calls.items() if name not in {"config|resetstat", "info"}})


GROUP = Group(("B11",), run)
