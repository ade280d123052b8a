"""What an answer comes to, whichever kind of step it answers: the outcome, the values in it, what may be kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rules.errors import RevoqError, TemplateError
from rules.extract import take
from rules.lifecycle import Outcome
from rules.match import find_clause, outcomes, read_probe, read_recognition, read_step
from rules.message import Answer
from rules.schema import Command, Existing, Extraction, Matcher, ProbeContent, Recognition, Step
from rules.secret import Secret
from rules.throttle import retry_after
from worker.errors import ExchangeError
from worker.log import clean
from worker.safe import Safe
from worker.step import Filling, Result, Values

KEPT_HEADERS = ("date", "x-request-id", "x-amzn-requestid", "x-correlation-id", "cf-ray", "request-id")
"""Headers that identify an answer at the provider and are kept as evidence."""


def conclude(filling: Filling, answer: Answer, safe: Safe, shown: str) -> Result:
    """Read an answer and take out of it what the rule wants; `shown` says what was asked."""
    outcome = read(filling, answer)
    says = f"{shown} {_answered(filling, answer)}"
    kept = evidence(filling, answer, safe)
    if outcome not in {Outcome.OK, Outcome.ALIVE}:
        asked = retry_after(answer.status, answer.headers, datetime.now(UTC))
        says = f"{explain(filling, outcome, says)}{_says_more(filling, answer)}"
        return Result(outcome, says, evidence=kept, retry_after=asked)
    try:
        taken, secrets = take_values(extractions(filling), answer, filling.values)
    except RevoqError as error:
        # It was answered with yes; only a value is missing. After something was changed that must not be read as
        # "nothing happened".
        return Result(Outcome.LOST if filling.acts else Outcome.BROKEN, f"{says}, but {error}", evidence=kept)
    return Result(outcome, says, taken=taken, secrets=secrets, evidence=kept)


def read(filling: Filling, answer: Answer) -> Outcome:
    """The outcome, by what the step is for."""
    match filling.part:
        case Recognition() as recognition:
            return read_recognition(recognition, answer, filling.values)
        case ProbeContent() as probe:
            return read_probe(probe, answer, filling.values, was_alive=filling.was_alive)
        case Existing() as existing:
            return read_step(existing.step, answer, filling.values)
        case Step() as step:
            return read_step(step, answer, filling.values)
    raise TypeError(f"nothing is known of how to read {type(filling.part).__name__}")


def extractions(filling: Filling) -> Mapping[str, Extraction]:
    """What is to be taken out of the answer."""
    return filling.part.extract if isinstance(filling.part, Step | ProbeContent) else {}


def take_values(
    wanted: Mapping[str, Extraction], answer: Answer, values: Values
) -> tuple[dict[str, str], dict[str, Secret]]:
    """Take values out of an answer, those that are secret apart."""
    taken: dict[str, str] = {}
    secrets: dict[str, Secret] = {}
    for name, extraction in wanted.items():
        value = take(extraction, answer, values)
        if value is None:
            continue
        if extraction.secret:
            secrets[name] = Secret(value)
        else:
            taken[name] = value
    return taken, secrets


def evidence(filling: Filling, answer: Answer, safe: Safe) -> dict[str, Any]:
    """What may be kept of an answer: never the body, only a keyed digest of it; a header may repeat what was sent."""
    is_program = isinstance(filling.part.action, Command)
    return {
        "exit" if is_program else "status": answer.status,
        "matchers": [[name, held] for name, held in outcomes(_matchers(filling), answer, filling.values)],
        "headers": {name: clean(answer.headers[name])[:200] for name in KEPT_HEADERS if name in answer.headers},
        "digest": safe.digest(answer.body),
        "bytes": len(answer.body),
    }


def _matchers(filling: Filling) -> list[Matcher]:
    match filling.part:
        case Recognition(known=known):
            return list(known)
        case ProbeContent(dead=dead, disabled=disabled):
            return [*filling.part.action.response_matcher, *dead, *disabled]
        case _:
            return list(filling.part.action.response_matcher)


def unanswered(filling: Filling, error: ExchangeError, shown: str) -> Result:
    """No usable answer: what that means depends on whether anything was sent, and whether it could change something."""
    if filling.looks:
        outcome = Outcome.INCONCLUSIVE
    elif not error.sent:
        outcome = Outcome.NOT_SENT
    else:
        outcome = Outcome.LOST if filling.acts else Outcome.RETRY
    kept = {"trouble": error.kind.value, "sent": error.sent}
    return Result(outcome, f"{shown}: {error.says}", evidence=kept, retry_after=error.retry_after)


def unreadable(filling: Filling, error: TemplateError, shown: str) -> Result:
    """The answer came, and a template that says how to read it cannot be filled: the rule is wrong."""
    outcome = Outcome.INCONCLUSIVE if filling.looks else Outcome.LOST if filling.acts else Outcome.BROKEN
    return Result(outcome, f"{shown} was answered, but the answer cannot be read: {error}")


def _answered(filling: Filling, answer: Answer) -> str:
    if not isinstance(filling.part.action, Command):
        return f"answered {answer.status}"
    return f"ended with {answer.status}" if answer.status >= 0 else f"was ended by signal {-answer.status}"


def _says_more(filling: Filling, answer: Answer) -> str:
    """What the rule itself says of such an answer."""
    clauses = filling.part.outcomes if isinstance(filling.part, Step | ProbeContent) else []
    clause = find_clause(clauses, answer, filling.values)
    return f"; {clause.says}" if clause is not None and clause.says else ""


def explain(filling: Filling, outcome: Outcome, says: str) -> str:
    """Say who was refused, and what to do: the connection or the credential itself."""
    actor = filling.part.action.actor
    if outcome is Outcome.DENIED and actor:
        return f"{says}: the connection was refused; give its identity the permission for this call"
    if outcome is Outcome.DENIED:
        return f"{says}: the credential itself was refused; a connection with more rights can act on it"
    if outcome is Outcome.NO_ROW:
        return f"{says}: what is there is not what was asked for; is every variable right?"
    if outcome is Outcome.ALREADY_GONE and actor:
        return f"{says}: the connection's account does not have it; is it the right connection?"
    if outcome is Outcome.NOT_OURS:
        return f"{says}: the provider names another owner"
    return says
