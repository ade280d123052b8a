"""What a provider allows, as arithmetic: a bucket of requests, what a plan will take out of it, and whose turn it is.

Where the buckets are kept, and who rings, is the ledger's.

A bucket holds a fifth of the limit at most and fills at the rate that, with it, gives the limit: over no span of `per`
are more requests let through than the provider allows. Tokens are thousandths of a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from rules.model import Duration, Model
from rules.plan import Plan, Purpose
from rules.units import SECOND

REQUEST = 1000
"""Tokens of one request."""
BURST = 5
"""Which part of a limit may be spent at once."""
PATIENCE = 2.0
"""Seconds for which an account rests that said 429 and not how long."""
NO_REQUEST = frozenset({Purpose.PAUSE, Purpose.GENERATE, Purpose.PROMOTE})
"""Steps that ask nobody."""
SELDOM = frozenset({Purpose.RECOGNISE, Purpose.ASK, Purpose.OURS, Purpose.UNDO, Purpose.FIND, Purpose.DISCARD})
"""Steps that are taken only where something went wrong."""


class Limits(Model):
    """What a provider allows, as a rule or the settings say it: `requests` in each `per`, and where that is written."""

    requests: int = Field(ge=1)
    per: Annotated[Duration, Field(gt=0)]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was left at a moment; less than nothing where an incident, or a job larger than the bucket, took it."""

    tokens: int
    at: int


def estimate(plan: Plan) -> int:
    """How many requests a job will send to its provider where nothing goes wrong; a list counts as two pages."""
    count = 0
    for step in plan.steps:
        if step.sink is not None or step.purpose in NO_REQUEST | SELDOM:
            continue
        count += plan.samples if step.purpose is Purpose.AFTER and not step.disables else 1
        count += step.selects
    return max(count, 1)


def strictest(limits: Iterable[Limits]) -> Limits | None:
    """The limit that allows least in the long run; None where there is none."""
    return min(limits, key=lambda limit: (limit.requests / limit.per, limit.requests), default=None)


def capacity(limits: Limits) -> int:
    """What a full bucket holds."""
    return max(limits.requests // BURST, 1) * REQUEST


def reserve(limits: Limits, share: float) -> int:
    """What is kept for incidents."""
    return int(capacity(limits) * share)


def refill(bucket: Bucket | None, limits: Limits, now: int) -> Bucket:
    """The bucket as it is now; a new one is full. A clock that went back fills nothing."""
    full = capacity(limits)
    if bucket is None:
        return Bucket(full, now)
    span = int(limits.per * SECOND)
    rate = limits.requests * REQUEST - full + REQUEST
    gained = max(now - bucket.at, 0) * rate // span
    if bucket.tokens + gained >= full:
        return Bucket(full, max(now, bucket.at))
    # Only the time that the whole tokens took has passed: many looks in a short time lose nothing by rounding.
    return Bucket(bucket.tokens + gained, bucket.at + gained * span // rate)


def affords(bucket: Bucket, limits: Limits, cost: int, share: float, *, urgent: bool) -> bool:
    """Whether a job of so many requests may begin. Bulk leaves the incidents their share; an incident may go into debt.

    A job that needs more than a bucket holds begins when it is full, and the others wait until that is made up for.
    """
    if urgent:
        return bucket.tokens > 0 or cost == 0
    return bucket.tokens >= min(cost * REQUEST + reserve(limits, share), capacity(limits)) or cost == 0


def spend(bucket: Bucket, cost: int) -> Bucket:
    """The bucket after a job of so many requests was let through."""
    return Bucket(bucket.tokens - cost * REQUEST, bucket.at)


def rest(status: int | None, retry_after: float | None) -> float | None:
    """Seconds for which no job of an account may send anything after this answer, or None."""
    if retry_after is not None:
        return retry_after
    return PATIENCE if status == 429 else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job that could be rung; `cost` in requests is 0 where its bell was paid for already."""

    job: str
    account: str
    cost: int
    urgent: bool


@dataclass(frozen=True, slots=True)
class Purse:
    """What one account may spend now; `trial`: it is being tried again, with one job only."""

    limits: Limits | None = None
    bucket: Bucket | None = None
    trial: bool = False


def choose(queue: Iterable[Candidate], purses: Mapping[str, Purse], room: int, share: float) -> list[Candidate]:
    """Who is rung, in the order of the queue. The first whom an account cannot pay closes it to all behind it.

    Without that, a large job would wait for ever behind small ones.
    """
    chosen: list[Candidate] = []
    left = dict(purses)
    closed: set[str] = set()
    for candidate in queue:
        if len(chosen) >= room:
            break
        if candidate.account in closed:
            continue
        purse = left.get(candidate.account, Purse())
        if purse.limits is not None and purse.bucket is not None:
            if not affords(purse.bucket, purse.limits, candidate.cost, share, urgent=candidate.urgent):
                closed.add(candidate.account)
                continue
            left[candidate.account] = Purse(purse.limits, spend(purse.bucket, candidate.cost), purse.trial)
        if purse.trial:
            closed.add(candidate.account)
        chosen.append(candidate)
    return chosen
