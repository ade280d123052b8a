"""The words of a message: one notice as it is, many as a digest that stays short, and nothing but ids in either."""

from __future__ import annotations

import pytest

from rules.lifecycle import Intent, Reason
from rules.notice import SEVERITIES, Event, Notice, Severity, at_least, compose, parked


def failure(number: int, reason: str = "denied") -> Notice:
    """A job of a batch that is parked."""
    facts = {"job": f"job_{number}", "rule": "a.key", "connection": "prod", "reason": reason, "batch": "batch_1"}
    return Notice(Event.PARKED, facts, f"sentence {number}")


@pytest.mark.parametrize(
    ("intent", "reason", "event"),
    [
        (Intent.REVOKE, Reason.STILL_ALIVE, Event.STILL_ALIVE),
        (Intent.REVOKE, Reason.WRONG_ONE, Event.STILL_ALIVE),
        (Intent.RECHECK, Reason.CAME_BACK, Event.CAME_BACK),
        (Intent.REVOKE, Reason.DENIED, Event.PARKED),
        (Intent.ROTATE, Reason.SINK_FAILED, Event.ROTATION_FAILED),
        (Intent.ROTATE, Reason.STILL_ALIVE, Event.STILL_ALIVE),
    ],
)
def test_what_a_parked_job_is_told_as(intent: Intent, reason: Reason, event: Event) -> None:
    """The gravest thing that can be said of it."""
    assert parked(intent, reason) is event


def test_every_event_has_its_severity() -> None:
    """And a route that asks for the grave ones gets no others."""
    assert set(SEVERITIES) == set(Event) == at_least(Severity.INFO)
    assert at_least(Severity.CRITICAL) == {Event.STILL_ALIVE, Event.CAME_BACK, Event.AUDIT_HEAD_LATE}


def test_one_notice() -> None:
    """What, which, why, and what to type next."""
    message = compose([failure(1)])

    assert message.title == "revoq: parked: a.key"
    assert message.severity is Severity.WARNING
    assert message.body.splitlines()[:5] == [
        "job: job_1",
        "rule: a.key",
        "connection: prod",
        "reason: denied",
        "batch: batch_1",
    ]
    assert "sentence 1" in message.body
    assert message.body.splitlines()[-2:] == ["revoq batches show batch_1", "revoq jobs show job_1"]


def test_a_digest_counts() -> None:
    """A thousand of one kind are one line; what happened once is told in full; the gravest gives the severity."""
    ended = Notice(Event.BATCH_ENDED, {"batch": "batch_1", "revoked": "990"})
    alive = Notice(Event.STILL_ALIVE, {"job": "job_x", "rule": "a.key", "reason": "still_alive"}, "it works")
    told = [*(failure(number) for number in range(1000)), failure(1000, "not_ours"), alive, ended]

    message = compose(told, "batch_1")

    assert message.title == "revoq: batch_1: 1001 parked, still alive, batch ended"
    assert message.severity is Severity.CRITICAL
    lines = message.body.splitlines()
    assert lines[:2] == ["1000 parked · a.key · prod · denied", "1 parked · a.key · prod · not_ours"]
    assert "it works" in lines
    assert "revoked: 990" in lines
    assert "revoq jobs list --reason denied" in lines
    assert len(lines) < 40
