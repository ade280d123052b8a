"""Which rule a scanner's finding belongs to: by id, by alias, then by pattern; what it is not sure of, it says.

By pattern counts only what tells itself apart, such as `SG.…`: forty letters may be anything. So a text is tried a
second time with all its letters and digits exchanged; where that still fits, the pattern knows nothing but the shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from rules.errors import BadInput, RuleError
from rules.inputs import own_names
from rules.loader import LoadedRule
from rules.pattern import fits, match_secret
from rules.schema import Rule
from scheduler.offboard.items import TOKEN, Finding
from worker.connections import NOBODY
from worker.runtime import Runtime

BLUR = str.maketrans(
    {
        **dict.fromkeys("abcdefghijklmnopqrstuvwxyz", "b"),
        **dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "B"),
        **dict.fromkeys("0123456789", "7"),
    }
)
NAMED = 4


@dataclass(frozen=True, slots=True)
class Matched:
    """A finding with its rule, the connection that may act on it, and its values as the rule calls them."""

    loaded: LoadedRule
    connection: str
    secret: str = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)


class Unmatched(BadInput):
    """Nothing here can deal with the finding; the sentence says why."""


def match(runtime: Runtime, finding: Finding, connection: str) -> Matched:
    """Find the rule of a finding and the connection to go through; raises Unmatched."""
    known = [name for name in finding.names if name in runtime.catalogue]
    if known:
        return _take(runtime, runtime.catalogue.get(known[0]), finding, connection)
    found: list[Matched] = []
    for loaded in runtime.catalogue:
        if loaded.rule.revocation is not None and _connections(runtime, loaded.rule, connection):
            with suppress(Unmatched):
                found += [_take(runtime, loaded, finding, connection)] if tells(loaded.rule, finding) else []
    if not found:
        raise Unmatched("no rule here knows it, by its id or by how it looks")
    if len(found) > 1:
        ids = ", ".join(each.loaded.rule.id for each in found[:NAMED])
        raise Unmatched(f"several rules fit ({ids}): hand it in as a row that names one")
    return found[0]


def tells(rule: Rule, finding: Finding) -> bool:
    """Whether some value of the finding can be nothing but this rule's, by more than its shape."""
    return any(
        _is_secret(rule, text) and not _is_secret(rule, text.translate(BLUR)) for text in finding.values.values()
    ) or any(
        variable.identifies or variable.required
        for text in finding.values.values()
        for variable in rule.variables.values()
        if variable.pattern is not None
        and fits(variable.pattern, text)
        and not fits(variable.pattern, text.translate(BLUR))
    )


def _take(runtime: Runtime, loaded: LoadedRule, finding: Finding, connection: str) -> Matched:
    rule = loaded.rule
    if rule.revocation is None:
        raise Unmatched(f"the rule {rule.id} cannot revoke")
    usable = _connections(runtime, rule, connection)
    if not usable:
        raise Unmatched(f"no connection to {rule.provider} says whether it is ours: add one to the settings")
    if len(usable) > 1:
        raise Unmatched(f"{', '.join(usable[:NAMED])} all lead to {rule.provider}: say which with --connection")
    secret, variables = _assign(rule, finding.values)
    return Matched(loaded, usable[0], secret, variables)


def _connections(runtime: Runtime, rule: Rule, connection: str) -> list[str]:
    """The connections that could act on a credential of this rule; a chosen one stands for its provider."""
    ours = sorted(name for name, each in runtime.settings.connections.items() if each.provider == rule.provider)
    return [connection] if connection != NOBODY and connection in ours else ours


def _assign(rule: Rule, values: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The secret and the variables. What the scanner calls otherwise is told by what it looks like."""
    variables = name_variables(rule, values)
    left = [text for name, text in values.items() if name.upper() not in variables]
    secret = next((text for text in left if _is_secret(rule, text)), None)
    if secret is None:
        raise Unmatched(f"the secret that {rule.id} expects is not in the finding")
    left.remove(secret)
    for name, variable in rule.variables.items():
        if name not in variables and (variable.required or variable.identifies) and variable.pattern is not None:
            fitting = [text for text in left if fits(variable.pattern, text)]
            if len(fitting) == 1:
                variables[name] = fitting[0]
    needed = {name for name, variable in rule.variables.items() if variable.required}
    needed |= {depends.variable for depends in rule.depends_on_rule}
    if missing := sorted(needed - set(variables)):
        raise Unmatched(f"{rule.id} needs {', '.join(missing)} too: hand it in as a row with its variables")
    return secret, variables


def name_variables(rule: Rule, values: Mapping[str, str]) -> dict[str, str]:
    """What the scanner found beside the secret, under the rule's own names for it."""
    return own_names(rule, {name: text for name, text in values.items() if name != TOKEN})


def _is_secret(rule: Rule, text: str) -> bool:
    try:
        match_secret(rule, text)
    except (BadInput, RuleError):
        return False
    return True
