"""`make bench`: measure the rows that are asked for, print one table, write results.json and report.html.

python -m bench [B1 B13 …] [--scale 0.1]
"""

from __future__ import annotations

import sys
import time
import traceback
from datetime import UTC, datetime

import click
from rich.console import Console

from bench import floor, report
from bench.measure import Findings
from bench.rows import Bench
from bench.rows.table import GROUPS, ROWS
from bench.stand import open_stand

WIDE = 180
NEWLINE = "\n"


@click.command()
@click.argument("rows", nargs=-1, type=click.Choice(ROWS))
@click.option("--scale", type=click.FloatRange(0.001, 1), default=1.0, help="A part of every size, for trying it out.")
def main(rows: tuple[str, ...], scale: float) -> None:
    """Measure ROWS, or all of them."""
    wanted = frozenset(rows or ROWS)
    findings, failed = Findings(), {}
    # Where nobody looks, as in a file, the table is as wide as it needs to be.
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    began = time.monotonic()
    with open_stand() as stand:
        parts = floor.measure(stand)
        for group in GROUPS:
            if not (asked := wanted & set(group.rows)):
                continue
            names = " ".join(name for name in group.rows if name in asked)
            since = time.monotonic()
            try:
                findings.add(group.run(Bench(stand, scale), asked))
            except Exception as error:  # noqa: BLE001 - one row that fails takes no other along
                traceback.print_exc()
                failed[names] = f"{type(error).__name__}: {str(error).partition(NEWLINE)[0]}"
            console.print(f"{names}: {time.monotonic() - since:.0f} s", style="dim", highlight=False)
            # After each group, so that a run which is interrupted leaves what it has found.
            report.write(findings, parts, failed, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    report.show(findings.lines, parts, failed, console)
    console.print(
        f"{(time.monotonic() - began) / 60:.1f} minutes; {report.JSON_FILE} and {report.PAGE}", highlight=False
    )
    if failed:
        click.get_current_context().exit(1)


if __name__ == "__main__":
    main()
