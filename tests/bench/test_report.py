"""The table, the JSON and the page say the same, and the page needs nothing else."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.measure import Findings, Goal, Line, Plot, Series
from bench.report import show, write

GOOD = Line("B1", "jobs ÷ tasks", Goal(0.5), (0.6, 0.7, 0.5), "60 ÷ 100 a second", "prefork 2")
BAD = Line("B10", "last ÷ second <tenth>", Goal(1.05, at_most=True), (1.2,), "120 ÷ 100 MiB")
PLOT = Plot("Threads", "threads", "jobs a second", (Series("revoq", ((1, 9.5), (8, 60))), Series("ideal", ((8, 80),))))
FOUND = Findings([GOOD, BAD], [PLOT])
FLOOR = {"fsync of 8 KiB": "30 µs"}


def test_the_table_tells_ratio_spread_goal_and_whether_it_is_met() -> None:
    """Every figure that a row has, and what the parts can do below it."""
    out = io.StringIO()

    show(FOUND.lines, FLOOR, {"B12": "OSError: no disk"}, Console(file=out, width=200))

    text = out.getvalue()
    good, bad = (next(each for each in text.splitlines() if f" {row} " in each) for row in ("B1", "B10"))
    assert [part in good for part in ("0.60", "0.50 to 0.70", "≥ 0.5", "yes")] == [True] * 4
    assert [part in bad for part in ("1.20", "one run", "≤ 1.05", "no")] == [True] * 4
    assert "fsync of 8 KiB: 30 µs" in text
    assert "B12 could not be measured: OSError: no disk" in text


@pytest.fixture
def page(tmp_path: Path) -> str:
    """The page of all of it."""
    write(FOUND, FLOOR, {}, "now", tmp_path)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_json_holds_every_pair(tmp_path: Path) -> None:
    """So that somebody else can do the arithmetic again."""
    write(FOUND, FLOOR, {}, "now", tmp_path)

    told = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))

    first = told["rows"][0]
    assert (first["ratio"], first["spread"], first["pairs"]) == (0.6, [0.5, 0.7], [0.6, 0.7, 0.5])
    assert (first["goal"], first["met"], told["rows"][1]["met"]) == ("≥ 0.5", True, False)
    assert told["floor"] == FLOOR


def test_the_page_needs_nothing_else(page: str) -> None:
    """Plots are inside it; no script, no style and no picture is fetched from anywhere."""
    assert page.count("<svg") == 1
    assert re.findall(r"<script[^>]*src|<link|<img|@import|url\(\s*[\"']?http", page) == []
    assert "jobs a second" in page


def test_text_of_a_row_stays_text(page: str) -> None:
    """A note is no markup."""
    assert "second &lt;tenth&gt;" in page
