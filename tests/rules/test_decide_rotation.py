"""The policy of a rotation, played against a world that answers as it likes: whatever comes, no key is lost unseen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.decide import decide
from rules.decision import Do, Facts, Finish, Park, Record, Wait
from rules.lifecycle import Intent, Outcome, Reason, Verdict
from rules.loader import load
from rules.plan import ACTOR, Plan, Purpose
from rules.planning import plan
from rules.units import SECOND
from tests.worker.bench import SANDBOX_RULES

CATALOGUE = load([SANDBOX_RULES])
LONGEST = 400
"""Steps after which a rotation has to have come to an end, whatever is answered."""
ANSWERS: Mapping[Purpose, list[Outcome]] = {
    Purpose.READ: [Outcome.OK, Outcome.RETRY, Outcome.NO_ROW, Outcome.BROKEN],
    Purpose.LIST: [Outcome.OK, Outcome.RETRY, Outcome.AMBIGUOUS],
    Purpose.PREFLIGHT: [Outcome.OK, Outcome.NO_ROW, Outcome.UNPROVABLE, Outcome.RETRY, Outcome.BROKEN, Outcome.DENIED],
    Purpose.BEFORE: [Outcome.ALIVE, Outcome.DEAD, Outcome.INCONCLUSIVE],
    Purpose.ISSUE: [Outcome.OK, Outcome.LOST, Outcome.RETRY, Outcome.DENIED, Outcome.BROKEN, Outcome.NOT_SENT],
    Purpose.FIND: [Outcome.OK, Outcome.NO_ROW, Outcome.AMBIGUOUS, Outcome.LOST],
    Purpose.DISCARD: [Outcome.OK, Outcome.ALREADY_GONE, Outcome.LOST, Outcome.DENIED],
    Purpose.ASK: [Outcome.ALIVE, Outcome.DEAD, Outcome.INCONCLUSIVE, Outcome.UNPROVABLE],
    Purpose.TEST: [Outcome.ALIVE, Outcome.DEAD, Outcome.INCONCLUSIVE],
    Purpose.DELIVER: [Outcome.OK, Outcome.LOST, Outcome.RETRY, Outcome.BROKEN, Outcome.DENIED],
    Purpose.READ_BACK: [Outcome.OK, Outcome.NO_ROW, Outcome.RETRY, Outcome.UNPROVABLE],
    Purpose.RELOAD: [Outcome.OK, Outcome.LOST, Outcome.BROKEN],
    Purpose.USED: [Outcome.OK, Outcome.NO_ROW, Outcome.RETRY],
    Purpose.ACT: [Outcome.OK, Outcome.ALREADY_GONE, Outcome.LOST, Outcome.DENIED],
    Purpose.AFTER: [Outcome.DEAD, Outcome.ALIVE, Outcome.INCONCLUSIVE, Outcome.UNPROVABLE],
}
TAKES = {Purpose.ISSUE: {"NEW_KEY", "NEW_ID"}, Purpose.PREFLIGHT: {"TOKEN"}, Purpose.FIND: {"LEFT_ID"}}


def make(rule: str) -> Plan:
    """The plan of a rotation to two sinks, one of which tells its consumer."""
    sinks = {"one": False, "two": True}
    return plan(CATALOGUE.get(rule), Intent.ROTATE, {ACTOR, "KEY_ID", "BASE_URL"}, sinks, 60.0)


class World:
    """Answers as it is told, and looks at every step whether it may be taken."""

    def __init__(self, made: Plan, answers: list[int]) -> None:
        self.plan, self.answers = made, answers
        self.records: list[Record] = []
        self.now = 1_800_000_000 * SECOND

    def play(self) -> Finish | Park:
        """Let it run to its end."""
        given = frozenset({ACTOR, "KEY_ID", "NAME", "OWNER", "JOB", "BASE_URL"})
        for number in range(LONGEST):
            facts = Facts(given=given, retry_for=86400.0, chance=0.5)
            decision = decide(self.plan, self.records, facts, self.now)
            if isinstance(decision, Finish | Park):
                return decision
            if isinstance(decision, Wait):
                assert decision.until > self.now
                self.now = decision.until
                continue
            assert isinstance(decision, Do)
            self.look_at(decision)
            outcomes = ANSWERS.get(decision.step.purpose, [Outcome.OK])
            # Whoever is unlucky for long is lucky in the end, so that every play has one.
            outcome = outcomes[self.answers[number] % len(outcomes)] if number < len(self.answers) else outcomes[0]
            self.now += SECOND
            taken = TAKES.get(decision.step.purpose, set()) if outcome is Outcome.OK else set()
            self.records.append(
                Record(
                    decision.step.name,
                    decision.step.purpose,
                    outcome,
                    self.now,
                    says=f"it said {outcome}",
                    taken=frozenset(taken),
                )
            )
        raise AssertionError(f"no end after {LONGEST} steps: {self.records[-5:]}")

    def came(self, purpose: Purpose, *outcomes: Outcome) -> list[Record]:
        """What came of steps for one purpose."""
        return [r for r in self.records if r.purpose is purpose and r.outcome in outcomes]

    def look_at(self, decision: Do) -> None:
        """The order of a rotation is its safety."""
        purpose, step = decision.step.purpose, decision.step
        sinks = [each.sink for each in self.plan.steps if each.purpose is Purpose.DELIVER]
        issued = [r.at for r in self.came(Purpose.ISSUE, Outcome.OK)]
        if purpose is Purpose.ISSUE:
            assert not issued, "a second key, although the first is held"
            ready = [Outcome.OK, Outcome.NO_ROW, Outcome.UNPROVABLE] if self.plan.overlap else [Outcome.OK]
            assert len({r.name for r in self.came(Purpose.PREFLIGHT, *ready)}) == len(sinks)
            if not step.repeatable and self.came(Purpose.ISSUE, Outcome.LOST):
                assert self.came(Purpose.FIND, Outcome.NO_ROW), "repeated without asking"
        if purpose in {Purpose.DELIVER, Purpose.PROMOTE, Purpose.ACT}:
            assert issued
            assert [r for r in self.came(Purpose.TEST, Outcome.ALIVE) if r.at > issued[-1]], "it was never seen to work"
        if purpose in {Purpose.PROMOTE, Purpose.ACT}:
            assert len({r.name for r in self.came(Purpose.READ_BACK, Outcome.OK, Outcome.UNPROVABLE)}) == len(sinks)
        if purpose is Purpose.ACT:
            assert len({r.name for r in self.came(Purpose.READ_BACK, Outcome.OK)}) == len(sinks), "not all read back"
            promoted = self.came(Purpose.PROMOTE, Outcome.OK)
            assert promoted
            assert self.now >= promoted[-1].at + 60 * SECOND, "the grace period is not over"


@pytest.mark.parametrize("rule", ["keyring.service", "keyring.rolled"])
@settings(max_examples=400, deadline=None)
@given(answers=st.lists(st.integers(min_value=0, max_value=59), max_size=60))
def test_whatever_is_answered_no_key_is_lost_unseen(rule: str, answers: list[int]) -> None:
    """It ends, in the right order, and what it says is so."""
    world = World(make(rule), answers)

    end = world.play()

    if isinstance(end, Finish):
        assert end.verdict in {Verdict.ROTATED, Verdict.DELIVERED_UNCONFIRMED}
        assert world.came(Purpose.PROMOTE, Outcome.OK)
        if end.verdict is Verdict.ROTATED:
            looks = [r for r in world.records if r.purpose is Purpose.AFTER]
            assert not looks or looks[-1].outcome in {Outcome.DEAD, Outcome.UNPROVABLE}
        else:
            assert not world.came(Purpose.ACT, Outcome.OK)
        if world.came(Purpose.ISSUE, Outcome.LOST) and world.plan.overlap:
            issued = world.came(Purpose.ISSUE, Outcome.OK)[-1].at
            assert [r for r in world.came(Purpose.FIND, Outcome.NO_ROW) if r.at > issued], "nobody looked again"
    else:
        assert end.says


def test_the_shortest_way_is_taken_where_all_is_well() -> None:
    """Everything answers as it should: one request makes a key, one ends the old one."""
    world = World(make("keyring.service"), [])

    end = world.play()

    assert isinstance(end, Finish)
    assert end.verdict is Verdict.ROTATED
    assert [r.purpose for r in world.records].count(Purpose.ISSUE) == 1
    assert len(world.records) == len({(r.purpose, r.name) for r in world.records})


def test_a_step_that_punishes_repetition_is_never_repeated() -> None:
    """Its answer is lost, and nothing can tell what happened: a person looks."""
    made = make("keyring.rolled")
    steps = tuple(replace(step, repeatable=False) if step.purpose is Purpose.ISSUE else step for step in made.steps)
    world = World(replace(made, steps=steps), [])
    issue = next(step for step in steps if step.purpose is Purpose.ISSUE)
    now = world.now
    for step in steps[: steps.index(issue)]:
        outcome = Outcome.ALIVE if step.purpose is Purpose.BEFORE else Outcome.OK
        world.records.append(
            Record(step.name, step.purpose, outcome, now, taken=frozenset(TAKES.get(step.purpose, ())))
        )
    world.records.append(Record(issue.name, issue.purpose, Outcome.LOST, now))

    end = world.play()

    assert isinstance(end, Park)
    assert end.reason is Reason.OUTCOME_UNKNOWN
