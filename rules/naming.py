"""Naming a credential by what a listing shows of it: which of a rule's variables its id and its subject are."""

from __future__ import annotations

from collections.abc import Mapping

from rules.errors import BadInput
from rules.schema import Rule


def naming_variable(rule: Rule) -> str:
    """The variable that names a credential of this rule by its id; raises BadInput where it cannot be named."""
    naming = [name for name, variable in rule.variables.items() if variable.identifies]
    if rule.credential.id in naming:
        return str(rule.credential.id)
    if len(naming) != 1:
        raise BadInput(f"{rule.id} does not say how a credential is named by its id alone")
    return naming[0]


def name_credential(
    rule: Rule, identifier: str, subject: str | None = None, filled: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables that name a credential of this id and subject; `filled` are those that its row fills in besides."""
    variables = {naming_variable(rule): identifier}
    if subject is not None and rule.credential.subject in rule.variables:
        variables.setdefault(str(rule.credential.subject), subject)
    return {**(filled or {}), **variables}
