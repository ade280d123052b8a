"""What the READMEs say is what the code does: tables, the picture, the example rule, the commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click
import yaml
from pydantic import BaseModel, TypeAdapter

from rules import strictyaml
from rules.lifecycle import Outcome
from rules.lint import lint
from rules.loader import builtin, load, read_text
from rules.recorded import check
from rules.schema import (
    Alike,
    Command,
    Condition,
    Extraction,
    Identity,
    Matcher,
    OutcomeClause,
    Paging,
    Provider,
    Recorded,
    Request,
    Rule,
    Select,
    Step,
    Verification,
)
from scheduler.cli import door, find_verbs
from tests.readme import PAGES, events, providers, reasons, render, settings, title_of
from worker.schedules import Schedule
from worker.settings import Route

TEXT = "\n".join(page.read_text() for page in PAGES)


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_generated_parts_are_up_to_date() -> None:
    """`python -m tests.readme` has been run since the lifecycle, the settings or the rules changed."""
    for page in PAGES:
        assert render(page.read_text()) == page.read_text()
    # And each of them stands somewhere.
    assert {row for rows in (reasons(), providers(), settings(), events()) for row in rows} <= set(TEXT.splitlines())


def test_the_example_rule_loads_and_plays_its_recorded_answers() -> None:
    """Whoever copies the README's rule has one that works at the first try."""
    (example,) = [block for block in blocks("yaml") if block.startswith("provider:")]

    (loaded,), mistakes = read_text(example, "README.md")

    assert mistakes == []
    assert check(loaded) == []
    assert [str(warning) for warning in lint(loaded)] == []


def section(heading: str) -> str:
    """What stands under a heading."""
    return TEXT.partition(heading)[2].partition("\n## ")[0]


def test_every_provider_is_named() -> None:
    """The front page names each that there is a rule for; what is not revoq's to end is no provider."""
    named = " ".join(section("## Providers\n").split())
    titles = {title_of(loaded) for loaded in load([builtin()])} - {"Kept secrets", "OAuth 2.0 server"}
    assert {title for title in titles if title not in named} == set()


def words(*models: type[BaseModel]) -> set[str]:
    """The keys that a rule may write in these places."""
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def kinds(annotation: Any) -> set[str]:
    """The names of the models that one place chooses among."""
    return set(TypeAdapter(annotation).json_schema()["$defs"])


def choices(model: type[BaseModel], field: str) -> set[str]:
    """The words that a field allows."""
    return set(model.model_json_schema()["properties"][field]["enum"])


def test_every_word_of_the_language_is_told() -> None:
    """A rule can be written with the two pages alone: no key, kind or outcome is known to the code only."""
    example = section("## Adding a provider\n")
    told = set(re.findall(r"\w+", example + section("## The language\n")))

    spoken = words(Provider, Identity, Request, Command, Alike, Step, Select, Condition, Paging, Verification, Recorded)
    spoken |= kinds(Matcher) | kinds(Extraction) | choices(Paging, "kind") | choices(OutcomeClause, "is")
    ours = list(Rule.model_fields)
    spoken |= {*ours[ours.index("restoration") :]}
    # A wish of Kingfisher's files, and an outcome that no answer can have.
    outcomes = set(Outcome) - {Outcome.NOT_SENT}
    assert (spoken - {"ReportResponse"} | outcomes) - told == set()


def test_every_command_exists() -> None:
    """A verb that the README shows is one that the door has."""
    shown = {match for block in blocks("console") for match in re.findall(r"^\$ revoq ([a-z]+)", block, re.MULTILINE)}

    assert shown
    assert shown <= set(find_verbs())


def find_command(words: Sequence[str]) -> click.Command:
    """The command that these words lead to."""
    command: click.Command = door
    for word in words:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), word)
        assert found is not None, f"there is no {' '.join(words)}"
        command = found
    return command


def test_every_option_is_understood() -> None:
    """The options of each shown command are ones that it takes."""
    for line in (line for block in blocks("console") for line in block.splitlines() if line.startswith("$ revoq ")):
        command = find_command(line.split()[2:])
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert set(re.findall(r" (--[a-z-]+)", line.split("#")[0])) <= known, line


def test_the_example_of_a_schedule_is_one() -> None:
    """Every key of it means something, and the whole makes sense."""
    (example,) = [block for block in blocks("yaml") if block.startswith("schedules:")]

    for name, fields in strictyaml.parse(example, "README.md").value["schedules"].items():
        assert Schedule.model_validate({"name": name, **fields}).when


def test_the_example_of_notices_is_one() -> None:
    """Each route of it tells somebody something."""
    (example,) = [block for block in blocks("yaml") if block.startswith("notices:")]

    for fields in strictyaml.parse(example, "README.md").value["notices"]:
        assert Route.model_validate(fields).wants


def test_the_settings_example_is_yaml() -> None:
    """The connection in the README is one that a strict reader takes."""
    (example,) = [block for block in blocks("yaml") if block.startswith("connections:")]

    assert yaml.safe_load(example)["connections"]["hub"]["provider"] == "jupyterhub"
