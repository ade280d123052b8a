"""When a dead credential is looked at again, and whether it may be revoked again: without a ledger or a clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.decide import decide
from rules.decision import Do, Expire, Facts, Finish, Park, Record, Wait
from rules.errors import BadInput
from rules.lifecycle import Intent, Outcome, Reason, Verdict
from rules.loader import builtin, load
from rules.plan import Plan, Planned, Purpose
from rules.recheck import Due, Ended, Kind, Past, expiry, kinds_of, lapse_of, look_plan, refuse_again, series, told_leak
from rules.units import SECOND

CATALOGUE = load([builtin()])
HOUR = 3600 * SECOND
NOW = 1_000_000 * SECOND
SPANS = (3600.0, 90_000.0, 604_800.0)
ENDED = Ended(Verdict.REVOKED, NOW, can_look=True)


def told(ended: Ended, spans: tuple[float, ...] = SPANS) -> list[tuple[str, float]]:
    """Kind and hours after the end."""
    return [(due.kind.value, (due.at - ended.at) / HOUR) for due in series(ended, spans)]


# ── when ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_three_looks_after_a_proved_end() -> None:
    """An hour, a day and an hour, a week."""
    assert told(ENDED) == [("look", 1), ("look", 25), ("look", 168)]


@pytest.mark.parametrize("verdict", [Verdict.REVOKED, Verdict.ALREADY_REVOKED, Verdict.DISABLED])
def test_every_proved_end_is_looked_at(verdict: Verdict) -> None:
    """Whoever killed it, and also where it is only disabled."""
    assert told(replace(ENDED, verdict=verdict))


@pytest.mark.parametrize("verdict", sorted(set(Verdict) - {Verdict.REVOKED, Verdict.ALREADY_REVOKED, Verdict.DISABLED}))
def test_no_other_end_is(verdict: Verdict) -> None:
    """What was never proved dead cannot come back, and what was restored must not be hunted."""
    assert told(replace(ENDED, verdict=verdict)) == []


def test_no_look_after_the_expiry_nor_without_its_secret() -> None:
    """Neither what is dead of itself nor what cannot be opened any more is asked."""
    assert told(replace(ENDED, expires_at=NOW + 25 * HOUR)) == [("look", 1)]
    assert told(replace(ENDED, sealed_until=NOW + 25 * HOUR)) == [("look", 1), ("look", 25)]


def test_what_lapses_is_looked_at_when_it_has() -> None:
    """A day and the hour in which the provider sweeps: that look is one of the series, whatever the spans are."""
    assert told(replace(ENDED, lapses=86400.0)) == [("look", 1), ("look", 25), ("look", 168)]
    assert told(replace(ENDED, lapses=86400.0), (3600.0,)) == [("look", 1), ("look", 25)]


def test_what_lapses_and_cannot_be_looked_at_is_revoked_again() -> None:
    """No probe, no secret, no word for dead, or no wish to look: after the lapse it is done again, until its expiry."""
    lapsing = replace(ENDED, lapses=86400.0)

    assert told(replace(lapsing, can_look=False)) == [("again", 25)]
    assert told(replace(lapsing, verdict=Verdict.ACKNOWLEDGED)) == [("again", 25)]
    assert told(lapsing, ()) == [("again", 25)]
    assert told(replace(lapsing, sealed_until=NOW + 2 * HOUR)) == [("look", 1), ("again", 25)]
    assert told(replace(lapsing, can_look=False, expires_at=NOW + 25 * HOUR)) == []


@given(
    verdict=st.sampled_from(Verdict),
    lapses=st.none() | st.floats(1, 1e6),
    can_look=st.booleans(),
    expires=st.none() | st.integers(0, 10**12),
    sealed=st.none() | st.integers(0, 10**12),
    spans=st.lists(st.floats(1, 1e6), max_size=4),
)
def test_whatever_is_given_the_series_is_in_order_and_within_its_bounds(
    *,
    verdict: Verdict,
    lapses: float | None,
    can_look: bool,
    expires: int | None,
    sealed: int | None,
    spans: list[float],
) -> None:
    """Later than the end, before the expiry, looks while the secret lives, at most one repetition, and no two alike."""
    ended = Ended(
        verdict,
        NOW,
        lapses=lapses,
        can_look=can_look,
        expires_at=None if expires is None else NOW + expires,
        sealed_until=None if sealed is None else NOW + sealed,
    )

    coming = series(ended, spans)

    assert list(coming) == sorted(set(coming), key=lambda due: due.at)
    assert all(due.at > NOW and (ended.expires_at is None or due.at < ended.expires_at) for due in coming)
    looks = [due for due in coming if due.kind is Kind.LOOK]
    assert all(ended.sealed_until is None or due.at <= ended.sealed_until for due in looks)
    assert not looks or can_look
    again = [due for due in coming if due.kind is Kind.AGAIN]
    assert again in ([], [Due(Kind.AGAIN, ended.lapsed_at or 0)])
    assert lapses is not None or not again


def test_an_unknown_expiry_is_the_longest_that_the_rule_allows() -> None:
    """The provider's own word goes first; a rule that says nothing of it leaves it open."""
    pangolin, sendgrid = CATALOGUE.get("pangolin.token").rule, CATALOGUE.get("sendgrid.api_key").rule

    assert expiry(NOW, 5, pangolin) == NOW
    assert expiry(None, NOW, pangolin) == NOW + 8760 * HOUR
    assert expiry(None, NOW, sendgrid) is None


# ── what is asked, and what of ────────────────────────────────────────────────────────────────────────────────────


def test_the_look_that_fits_the_end_is_taken() -> None:
    """Whether it is disabled is asked where that was the end and can be seen, else whether it works."""
    aws = CATALOGUE.get("aws.access_key")
    given = {"AKID", "TOKEN", "USER_NAME", "ACTOR"}

    assert [step.name for step in look_plan(aws, given, Verdict.DISABLED).steps] == ["disabled"]
    assert [step.name for step in look_plan(aws, given, Verdict.REVOKED).steps] == ["probe"]
    assert [step.name for step in look_plan(aws, {"AKID", "TOKEN"}, Verdict.DISABLED).steps] == ["probe"]
    with pytest.raises(BadInput, match="nothing that is known can ask"):
        look_plan(aws, {"AKID"}, Verdict.REVOKED)


def test_only_the_secrets_that_a_look_uses_are_kept() -> None:
    """A token also for what its pattern tells; of everything else, what has the same name."""
    rule = CATALOGUE.get("sendgrid.api_key").rule

    assert "token" in kinds_of(rule, ["TOKEN"])
    assert "token" in kinds_of(rule, ["KEY_ID"])
    assert kinds_of(rule, ["OTHER"]) == {"variable:OTHER", "extracted:OTHER"}


def test_only_the_step_that_acted_can_lapse() -> None:
    """Revoked by itself, a token stays revoked; by its id, it comes back."""
    itself = Planned("itself", Purpose.ACT)
    by_id = Planned("by_id", Purpose.ACT, lapses=86400.0)
    plan = Plan("r", "d", Intent.REVOKE, (itself, by_id), (), 1, 2.0, 30.0)

    assert lapse_of(plan, {"itself"}) is None
    assert lapse_of(plan, {"by_id"}) == 86400.0


# ── a look, carried out ───────────────────────────────────────────────────────────────────────────────────────────

LOOK = Planned("probe", Purpose.BEFORE)
PLAN = Plan("sandbox.key", "d", Intent.RECHECK, (LOOK,), ("TOKEN",), 2, 2.0, 30.0)
FACTS = Facts(given=frozenset({"TOKEN"}), retry_for=3600.0, chance=0.5)


def looked(*outcomes: Outcome) -> list[Record]:
    """Looks that ended now."""
    return [Record("probe", Purpose.BEFORE, outcome, NOW, says=f"{outcome.value}.") for outcome in outcomes]


def test_a_look_says_dead_only_after_as_many_samples_as_proof_needs() -> None:
    """As often as before a verdict of dead; once is enough for alive."""
    assert decide(PLAN, [], FACTS, NOW) == Do(LOOK)
    assert isinstance(decide(PLAN, looked(Outcome.DEAD), FACTS, NOW), Wait)
    assert decide(PLAN, looked(Outcome.DEAD, Outcome.DEAD), FACTS, NOW) == Finish(Verdict.DEAD, "dead.")
    assert decide(PLAN, looked(Outcome.DISABLED, Outcome.DISABLED), FACTS, NOW).says == "disabled."  # type: ignore[union-attr]
    came = decide(PLAN, looked(Outcome.ALIVE), FACTS, NOW)
    assert isinstance(came, Park)
    assert came.reason is Reason.CAME_BACK


@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.NOT_SENT, Outcome.LOST, Outcome.DENIED])
def test_a_look_that_fails_is_taken_again_and_never_ends_it(outcome: Outcome) -> None:
    """However often: it waits, and when the settings' patience is over a person is asked."""
    many = looked(*[outcome] * 9)

    assert isinstance(decide(PLAN, many, FACTS, NOW), Wait)
    parked = decide(PLAN, many, FACTS, NOW + 2 * HOUR)
    assert isinstance(parked, Park)
    assert parked.reason is Reason.BUDGET_SPENT


def test_an_open_incident_stays_open_when_it_is_dead_again() -> None:
    """That it worked in between is for a person to see, not for the next look to close."""
    decision = decide(PLAN, looked(Outcome.DEAD, Outcome.DEAD), replace(FACTS, returned=True), NOW)

    assert isinstance(decision, Park)
    assert decision.reason is Reason.CAME_BACK


def test_what_cannot_or_must_not_be_asked_is_not() -> None:
    """No look to take, probing forbidden, expired, or a lapse that is left to a person."""
    assert isinstance(decide(replace(PLAN, steps=()), [], FACTS, NOW), Finish)
    assert isinstance(decide(PLAN, [], replace(FACTS, probe=False), NOW), Finish)
    assert isinstance(decide(PLAN, [], replace(FACTS, expires_at=NOW), NOW), Expire)
    left = decide(PLAN, [], replace(FACTS, forgotten="enough for today"), NOW)
    assert isinstance(left, Park)
    assert "enough for today" in left.says


# ── again, without asking ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("past", "says"),
    [
        (Past(), None),
        (Past(of_credential=1, of_connection=9), None),
        (Past(restored=True), "restored"),
        (Past(rotated=True), "rotated"),
        (Past(of_credential=2), "2 times within a day"),
        (Past(of_connection=10), "10 credentials"),
    ],
)
def test_what_speaks_against_revoking_again(past: Past, says: str | None) -> None:
    """A person brought it back, its id may be its successor's, or there is too much of it."""
    refusal = refuse_again(past, per_credential=2, per_connection=10)

    assert (refusal is None) if says is None else (refusal is not None and says in refusal)


@pytest.mark.parametrize(
    ("causes", "finding", "leaked"),
    [
        (["pushed to a public repository"], False, True),
        ([None, "Leaked in a build log"], False, True),
        (["exposed by a proxy"], False, True),
        ([None], True, True),
        (["left the company", None], False, False),
        (["too many unreliable gists"], False, False),
        ([], False, False),
    ],
)
def test_a_leak_is_told_by_a_finding_or_by_words(*, causes: list[str | None], finding: bool, leaked: bool) -> None:
    """A person's own words count, since nobody else says why."""
    assert (told_leak(causes, finding=finding) is not None) is leaked
