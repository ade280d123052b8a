"""Which part of a rule a planned step stands for, and the names that each part needs; the plan itself is `plan`'s."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rules.pattern import compile_pattern
from rules.plan import GRACE, LOOKS, Planned, Purpose
from rules.request import OF_REQUEST
from rules.schema import Acting, Action, Handover, Mark, Own, Pause, ProbeContent, Rule, Step
from rules.template import compile_template


def names_of_action(action: Action) -> frozenset[str]:
    """Every name that has to be known before the action can be taken."""
    return names_in(action.templates) - action.brings


def part_of(planned: Planned, rule: Rule) -> Acting:
    """The part of the rule that a planned step stands for."""
    if planned.purpose is Purpose.RECOGNISE:
        part: Acting | None = rule.recognition
    elif planned.purpose in LOOKS:
        part = {**looks_of(rule), **rotation_looks(rule)}.get(planned.name)
    else:
        part = _own_part(planned, rule) or dict(_steps_of(rule)).get(planned.name)
    assert part is not None  # noqa: S101 - a plan has no step that its rule lacks
    return part


def _steps_of(rule: Rule) -> Iterator[tuple[str, Acting]]:
    if rule.rotation is not None:
        yield from rule.rotation.steps.items()
    yield from named(rule.restoring)
    yield from named(rule.steps)


def rotation_looks(rule: Rule) -> Mapping[str, ProbeContent]:
    """The looks that only a rotation takes, by their names."""
    return rule.rotation.looks if rule.rotation is not None else {}


def _own_part(planned: Planned, rule: Rule) -> Own | None:
    """What revoq does in every rotation, and no file says."""
    match planned.purpose:
        case _ if planned.sink is not None:
            return Own(own=Handover.model_validate({"what": planned.purpose.value, "sink": planned.sink}))
        case Purpose.PROMOTE | Purpose.DEMOTE:
            return Own(own=Mark())
        case Purpose.GENERATE if rule.rotation is not None and rule.rotation.generate is not None:
            return Own(own=rule.rotation.generate)
        case Purpose.PAUSE if planned.name == GRACE:
            return Own(own=Pause.model_validate(f"{planned.pause or 0.0:f}s"))
    return None


def looks_of(rule: Rule) -> dict[str, ProbeContent]:
    """The looks of a rule by their names; its own verification is the better proof of death."""
    looks = {"disabled": rule.disabling_look, "verify": rule.verification.content, "probe": rule.probe}
    return {name: content for name, content in looks.items() if content is not None}


def named(steps: Sequence[Step]) -> list[tuple[str, Step]]:
    """Steps with their names, or what stands for one."""
    return [(step.name or f"step {number}", step) for number, step in enumerate(steps, start=1)]


def groups_of(pattern: str) -> frozenset[str]:
    """The named groups of a rule's pattern: what the token itself tells."""
    return frozenset(compile_pattern(pattern).groupindex)


def names_in(texts: Iterable[str]) -> frozenset[str]:
    """The names without which these templates cannot be filled; what a request says of itself is always known."""
    return frozenset(name for text in texts for name in compile_template(text).required) - OF_REQUEST
