"""B3 and B4: beside `kingfisher revoke`, a process for each token under xargs; the same rule, the same provider."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.measure import Findings, Goal, Line, interleave, middle, ratios
from bench.rows import Bench, Group
from bench.stand import PLAIN, PROVED, Metered, Pool, Rig, Stand

OURS = {0.0: Pool("threads", 4, 2), 0.1: Pool("threads", 32, 2)}
AT_ONCE = {0.0: (2, 4, 8), 0.1: (8, 16, 32)}
GOALS = {"B3": {0.0: Goal(5), 0.1: Goal(4)}, "B4": {0.0: Goal(3), 0.1: Goal(2.5)}}
JOBS = {0.0: 250, 0.1: 500}
TOKENS = {0.0: 80, 0.1: 120}
WARM = 40


@dataclass(frozen=True)
class Kingfisher:
    """The peer's program, and its rule file in a folder of its own."""

    stand: Stand
    program: str
    rules: Path

    def run(self, number: int, at_once: int, delay: float) -> float:
        """Tokens per second, from the first process until the last deletion."""
        self.stand.provider.reset(delay)
        tokens = "\n".join(f"bt_kingfisher-{place}" for place in range(number))
        command = ["xargs", "-P", str(at_once), "-n", "1", self.program, "revoke", "--no-update-check", "--no-builtins"]
        command += ["--rules-path", str(self.rules), "--rule", PLAIN, "--format", "json", "--"]
        began = time.time()
        subprocess.run(command, input=tokens, text=True, capture_output=True, check=True)
        return number / (self.stand.provider.wait_for(number) - began)

    def best(self, number: int, delay: float) -> int:
        """How many processes at once are the fastest here."""
        return max(AT_ONCE[delay], key=lambda at_once: self.run(number, at_once, delay))


def find(rig: Rig) -> Kingfisher:
    beside = Path(sys.executable).with_name("kingfisher")
    found = str(beside) if beside.exists() else shutil.which("kingfisher")
    if found is None:
        sys.exit("bench: there is no kingfisher; make .venv/.test installs it")
    rules = rig.system.directory / "kingfisher"
    rules.mkdir()
    shutil.copy(rig.system.directory / "rules" / "token.yaml", rules)
    return Kingfisher(rig.stand, found, rules)


def run(bench: Bench, wanted: frozenset[str]) -> Findings:
    findings = Findings()
    with bench.stand.rig() as rig:
        peer = find(rig)
        for delay in (0.0, 0.1):
            findings.lines.extend(_compare(bench, rig, peer, delay, sorted(wanted)))
    return findings


def _compare(bench: Bench, rig: Rig, peer: Kingfisher, delay: float, rows: list[str]) -> list[Line]:
    jobs, tokens, pool = bench.some(JOBS[delay]), bench.some(TOKENS[delay]), OURS[delay]
    at_once = peer.best(max(tokens // 3, 8), delay)
    rules = [PLAIN if row == "B3" else PROVED for row in rows]
    with rig.working(pool, WARM) as workers:
        ours = [
            Metered(bench.stand, workers, jobs, partial(rig.run, workers, jobs, rule, delay=delay)) for rule in rules
        ]
        rounds = interleave([*ours, partial(peer.run, tokens, at_once, delay)])
    pools = f"{pool} ÷ xargs -P {at_once}"
    return [
        _line(bench, row, place, rounds, delay, f"{pools}; a job takes {side.cost}, so that two cores set the limit")
        for place, (row, side) in enumerate(zip(rows, ours, strict=True))
    ]


def _line(bench: Bench, row: str, place: int, rounds: list[tuple[float, ...]], delay: float, how: str) -> Line:
    probed = "with a probe before and after " if row == "B4" else ""
    return Line(
        row,
        f"jobs/s {probed}on PostgreSQL ÷ kingfisher revoke, provider at {delay * 1000:.0f} ms",
        GOALS[row][delay],
        ratios(rounds, place, -1),
        f"{middle(rounds, place):.0f} ÷ {middle(rounds, -1):.0f} a second",
        f"{bench.size}{how}",
    )


GROUP = Group(("B3", "B4"), run)
