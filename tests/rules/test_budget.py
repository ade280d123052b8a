"""Budgets: over no span more than the provider allows, incidents keep their share, and nobody is starved."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rules.budget import (
    REQUEST,
    Bucket,
    Candidate,
    Limits,
    Purse,
    affords,
    capacity,
    choose,
    estimate,
    refill,
    reserve,
    rest,
    spend,
    strictest,
)
from rules.lifecycle import Intent
from rules.plan import Plan, Planned, Purpose
from rules.units import SECOND


def limits_of(requests: int, per: str) -> Limits:
    """As a rule file says it."""
    return Limits.model_validate({"requests": requests, "per": per})


LIMITS = st.builds(lambda requests, per: limits_of(requests, f"{per}s"), st.integers(1, 300), st.integers(1, 600))
LIMIT = limits_of(100, "100s")


@given(LIMITS, st.lists(st.tuples(st.integers(0, 20 * SECOND), st.integers(1, 3)), min_size=1, max_size=200))
def test_no_span_sees_more_than_is_allowed(limits: Limits, asked: list[tuple[int, int]]) -> None:
    """However bulk comes in: jobs that fit into the bucket are let through as often as the provider allows, at most."""
    now, bucket, let = 0, None, list[tuple[int, int]]()
    for later, cost in asked:
        now += later
        bucket = refill(bucket, limits, now)
        if cost * REQUEST <= capacity(limits) and affords(bucket, limits, cost, 0.0, urgent=False):
            bucket = spend(bucket, cost)
            let.append((now, cost))
    span = int(limits.per * SECOND)
    for start, _ in let:
        assert sum(cost for at, cost in let if start <= at < start + span) <= limits.requests


@given(LIMITS, st.lists(st.integers(0, 5 * SECOND), min_size=1, max_size=60))
def test_many_looks_lose_nothing(limits: Limits, waits: list[int]) -> None:
    """A bucket that is looked at often fills as one that is looked at once, and never over its brim."""
    empty = Bucket(0, 0)
    often = empty
    for wait in waits:
        often = refill(often, limits, max(often.at, sum(waits[: waits.index(wait)])))
    often, once = refill(often, limits, sum(waits)), refill(empty, limits, sum(waits))
    assert once.tokens - len(waits) - 1 <= often.tokens <= once.tokens + 1
    assert once.tokens <= capacity(limits)


def test_a_clock_that_goes_back_fills_nothing() -> None:
    """Neither then nor twice when it has caught up."""
    spent = spend(refill(None, LIMIT, 50 * SECOND), 20)
    back = refill(spent, LIMIT, 10 * SECOND)
    assert back.tokens == spent.tokens
    assert refill(back, LIMIT, 51 * SECOND) == refill(spent, LIMIT, 51 * SECOND)


@given(LIMITS, st.floats(0, 0.9), st.integers(1, 400))
def test_bulk_leaves_the_share(limits: Limits, share: float, cost: int) -> None:
    """What bulk may spend, small jobs of it, always leaves incidents their share; everything begins when it is full."""
    full = refill(None, limits, 0)
    assert affords(full, limits, cost, share, urgent=False)
    bucket = full
    while affords(bucket, limits, 1, share, urgent=False):
        bucket = spend(bucket, 1)
    assert bucket.tokens >= min(reserve(limits, share), capacity(limits) - REQUEST)
    assert affords(bucket, limits, 400, share, urgent=True) == (bucket.tokens > 0)


def bulk(job: str, account: str, cost: int = 1) -> Candidate:
    """A job of a batch."""
    return Candidate(job, account, cost, urgent=False)


def test_one_poor_account_stops_no_other() -> None:
    """What an account cannot pay closes it alone, to smaller jobs behind too; what is paid for goes on."""
    poor = Purse(LIMIT, Bucket(6 * REQUEST, 0))
    queue = [bulk("a", "poor", 1), bulk("b", "rich", 9), bulk("c", "poor", 9), bulk("d", "poor", 1), bulk("e", "rich")]
    assert [each.job for each in choose(queue, {"poor": poor}, 10, 0.2)] == ["a", "b", "e"]
    assert [each.job for each in choose(queue, {"poor": poor}, 1, 0.2)] == ["a"]
    again = [bulk("a", "poor", 0), bulk("b", "poor", 0)]
    assert choose(again, {"poor": Purse(LIMIT, Bucket(-5, 0))}, 9, 0.2) == again


def test_an_incident_goes_into_the_share() -> None:
    """Bulk stops where the share begins; an incident does not, and bulk waits until its debt is made up for."""
    left = Purse(LIMIT, Bucket(reserve(LIMIT, 0.2), 0))
    assert choose([bulk("a", "x")], {"x": left}, 9, 0.2) == []
    incident = Candidate("i", "x", 30, urgent=True)
    assert choose([incident, bulk("a", "x")], {"x": left}, 9, 0.2) == [incident]


def test_an_account_is_tried_with_one_job() -> None:
    """After a breaker's rest, whatever the budget says."""
    queue = [bulk("a", "x"), bulk("b", "x"), bulk("c", "y")]
    assert [each.job for each in choose(queue, {"x": Purse(trial=True)}, 9, 0.2)] == ["a", "c"]


def test_what_a_plan_will_send() -> None:
    """Looks, lists and acts count, and proof as often as it is asked for; what is done here or seldom does not."""
    steps = (
        Planned("probe", Purpose.BEFORE),
        Planned("find", Purpose.READ, selects=True),
        Planned("delete", Purpose.ACT),
        Planned("wait", Purpose.PAUSE, pause=5.0),
        Planned("probe", Purpose.ASK),
        Planned("probe", Purpose.AFTER),
        Planned("vault", Purpose.DELIVER, sink="vault"),
    )
    plan = Plan("a.b", "d", Intent.REVOKE, steps, (), samples=3, spacing=1.0, window=0.0)
    assert estimate(plan) == 7
    assert estimate(replace(plan, steps=())) == 1


def test_the_strictest() -> None:
    """Of what several rules say of one account."""
    hour = limits_of(60, "1h")
    assert strictest([LIMIT, hour]) is hour
    assert strictest([]) is None


def test_how_long_an_account_rests() -> None:
    """As long as the provider asks for; where it says 429 and not how long, a moment."""
    assert [rest(429, 7.0), rest(503, 3.0), rest(429, None), rest(500, None), rest(None, None)] == [
        7.0,
        3.0,
        2.0,
        None,
        None,
    ]
