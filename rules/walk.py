"""Walking a rule's steps once: what may be known by then, and what is tied to the credential; ordering is `planning`'s.

Names are *tied* that come from the token itself, from what identifies the credential, from the provider's own "who am
I", or from one row that a condition ties to it. What is not tied is never acted on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rules.errors import BadInput
from rules.loader import LoadedRule, hosts_of
from rules.parts import groups_of, names_in, names_of_action
from rules.plan import ACTOR, TOKEN, Planned, Purpose
from rules.schema import Action, Extraction, JsonPath, Regex, Step

INDEFINITE = re.compile(r"\[\s*-?\d|\*|\.\.|\?|\[[^\]'\"]*:")
"""What makes a JSONPath pick among several: an index, a wildcard, a descent, a filter, a slice."""


class Walk:
    """Keeps what may be known by then and what is tied to the credential."""

    def __init__(self, loaded: LoadedRule, given: frozenset[str]) -> None:
        self.loaded, self.rule = loaded, loaded.rule
        self.hosts = frozenset(hosts_of(loaded))
        own = groups_of(self.rule.pattern) | {TOKEN} if TOKEN in given else frozenset[str]()
        dependencies = {depends.variable for depends in self.rule.depends_on_rule}
        naming = {name for name, variable in self.rule.variables.items() if variable.identifies}
        self.named = bool(naming & given)
        self.actor = frozenset(loaded.provider.actor_names if loaded.provider is not None else ())
        self.certain = given | own | self.hosts | (self.actor if ACTOR in given else frozenset())
        self.possible = set(self.certain)
        self.tied = set(own) | ((dependencies | naming) & given)
        self.extracted: set[str] = set()

    def look(self, name: str, purpose: Purpose, action: Action, *, disables: bool = False) -> Planned:
        uses = names_of_action(action)
        given = tuple(sorted(uses - self.certain))
        return Planned(name, purpose, given=given, uses=tuple(sorted(uses)), disables=disables)

    def planned(self, step: Step, name: str, purpose: Purpose | None = None) -> Planned:
        uses = names_of_action(step.action) | {
            used for extraction in step.extract.values() for used in _names_of_extraction(extraction)
        }
        if step.select is not None:
            uses |= names_in(value for condition in step.select.where for value in condition.values)
        return Planned(
            name=name,
            purpose=_purpose_of(step) if purpose is None else purpose,
            given=tuple(name for name in step.given if name not in self.certain),
            unless=tuple(step.unless),
            uses=tuple(sorted(uses)),
            repeatable=step.may_repeat,
            tied=not step.mutates or self._is_tied(step.action),
            selects=step.select is not None,
            lapses=step.lapses,
            disables=step.disables,
            pause=step.pause.duration if step.pause is not None else None,
        )

    def _is_tied(self, action: Action) -> bool:
        """Whether everything that an answer gave it is tied, and something at all ties it to the credential."""
        uses = names_of_action(action)
        return (uses & self.extracted) <= self.tied and bool(uses & self.tied)

    def learn(self, step: Step) -> None:
        """Note what the step may take out of its answer, and whether that is tied to the credential."""
        for name, extraction in step.extract.items():
            self.possible.add(name)
            self.extracted.add(name)
            if self._ties(step, extraction):
                self.tied.add(name)

    def _ties(self, step: Step, extraction: Extraction) -> bool:
        if step.select is not None:
            return bool(names_in(v for condition in step.select.where for v in condition.values) & self.tied)
        if isinstance(extraction, Regex):
            return bool(names_in([extraction.pattern]) & self.tied)
        if isinstance(extraction, JsonPath) and INDEFINITE.search(extraction.path):
            return False
        return bool(names_of_action(step.action) & self.tied)

    def may_run(self, step: Step) -> bool:
        return set(step.given) <= self.possible and not set(step.unless) & self.certain

    def can_ask(self, action: Action) -> bool:
        return names_of_action(action) <= self.possible and (not action.actor or ACTOR in self.certain)

    def demand(self, action: Action, where: str) -> None:
        if action.actor and ACTOR not in self.certain:
            raise BadInput(f"{where} of {self.rule.id} is signed by a connection: say which one with --connection")
        self.require(names_of_action(action), where)

    def require(self, names: Iterable[str], where: str) -> None:
        """Raise BadInput where a name cannot be known by then."""
        missing = sorted(set(names) - self.possible)
        if self.actor & set(missing):
            raise BadInput(f"{where} of {self.rule.id} names a connection's identity: say which one with --connection")
        if set(missing) & ({TOKEN} | groups_of(self.rule.pattern)):
            raise BadInput(f"{where} of {self.rule.id} needs the credential itself: give it on standard input")
        if missing:
            flags = " ".join(f"--var {name}=…" for name in missing)
            raise BadInput(f"{where} of {self.rule.id} needs {' and '.join(missing)}: give {flags}")


def _purpose_of(step: Step) -> Purpose:
    if step.pause is not None:
        return Purpose.PAUSE
    return Purpose.ACT if step.mutates else Purpose.READ


def _names_of_extraction(extraction: Extraction) -> frozenset[str]:
    return names_in([extraction.pattern]) if isinstance(extraction, Regex) else frozenset()
