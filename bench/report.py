"""The table on the terminal, and the same with its plots as one page that needs nothing else; no row is measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pygal
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from pygal.style import CleanStyle
from rich.console import Console
from rich.table import Table

from bench.measure import Findings, Line, Plot

# It finds maps that nobody draws here, in a way that Python warns of at every other import.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

FOLDER = Path(__file__).parent
JSON_FILE, PAGE = FOLDER / "results.json", FOLDER / "report.html"


def show(lines: Sequence[Line], floor: Mapping[str, str], failed: Mapping[str, str], console: Console) -> None:
    """One table; below it the rows' notes, what the parts can do, and what could not be measured."""
    table = Table()
    table.add_column("row")
    table.add_column("compared")
    table.add_column("ratio", justify="right")
    table.add_column("spread", justify="right")
    table.add_column("goal", justify="right")
    table.add_column("met")
    table.add_column("measured")
    for line in lines:
        table.add_row(
            line.row,
            line.compared,
            f"{line.ratio:.2f}",
            spread_of(line),
            str(line.goal),
            "yes" if line.met else "no",
            line.measured,
        )
    console.print(table)
    # Lines that were measured together share a note.
    for note in dict.fromkeys(f"{line.row}: {line.note}" for line in lines if line.note):
        console.print(note, highlight=False, markup=False)
    for name, value in floor.items():
        console.print(f"{name}: {value}", highlight=False, markup=False)
    for row, says in failed.items():
        console.print(f"{row} could not be measured: {says}", highlight=False, markup=False)


def spread_of(line: Line) -> str:
    """The least and the greatest ratio, where there were several."""
    low, high = line.spread
    return f"{low:.2f} to {high:.2f}" if len(line.ratios) > 1 else "one run"


def as_json(findings: Findings, floor: Mapping[str, str], failed: Mapping[str, str]) -> dict[str, Any]:
    """All of it for a program."""
    return {"rows": [line.as_json() for line in findings.lines], "floor": dict(floor), "failed": dict(failed)}


def write(
    findings: Findings, floor: Mapping[str, str], failed: Mapping[str, str], at: str, folder: Path = FOLDER
) -> None:
    """Write results.json and report.html."""
    told = json.dumps(as_json(findings, floor, failed), indent=1, ensure_ascii=False)
    (folder / JSON_FILE.name).write_text(f"{told}\n", encoding="utf-8")
    (folder / PAGE.name).write_text(page(findings, floor, failed, at), encoding="utf-8")


def page(findings: Findings, floor: Mapping[str, str], failed: Mapping[str, str], at: str) -> str:
    """The page, with every plot inside it."""
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.jinja").render(
        lines=findings.lines,
        spread_of=spread_of,
        plots=[(plot.title, Markup(draw(plot))) for plot in findings.plots],  # noqa: S704 - pygal's own SVG
        floor=floor,
        failed=failed,
        at=at,
    )


def draw(plot: Plot) -> str:
    """Curves as SVG, with no script and no address in it."""
    across = sorted({point[0] for series in plot.series for point in series.points})
    chart = pygal.Line(
        js=[], style=CleanStyle, x_title=plot.across, y_title=plot.up, width=720, height=400, min_scale=4, range=None
    )
    chart.x_labels = [f"{value:,g}" for value in across]
    for series in plot.series:
        found = dict(series.points)
        chart.add(series.name, [found.get(value) for value in across])
    drawn: str = chart.render(is_unicode=True, disable_xml_declaration=True)
    return drawn
