"""Which rules end a person and in which order, how a plan is held against the world, and what is too many."""

from __future__ import annotations

from typing import Any

import pytest

from rules.budget import Limits
from rules.errors import BadInput
from rules.leaving import (
    Moved,
    Turn,
    compare,
    estimate,
    exposure,
    machine_rules,
    refuse_many,
    routes,
)
from rules.loader import builtin, load
from rules.naming import name_credential
from rules.schema import Rule

RULES = {loaded.rule.id: loaded.rule for loaded in load([builtin()])}
ITEM: dict[str, Any] = {"id": "a1", "would": "act", "verdict": None, "reason": None, "plan": "p1"}


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (
            "okta",
            [
                ("okta.user", Turn.LAST, False),
                ("okta.user_sessions", Turn.NOW, False),
                ("okta.user_suspension", Turn.FIRST, False),
            ],
        ),
        ("aws", [("aws.access_key", Turn.NOW, True)]),
        ("pangolin", [("pangolin.token", Turn.NOW, True)]),
        ("jupyterhub", [("jupyterhub.listed_token", Turn.NOW, True)]),
        ("gitlab", [("gitlab.listed_token", Turn.NOW, True)]),
    ],
)
def test_routes(provider: str, expected: list[tuple[str, Turn, bool]]) -> None:
    """A rule serves a subject where it can name what nobody hands in; Okta keeps them out first, and ends them last."""
    found = [(route.rule.id, route.turn, route.listed) for route in routes(RULES.values(), provider)]

    assert sorted(found) == expected


@pytest.mark.parametrize("provider", ["verdaccio", "slack", "nobody"])
def test_no_route(provider: str) -> None:
    """Where only the person can list what they have, that is said."""
    with pytest.raises(BadInput, match="hand in each credential in a row of its own"):
        routes(RULES.values(), provider)


def test_machines_are_not_persons() -> None:
    """The list of a whole account is where machines are looked for, and not a person's own."""
    assert [rule.id for rule in machine_rules(RULES.values(), "pangolin")] == ["pangolin.service_user"]
    assert [rule.id for rule in machine_rules(RULES.values(), "okta")] == ["okta.listed_api_token"]
    assert machine_rules(RULES.values(), "jupyterhub") == []


def test_a_credential_is_named_by_its_row_and_its_subject() -> None:
    """The id goes to the variable that identifies, the subject to the one that the rule calls so."""
    assert name_credential(RULES["pangolin.token"], "t", "u") == {"TOKEN_ID": "t", "USER_ID": "u"}
    assert name_credential(RULES["okta.user_sessions"], "u", "u") == {"USER_ID": "u"}


def test_exposure_says_until_when() -> None:
    """What lives on has its end where the rule knows how long it lives, and none where it does not."""
    (login,) = exposure([RULES["pangolin.token"]], 1_000_000)
    (sessions, *_) = exposure([RULES["okta.user_sessions"]], 0)

    assert login["until"] == (24 * 3600 + 1) * 1_000_000
    assert sessions["until"] is None


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({"id": "a2"}, False),
        ({"would": "park", "reason": "denied"}, False),
        ({"plan": "p2", "would": "finish", "verdict": "already_revoked"}, False),
        ({"would": "finish", "verdict": "already_revoked"}, True),
        ({"would": "park", "reason": "not_recognised", "id": None}, True),
    ],
)
def test_what_moved(change: dict[str, Any], gone: bool) -> None:  # noqa: FBT001 - the expectation
    """Another id, outcome or plan has moved; what a job would find dead by now has vanished."""
    moved = compare(ITEM, {**ITEM, **change})

    assert moved is not None
    assert moved.gone is gone
    assert all(name in moved.says for name in change)


def test_what_is_the_same() -> None:
    """The sentences may differ: they tell times and addresses."""
    assert compare({**ITEM, "says": "a"}, {**ITEM, "says": "b"}) is None
    assert isinstance(compare(ITEM, {**ITEM, "id": "b"}), Moved)


def test_estimate() -> None:
    """Rules of one provider share its limit; providers do not wait for each other."""

    def limited(name: str, requests: int) -> Rule:
        rule = RULES["jupyterhub.token"]
        return rule.model_copy(
            update={"id": name, "limits": Limits.model_validate({"requests": requests, "per": "60s"})}
        )

    rules = {"a.x": limited("a.x", 60), "a.y": limited("a.y", 30), "b.z": limited("b.z", 60)}

    assert estimate({"a.x": 10, "a.y": 10, "b.z": 25}, rules) == pytest.approx(30.0)
    assert estimate({"a": 5}, {"a": RULES["jupyterhub.token"]}) == 0.0


@pytest.mark.parametrize(
    ("most", "percent", "expected"),
    [(None, None, 0), (4, None, 1), (5, 50.0, 0), (5, 49.0, 1), (4, 10.0, 2)],
)
def test_too_many(most: int | None, percent: float | None, expected: int) -> None:
    """Up to the limit is allowed, one more is not; a share is known only where the living are."""
    assert len(refuse_many({"hub": 5}, {"hub": 10}, most, percent)) == expected
    assert len(refuse_many({"hub": 5}, {}, None, 1.0)) == 0
