"""B13: how long the operator's door takes to open, beside an application of Typer's that does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

from bench.fill import fill
from bench.measure import Findings, Goal, Line, interleave, middle, ratios
from bench.rows import Bench, Group
from bench.stand import Pool, Rig
from tests.acceptance.system import ROOT
from worker.ledger import reads

EMPTY = """
import typer

app = typer.Typer()


@app.command()
def main() -> None:
    pass


app()
"""
LIBRARIES = "import click, pydantic_settings, rich.table, sqlalchemy, structlog, yaml"
JOBS = 10_000
ROUNDS = 7
STARTS = 3
"""Starts of one half of a pair, of which the middle counts."""
REVOQ = (sys.executable, "-m", "scheduler.cli")


def run(bench: Bench, _wanted: frozenset[str]) -> Findings:
    number = bench.some(JOBS)
    with bench.stand.rig() as rig:
        with rig.working(Pool("threads", 1), 1):
            pass
        (job,) = reads.jobs(rig.runtime.database, limit=1)
        fill(rig, job.id, number)
        empty = rig.system.directory / "empty.py"
        empty.write_text(EMPTY, encoding="utf-8")
        rounds = interleave(
            [
                partial(_start, rig, *REVOQ, "--help"),
                partial(_start, rig, *REVOQ, "jobs", "list"),
                partial(_start, rig, sys.executable, str(empty)),
            ],
            ROUNDS,
        )
    bare, libraries = (_start(rig, sys.executable, "-c", program) * 1000 for program in ("pass", LIBRARIES))
    peer = middle(rounds, 2)
    note = (
        f"{bench.size}the empty application only runs, without --help; Python alone: {bare:.0f} ms; Python that only "
        f"imports what settings, ledger and tables stand on: {libraries:.0f} ms"
    )
    return Findings(
        [
            _line("revoq --help", rounds, 0, Goal(1.3, at_most=True), peer, note),
            _line(f"revoq jobs list on {number} jobs", rounds, 1, Goal(3, at_most=True), peer, note),
        ]
    )


def _line(what: str, rounds: list[tuple[float, ...]], place: int, goal: Goal, peer: float, note: str) -> Line:
    measured = f"{middle(rounds, place) * 1000:.0f} ÷ {peer * 1000:.0f} ms"
    return Line("B13", f"{what} ÷ an empty Typer app", goal, ratios(rounds, place, 2), measured, note)


def _start(rig: Rig, *command: str | Path) -> float:
    """The middle of some starts, in seconds."""
    times = []
    environ = {**rig.system.environ, "PYTHONDONTWRITEBYTECODE": "", "PATH": os.environ["PATH"]}
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return median(times)


GROUP = Group(("B13",), run)
