"""(rule, sinks, what was handed in) → the order of a rotation, or of its first half alone, an issue.

Why this order is safe stands in `rules.decide_rotation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rules.errors import BadInput
from rules.parts import groups_of, looks_of, names_in, names_of_action
from rules.plan import GRACE, TOKEN, Planned, Purpose
from rules.schema import ProbeContent, Rotation, Step
from rules.schema.rotation import EXISTING, JOB, OLD_LOOK, TEST_LOOK
from rules.walk import Walk


def rotation_of(walk: Walk) -> Rotation:
    """The rule's rotation; raises BadInput where it has none."""
    rotation = walk.rule.rotation
    if rotation is None:
        raise BadInput(f"{walk.rule.id} does not say how a key is replaced: it has no rotation")
    return rotation


def order_rotation(walk: Walk, sinks: Mapping[str, bool], grace: float | None) -> list[Planned]:
    """Replace the key of a target: everything from reading it to proving that the old key is dead.

    `sinks` are those that are delivered to, in this order, each with whether its consumer is told.
    """
    rotation = rotation_of(walk)
    _know(walk, {JOB})
    steps = list(_reads(walk, "target", rotation.target))
    inside = groups_of(walk.rule.pattern) if rotation.old == TOKEN else frozenset[str]()
    _may_know(walk, {rotation.old, *rotation.current, *inside})
    steps += [*_at_sinks(sinks, Purpose.PREFLIGHT, "look at"), *_old(walk, rotation, Purpose.BEFORE)]
    steps += [*_new_key(walk, rotation), *_hand_over(sinks)]
    if rotation.overlap:
        steps += _retire(walk, rotation, grace)
    steps += [*_old(walk, rotation, Purpose.ASK), *_old(walk, rotation, Purpose.AFTER)]
    return steps + (list(_way_back(walk, rotation, sinks)) if rotation.overlap else [])


def order_issue(walk: Walk, sinks: Mapping[str, bool]) -> list[Planned]:
    """Make a new key straight into its sinks: for something new, or for what is named and is then read first."""
    rotation = rotation_of(walk)
    _know(walk, {JOB})
    steps = list(_reads(walk, "target", rotation.target)) if walk.named else []
    walk.require(names_in([rotation.sink_name]), "the name in the sinks")
    steps += [*_at_sinks(sinks, Purpose.VACANT, "look at"), *_new_key(walk, rotation)]
    return steps + list(_hand_over(sinks))


def _know(walk: Walk, names: set[str]) -> None:
    walk.certain |= names
    walk.possible |= names
    walk.tied |= names


def _may_know(walk: Walk, names: set[str]) -> None:
    walk.possible |= names
    walk.tied |= names


def _reads(walk: Walk, what: str, steps: Sequence[Step]) -> Iterator[Planned]:
    for number, step in enumerate(steps, start=1):
        if walk.may_run(step):
            yield _walked(walk, step, step.name or f"{what} {number}", Purpose.READ)


def _walked(walk: Walk, step: Step, name: str, purpose: Purpose) -> Planned:
    walk.demand(step.action, f"the step {name!r}")
    planned = walk.planned(step, name, purpose)
    walk.learn(step)
    return planned


def _new_key(walk: Walk, rotation: Rotation) -> Iterator[Planned]:
    """List what exists, make the key, know how to find one that nobody holds, equip it, try it."""
    if rotation.existing is not None:
        walk.demand(rotation.existing.action, "the step 'existing'")
        yield Planned("existing", Purpose.LIST, uses=tuple(sorted(names_of_action(rotation.existing.action))))
        _may_know(walk, {EXISTING})
    if rotation.generate is not None:
        yield Planned("generate", Purpose.GENERATE)
        _may_know(walk, {rotation.key})
    for number, step in enumerate(rotation.issue, start=1):
        if walk.may_run(step):
            purpose = Purpose.ISSUE if step is rotation.makes else Purpose.GRANT if step.mutates else Purpose.READ
            yield _walked(walk, step, step.name or f"issue {number}", purpose)
            # What the answer that brings the new key tells beside it is told of that very key.
            _may_know(walk, set(step.extract) if step is rotation.makes else set())
    if rotation.mine is not None and rotation.discard is not None:
        yield _walked(walk, rotation.mine, rotation.mine.name or "mine", Purpose.FIND)
        yield _walked(walk, rotation.discard, rotation.discard.name or "discard", Purpose.DISCARD)
    if rotation.test is not None:
        walk.demand(rotation.test.action, "the test of the new key")
        yield Planned(TEST_LOOK, Purpose.TEST, uses=tuple(sorted(names_of_action(rotation.test.action))))


def _hand_over(sinks: Mapping[str, bool]) -> Iterator[Planned]:
    yield from _at_sinks(sinks, Purpose.DELIVER, "deliver to")
    yield from _at_sinks(sinks, Purpose.READ_BACK, "read back from")
    yield from _at_sinks((name for name, reloads in sinks.items() if reloads), Purpose.RELOAD, "tell")
    yield Planned("promote", Purpose.PROMOTE)


def _at_sinks(sinks: Iterable[str], purpose: Purpose, verb: str) -> Iterator[Planned]:
    for sink in sinks:
        yield Planned(f"{verb} {sink}", purpose, sink=sink)


def _retire(walk: Walk, rotation: Rotation, grace: float | None) -> Iterator[Planned]:
    """End the old key after the grace period; one that is given bounds the rule's own waits on the way as well."""
    yield Planned(GRACE, Purpose.PAUSE, pause=rotation.grace if grace is None else grace)
    if rotation.used is not None and walk.may_run(rotation.used):
        yield _walked(walk, rotation.used, rotation.used.name or "used", Purpose.USED)
    for number, step in enumerate(rotation.retire, start=1):
        # Where no sink told the old key, and nobody named it, there is nothing that could be retired.
        if walk.may_run(step) and walk.can_ask(step.action):
            name = step.name or f"retire {number}"
            purpose = Purpose.PAUSE if step.pause is not None else Purpose.ACT if step.mutates else Purpose.READ
            planned = walk.planned(step, name, purpose)
            needed = set(planned.given) | (names_of_action(step.action) - walk.certain)
            walk.learn(step)
            pause = planned.pause if grace is None or planned.pause is None else min(planned.pause, grace)
            yield replace(planned, given=tuple(sorted(needed)), pause=pause)


def _way_back(walk: Walk, rotation: Rotation, sinks: Mapping[str, bool]) -> Iterator[Planned]:
    """What puts the old key in place again, as long as it was not retired: only where all of that can be known.

    The new key is deleted by what would delete one whose answer was lost; one that was made here is only forgotten.
    """
    record = record_before(rotation)
    needed = names_in([*(record or {}).values(), rotation.sink_name])
    if record is None or not needed <= walk.possible:
        return
    if rotation.generate is None and (rotation.discard is None or rotation.left is None or rotation.id is None):
        return
    yield from _old(walk, rotation, Purpose.STILL)
    for step in _at_sinks(sinks, Purpose.PUT_BACK, "put back into"):
        yield replace(step, uses=tuple(sorted(needed)))
    yield from _at_sinks(sinks, Purpose.SEEN_BACK, "see again in")
    yield from _at_sinks((name for name, reloads in sinks.items() if reloads), Purpose.TELL_BACK, "tell again")
    yield Planned("demote", Purpose.DEMOTE)
    if rotation.discard is not None:
        yield walk.planned(rotation.discard, rotation.discard.name or "discard", Purpose.WITHDRAW)
    if rotation.discard is not None and rotation.test is not None:
        yield Planned(TEST_LOOK, Purpose.GONE, uses=tuple(sorted(names_of_action(rotation.test.action))))


def record_before(rotation: Rotation) -> dict[str, str] | None:
    """What a sink holds of the old key, as templates; None where `current` does not tell all that is its own."""
    told = {field: f"{{{{ {name} }}}}" for name, field in rotation.current.items()}
    shared = {field: source for field, source in rotation.record.items() if field not in told}
    new = {rotation.key, rotation.id, *(name for step in rotation.issue for name in step.extract)}
    if rotation.old not in rotation.current or names_in(shared.values()) & new:
        return None
    return {**told, **shared}


def _old(walk: Walk, rotation: Rotation, purpose: Purpose) -> Iterator[Planned]:
    """The looks that tell whether the old key works, each taken where what it needs is known by then.

    Beside the key itself, once it was retired, the connection is asked, where the rule lets it say dead.
    """
    look: tuple[str, ProbeContent] | None = None
    if rotation.proof is not None:
        look = (OLD_LOOK, rotation.proof)
    else:
        look = next((found for found in looks_of(walk.rule).items() if found[0] != "disabled"), None)
    if look is not None and walk.can_ask(look[1].action):
        yield walk.look(look[0], purpose, look[1].action)
    listed = walk.rule.verification.disabled
    after = rotation.overlap and rotation.proof is None and purpose is not Purpose.BEFORE
    if after and listed is not None and listed.dead and walk.can_ask(listed.action):
        yield walk.look("disabled", purpose, listed.action)
