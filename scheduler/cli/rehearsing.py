"""How a dry run is told: what was found, and each request that would be sent; doing it is `worker.rehearsal`'s."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rules.decision import Decision, Do, Expire, Finish, Park, Wait
from rules.lifecycle import UNFINISHED, Ending, Reason, State, ending
from rules.plan import Purpose
from scheduler.cli.present import coming_row, describe_candidate, read_row
from scheduler.cli.story import Line
from scheduler.submit import Checked
from worker.rehearsal import Coming, Rehearsal, Taken

WOULD_ACT = Ending(0, "a job would send what follows")


def gather(checked: Checked, found: Rehearsal) -> dict[str, Any]:
    """All of it for a program; what is not known or does not apply is null."""
    decision, order = found.decision, checked.order
    how = ending_of(decision)
    return {
        "dry_run": True,
        "intent": order.intent.value,
        "rule": checked.loaded.rule.id,
        "connection": order.connection,
        "sinks": list(order.sinks),
        "plan": checked.plan.hash,
        "would": would(decision),
        "verdict": decision.verdict.value if isinstance(decision, Finish) else None,
        "reason": decision.reason.value if isinstance(decision, Park) else None,
        "says": says_of(decision),
        "exit_code": how.exit_code,
        "means": how.says,
        "reads": [read_row(taken) for taken in found.taken],
        "requests": [coming_row(coming, order.connection) for coming in found.coming],
        "candidates": list(found.candidates) if is_undecided(decision) else [],
        "held": found.held,
        "joins": found.joins,
    }


def tell(checked: Checked, found: Rehearsal) -> Iterator[Line]:
    """The same for a person."""
    order, decision = checked.order, found.decision
    over = f" over {order.connection}" if order.connection else ""
    yield 0, "A dry run: nothing is changed, nothing is written down, no job is made."
    into = f" into {', '.join(order.sinks)}" if order.sinks else ""
    yield 0, f"{order.intent.value} {checked.loaded.rule.id}{over}{into}, plan {checked.plan.hash}"
    yield 0, ""
    for taken in found.taken:
        yield from _taken(taken)
    if found.taken:
        yield 0, ""
    yield from _outcome(decision)
    for number, coming in enumerate(found.coming, start=1):
        yield from _coming(number, coming, order.connection)
    yield from _candidates(found)
    if found.held is not None:
        yield 0, f"A hold is on ({found.held}): a job would wait before the first request that changes something."
    if found.joins is not None:
        yield 0, f"The job {found.joins} is open for this credential already: a submission joins it."


def ending_of(decision: Decision) -> Ending:
    """What the lifecycle says of a job that stands where the dry run ended."""
    match decision:
        case Do():
            return WOULD_ACT
        case Finish(verdict, _):
            return ending(State.DONE, verdict, None)
        case Park(reason, _):
            return ending(State.PARKED, None, reason)
        case Expire():
            return ending(State.EXPIRED, None, None)
        case Wait():
            return UNFINISHED


def would(decision: Decision) -> str:
    """What a job would do now, in one word."""
    match decision:
        case Do():
            return "act"
        case Finish():
            return "finish"
        case Park():
            return "park"
        case Expire():
            return "expire"
        case Wait():
            return "wait"


def says_of(decision: Decision) -> str | None:
    """The decision's own sentence."""
    return None if isinstance(decision, Do) else decision.why if isinstance(decision, Wait) else decision.says


def is_undecided(decision: Decision) -> bool:
    return isinstance(decision, Park) and decision.reason is Reason.NEEDS_SELECTION


def _outcome(decision: Decision) -> Iterator[Line]:
    how = ending_of(decision)
    match decision:
        case Do():
            yield 0, "A job would now send:"
        case Finish(verdict, says):
            yield 0, f"A job would end as {verdict.value}: {how.says}"
            yield 2, f"What came: {says}"
        case Park(reason, says):
            yield 0, f"A job would be parked for a person, {reason.value}: {how.says}"
            yield 2, f"What came: {says}"
        case Expire(says):
            yield 0, f"A job would end as expired: {says}"
        case Wait(_, why):
            yield 0, f"A job would wait and look again, for as long as the settings say: {why}"


def _taken(taken: Taken) -> Iterator[Line]:
    asked = f"{taken.label.get('method')} {taken.label.get('url')}"
    yield 0, f"{taken.planned.purpose.value} · {taken.planned.name}: {taken.result.outcome.value}"
    if taken.label and asked not in taken.result.says:
        yield 2, asked
    yield 2, taken.result.says
    names = [f"{name} {in_one_line(value)}" for name, value in taken.result.taken.items()]
    names += [f"{name} (secret, not kept)" for name in taken.result.secrets]
    if names:
        yield 2, f"Taken out of the answer: {', '.join(names)}"


def in_one_line(value: str) -> str:
    """A value as it is, or how many lines it has."""
    lines = value.splitlines()
    return value if len(lines) < 2 else f"({len(lines)} values)"


def _coming(number: int, coming: Coming, connection: str) -> Iterator[Line]:
    planned, shown = coming.planned, coming.shown
    proves = " (the proof, as often as the rule says)" if planned.purpose is Purpose.AFTER else ""
    asked = f": {shown.method} {shown.url}" if shown is not None else ""
    yield 2, f"{number}. {planned.name}{proves}{asked}"
    if shown is None:
        yield 5, coming.lacking
        return
    for name, value in shown.headers.items():
        yield 5, f"{name}: {value}"
    if shown.body is not None:
        yield 5, shown.body
    if coming.actor:
        yield 5, f"signed by the connection {connection}"


def _candidates(found: Rehearsal) -> Iterator[Line]:
    if not is_undecided(found.decision) or not found.candidates:
        return
    yield 2, f"Candidates ({len(found.candidates)}):"
    for candidate in found.candidates:
        yield 4, f"{candidate.get('id')}: {describe_candidate(dict(candidate))}"
    yield 2, "Without --dry-run the job is parked, and one of them can be picked."
