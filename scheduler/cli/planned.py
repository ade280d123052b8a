"""How a plan of an offboarding is told, and what became of it; making and applying it is `scheduler.offboard`'s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from scheduler.cli.present import moment
from scheduler.cli.story import Line
from scheduler.offboard.applying import Applied, Difference
from worker.ledger.plans import PlanRow


def plan_row(plan: PlanRow, warnings: Sequence[str]) -> dict[str, Any]:
    """A plan, as keys that stay; fingerprints are the ledger's own."""
    content = dict(plan.content)
    items = [{name: value for name, value in item.items() if name != "fingerprint"} for item in content["items"]]
    content |= {"items": items, "made_at": moment(content["made_at"])}
    return {"hash": plan.hash, "plan": plan.id, "until": moment(plan.shred_by), "warnings": list(warnings), **content}


def plan_lines(plan: PlanRow, warnings: Sequence[str]) -> list[Line]:
    """The same for a person: who and what exactly, what it comes to, and how to go on."""
    return list(_plan_lines(plan, warnings))


def _plan_lines(plan: PlanRow, warnings: Sequence[str]) -> Iterator[Line]:
    content = plan.content
    yield 0, f"A plan of {content['name']}; nothing is changed, and no job is made."
    for item in content["items"]:
        over = f" over {item['connection']}" if item["connection"] else ""
        ends = item["verdict"] or item["reason"] or item["would"]
        named = item["id"] or "not singled out"
        whose = f" of {item['subject']}" if item["subject"] else ""
        yield 2, f"{item['place']}: {item['intent']} {item['rule']} {named}{whose}{over}: {ends}"
        if item["says"]:
            yield 4, item["says"]
    for subject in content["subjects"]:
        yield from subject_lines({**subject, "found": len(subject["terms"]["planned"])})
    for provider, counts in sorted(content["counts"].items()):
        yield 0, f"{provider}: " + ", ".join(f"{count} {ends}" for ends, count in sorted(counts.items()))
    for title, told in (("dies along", content["also_kills"]), ("lives on", content["residual"])):
        for rule, sentences in sorted(told.items()):
            yield from ((0, f"What {title} ({rule}): {sentence}") for sentence in sentences)
    for entry in content["without_rule"]:
        yield 0, f"{entry['count']} of {entry['kind'] or 'others'} cannot be dealt with here: {entry['says']}"
    yield from ((0, f"left out, {entry['place']}: {entry['says']}") for entry in content["skipped"])
    if content["seconds"]:
        yield 0, f"By what the providers allow it takes {timedelta(seconds=content['seconds'])} at least."
    yield from ((0, f"More than the settings allow: {says}") for says in warnings)
    yield 0, f"Its hash: {plan.hash}"
    yield 0, f"Do it within a day: revoq offboard --approve {plan.hash}"


def subject_lines(told: Mapping[str, Any]) -> Iterator[Line]:
    """What was found of one subject."""
    yield 0, f"{told['subject']} at {told['connection']}: {told['found']} to end."
    for each in told["owned"]:
        becomes = f"{each['becomes']}d" if each["becomes"] else "left alone: --owned says what becomes of it"
        yield 2, f"owned: {each['rule']} {each['id']} ({each['name']}): {becomes}"
    yield from ((2, says) for says in told["says"])


def applied_row(applied: Applied) -> dict[str, Any]:
    """What became of a plan, as keys that stay."""
    difference, loaded = applied.difference, applied.loaded
    return {
        "batch": loaded.batch,
        "plan": applied.plan.id,
        "hash": applied.plan.hash,
        "approver": applied.approver,
        "authenticated": applied.authenticated,
        "submitted": loaded.opened,
        "joined": loaded.joined,
        "repeated": loaded.repeated,
        "rung": loaded.rung,
        "moved": difference.moved,
        "vanished": difference.vanished,
        "new": difference.new,
    }


def applied_lines(applied: Applied) -> list[Line]:
    """The same for a person."""
    who = applied.approver if applied.authenticated else f"{applied.approver}, who is not authenticated"
    return [
        (0, f"{applied.loaded.batch}: the plan {applied.plan.hash[:12]}… goes ahead, approved by {who}."),
        *_differences(applied.difference),
        (0, f"Follow it: revoq batches show {applied.loaded.batch}"),
    ]


def _differences(difference: Difference) -> Iterator[Line]:
    for told, says in (
        (difference.moved, "moved since, and is parked"),
        (difference.vanished, "vanished since, and is probed"),
        (difference.new, "new, and left alone: plan again"),
    ):
        for each in told:
            yield 2, f"{says}: {each['rule']} {each['id'] or each['place']}: {each['says']}"
