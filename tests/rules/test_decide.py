"""The policy of a job, tried without a ledger, a clock or a provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.decide import decide
from rules.decision import Decision, Do, Expire, Facts, Finish, Park, Record, Wait, backoff
from rules.lifecycle import Intent, Outcome, Reason, Verdict
from rules.plan import Plan, Planned, Purpose
from rules.units import SECOND

NOW = 1_000_000 * SECOND

BEFORE = Planned("probe", Purpose.BEFORE)
RECOGNISE = Planned("recognise", Purpose.RECOGNISE)
FIND = Planned("find", Purpose.READ)
DELETE = Planned("delete", Purpose.ACT, repeatable=True)
ASK = Planned("probe", Purpose.ASK)
AFTER = Planned("probe", Purpose.AFTER)

PLAN = Plan(
    rule="sandbox.key",
    rule_digest="d",
    intent=Intent.REVOKE,
    steps=(BEFORE, RECOGNISE, FIND, DELETE, ASK, AFTER),
    tied=("TOKEN",),
    samples=1,
    spacing=2.0,
    window=30.0,
)
FACTS = Facts(given=frozenset({"TOKEN"}), retry_for=3600.0, chance=0.5)


def happened(*steps: tuple[Planned, Outcome], every: int = 1) -> list[Record]:
    """Records that ended one second apart, the last of them now."""
    count = len(steps)
    return [
        Record(step.name, step.purpose, outcome, NOW - (count - 1 - index) * every * SECOND, says=f"{outcome.value}.")
        for index, (step, outcome) in enumerate(steps)
    ]


def after(*steps: tuple[Planned, Outcome], plan: Plan = PLAN, facts: Facts = FACTS, later: float = 0.0) -> Decision:
    """What is decided when this has happened and `later` seconds have passed since."""
    return decide(plan, happened(*steps), facts, NOW + int(later * SECOND))


ALIVE = (BEFORE, Outcome.ALIVE)
FOUND = (FIND, Outcome.OK)
DELETED = (DELETE, Outcome.OK)


def test_a_job_probes_looks_up_acts_and_proves_in_this_order() -> None:
    """Each step that went well leads to the next, and proof to the verdict."""
    assert after() == Do(BEFORE)
    assert after(ALIVE) == Do(FIND)
    assert after(ALIVE, FOUND) == Do(DELETE)
    assert after(ALIVE, FOUND, DELETED) == Do(AFTER)
    assert after(ALIVE, FOUND, DELETED, (AFTER, Outcome.DEAD)) == Finish(Verdict.REVOKED, "dead.")


def test_yes_from_the_provider_is_not_proof() -> None:
    """A credential that works after a 2xx is never called revoked: it settles for a while, then a person is asked."""
    said_yes = (ALIVE, FOUND, DELETED, (AFTER, Outcome.ALIVE))

    settling = after(*said_yes)
    parked = after(*said_yes, later=31)

    assert isinstance(settling, Wait)
    assert isinstance(parked, Park)
    assert parked.reason is Reason.STILL_ALIVE


def test_a_picked_candidate_that_leaves_ours_alive_was_the_wrong_one() -> None:
    """After a person's pick, an alive answer is an incident of its own kind."""
    parked = after(ALIVE, FOUND, DELETED, (AFTER, Outcome.ALIVE), facts=replace(FACTS, picked=True), later=31)

    assert isinstance(parked, Park)
    assert parked.reason is Reason.WRONG_ONE


def test_dead_at_the_first_probe_needs_evidence() -> None:
    """The wrong region says 401 too: without evidence nobody may call it already revoked."""
    dead = (BEFORE, Outcome.DEAD)

    assert after(dead) == Do(RECOGNISE)
    assert isinstance(known := after(dead, (RECOGNISE, Outcome.KNOWN)), Finish)
    assert known.verdict is Verdict.ALREADY_REVOKED
    assert isinstance(unknown := after(dead, (RECOGNISE, Outcome.UNKNOWN)), Park)
    assert unknown.reason is Reason.NOT_RECOGNISED
    assert isinstance(ledger := after(dead, facts=replace(FACTS, known=True)), Finish)
    assert ledger.verdict is Verdict.ALREADY_REVOKED


def test_dead_after_an_earlier_request_of_ours_is_revoked() -> None:
    """When a person drives a job again that had sent its request, its death is our doing."""
    decision = after((BEFORE, Outcome.DEAD), facts=replace(FACTS, acted=True))

    assert isinstance(decision, Finish)
    assert decision.verdict is Verdict.REVOKED


def test_a_rule_that_cannot_recognise_parks_what_is_dead_at_first() -> None:
    """Where no other identity can be asked, only our own ledger is evidence."""
    plan = replace(PLAN, steps=(BEFORE, FIND, DELETE, ASK, AFTER))

    decision = after((BEFORE, Outcome.DEAD), plan=plan)

    assert isinstance(decision, Park)
    assert decision.reason is Reason.NOT_RECOGNISED


def test_a_lost_answer_is_resolved_by_asking() -> None:
    """The provider is asked before anything is decided; dead means that it was done, alive that it was not."""
    lost = (ALIVE, FOUND, (DELETE, Outcome.LOST))

    assert after(*lost) == Do(ASK)
    assert after(*lost, (ASK, Outcome.DEAD)) == Do(AFTER)
    assert after(*lost, (ASK, Outcome.ALIVE), later=10) == Do(DELETE)
    assert isinstance(after(*lost, (ASK, Outcome.INCONCLUSIVE)), Wait)


def test_a_step_that_must_not_be_repeated_is_not() -> None:
    """Alive after a lost answer, and not repeatable: a person decides."""
    once = replace(DELETE, repeatable=False)
    plan = replace(PLAN, steps=(BEFORE, FIND, once, ASK, AFTER))

    decision = after(ALIVE, FOUND, (once, Outcome.LOST), (ASK, Outcome.ALIVE), plan=plan, later=100)

    assert isinstance(decision, Park)
    assert decision.reason is Reason.OUTCOME_UNKNOWN


def test_a_lost_answer_that_cannot_be_asked_about_parks() -> None:
    """Without a probe, what must not be repeated ends at a person; what may be repeated is."""
    once = replace(DELETE, repeatable=False)

    unknown = after((once, Outcome.LOST), plan=replace(PLAN, steps=(once,)), later=100)
    again = after((DELETE, Outcome.LOST), plan=replace(PLAN, steps=(DELETE,)), later=100)

    assert isinstance(unknown, Park)
    assert unknown.reason is Reason.OUTCOME_UNKNOWN
    assert again == Do(DELETE)


def test_without_a_probe_the_ending_is_acknowledged() -> None:
    """A provider that said yes and cannot be asked is believed no further than that, and what lapses is said."""
    by_id = replace(DELETE, lapses=86400.0)

    decision = after((by_id, Outcome.OK), plan=replace(PLAN, steps=(by_id,)))

    assert isinstance(decision, Finish)
    assert decision.verdict is Verdict.ACKNOWLEDGED
    assert "forgets it after 24 hours" in decision.says


def test_no_probe_means_that_the_credential_is_never_tried() -> None:
    """With probing forbidden neither the first look, nor asking, nor proof tries it."""
    facts = replace(FACTS, probe=False)

    assert after(facts=facts) == Do(FIND)
    assert after(FOUND, (DELETE, Outcome.LOST), facts=facts, later=100) == Do(DELETE)
    assert isinstance(end := after(FOUND, DELETED, facts=facts), Finish)
    assert end.verdict is Verdict.ACKNOWLEDGED


@pytest.mark.parametrize("outcome", [Outcome.NO_ROW, Outcome.AMBIGUOUS])
def test_what_cannot_be_singled_out_waits_for_a_person(outcome: Outcome) -> None:
    """Promise 1: identify or refuse."""
    decision = after(ALIVE, (FIND, outcome))

    assert isinstance(decision, Park)
    assert decision.reason is Reason.NEEDS_SELECTION


def test_an_untied_step_is_not_taken() -> None:
    """A rule that takes the first of a list loads, and parks where it would act."""
    untied = replace(DELETE, tied=False)
    plan = replace(PLAN, steps=(BEFORE, FIND, untied, AFTER))

    assert isinstance(parked := after(ALIVE, FOUND, plan=plan), Park)
    assert parked.reason is Reason.NEEDS_SELECTION
    assert after(ALIVE, FOUND, plan=plan, facts=replace(FACTS, trusted=True)) == Do(untied)


def test_a_guard_speaks_before_the_first_request_that_changes_something() -> None:
    """Promise 8 parks a job that has not acted; one that has goes on to its proof."""
    facts = replace(FACTS, refused=(Reason.PROTECTED, "it is ours"))

    assert after(ALIVE, FOUND, facts=facts) == Park(Reason.PROTECTED, "it is ours")
    assert after(ALIVE, FOUND, DELETED, facts=facts) == Do(AFTER)


def test_the_providers_own_wait_is_kept() -> None:
    """Retry-After is obeyed even where our own backoff is shorter."""
    throttled = replace(happened(ALIVE, FOUND, (DELETE, Outcome.RETRY))[-1], retry_after=120.0)
    records = [*happened(ALIVE, FOUND), throttled]

    decision = decide(PLAN, records, FACTS, NOW)

    assert decision == Wait(NOW + 120 * SECOND, "retry.")


def test_a_budget_is_spent_by_age() -> None:
    """What has failed for as long as the settings allow parks, whatever the number of tries."""
    records = happened((BEFORE, Outcome.INCONCLUSIVE), (BEFORE, Outcome.INCONCLUSIVE), every=3601)

    decision = decide(PLAN, records, FACTS, NOW)

    assert isinstance(decision, Park)
    assert decision.reason is Reason.BUDGET_SPENT


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome.DENIED, Reason.DENIED),
        (Outcome.NOT_OURS, Reason.NOT_OURS),
        (Outcome.BROKEN, Reason.PROVIDER_BROKEN),
    ],
)
def test_refusals_park_with_their_own_reason(outcome: Outcome, reason: Reason) -> None:
    """A permission that is missing and an answer that is not understood are not tried again blindly."""
    for decision in (after(ALIVE, (FIND, outcome)), after(ALIVE, FOUND, (DELETE, outcome))):
        assert isinstance(decision, Park)
        assert decision.reason is reason


def test_another_owner_at_the_first_look_ends_it_before_anything_is_sent() -> None:
    """A probe that names another owner parks, whether it was to be revoked or only tried."""
    for plan in (PLAN, replace(PLAN, intent=Intent.PROBE, steps=(BEFORE,))):
        decision = after((BEFORE, Outcome.NOT_OURS), plan=plan)
        assert isinstance(decision, Park)
        assert decision.reason is Reason.NOT_OURS


def test_several_samples_are_several_dead_answers_in_a_row() -> None:
    """An alive answer between two dead ones starts the count again."""
    plan = replace(PLAN, samples=2)
    dead, alive = (AFTER, Outcome.DEAD), (AFTER, Outcome.ALIVE)

    assert isinstance(after(ALIVE, FOUND, DELETED, dead, plan=plan), Wait)
    assert isinstance(after(ALIVE, FOUND, DELETED, dead, alive, dead, plan=plan), Wait)
    assert isinstance(after(ALIVE, FOUND, DELETED, alive, dead, dead, plan=plan), Finish)


def test_the_first_look_needs_as_many_samples_as_the_proof() -> None:
    """A provider that refuses what works now and then must not make `already_revoked` out of one refusal."""
    plan = replace(PLAN, samples=2)
    facts = replace(FACTS, known=True)
    dead = (BEFORE, Outcome.DEAD)

    assert isinstance(after(dead, plan=plan, facts=facts), Wait)
    assert after(dead, ALIVE, plan=plan, facts=facts) == Do(FIND)
    assert isinstance(end := after(dead, dead, plan=plan, facts=facts), Finish)
    assert end.verdict is Verdict.ALREADY_REVOKED


def test_a_credential_past_its_own_expiry_is_not_chased() -> None:
    """`expired` is for the credential's own end, and only where nothing was sent."""
    facts = replace(FACTS, expires_at=NOW - 1)

    assert isinstance(after((BEFORE, Outcome.INCONCLUSIVE), facts=facts), Expire)
    assert after(ALIVE, FOUND, DELETED, facts=facts) == Do(AFTER)


def test_a_probe_job_says_what_it_saw() -> None:
    """The intent `probe` asks a few times, changes nothing, and admits when it learned nothing."""
    plan = replace(PLAN, intent=Intent.PROBE, steps=(BEFORE,))
    failed = (BEFORE, Outcome.INCONCLUSIVE)

    assert after(plan=plan) == Do(BEFORE)
    assert after(ALIVE, plan=plan) == Finish(Verdict.ALIVE, "alive.")
    assert after((BEFORE, Outcome.DEAD), plan=plan) == Finish(Verdict.DEAD, "dead.")
    assert isinstance(after(failed, plan=plan), Wait)
    assert after(failed, failed, failed, plan=plan) == Finish(Verdict.INCONCLUSIVE, "inconclusive.")


def test_conditions_follow_what_has_become_known() -> None:
    """A step that needs a name runs once an earlier one has taken it, and its alternative no more."""
    find = Planned("find", Purpose.READ, unless=("TOKEN",))
    itself = Planned("itself", Purpose.ACT, given=("TOKEN",))
    by_id = Planned("by_id", Purpose.ACT, unless=("TOKEN",))
    plan = replace(PLAN, steps=(find, itself, by_id))
    facts = replace(FACTS, given=frozenset())
    row = Record("find", Purpose.READ, Outcome.OK, NOW)

    assert decide(plan, [row], facts, NOW) == Do(by_id)
    assert decide(plan, [replace(row, taken=frozenset({"TOKEN"}))], facts, NOW) == Do(itself)


STEPS = st.sampled_from(PLAN.steps)


@given(
    st.lists(st.tuples(STEPS, st.sampled_from(list(Outcome))), max_size=12),
    st.booleans(),
    st.booleans(),
    st.floats(min_value=0, max_value=10_000),
)
def test_no_history_makes_a_false_verdict(
    steps: Sequence[tuple[Planned, Outcome]],
    known: bool,  # noqa: FBT001 - drawn by hypothesis
    acted: bool,  # noqa: FBT001 - drawn by hypothesis
    later: float,
) -> None:
    """Whatever happened: `revoked` only after a dead answer and an act of ours, and no act on what was not seen."""
    facts = replace(FACTS, known=known, acted=acted)

    decision = after(*steps, facts=facts, later=later)

    outcomes = {(step.purpose, outcome) for step, outcome in steps}
    if isinstance(decision, Finish) and decision.verdict is Verdict.REVOKED:
        assert acted or (Purpose.AFTER, Outcome.DEAD) in outcomes
        assert acted or any(purpose is Purpose.ACT for purpose, _ in outcomes)
    if isinstance(decision, Finish) and decision.verdict is Verdict.ALREADY_REVOKED:
        assert known or (Purpose.RECOGNISE, Outcome.KNOWN) in outcomes
    if isinstance(decision, Do) and decision.step.purpose is Purpose.ACT:
        # What is only disabled is there as well, and may be ended for good.
        assert outcomes & {(Purpose.BEFORE, Outcome.ALIVE), (Purpose.BEFORE, Outcome.DISABLED)}


@given(st.integers(min_value=1, max_value=10_000), st.floats(min_value=0, max_value=1, exclude_max=True))
def test_backoff_is_bounded(tries: int, chance: float) -> None:
    """Never faster than half a second, never slower than an hour."""
    assert 0.5 <= backoff(tries, chance) <= 3600


# ── pauses, and what can be undone ────────────────────────────────────────────────────────────────────────────────

PAUSE = Planned("settle", Purpose.PAUSE, pause=900.0)
DISABLE = Planned("disable", Purpose.ACT, disables=True)
LISTED_FIRST = Planned("disabled", Purpose.BEFORE, disables=True)
ASK_LIST = Planned("disabled", Purpose.ASK, disables=True)
LISTED = Planned("disabled", Purpose.AFTER, disables=True)
DISABLING = replace(PLAN, steps=(BEFORE, RECOGNISE, LISTED_FIRST, DISABLE, ASK_LIST, LISTED, ASK, AFTER))
BOTH = replace(PLAN, steps=(BEFORE, DISABLE, DELETE, ASK_LIST, LISTED, ASK, AFTER))
ENABLED = (LISTED_FIRST, Outcome.ALIVE)
DISABLED = (DISABLE, Outcome.OK)


def test_a_pause_counts_from_when_it_was_first_reached() -> None:
    """Reaching it is a step like any other; the wait is over when its time has passed since, whoever looks."""
    plan = replace(PLAN, steps=(BEFORE, PAUSE, DELETE, ASK, AFTER))
    reached = (PAUSE, Outcome.OK)

    assert after(ALIVE, plan=plan) == Do(PAUSE)
    assert isinstance(waits := after(ALIVE, reached, plan=plan, later=300), Wait)
    assert waits.until == NOW + 900 * SECOND
    assert after(ALIVE, reached, plan=plan, later=899) == waits
    assert after(ALIVE, reached, plan=plan, later=901) == Do(DELETE)


def test_disabled_is_the_end_only_on_proof() -> None:
    """Listed as disabled, or dead by a probe: `disabled`. Still enabled after a yes: never."""
    acted = (ALIVE, ENABLED, DISABLED)

    assert after(*acted, plan=DISABLING) == Do(LISTED)
    assert after(*acted, (LISTED, Outcome.DISABLED), plan=DISABLING) == Finish(Verdict.DISABLED, "disabled.")
    assert after(*acted, (LISTED, Outcome.DEAD), plan=DISABLING) == Finish(Verdict.DISABLED, "dead.")
    assert isinstance(after(*acted, (LISTED, Outcome.ALIVE), plan=DISABLING), Wait)
    assert isinstance(parked := after(*acted, (LISTED, Outcome.ALIVE), plan=DISABLING, later=31), Park)
    assert parked.reason is Reason.STILL_ALIVE


def test_where_nothing_shows_disabled_the_probe_does() -> None:
    """A dead probe after a step that only disables ends as disabled too: more is not known."""
    plan = replace(PLAN, steps=(BEFORE, DISABLE, ASK, AFTER))

    assert after(ALIVE, DISABLED, plan=plan) == Do(AFTER)
    assert after(ALIVE, DISABLED, (AFTER, Outcome.DEAD), plan=plan) == Finish(Verdict.DISABLED, "dead.")


def test_what_is_disabled_already_is_told_and_left() -> None:
    """Found by the probe or by the list, before anything was done: nothing is sent. A delete goes on from there."""
    listed = (LISTED_FIRST, Outcome.DISABLED)

    assert isinstance(told := after(ALIVE, listed, plan=DISABLING), Finish)
    assert told.verdict is Verdict.DISABLED
    assert after((BEFORE, Outcome.DEAD), plan=DISABLING) == Do(LISTED_FIRST)
    assert isinstance(dead := after((BEFORE, Outcome.DEAD), listed, plan=DISABLING), Finish)
    assert dead.verdict is Verdict.DISABLED
    assert after((BEFORE, Outcome.DEAD), ENABLED, plan=DISABLING) == Do(RECOGNISE)
    deleting = replace(DISABLING, steps=(BEFORE, LISTED_FIRST, DELETE, ASK, AFTER))
    assert after((BEFORE, Outcome.DEAD), listed, plan=deleting) == Do(DELETE)


def test_a_list_that_cannot_be_read_first_holds_nothing_up() -> None:
    """Whether it is disabled already is good to know; the step goes on without."""
    assert after(ALIVE, (LISTED_FIRST, Outcome.INCONCLUSIVE), plan=DISABLING) == Do(DISABLE)


def test_deleted_is_not_proved_by_being_listed_as_disabled() -> None:
    """After a delete only a dead probe is proof; that a list still shows it as disabled is none."""
    acted = (ALIVE, DISABLED, DELETED)

    assert after(*acted, plan=BOTH) == Do(AFTER)
    assert after(*acted, (AFTER, Outcome.DEAD), plan=BOTH) == Finish(Verdict.REVOKED, "dead.")
    assert isinstance(after(*acted, (AFTER, Outcome.DISABLED), plan=BOTH, later=31), Park)


def test_a_lost_delete_of_what_was_disabled_is_not_answered_by_death() -> None:
    """It is dead because it was disabled: the delete is sent again where that is sound, else a person is asked."""
    lost = (ALIVE, DISABLED, (DELETE, Outcome.LOST), (ASK, Outcome.DEAD))
    careful = replace(BOTH, steps=(BEFORE, DISABLE, replace(DELETE, repeatable=False), ASK, AFTER))

    assert after(*lost, plan=BOTH, later=5) == Do(DELETE)
    assert isinstance(parked := after(*lost, plan=careful, later=5), Park)
    assert parked.reason is Reason.OUTCOME_UNKNOWN


def test_a_lost_disabling_is_answered_by_the_list() -> None:
    """Listed as disabled: it was done. Still listed as enabled: it is sent again."""
    lost = (ALIVE, ENABLED, (DISABLE, Outcome.LOST))

    assert after(*lost, plan=DISABLING) == Do(ASK_LIST)
    assert after(*lost, (ASK_LIST, Outcome.DISABLED), plan=DISABLING) == Do(LISTED)
    assert after(*lost, (ASK_LIST, Outcome.ALIVE), plan=DISABLING, later=5) == Do(DISABLE)


# ── the way back ──────────────────────────────────────────────────────────────────────────────────────────────────

PICK = Planned("pick", Purpose.READ, selects=True)
OURS = Planned("probe", Purpose.OURS)
ENABLE = Planned("enable", Purpose.UNDO)
PICKING = replace(PLAN, steps=(BEFORE, PICK, DISABLE, DELETE, ASK, AFTER, OURS, ENABLE))
PICKED = replace(FACTS, picked=True)
CHOSEN = (ALIVE, (PICK, Outcome.OK), DISABLED)


def test_a_pick_is_deleted_only_where_ours_died_with_the_disabling() -> None:
    """Disable what was picked, try ours, and only then delete."""
    assert after(*CHOSEN, plan=PICKING, facts=PICKED) == Do(OURS)
    assert after(*CHOSEN, (OURS, Outcome.DEAD), plan=PICKING, facts=PICKED) == Do(DELETE)
    twice = replace(PICKING, samples=2)
    assert isinstance(after(*CHOSEN, (OURS, Outcome.DEAD), plan=twice, facts=PICKED), Wait)
    assert after(*CHOSEN, (OURS, Outcome.DEAD), (OURS, Outcome.DEAD), plan=twice, facts=PICKED) == Do(DELETE)


def test_a_wrong_pick_is_enabled_again_and_never_deleted() -> None:
    """Ours still works when the provider has had its time: the other is enabled, and a person is told."""
    wrong = (*CHOSEN, (OURS, Outcome.ALIVE))

    assert isinstance(after(*wrong, plan=PICKING, facts=PICKED), Wait)
    assert after(*wrong, plan=PICKING, facts=PICKED, later=31) == Do(ENABLE)
    assert isinstance(undone := after(*wrong, (ENABLE, Outcome.OK), plan=PICKING, facts=PICKED, later=31), Park)
    assert undone.reason is Reason.WRONG_ONE
    assert "enabled again" in undone.says
    assert after(*wrong, (ENABLE, Outcome.LOST), plan=PICKING, facts=PICKED, later=35) == Do(ENABLE)
    assert isinstance(failed := after(*wrong, (ENABLE, Outcome.DENIED), plan=PICKING, facts=PICKED, later=31), Park)
    assert (failed.reason, "may still be disabled" in failed.says) == (Reason.WRONG_ONE, True)


def test_a_pick_that_nothing_can_vouch_for_is_not_deleted() -> None:
    """No probe of ours, or probing forbidden: it is enabled again. An unanswered probe is asked again."""
    blind = replace(PICKING, steps=(BEFORE, PICK, DISABLE, DELETE, ASK, AFTER, ENABLE))

    assert after(*CHOSEN, plan=blind, facts=PICKED) == Do(ENABLE)
    assert after(*CHOSEN[1:], plan=PICKING, facts=replace(PICKED, probe=False)) == Do(ENABLE)
    assert isinstance(after(*CHOSEN, (OURS, Outcome.INCONCLUSIVE), plan=PICKING, facts=PICKED), Wait)


def test_a_wrong_pick_is_enabled_again_where_disabling_was_the_end() -> None:
    """The same where nothing would be deleted: ours works on, so the other is given back."""
    plan = replace(PLAN, steps=(BEFORE, PICK, DISABLE, ASK, AFTER, OURS, ENABLE))

    assert after(*CHOSEN, (AFTER, Outcome.ALIVE), plan=plan, facts=PICKED, later=31) == Do(ENABLE)


@given(st.lists(st.sampled_from(list(Outcome)), max_size=6))
def test_no_row_of_answers_deletes_a_pick_while_ours_may_live(answers: list[Outcome]) -> None:
    """Whatever the probes of ours say, the delete comes only after a last word of dead or disabled."""
    decision = after(*CHOSEN, *((OURS, outcome) for outcome in answers), plan=PICKING, facts=PICKED, later=10_000)

    if decision == Do(DELETE):
        assert answers[-1] in {Outcome.DEAD, Outcome.DISABLED}


ACTIVATE = Planned("activate", Purpose.ACT)
RESTORING = replace(PLAN, intent=Intent.RESTORE, steps=(FIND, ACTIVATE, ASK, AFTER))


def test_restored_is_what_works_again() -> None:
    """Look up, enable, and prove by a probe that says alive; a yes alone is no proof here either."""
    done = (FOUND, (ACTIVATE, Outcome.OK))

    assert after(plan=RESTORING) == Do(FIND)
    assert after(FOUND, plan=RESTORING) == Do(ACTIVATE)
    assert after(*done, plan=RESTORING) == Do(AFTER)
    assert after(*done, (AFTER, Outcome.ALIVE), plan=RESTORING) == Finish(Verdict.RESTORED, "alive.")
    assert isinstance(after(*done, (AFTER, Outcome.DEAD), plan=RESTORING), Wait)
    assert isinstance(parked := after(*done, (AFTER, Outcome.DEAD), plan=RESTORING, later=31), Park)
    assert parked.reason is Reason.PROVIDER_BROKEN
    unseen = replace(RESTORING, steps=(FIND, ACTIVATE))
    assert isinstance(told := after(*done, plan=unseen), Finish)
    assert told.verdict is Verdict.ACKNOWLEDGED


def test_a_lost_restoring_is_answered_by_what_works() -> None:
    """Alive: it was done. Dead: it is sent again."""
    lost = (FOUND, (ACTIVATE, Outcome.LOST))

    assert after(*lost, plan=RESTORING) == Do(ASK)
    assert after(*lost, (ASK, Outcome.ALIVE), plan=RESTORING) == Do(AFTER)
    assert after(*lost, (ASK, Outcome.DEAD), plan=RESTORING, later=5) == Do(ACTIVATE)


def test_what_is_protected_is_not_restored_either() -> None:
    """Promise 8 holds for every plan that changes something."""
    decision = after(FOUND, plan=RESTORING, facts=replace(FACTS, refused=(Reason.PROTECTED, "ours")))

    assert decision == Park(Reason.PROTECTED, "ours")
