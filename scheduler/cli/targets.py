"""Finding the target that a person means in what a rule's listing shows; which variable names it, the rule says."""

from __future__ import annotations

from collections.abc import Mapping

from rules.errors import BadInput
from rules.schema import Rule
from rules.select import Candidate
from worker.listing import list_credentials
from worker.runtime import Runtime

NAME = "name"
"""The field of a row by which people call it."""


def find_target(
    runtime: Runtime, rule_id: str, connection: str, target: str, given: Mapping[str, str]
) -> dict[str, str]:
    """The variable that names the one row with this id or, where none has it, with this name.

    Raises BadInput where that is not exactly one, or where the list could not be read to its end.
    """
    loaded = runtime.catalogue.get(rule_id)
    variable = naming_variable(loaded.rule)
    if variable in given:
        raise BadInput(f"--target and --var {variable} both say which one is meant: give one of them")
    listed = list_credentials(runtime.connections.account(connection, loaded), loaded, None, given)
    if listed.cut_off:
        raise BadInput(f"which one {target!r} is cannot be told, since the list is not whole: {listed.cut_off}")
    fitting = [row for row in listed.rows if row["id"] == target]
    fitting = fitting or [row for row in listed.rows if name_of(row) == target]
    if len(fitting) == 1:
        return {variable: str(fitting[0]["id"])}
    show = f"revoq credentials list --rule {rule_id} --connection {connection}"
    if not fitting:
        raise BadInput(f"none of the {len(listed.rows)} that the provider lists has the id or name {target!r}: {show}")
    ids = ", ".join(str(row["id"]) for row in fitting)
    raise BadInput(f"{len(fitting)} are called {target!r}: name one by its id, which is one of {ids}")


def naming_variable(rule: Rule) -> str:
    """The variable that names a target of this rule by its id alone."""
    naming = [name for name, variable in rule.variables.items() if variable.identifies]
    if rule.credential.id in naming:
        return str(rule.credential.id)
    if len(naming) != 1:
        raise BadInput(f"{rule.id} does not say which variable a listed id is: name the target with --var")
    return naming[0]


def name_of(row: Candidate) -> str | None:
    """What a listed row is called."""
    shown = row["shown"]
    return shown.get(NAME) if isinstance(shown, dict) else None
