"""(rule, intent, what was handed in) → the ordered steps, frozen, with a hash; carrying them out is `worker.engine`'s.

A plan also knows which requests are *tied* to the credential: names come from the token itself, from what identifies
it, from the provider's own "who am I", or from one row that a condition ties to it. What is not tied is never acted on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from rules.errors import BadInput
from rules.lifecycle import Intent
from rules.loader import LoadedRule, hosts_of
from rules.pattern import compile_pattern
from rules.request import OF_REQUEST
from rules.schema import Acting, Action, Extraction, JsonPath, ProbeContent, Regex, Rule, Step
from rules.template import compile_template

ACTOR = "ACTOR"
"""The name that is known when a connection with an identity signs calls; for `given` and `unless`."""
TOKEN = "TOKEN"  # noqa: S105 - the name of a template variable
INDEFINITE = re.compile(r"\[\s*-?\d|\*|\.\.|\?|\[[^\]'\"]*:")
"""What makes a JSONPath pick among several: an index, a wildcard, a descent, a filter, a slice."""


class Purpose(StrEnum):
    """What a step is for; the same request may serve several."""

    BEFORE = "before"  # a probe before anything else
    RECOGNISE = "recognise"  # did this account ever know it? asked where the first probe says dead
    READ = "read"  # a lookup
    ACT = "act"  # the request that ends the credential
    PAUSE = "pause"  # a wait that the rule asks for
    ASK = "ask"  # a probe after a lost answer: what happened?
    AFTER = "after"  # a probe as proof
    OURS = "ours"  # a probe after a picked candidate was disabled: was it ours?
    UNDO = "undo"  # what enables a credential again that was not ours


HANDED_IN = frozenset({Intent.REVOKE, Intent.PROBE})
"""What is asked for with the credential in hand; what follows from it uses what was kept, as far as it needs that."""
CHANGES = frozenset({Purpose.ACT, Purpose.UNDO})
"""What changes something at the provider."""
LOOKS = frozenset({Purpose.BEFORE, Purpose.ASK, Purpose.AFTER, Purpose.OURS})
"""What only asks whether the credential works, or is disabled."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of a plan. `uses` are the names in it.

    `tied` says whether an `act` step acts on this very credential, `selects` whether a `read` step singles a row out.
    An act that `disables` can be undone; a look that `disables` shows whether the credential is disabled. `pause` is
    how long the step waits, in seconds.
    """

    name: str
    purpose: Purpose
    given: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    repeatable: bool = True
    tied: bool = True
    selects: bool = False
    lapses: float | None = None
    disables: bool = False
    pause: float | None = None

    def runs(self, known: Collection[str]) -> bool:
        """Whether its conditions hold for the names that are known now."""
        return all(name in known for name in self.given) and not any(name in known for name in self.unless)


@dataclass(frozen=True, slots=True)
class Plan:
    """The frozen steps of one job. `tied` are the names that single the credential out."""

    rule: str
    rule_digest: str
    intent: Intent
    steps: tuple[Planned, ...]
    tied: tuple[str, ...]
    samples: int
    spacing: float
    window: float

    @property
    def hash(self) -> str:
        """SHA-256 of the plan's canonical JSON: two plans with one hash do the same."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The form in which the ledger keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Plan:
        """Read what `as_json` wrote."""
        steps = tuple(
            Planned(
                name=step["name"],
                purpose=Purpose(step["purpose"]),
                given=tuple(step["given"]),
                unless=tuple(step["unless"]),
                uses=tuple(step["uses"]),
                repeatable=step["repeatable"],
                tied=step["tied"],
                selects=step["selects"],
                lapses=step["lapses"],
                disables=step.get("disables", False),
                pause=step.get("pause"),
            )
            for step in stored["steps"]
        )
        return cls(
            rule=stored["rule"],
            rule_digest=stored["rule_digest"],
            intent=Intent(stored["intent"]),
            steps=steps,
            tied=tuple(stored["tied"]),
            samples=stored["samples"],
            spacing=stored["spacing"],
            window=stored["window"],
        )


def plan(loaded: LoadedRule, intent: Intent, given: Collection[str]) -> Plan:
    """Order the steps of one job; `given` are the names that were handed in, `ACTOR` and `TOKEN` among them.

    Raises BadInput with a sentence for everything that is missing: a secret, a variable, a connection, a revocation.
    """
    rule = loaded.rule
    if intent not in {Intent.REVOKE, Intent.PROBE, Intent.RESTORE, Intent.RECHECK}:
        raise BadInput(f"{rule.id} has no plan for the intent {intent}; it can be revoked, probed and restored")
    if intent is Intent.RESTORE and not rule.restoring:
        raise BadInput(f"{rule.id} does not say how a credential is enabled again: it has no restoration")
    if intent is Intent.REVOKE and rule.revocation is None:
        raise BadInput(
            f"{rule.id} says how to find this credential, not how to revoke it: it has no revocation{_why_not(loaded)}"
        )
    if intent is Intent.PROBE and rule.validation is None:
        raise BadInput(f"{rule.id} has no probe: nothing can tell whether the credential works{_why_not(loaded)}")
    missing = [each.variable for each in rule.depends_on_rule if not each.optional and each.variable not in given]
    if missing:
        flags = " ".join(f"--var {name}=…" for name in missing)
        raise BadInput(f"{rule.id} depends on what other rules find: give {flags}")
    if intent in HANDED_IN and rule.secret == "required" and TOKEN not in given:  # noqa: S105 - a word of the language
        raise BadInput(f"{rule.id} needs the credential itself: give it on standard input")
    planner = _Planner(loaded, frozenset(given))
    orders = {
        Intent.REVOKE: planner.revoke,
        Intent.PROBE: planner.probe,
        Intent.RESTORE: planner.restore,
        Intent.RECHECK: planner.recheck,
    }
    steps = orders[intent]()
    return Plan(
        rule=rule.id,
        rule_digest=loaded.digest,
        intent=intent,
        steps=tuple(steps),
        tied=tuple(sorted(planner.tied)),
        samples=rule.verification.samples,
        spacing=rule.verification.spacing,
        window=rule.verification.window,
    )


def _why_not(loaded: LoadedRule) -> str:
    """What was said at the loading, since that may be why something is not there."""
    return "".join(f"; {notice.message}" for notice in loaded.notices)


def names_of_action(action: Action) -> frozenset[str]:
    """Every name that the action's templates cannot do without."""
    return _names(action.templates)


def part_of(planned: Planned, rule: Rule) -> Acting:
    """The part of the rule that a planned step stands for."""
    if planned.purpose is Purpose.RECOGNISE:
        part: Acting | None = rule.recognition
    elif planned.purpose in LOOKS:
        part = dict(_looks_of(rule)).get(planned.name)
    else:
        part = dict([*named(rule.restoring), *named(rule.steps)]).get(planned.name)
    assert part is not None  # noqa: S101 - a plan has no step that its rule lacks
    return part


def _looks_of(rule: Rule) -> Iterator[tuple[str, ProbeContent]]:
    """The looks of a rule by their names; its own verification is the better proof of death."""
    for name, content in (
        ("disabled", rule.disabling_look),
        ("verify", rule.verification.content),
        ("probe", rule.probe),
    ):
        if content is not None:
            yield name, content


def named(steps: Sequence[Step]) -> list[tuple[str, Step]]:
    """Steps with their names, or what stands for one."""
    return [(step.name or f"step {number}", step) for number, step in enumerate(steps, start=1)]


def groups_of(pattern: str) -> frozenset[str]:
    """The named groups of a rule's pattern: what the token itself tells."""
    return frozenset(compile_pattern(pattern).groupindex)


class _Planner:
    """Walks a rule's steps once, keeping what may be known by then and what is tied to the credential."""

    def __init__(self, loaded: LoadedRule, given: frozenset[str]) -> None:
        self.rule = loaded.rule
        self.hosts = frozenset(hosts_of(loaded))
        own = groups_of(self.rule.pattern) | {TOKEN} if TOKEN in given else frozenset[str]()
        dependencies = {depends.variable for depends in self.rule.depends_on_rule}
        naming = {name for name, variable in self.rule.variables.items() if variable.identifies}
        self.certain = given | own | self.hosts
        self.possible = set(self.certain)
        self.tied = set(own) | ((dependencies | naming) & given)
        self.extracted: set[str] = set()

    def probe(self) -> list[Planned]:
        """The plan of a job that only looks."""
        content = self._probe_content()
        if content is None:
            raise BadInput(f"{self.rule.id} has no probe")
        self._demand(content.action, "the probe")
        return [Planned("probe", Purpose.BEFORE, uses=tuple(sorted(names_of_action(content.action))))]

    def recheck(self) -> list[Planned]:
        """Every look that can be asked, the best proof first: `rules.recheck` takes the one that fits."""
        looks = [
            self._look(name, Purpose.BEFORE, look.action, disables=name == "disabled")
            for name, look in _looks_of(self.rule)
            if self._can_ask(look.action)
        ]
        if not looks:
            raise BadInput(f"nothing that is known can ask whether this credential of {self.rule.id} works")
        return looks

    def revoke(self) -> list[Planned]:
        """Probe, look up, act, prove."""
        steps: list[Planned] = []
        before = self._before(steps)
        for name, step in named(self.rule.steps):
            if not self._may_run(step):
                continue
            self._demand(step.action, f"the step {name!r}")
            if step.mutates and not any(planned.purpose is Purpose.ACT for planned in steps):
                steps += self._before_disabling()
            steps.append(self._planned(step, name))
            self._learn(step)
            before = before or self._before(steps)
        if not any(step.purpose is Purpose.ACT for step in steps):
            raise BadInput(f"{self._missing_alternatives()} before {self.rule.id} can revoke anything")
        return steps + self._after() + self._back(steps)

    def restore(self) -> list[Planned]:
        """Enable it again, and prove that it works."""
        steps: list[Planned] = []
        for name, step in named(self.rule.restoring):
            if not self._may_run(step):
                continue
            self._demand(step.action, f"the step {name!r}")
            steps.append(self._planned(step, name))
            self._learn(step)
        return steps + self._after()

    def _back(self, steps: list[Planned]) -> list[Planned]:
        """The way back for a picked candidate that is disabled and turns out not to be ours."""
        if not any(step.disables for step in steps if step.purpose is Purpose.ACT):
            return []
        content = self._probe_content()
        ours = content is not None and TOKEN in names_of_action(content.action) and self._can_ask(content.action)
        back = [self._look("probe", Purpose.OURS, content.action)] if content is not None and ours else []
        undoing = [(name, step) for name, step in named(self.rule.restoring) if step.mutates]
        if all(self._can_ask(step.action) for _, step in undoing):
            back += [replace(self._planned(step, name), purpose=Purpose.UNDO) for name, step in undoing]
        return back

    def _before(self, steps: list[Planned]) -> bool:
        """Put the first probe, and what recognises a dead credential, at the first place where they can be asked."""
        content = self._probe_content()
        if content is None or not names_of_action(content.action) <= self.possible:
            return False
        if any(step.purpose is Purpose.ACT for step in steps):
            return False
        steps.append(self._look("probe", Purpose.BEFORE, content.action))
        recognition = self.rule.recognition
        if recognition is not None and self._can_ask(recognition.action):
            steps.append(self._look("recognise", Purpose.RECOGNISE, recognition.action))
        return True

    def _before_disabling(self) -> list[Planned]:
        """Look whether it is disabled already, where that can be seen."""
        look = self.rule.disabling_look
        if look is None or not self._can_ask(look.action):
            return []
        return [self._look("disabled", Purpose.BEFORE, look.action, disables=True)]

    def _after(self) -> list[Planned]:
        """Prove by the rule's own verification, or, where that cannot be asked, by the probe.

        What is only disabled is proved by the look that shows that, where the rule has one.
        """
        askable = [(name, look) for name, look in _looks_of(self.rule) if self._can_ask(look.action)]
        chosen = [found for found in askable if found[0] == "disabled"]
        chosen += [found for found in askable if found[0] != "disabled"][:1]
        return [
            self._look(name, purpose, look.action, disables=name == "disabled")
            for name, look in chosen
            for purpose in (Purpose.ASK, Purpose.AFTER)
        ]

    def _look(self, name: str, purpose: Purpose, action: Action, *, disables: bool = False) -> Planned:
        uses = names_of_action(action)
        given = tuple(sorted(uses - self.certain))
        return Planned(name, purpose, given=given, uses=tuple(sorted(uses)), disables=disables)

    def _planned(self, step: Step, name: str) -> Planned:
        uses = names_of_action(step.action) | {
            used for extraction in step.extract.values() for used in _names_of_extraction(extraction)
        }
        if step.select is not None:
            uses |= _names(value for condition in step.select.where for value in condition.values)
        return Planned(
            name=name,
            purpose=_purpose_of(step),
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

    def _learn(self, step: Step) -> None:
        """Note what the step may take out of its answer, and whether that is tied to the credential."""
        for name, extraction in step.extract.items():
            self.possible.add(name)
            self.extracted.add(name)
            if self._ties(step, extraction):
                self.tied.add(name)

    def _ties(self, step: Step, extraction: Extraction) -> bool:
        if step.select is not None:
            return bool(_names(v for condition in step.select.where for v in condition.values) & self.tied)
        if isinstance(extraction, Regex):
            return bool(_names([extraction.pattern]) & self.tied)
        if isinstance(extraction, JsonPath) and INDEFINITE.search(extraction.path):
            return False
        return bool(names_of_action(step.action) & self.tied)

    def _may_run(self, step: Step) -> bool:
        return set(step.given) <= self.possible and not set(step.unless) & self.certain

    def _can_ask(self, action: Action) -> bool:
        return names_of_action(action) <= self.possible and (not action.actor or ACTOR in self.certain)

    def _demand(self, action: Action, where: str) -> None:
        if action.actor and ACTOR not in self.certain:
            raise BadInput(f"{where} of {self.rule.id} is signed by a connection: say which one with --connection")
        missing = sorted(names_of_action(action) - self.possible)
        if set(missing) & ({TOKEN} | groups_of(self.rule.pattern)):
            raise BadInput(f"{where} of {self.rule.id} needs the credential itself: give it on standard input")
        if missing:
            flags = " ".join(f"--var {name}=…" for name in missing)
            raise BadInput(f"{where} of {self.rule.id} needs {' and '.join(missing)}: give {flags}")

    def _missing_alternatives(self) -> str:
        wanted = [
            " and ".join(n for n in step.given if n not in self.possible) for step in self.rule.steps if step.given
        ]
        return "the secret, or " + " or ".join(dict.fromkeys(w for w in wanted if w)) + " is needed"

    def _probe_content(self) -> ProbeContent | None:
        return self.rule.probe


def _purpose_of(step: Step) -> Purpose:
    if step.pause is not None:
        return Purpose.PAUSE
    return Purpose.ACT if step.mutates else Purpose.READ


def _names_of_extraction(extraction: Extraction) -> frozenset[str]:
    return _names([extraction.pattern]) if isinstance(extraction, Regex) else frozenset()


def _names(texts: Iterable[str]) -> frozenset[str]:
    """The names without which these templates cannot be filled; what a request says of itself is always known."""
    return frozenset(name for text in texts for name in compile_template(text).required) - OF_REQUEST
