"""Words, tables and JSON on the terminal; what stands in them is `present`'s.

Texts from a provider may hold anything: what would steer a terminal is shown as a sign of its own.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

JSON = "json"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

formatted = click.option(
    "--format",
    "form",
    type=click.Choice(["table", JSON]),
    default="table",
    show_default=True,
    help="How to show it; JSON keys are stable.",
)
"""The option of everything that shows rows."""


def clean(text: object) -> str:
    """The text without what a terminal would obey."""
    return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", str(text))


def console(*, err: bool = False) -> Console:
    """Where to write: plain words, coloured on a terminal only, and nowhere with NO_COLOR."""
    return Console(file=sys.stderr if err else sys.stdout, markup=False, highlight=False, emoji=False)


def say(text: str = "") -> None:
    """One line of the answer."""
    click.echo(clean(text))


def note(text: str) -> None:
    """A word beside the answer, on standard error."""
    click.echo(f"revoq: {clean(text)}", err=True)


@contextmanager
def working(on: str) -> Iterator[None]:
    """What is done now, on a terminal, while something takes its time; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    with console(err=True).status(clean(on)):
        yield


def write_json(value: Any) -> None:
    """The answer for a program."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: int = 1, err: bool = False) -> None:
    """The answer for a person; the first `whole` columns are never broken."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column.upper(), no_wrap=number < whole, overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) if cell is not None else Text("") for cell in row))
    console(err=err).print(table)


def write_lines(lines: Iterable[tuple[int, str]]) -> None:
    """Paragraphs, each with its indentation, which is kept where they are broken."""
    paper = console()
    for indent, text in lines:
        paper.print(Padding(Text(clean(text), overflow="fold"), (0, 0, 0, indent), expand=False))
