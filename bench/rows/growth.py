"""B10: whether a worker grows with the jobs that it has done; the soak itself is bench.soak's."""

from __future__ import annotations

import json
from typing import Any

from bench.measure import Findings, Goal, Line, Plot, Series
from bench.rows import Bench, Group
from bench.soak import ALLOWED, RESULT, soak

FULL = 100_000
SHORT = 5_000
"""Jobs of a soak for this table alone, where `make soak` has not left a full one: it would take most of the time."""
LEAST = 1000
"""Fewer are over before their tenths are seen."""


def run(bench: Bench, _wanted: frozenset[str]) -> Findings:
    kept = _kept()
    found = kept if kept is not None else soak(bench.stand, max(bench.some(SHORT), LEAST))
    second, last = found["tenths"]["2"], found["tenths"]["10"]
    source = "the last `make soak`" if kept is not None else "a short soak of this run; `make soak` is the whole one"
    line = Line(
        "B10",
        f"worker memory in the last tenth of {found['jobs']:,} jobs ÷ in the second",
        Goal(ALLOWED, at_most=True),
        (found["growth"],),
        f"{last['memory']:.1f} ÷ {second['memory']:.1f} MiB",
        f"one run, from {source}: {found['faults']} faults, {found['seconds']:.0f} s; "
        + ", ".join(f"{name} {second[name]:.0f} → {last[name]:.0f}" for name in ("connections", "files", "threads")),
    )
    curve = tuple((float(tenth), found["tenths"][tenth]["memory"]) for tenth in found["tenths"])
    plot = Plot("The worker over a soak", "tenth of the jobs", "MiB", (Series("memory", curve),))
    return Findings([line], [plot])


def _kept() -> dict[str, Any] | None:
    if not RESULT.exists():
        return None
    found: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    return found if found["jobs"] >= FULL else None


GROUP = Group(("B10",), run)
