"""Whom a schedule means, who goes first and when it stops; laws of the little machine that a slot is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import BadInput
from rules.lifecycle import Intent, State, TargetState, Verdict, ended_well
from rules.schema import Listing
from rules.slots import Finished, Member, Row, Start, Stop, Wanted, choose, is_overdue, leave_out, next_move, read_row

DAY = 86_400_000_000
NOW = 20_000 * DAY
LISTING = Listing.model_validate(
    {
        "request": {"url": "https://api.example.com/keys"},
        "select": {"rows": "$[*]", "id": "id", "show": ["id", "label", "kind", "made", "seen"]},
        "name": "label",
        "role": "kind",
        "created": "made",
        "used": "seen",
    }
)


def row(name: str = "ci", age: float | None = 40, used: float | None = None, **fields: Any) -> Row:
    """A row whose ages are in days."""
    born = None if age is None else NOW - int(age * DAY)
    last = None if used is None else NOW - int(used * DAY)
    return Row(**{"id": f"id-{name}", "name": name, "born": born, "used": last, **fields})


def meant(it: Row, intent: Intent = Intent.REVOKE, **wanted: Any) -> bool:
    """Whether this row is meant."""
    return not leave_out(it, Wanted(**wanted), intent, NOW)


def test_a_row_is_read_by_what_the_rule_says_of_its_fields() -> None:
    """A time is ISO 8601 or seconds; what is missing is not known, and the id stands in for a name."""
    shown = {"label": "ci", "kind": "deploy", "made": "2024-10-04T00:00:00Z", "seen": "1728086400"}
    assert read_row(LISTING, {"id": "k1", "shown": shown}, "dana") == Row(
        "k1", "ci", "dana", "deploy", 1_728_000_000_000_000, 1_728_086_400_000_000
    )
    assert read_row(LISTING, {"id": "k1", "shown": {"made": "yesterday"}}, None) == Row("k1", "k1")


def test_targets_of_two_subjects_are_two() -> None:
    """Also where the provider counts each person's credentials from one."""
    assert (row(id="1", subject="dana").target, row(id="1", subject="erin").target) == ("dana/1", "erin/1")


@pytest.mark.parametrize(
    ("it", "wanted", "expected"),
    [
        (row(), {}, True),
        (row(), {"names": ["ci*"]}, True),
        (row(), {"names": ["db*"]}, False),
        (row(), {"exclude": ["c?"]}, False),
        (row(), {"exclude": ["id-ci"]}, False),
        (row(), {"ids": ["id-c*"]}, True),
        (row(), {"ids": ["k1"]}, False),
        (row(role="deploy"), {"roles": ["dep*"]}, True),
        (row(), {"roles": ["*y"]}, False),
        (row(age=31), {"max_age": 30 * DAY}, True),
        (row(age=30), {"max_age": 30 * DAY}, False),
        (row(age=None), {"max_age": 30 * DAY}, False),
        (row(used=31), {"unused_for": 30 * DAY}, True),
        (row(used=1), {"unused_for": 30 * DAY}, False),
        (row(age=40), {"unused_for": 30 * DAY}, True),
        (row(age=None), {"unused_for": 30 * DAY}, False),
    ],
)
def test_whom_a_revocation_means(it: Row, wanted: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - a table
    """Every condition has to hold, and what is not known holds for none."""
    assert meant(it, **wanted) is expected


def test_a_rotation_comes_before_a_key_is_too_old() -> None:
    """Every Monday, and a week at most: what is one hour old would be too old by the Monday after."""
    weekly: dict[str, Any] = {"max_age": 7 * DAY, "until_next": 7 * DAY}
    assert meant(row(age=1 / 24), Intent.ROTATE, **weekly)
    assert not meant(row(age=1 / 24), Intent.REVOKE, **weekly)
    assert meant(row(age=None), Intent.ROTATE, **weekly)
    assert not meant(row(age=1), Intent.ROTATE, max_age=30 * DAY, until_next=7 * DAY)


def test_what_is_overdue() -> None:
    """Older than it should ever be, and meant; what is not known is not overdue."""
    wanted = Wanted(names=["ci"], max_age=30 * DAY)
    rows = [row(), row(age=3), row(age=None), row("other")]
    assert [is_overdue(each, wanted, NOW) for each in rows] == [True, False, False, False]


def test_the_canary_is_first() -> None:
    """Then all by their names; one that is young goes first all the same, but is not revoked for it."""
    rows = [row("b"), row("smoke", age=1), row("a")]
    wanted = Wanted(max_age=30 * DAY, canary="smoke")
    chosen = choose(rows, wanted, Intent.PROBE, NOW)
    assert [(each.row.name, each.canary, each.why) for each in chosen] == [
        ("smoke", True, ""),
        ("a", False, ""),
        ("b", False, ""),
    ]
    with pytest.raises(BadInput, match="the canary smoke has to go first"):
        choose(rows, wanted, Intent.REVOKE, NOW)


def test_a_canary_is_one() -> None:
    """None or two of that name, or one that the schedule excepts: nobody begins, unless there is nothing to begin."""
    wanted = Wanted(canary="smoke", exclude=["no"])
    for rows in ([row("a")], [row("a"), row("smoke", id="1"), row("smoke", id="2")]):
        with pytest.raises(BadInput, match="has to go first"):
            choose(rows, wanted, Intent.PROBE, NOW)
    assert [each.why for each in choose([row("no")], wanted, Intent.PROBE, NOW)] == ["the schedule excepts it"]


STATES = st.sampled_from(list(TargetState))
MEMBERS = st.lists(st.tuples(STATES, st.integers(0, 3), st.booleans()), max_size=8).map(
    lambda found: [
        Member(f"t{n}", state, canary=False, not_before=at, busy=busy) for n, (state, at, busy) in enumerate(found)
    ]
)
CANARY = st.none() | STATES.map(lambda state: Member("canary", state, canary=True, not_before=0))


@given(MEMBERS, CANARY, st.integers(-1, 4), st.none() | st.integers(1, 3))
def test_the_next_move(members: list[Member], canary: Member | None, places: int, stop_after: int | None) -> None:
    """It begins with what waits, is due and is nobody else's; never with too many, and with none before the canary."""
    everybody = [canary, *members] if canary is not None else members
    by_name = {each.target: each for each in everybody}
    failed = sum(each.state is TargetState.FAILED for each in everybody)
    waiting = [each for each in everybody if each.state is TargetState.WAITING]

    move = next_move(everybody, now=2, places=places, stop_after=stop_after)

    if isinstance(move, Finished):
        assert not waiting
        assert not any(each.state is TargetState.STARTED for each in everybody)
    elif isinstance(move, Stop):
        assert waiting
        assert (canary is not None and canary.state is TargetState.FAILED) or (stop_after and failed >= stop_after)
    else:
        assert len(move.targets) <= max(places, 0)
        assert stop_after is None or failed < stop_after or not waiting
        begun = [by_name[target] for target in move.targets]
        assert all(each in waiting and each.not_before <= 2 and not each.busy for each in begun)
        if canary is not None and canary.state is not TargetState.WELL:
            assert begun in ([], [canary])


def test_a_free_place_is_taken() -> None:
    """As many as there are places, in their order."""
    members = [Member(name, TargetState.WAITING, canary=False, not_before=0) for name in "abc"]
    assert next_move(members, now=1, places=2) == Start(("a", "b"))


@pytest.mark.parametrize(
    ("intent", "state", "verdict", "expected"),
    [
        (Intent.PROBE, State.DONE, Verdict.ALIVE, True),
        (Intent.PROBE, State.DONE, Verdict.DEAD, True),
        (Intent.PROBE, State.DONE, Verdict.INCONCLUSIVE, False),
        (Intent.REVOKE, State.DONE, Verdict.REVOKED, True),
        (Intent.REVOKE, State.DONE, Verdict.ACKNOWLEDGED, True),
        (Intent.REVOKE, State.PARKED, None, False),
        (Intent.REVOKE, State.CANCELLED, None, False),
        (Intent.REVOKE, State.EXPIRED, None, True),
        (Intent.ROTATE, State.DONE, Verdict.ROTATED, True),
    ],
)
def test_what_a_slot_calls_well(
    intent: Intent,
    state: State,
    verdict: Verdict | None,
    expected: bool,  # noqa: FBT001 - a table
) -> None:
    """A probe that knows, whatever it knows; of all others what was asked for, as far as it can be proved."""
    assert ended_well(intent, state, verdict) is expected
