"""`revoq rules`: list the rules, show one, and check rule files; what a rule may say is the rules' own house."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from rules import recorded
from rules.describe import describe
from rules.errors import RuleError, RuleErrors
from rules.lint import lint
from rules.loader import Catalogue, LoadedRule, builtin, read
from rules.parts import named
from scheduler.cli.desk import open_settings
from scheduler.cli.output import JSON, formatted, note, say, working, write_json, write_lines, write_table
from scheduler.cli.present import rule_row

MISTAKES = 2


@click.group(name="rules")
def command() -> None:
    """List the rules, show one, and check rule files."""


@command.command(name="list")
@formatted
def show_list(form: str) -> None:
    """Show every rule that can be used."""
    catalogue = open_catalogue()
    rows = [rule_row(loaded) for loaded in catalogue]
    if form == JSON:
        write_json(rows)
    else:
        write_table(["id", "name", "does"], [(row["id"], row["name"], does(row)) for row in rows])


@command.command(name="show")
@click.argument("rule_id", metavar="ID")
@formatted
def show_one(rule_id: str, form: str) -> None:
    """Tell in sentences what a rule needs, what it will do, how it knows the right one, and what it cannot do."""
    loaded = open_catalogue().get(rule_id)
    if form == JSON:
        write_json(whole(loaded))
    else:
        write_lines(paragraphs(loaded))


@command.command(name="check")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@formatted
def check(path: Path | None, form: str) -> None:
    """Read rule files strictly and play their recorded answers; exit code 2 where there are mistakes.

    Without a path, the rules that come with revoq and those of the settings are checked. What is merely unwise is a
    warning; what a file says and revoq does not follow, though the rule works, is a notice.
    """
    paths = [path] if path is not None else [builtin(), *open_settings().rules_path]
    with working("reading rules and playing their recorded answers"):
        catalogue, mistakes = read(paths)
        mistakes = [*mistakes, *misread(catalogue)]
    if not mistakes and not len(catalogue):
        mistakes = [
            RuleError("there are no rules here: expected files that end in .yaml", str(path or "rules_path"), 1)
        ]
    warnings = [warning for loaded in catalogue for warning in lint(loaded)]
    notices = [notice for loaded in catalogue for notice in loaded.notices]
    if form == JSON:
        found = {"mistakes": listed(mistakes), "warnings": listed(warnings), "notices": listed(notices)}
        write_json({"rules": len(catalogue), **found})
    else:
        for mistake in in_order(mistakes):
            say(str(mistake))
        for warning in in_order(warnings):
            say(f"{warning.file}:{warning.line}: warning: {warning.message}")
        for notice in in_order(notices):
            say(f"{notice.file}:{notice.line}: notice: {notice.message}")
        counted = f"{len(mistakes)} mistakes, {len(warnings)} warnings"
        say(f"{len(catalogue)} rules, {counted}" + (f", {len(notices)} notices" if notices else ""))
    if mistakes:
        click.get_current_context().exit(MISTAKES)


def misread(catalogue: Catalogue) -> Iterator[RuleError]:
    """Every recorded answer that is read as something else than its rule says."""
    for loaded in catalogue:
        for sentence in recorded.check(loaded):
            yield RuleError(sentence, loaded.file, loaded.line)


def in_order(errors: list[RuleError]) -> tuple[RuleError, ...]:
    return RuleErrors(errors).mistakes


def listed(errors: list[RuleError]) -> list[dict[str, Any]]:
    return [{"file": error.file, "line": error.line, "says": error.message} for error in in_order(errors)]


def open_catalogue() -> Catalogue:
    """The rules that can be used; the others are named beside."""
    catalogue, broken = read([builtin(), *open_settings().rules_path])
    for mistake in broken:
        note(f"left out: {mistake}")
    return catalogue


def does(row: dict[str, Any]) -> str:
    """What a rule can do, in two words."""
    able = [word for word, can in (("revokes", row["revokes"]), ("probes", row["probes"])) if can]
    return ", ".join(able) or "only finds"


def whole(loaded: LoadedRule) -> dict[str, Any]:
    """All of a rule for a program, and beside it the sentences for a person."""
    rule = loaded.rule
    kept = ("about", "pattern", "also_kills", "residual", "cannot", "unverified", "references")
    return {
        **rule_row(loaded),
        **{name: getattr(rule, name) for name in kept},
        "steps": [name for name, _ in named(rule.steps)],
        "notices": [notice.message for notice in loaded.notices],
        "sections": [{"title": section.title, "sentences": list(section.sentences)} for section in describe(loaded)],
    }


def paragraphs(loaded: LoadedRule) -> Iterator[tuple[int, str]]:
    """A rule as headings with their sentences."""
    for section in describe(loaded):
        yield 0, section.title
        for sentence in section.sentences:
            yield 2, sentence
