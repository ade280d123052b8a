"""(rule, intent, what was handed in) → the plan of one job; what a plan is stands in `rules.plan`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from rules.errors import BadInput
from rules.lifecycle import Intent
from rules.loader import LoadedRule
from rules.parts import looks_of, named, names_of_action
from rules.plan import HANDED_IN, MAKES_KEYS, TOKEN, Plan, Planned, Purpose
from rules.planning_rotation import order_issue, order_rotation
from rules.schema import ProbeContent
from rules.walk import Walk


def plan(
    loaded: LoadedRule,
    intent: Intent,
    given: Collection[str],
    sinks: Mapping[str, bool] | None = None,
    grace: float | None = None,
) -> Plan:
    """Order the steps of one job; `given` are the names that were handed in, `ACTOR` and `TOKEN` among them.

    `sinks` are where a rotation or an issue delivers, each with whether its consumer is told; `grace`, in seconds,
    replaces the rule's own.
    Raises BadInput with a sentence for everything that is missing: a secret, a variable, a connection, a revocation.
    """
    rule = loaded.rule
    if intent not in MAKES_KEYS:
        _check_handed_in(loaded, intent, given)
    planner = _Planner(loaded, frozenset(given))
    match intent:
        case Intent.ROTATE | Intent.ISSUE:
            if not sinks:
                raise BadInput(f"where the new key goes is not said: name a sink of the settings to {intent} {rule.id}")
            steps = order_issue(planner, sinks) if intent is Intent.ISSUE else order_rotation(planner, sinks, grace)
        case Intent.RESTORE:
            steps = planner.restore()
        case Intent.RECHECK:
            steps = planner.recheck()
        case Intent.PROBE:
            steps = planner.probe()
        case _:
            steps = planner.revoke()
    return Plan(
        rule=rule.id,
        rule_digest=loaded.digest,
        intent=intent,
        steps=tuple(steps),
        tied=tuple(sorted(planner.tied)),
        samples=rule.verification.samples,
        spacing=rule.verification.spacing,
        window=rule.verification.window,
        overlap=rule.rotation is None or rule.rotation.overlap,
    )


def _check_handed_in(loaded: LoadedRule, intent: Intent, given: Collection[str]) -> None:
    rule = loaded.rule
    missing = [each.variable for each in rule.depends_on_rule if not each.optional and each.variable not in given]
    if missing:
        flags = " ".join(f"--var {name}=…" for name in missing)
        raise BadInput(f"{rule.id} depends on what other rules find: give {flags}")
    if intent in HANDED_IN and rule.secret == "required" and TOKEN not in given:  # noqa: S105 - a word of the language
        raise BadInput(f"{rule.id} needs the credential itself: give it on standard input")


def _why_not(loaded: LoadedRule) -> str:
    """What was said at the loading, since that may be why something is not there."""
    return "".join(f"; {notice.message}" for notice in loaded.notices)


class _Planner(Walk):
    """The order of a plan that ends a credential, looks at it, or enables it again."""

    def probe(self) -> list[Planned]:
        """The plan of a job that only looks."""
        content = self._probe_content()
        if content is None:
            nothing = f"{self.rule.id} has no probe: nothing can tell whether the credential works"
            raise BadInput(f"{nothing}{_why_not(self.loaded)}")
        self.demand(content.action, "the probe")
        return [Planned("probe", Purpose.BEFORE, uses=tuple(sorted(names_of_action(content.action))))]

    def revoke(self) -> list[Planned]:
        """Probe, look up, act, prove."""
        if self.rule.revocation is None:
            only = f"{self.rule.id} says how to find this credential, not how to revoke it: it has no revocation"
            raise BadInput(f"{only}{_why_not(self.loaded)}")
        steps: list[Planned] = []
        before = self._before(steps)
        if not before:
            # What cannot be tried can often be read: then that is what says whether it is there at all.
            steps += self._before_disabling()
        for name, step in named(self.rule.steps):
            if not self.may_run(step):
                continue
            self.demand(step.action, f"the step {name!r}")
            if step.mutates and not any(planned.purpose is Purpose.ACT for planned in steps):
                steps += [look for look in self._before_disabling() if look not in steps]
            steps.append(self.planned(step, name))
            self.learn(step)
            before = before or self._before(steps)
        if not any(step.purpose is Purpose.ACT for step in steps):
            raise BadInput(f"{self._missing_alternatives()} before {self.rule.id} can revoke anything")
        return steps + self._after() + self._back(steps)

    def restore(self) -> list[Planned]:
        """Enable it again, and prove that it works."""
        if not self.rule.restoring:
            raise BadInput(f"{self.rule.id} does not say how a credential is enabled again: it has no restoration")
        steps: list[Planned] = []
        for name, step in named(self.rule.restoring):
            if not self.may_run(step):
                continue
            self.demand(step.action, f"the step {name!r}")
            steps.append(self.planned(step, name))
            self.learn(step)
        return steps + self._after()

    def recheck(self) -> list[Planned]:
        """Every look that can be asked, the best proof first: `rules.recheck` takes the one that fits."""
        looks = [
            self.look(name, Purpose.BEFORE, look.action, disables=name == "disabled")
            for name, look in looks_of(self.rule).items()
            if self.can_ask(look.action)
        ]
        if not looks:
            raise BadInput(f"nothing that is known can ask whether this credential of {self.rule.id} works")
        return looks

    def _back(self, steps: list[Planned]) -> list[Planned]:
        """The way back for a picked candidate that is disabled and turns out not to be ours."""
        if not any(step.disables for step in steps if step.purpose is Purpose.ACT):
            return []
        content = self._probe_content()
        ours = content is not None and TOKEN in names_of_action(content.action) and self.can_ask(content.action)
        back = [self.look("probe", Purpose.OURS, content.action)] if content is not None and ours else []
        undoing = [(name, step) for name, step in named(self.rule.restoring) if step.mutates]
        if all(self.can_ask(step.action) for _, step in undoing):
            back += [replace(self.planned(step, name), purpose=Purpose.UNDO) for name, step in undoing]
        return back

    def _before(self, steps: list[Planned]) -> bool:
        """Put the first probe, and what recognises a dead credential, at the first place where they can be asked."""
        content = self._probe_content()
        if content is None or not names_of_action(content.action) <= self.possible:
            return False
        if any(step.purpose is Purpose.ACT for step in steps):
            return False
        steps.append(self.look("probe", Purpose.BEFORE, content.action))
        recognition = self.rule.recognition
        if recognition is not None and self.can_ask(recognition.action):
            steps.append(self.look("recognise", Purpose.RECOGNISE, recognition.action))
        return True

    def _before_disabling(self) -> list[Planned]:
        """Look whether it is disabled already, where that can be seen."""
        look = self.rule.disabling_look
        if look is None or not self.can_ask(look.action):
            return []
        return [self.look("disabled", Purpose.BEFORE, look.action, disables=True)]

    def _after(self) -> list[Planned]:
        """Prove by the rule's own verification, or, where that cannot be asked, by the probe.

        What is only disabled is proved by the look that shows that, where the rule has one. Where nothing else can be
        asked and the rule lets that look say dead, it proves that as well.
        """
        askable = [(name, look) for name, look in looks_of(self.rule).items() if self.can_ask(look.action)]
        showing = [found for found in askable if found[0] == "disabled"]
        proving = [found for found in askable if found[0] != "disabled"][:1]
        proving = proving or [
            found for found in showing if found[1] is self.rule.verification.disabled and found[1].dead
        ]
        return [
            self.look(name, purpose, look.action, disables=disables)
            for disables, looks in ((True, showing), (False, proving))
            for name, look in looks
            for purpose in (Purpose.ASK, Purpose.AFTER)
        ]

    def _missing_alternatives(self) -> str:
        wanted = [
            " and ".join(n for n in step.given if n not in self.possible) for step in self.rule.steps if step.given
        ]
        return "the secret, or " + " or ".join(dict.fromkeys(w for w in wanted if w)) + " is needed"

    def _probe_content(self) -> ProbeContent | None:
        return self.rule.probe
