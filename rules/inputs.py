"""What a requester may hand in for a rule: the secret and the variables, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping

from rules.errors import BadInput
from rules.lifecycle import Intent
from rules.loader import LoadedRule, hosts_of
from rules.pattern import TIME_LIMIT, compile_pattern, match_secret
from rules.schema import Rule, Variable
from rules.secret import Secret


def check_inputs(
    loaded: LoadedRule, secret: Secret | None, variables: Mapping[str, str], intent: Intent | None = None
) -> None:
    """Raise BadInput with a sentence where the secret or a variable is not what the rule expects.

    What is issued may be new, and then nothing names it yet.
    """
    if secret is not None:
        if loaded.rule.secret == "none":  # noqa: S105 - a word of the language
            names = " and ".join(name for name, variable in loaded.rule.variables.items() if variable.identifies)
            raise BadInput(f"{loaded.rule.id} takes no secret: {names} names the credential")
        if not secret:
            raise BadInput("the secret is empty: nothing came on standard input")
        match_secret(loaded.rule, secret.reveal())
    known = variables_of(loaded.rule) | set(hosts_of(loaded))
    mistakes = [f"there is no variable {name}" for name in sorted(set(variables) - known)]
    found = (_find_mistake(loaded.rule, name, variables, intent) for name in loaded.rule.variables)
    mistakes += [says for says in found if says]
    if mistakes:
        names = ", ".join(sorted(known)) or "none"
        raise BadInput(f"{loaded.rule.id}: {'; '.join(mistakes)}. Its variables: {names}")


def variables_of(rule: Rule) -> set[str]:
    """The names that a requester may give."""
    return set(rule.variables) | {depends.variable for depends in rule.depends_on_rule}


def own_names(rule: Rule, foreign: Mapping[str, str]) -> dict[str, str]:
    """The values of a scanner's finding under the rule's own names; what the rule has no use for is left out.

    Names count in any case, since Kingfisher raises them. Raises BadInput where two values claim one variable.
    """
    known = {name: name for name in variables_of(rule)}
    known |= {alias.upper(): name for name, variable in rule.variables.items() for alias in variable.aliases}
    found: dict[str, str] = {}
    for name, value in foreign.items():
        own = known.get(name) or known.get(name.upper())
        if own is not None and found.setdefault(own, value) != value:
            raise BadInput(f"{rule.id}: the finding has two values for {own}; which one it is cannot be told")
    return found


def is_secret(rule: Rule, name: str) -> bool:
    """Whether a variable has to be sealed: one that another rule finds is a credential, or a part of one."""
    dependent = any(depends.variable == name for depends in rule.depends_on_rule)
    return dependent or (name in rule.variables and rule.variables[name].secret)


def _find_mistake(rule: Rule, name: str, given: Mapping[str, str], intent: Intent | None) -> str:
    variable = rule.variables[name]
    may_be_new = intent is Intent.ISSUE and variable.identifies
    if variable.required and name not in given and not may_be_new:
        return f"{name} is needed ({variable.about}): give --var {name}=…"
    if name in given and not _fits(variable, given[name]):
        return f"{name} ({variable.about}): expected {variable.pattern}, got something else"
    return ""


def _fits(variable: Variable, value: str) -> bool:
    if variable.pattern is None:
        return True
    return compile_pattern(variable.pattern).fullmatch(value, timeout=TIME_LIMIT) is not None
