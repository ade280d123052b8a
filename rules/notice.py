"""What people are told without having asked: the events, how grave each is, and the words of a message; sends nothing.

A notice names things by their ids: job, rule, connection, batch. It never holds a secret, a subject or a batch's name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rules.lifecycle import REASONS, Intent, Reason


class Event(StrEnum):
    """What may be told; each happens once, however often it is looked at."""

    STILL_ALIVE = "still_alive"  # a job is parked: its credential works after all, or another one was removed
    CAME_BACK = "came_back"  # a job is parked: what was dead may be used again
    PARKED = "parked"  # a job is parked for any other reason
    ROTATION_FAILED = "rotation_failed"  # a rotation is parked, or a slot of a schedule ended as an incident
    ROTATION_OVERDUE = "rotation_overdue"  # a key is older than its schedule allows
    BATCH_ENDED = "batch_ended"  # the last job of a batch has ended
    BREAKER_OPENED = "breaker_opened"  # a provider account is left alone, since it failed too often
    AUDIT_HEAD_LATE = "audit_head_late"  # rows of the audit trail have waited for their seal for too long


class Severity(StrEnum):
    """How grave an event is, the gravest last."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


SEVERITIES: dict[Event, Severity] = {
    Event.STILL_ALIVE: Severity.CRITICAL,
    Event.CAME_BACK: Severity.CRITICAL,
    Event.PARKED: Severity.WARNING,
    Event.ROTATION_FAILED: Severity.WARNING,
    Event.ROTATION_OVERDUE: Severity.WARNING,
    Event.BATCH_ENDED: Severity.INFO,
    Event.BREAKER_OPENED: Severity.WARNING,
    Event.AUDIT_HEAD_LATE: Severity.CRITICAL,
}
LADDER = list(Severity)
ALIVE = frozenset({Reason.STILL_ALIVE, Reason.WRONG_ONE})
NAMED = 5
"""How many jobs a digest names; a command shows the others."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened. `facts` are names and ids, in the order in which they are shown."""

    event: Event
    facts: Mapping[str, str]
    says: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: one notice, or a digest of many."""

    title: str
    body: str
    severity: Severity


def parked(intent: Intent, reason: Reason) -> Event:
    """Which event it is that a job is parked."""
    if reason is Reason.CAME_BACK:
        return Event.CAME_BACK
    if reason in ALIVE:
        return Event.STILL_ALIVE
    return Event.ROTATION_FAILED if intent is Intent.ROTATE else Event.PARKED


def at_least(severity: Severity) -> frozenset[Event]:
    """The events that are as grave as this, or graver."""
    return frozenset(event for event, grave in SEVERITIES.items() if LADDER.index(grave) >= LADDER.index(severity))


def compose(notices: Sequence[Notice], about: str = "") -> Message:
    """The words for what is told at once; `about` is what several have in common, such as a batch."""
    severity = max((SEVERITIES[notice.event] for notice in notices), key=LADDER.index)
    title, body = _one(notices[0]) if len(notices) == 1 else _digest(notices, about)
    return Message(f"revoq: {title}", body, severity)


def _one(notice: Notice) -> tuple[str, str]:
    subject = notice.facts.get("rule") or next(iter(notice.facts.values()), "")
    lines = [f"{name}: {fact}" for name, fact in notice.facts.items()]
    lines += [notice.says] if notice.says else []
    return f"{_words(notice.event)}: {subject}".removesuffix(": "), "\n".join([*lines, *_hints([notice])])


def _digest(notices: Sequence[Notice], about: str) -> tuple[str, str]:
    """How often each thing happened, the first few by their ids, and whatever is said once only."""
    events = Counter(notice.event for notice in notices)
    title = ", ".join(f"{count} {_words(event)}" if count > 1 else _words(event) for event, count in events.items())
    alike = Counter(
        (_words(notice.event), *(notice.facts.get(name, "") for name in ("rule", "connection", "reason")))
        for notice in notices
        if events[notice.event] > 1
    )
    lines = [f"{count} {' · '.join(filter(None, group))}" for group, count in alike.most_common()]
    for notice in notices:
        if events[notice.event] == 1:
            lines += ["", _words(notice.event), *(f"{name}: {fact}" for name, fact in notice.facts.items())]
            lines += [notice.says] if notice.says else []
    return f"{about}: {title}".removeprefix(": "), "\n".join([*lines, *_hints(notices)])


def _hints(notices: Sequence[Notice]) -> list[str]:
    """What to type next."""
    jobs = [notice.facts["job"] for notice in notices if "job" in notice.facts]
    batches = dict.fromkeys(notice.facts["batch"] for notice in notices if "batch" in notice.facts)
    reasons = dict.fromkeys(notice.facts["reason"] for notice in notices if "reason" in notice.facts)
    hints = [f"revoq batches show {batch}" for batch in batches]
    hints += [f"revoq jobs show {job}" for job in jobs[:NAMED]]
    hints += [f"revoq jobs list --reason {reason}" for reason in reasons if len(jobs) > NAMED]
    meant = [f"{REASONS[Reason(reason)].says}: {REASONS[Reason(reason)].advice}" for reason in reasons]
    return [*([""] if hints or meant else []), *meant, *hints]


def _words(event: Event) -> str:
    return event.value.replace("_", " ")
