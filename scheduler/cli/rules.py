"""`revoq rules`: list the rules, show one, and check rule files; what a rule may say is the rules' own house."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from rules import recorded
from rules.errors import RuleError, RuleErrors
from rules.lint import lint
from rules.loader import Catalogue, LoadedRule, builtin, hosts_of, read
from scheduler.cli.desk import open_settings
from scheduler.cli.output import JSON, formatted, note, say, write_json, write_lines, write_table
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
    """Tell what a rule needs, does and cannot do."""
    loaded = open_catalogue().get(rule_id)
    if form == JSON:
        names = ("about", "pattern", "also_kills", "residual", "cannot", "unverified", "references")
        more = {name: getattr(loaded.rule, name) for name in names}
        write_json({**rule_row(loaded), **more, "steps": [step.name for step in loaded.rule.steps]})
    else:
        write_lines(describe(loaded))


@command.command(name="check")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@formatted
def check(path: Path | None, form: str) -> None:
    """Read rule files strictly and play their recorded answers; exit code 2 where there are mistakes.

    Without a path, the rules that come with revoq and those of the settings are checked. What is merely unwise is a
    warning.
    """
    paths = [path] if path is not None else [builtin(), *open_settings().rules_path]
    catalogue, mistakes = read(paths)
    mistakes = [*mistakes, *misread(catalogue)]
    if not mistakes and not len(catalogue):
        mistakes = [
            RuleError("there are no rules here: expected files that end in .yaml", str(path or "rules_path"), 1)
        ]
    warnings = [warning for loaded in catalogue for warning in lint(loaded)]
    if form == JSON:
        write_json({"rules": len(catalogue), "mistakes": listed(mistakes), "warnings": listed(warnings)})
    else:
        for mistake in in_order(mistakes):
            say(str(mistake))
        for warning in in_order(warnings):
            say(f"{warning.file}:{warning.line}: warning: {warning.message}")
        say(f"{len(catalogue)} rules, {len(mistakes)} mistakes, {len(warnings)} warnings")
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


def describe(loaded: LoadedRule) -> Iterator[tuple[int, str]]:
    """A rule as paragraphs."""
    rule, row = loaded.rule, rule_row(loaded)
    yield 0, f"{rule.id}: {rule.name} ({does(row)})"
    if rule.about:
        yield 2, " ".join(rule.about.split())
    if rule.aliases:
        yield 2, f"Also called {', '.join(rule.aliases)}"
    yield 2, f"The secret on standard input is {rule.secret}, and looks like this:"
    yield 4, " ".join(rule.pattern.split())
    for variable in row["variables"]:
        words = [word for word in ("required", "secret") if variable[word]]
        about = f"{variable['about']} ({', '.join(words)})" if words else variable["about"]
        yield 2, f"--var {variable['name']}: {about}"
    for name, allowed in hosts_of(loaded).items():
        yield 2, f"{name} is the connection's base URL{f', or {allowed[0]}' if allowed else ''}"
    for number, step in enumerate(rule.steps, start=1):
        yield 2, f"Step {number}, {step.name or 'unnamed'}: {step.request.method} {step.request.url}"
    for title, sentences in (
        ("Also dies", rule.also_kills),
        ("Lives on", rule.residual),
        ("Cannot", rule.cannot),
        ("Not tried yet", rule.unverified),
        ("See", rule.references),
    ):
        for sentence in sentences:
            yield 2, f"{title}: {sentence}"
    yield 2, f"From {loaded.file}:{loaded.line}"
