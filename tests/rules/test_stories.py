"""Each rule that comes with revoq, told to its end without a provider: every step can be filled in, and what it proves.

What an answer means is tried by the rule's recorded answers; here every answer is the good one.
"""

from __future__ import annotations

import pytest

from rules.decide import decide
from rules.decision import Decision, Do, Facts, Finish, Park, Record, Wait
from rules.lifecycle import Intent, Outcome, Reason, Verdict
from rules.loader import LoadedRule, builtin, hosts_of, load
from rules.parts import named
from rules.plan import ACTOR, TOKEN, Plan, Planned, Purpose
from rules.planning import plan
from rules.schema import Rule

GOOD = {
    Purpose.BEFORE: Outcome.ALIVE,
    Purpose.READ: Outcome.OK,
    Purpose.ACT: Outcome.OK,
    Purpose.AFTER: Outcome.DEAD,
}
RULES = [
    loaded
    for loaded in load([builtin()])
    if loaded.rule.revocation is not None and not any(step.disables for step in loaded.rule.steps)
]


def names_of(loaded: LoadedRule) -> set[str]:
    """All that can be handed in."""
    return {TOKEN, ACTOR, *loaded.rule.variables, *hosts_of(loaded)}


def tell(loaded: LoadedRule, answers: dict[Purpose, Outcome]) -> tuple[Decision, list[Planned]]:
    """Go from decision to decision until the job ends or parks; a wait is over at once."""
    made = plan(loaded, Intent.REVOKE, names_of(loaded))
    facts = Facts(given=frozenset(names_of(loaded)), retry_for=3600.0, chance=0.0)
    records: list[Record] = []
    taken: list[Planned] = []
    now = 1
    for _ in range(2000):
        decision = decide(made, records, facts, now)
        if isinstance(decision, Wait):
            now = decision.until
        elif isinstance(decision, Do):
            now += 1
            taken.append(decision.step)
            records.append(record(loaded.rule, made, decision.step, answers, now))
        else:
            return decision, taken
    raise AssertionError(f"{loaded.rule.id} comes to no end")


def record(rule: Rule, made: Plan, step: Planned, answers: dict[Purpose, Outcome], now: int) -> Record:
    """The step's outcome, with all that it surely takes out of its answer."""
    extract = dict(named(rule.steps))[step.name].extract if step.purpose in {Purpose.READ, Purpose.ACT} else {}
    sure = frozenset(name for name, extraction in extract.items() if not extraction.optional)
    return Record(step.name, step.purpose, answers[step.purpose], now, taken=sure)


@pytest.mark.parametrize("loaded", RULES, ids=lambda loaded: loaded.rule.id)
def test_the_good_story(loaded: LoadedRule) -> None:
    """It works, it is ended, it is dead: `revoked`, or `acknowledged` where the rule says that it cannot be proved."""
    decision, taken = tell(loaded, GOOD)

    assert isinstance(decision, Finish)
    can_prove = any(step.purpose is Purpose.AFTER for step in taken)
    assert decision.verdict is (Verdict.REVOKED if can_prove else Verdict.ACKNOWLEDGED)
    assert can_prove or any(sentence.startswith("prove ") for sentence in loaded.rule.cannot)


@pytest.mark.parametrize("loaded", RULES, ids=lambda loaded: loaded.rule.id)
def test_what_looks_dead_at_first_is_not_acted_on(loaded: LoadedRule) -> None:
    """Without evidence that this account ever knew it, a person has to look; the wrong host says the same."""
    decision, taken = tell(loaded, {**GOOD, Purpose.BEFORE: Outcome.DEAD, Purpose.RECOGNISE: Outcome.UNKNOWN})

    if taken[0].purpose is Purpose.BEFORE:
        assert isinstance(decision, Park)
        assert decision.reason is Reason.NOT_RECOGNISED
        assert not any(step.purpose is Purpose.ACT for step in taken)


@pytest.mark.parametrize("loaded", RULES, ids=lambda loaded: loaded.rule.id)
def test_a_yes_that_changes_nothing_is_not_believed(loaded: LoadedRule) -> None:
    """The provider said yes and the credential still works: never `revoked`."""
    decision, taken = tell(loaded, {**GOOD, Purpose.AFTER: Outcome.ALIVE})

    if any(step.purpose is Purpose.AFTER for step in taken):
        assert isinstance(decision, Park)
        assert decision.reason is Reason.STILL_ALIVE
