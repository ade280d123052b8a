"""A step that is one HTTP request, or the pages of one list; what the answer means is read by `rules`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Any

from rules.errors import ExtractError, RevoqError, TemplateError
from rules.extract import take
from rules.lifecycle import Outcome
from rules.match import outcomes, read_probe, read_recognition, read_step
from rules.message import Answer, Prepared
from rules.plan import Planned, Purpose
from rules.request import prepare
from rules.schema import Extraction, Matcher, ProbeContent, Request, Rule, Step
from rules.secret import Secret
from rules.select import Ambiguous, Chosen, Listing, choose
from rules.throttle import retry_after
from worker.connections import Account
from worker.errors import ExchangeError
from worker.safe import Safe
from worker.steps.result import Result

KEPT_HEADERS = ("date", "x-request-id", "x-amzn-requestid", "x-correlation-id", "cf-ray", "request-id")
"""Headers that identify an answer at the provider and are kept as evidence."""
LOOKS = frozenset({Purpose.BEFORE, Purpose.ASK, Purpose.AFTER})

Values = Mapping[str, str | Secret]


@dataclass(frozen=True, slots=True)
class Choosing:
    """How a row may be singled out: by names that tie it, by a person's pick, by trust in the settings."""

    tied: frozenset[str] = frozenset()
    picked: str | None = None
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class HttpStep:
    """One planned step with its part of the rule, filled in and ready to leave."""

    planned: Planned
    content: Step | ProbeContent
    prepared: Prepared
    rule: Rule
    values: Values
    choosing: Choosing
    was_alive: bool = False

    @property
    def label(self) -> dict[str, str]:
        """The request as it may be shown and kept: secrets masked."""
        return {"method": self.prepared.method, "url": self.prepared.shown}


def ready(
    planned: Planned,
    rule: Rule,
    values: Values,
    bases: Mapping[str, str],
    choosing: Choosing = Choosing(),
    *,
    was_alive: bool = False,
) -> HttpStep:
    """Fill in the request of a planned step; raises the rules' own errors where it cannot be formed.

    `was_alive`: the credential was seen to work before, which a probe without a word for dead has to know.
    """
    content = content_of(planned, rule)
    prepared = prepare(content.request, values, bases, now=datetime.now(UTC), random=token_bytes)
    return HttpStep(planned, content, prepared, rule, values, choosing, was_alive)


def content_of(planned: Planned, rule: Rule) -> Step | ProbeContent:
    """The part of the rule that a planned step stands for."""
    if planned.purpose in LOOKS:
        content = rule.verification.content if planned.name == "verify" else None
        found = content or (rule.validation.content if rule.validation is not None else None)
        assert found is not None  # noqa: S101 - a plan has no probe that its rule lacks
        return found
    if planned.purpose is Purpose.RECOGNISE:
        assert rule.recognition is not None  # noqa: S101 - as above
        return Step(name=planned.name, request=rule.recognition.request)
    names = {step.name or f"step {number}": step for number, step in enumerate(rule.steps, start=1)}
    return names[planned.name]


def perform(step: HttpStep, account: Account, safe: Safe, keep: Callable[[], None]) -> Result:
    """Send it, read it, take out of it what the rule wants. Never raises for anything that the provider does.

    `keep` is called between the pages of a list, so that the claim outlasts a long one.
    """
    try:
        if isinstance(step.content, Step) and step.content.select is not None:
            return _list(step, account, safe, keep)
        return _ask(step, account, safe)
    except ExchangeError as error:
        return _unanswered(step, error)
    except TemplateError as error:
        return _unreadable(step, error)


def _ask(step: HttpStep, account: Account, safe: Safe) -> Result:
    mutates = step.planned.purpose is Purpose.ACT
    answer = account.send(step.prepared, actor=step.content.request.actor, mutates=mutates)
    outcome = _read(step, answer)
    says = f"{_shown(step)} answered {answer.status}"
    evidence = _evidence(answer, _matchers(step), step.values, safe)
    asked = retry_after(answer.status, answer.headers, datetime.now(UTC))
    if outcome not in {Outcome.OK, Outcome.ALIVE}:
        return Result(outcome, _explain(step, outcome, says), evidence=evidence, retry_after=asked)
    try:
        taken, secrets = _take(_extractions(step), answer, step.values)
    except RevoqError as error:
        # The request was answered with yes; only a value is missing. After a mutating request that must not be read
        # as "nothing happened".
        lost = Outcome.LOST if step.planned.purpose is Purpose.ACT else Outcome.BROKEN
        return Result(lost, f"{says}, but {error}", evidence=evidence)
    return Result(outcome, says, taken=taken, secrets=secrets, evidence=evidence)


def _list(step: HttpStep, account: Account, safe: Safe, keep: Callable[[], None]) -> Result:
    """Read a list to its end and single one row out, or say why that cannot be done."""
    assert isinstance(step.content, Step) and step.content.select is not None  # noqa: S101, PT018 - the caller has looked
    select = step.content.select
    listing = Listing(select, step.prepared)
    request: Prepared | None = listing.first
    answer: Answer | None = None
    while request is not None:
        if listing.pages:
            keep()
        answer = account.send(request, actor=step.content.request.actor)
        outcome = _read(step, answer)
        says = f"{_shown(step)} answered {answer.status} on page {listing.pages + 1}"
        if outcome is not Outcome.OK:
            asked = retry_after(answer.status, answer.headers, datetime.now(UTC))
            evidence = _evidence(answer, _matchers(step), step.values, safe)
            return Result(outcome, _explain(step, outcome, says), evidence=evidence, retry_after=asked)
        try:
            request = listing.add(answer)
        except RevoqError as error:
            return Result(Outcome.BROKEN, f"{says}, but {error}")
    assert answer is not None  # noqa: S101 - there is at least one page
    evidence = _evidence(answer, _matchers(step), step.values, safe) | {
        "pages": listing.pages,
        "rows": len(listing.rows),
    }
    choice = choose(
        select,
        listing.rows,
        step.values,
        tied=step.choosing.tied,
        complete=listing.complete,
        picked=step.choosing.picked,
        trusted=step.choosing.trusted,
    )
    return _chosen(step, choice, listing, evidence)


def _chosen(step: HttpStep, choice: object, listing: Listing, evidence: Mapping[str, Any]) -> Result:
    read = f"{len(listing.rows)} rows on {listing.pages} pages"
    if isinstance(choice, Ambiguous):
        why = listing.cut_off or choice.why
        found = {**evidence, "candidates": list(choice.candidates)}
        return Result(Outcome.AMBIGUOUS, f"{why} ({read})", evidence=found)
    if not isinstance(choice, Chosen):
        return Result(Outcome.NO_ROW, f"the list was read to its end and no row fits ({read})", evidence=evidence)
    try:
        taken, secrets = _take(_extractions(step), choice.answer, step.values)
    except ExtractError as error:
        return Result(Outcome.BROKEN, f"the row was found, but {error}", evidence=evidence)
    return Result(Outcome.OK, f"exactly one row fits ({read})", taken=taken, secrets=secrets, evidence=evidence)


def _read(step: HttpStep, answer: Answer) -> Outcome:
    if step.planned.purpose is Purpose.RECOGNISE and step.rule.recognition is not None:
        return read_recognition(step.rule.recognition, answer, step.values)
    if isinstance(step.content, ProbeContent):
        return read_probe(step.content, answer, step.values, was_alive=step.was_alive)
    return read_step(step.content, answer, step.values)


def _extractions(step: HttpStep) -> Mapping[str, Extraction]:
    return step.content.extract


def _matchers(step: HttpStep) -> list[Matcher]:
    content = step.content
    if step.planned.purpose is Purpose.RECOGNISE and step.rule.recognition is not None:
        return list(step.rule.recognition.known)
    dead = content.dead if isinstance(content, ProbeContent) else []
    return [*content.request.response_matcher, *dead]


def _take(
    extractions: Mapping[str, Extraction], answer: Answer, values: Values
) -> tuple[dict[str, str], dict[str, Secret]]:
    taken: dict[str, str] = {}
    secrets: dict[str, Secret] = {}
    for name, extraction in extractions.items():
        value = take(extraction, answer, values)
        if value is None:
            continue
        if extraction.secret:
            secrets[name] = Secret(value)
        else:
            taken[name] = value
    return taken, secrets


def _evidence(answer: Answer, matchers: list[Matcher], values: Values, safe: Safe) -> dict[str, Any]:
    """What may be kept of an answer: never the body, only a keyed digest of it."""
    return {
        "status": answer.status,
        "matchers": [[name, held] for name, held in outcomes(matchers, answer, values)],
        "headers": {name: answer.headers[name][:200] for name in KEPT_HEADERS if name in answer.headers},
        "digest": safe.digest(answer.body),
        "bytes": len(answer.body),
    }


def _unanswered(step: HttpStep, error: ExchangeError) -> Result:
    """No usable answer: what that means depends on whether anything was sent, and whether it could change something."""
    says = f"{_shown(step)}: {error.says}"
    if not error.sent:
        outcome = Outcome.NOT_SENT
    elif step.planned.purpose is Purpose.ACT:
        outcome = Outcome.LOST
    else:
        outcome = Outcome.RETRY
    if step.planned.purpose in LOOKS:
        outcome = Outcome.INCONCLUSIVE
    return Result(outcome, says, evidence={"trouble": error.kind.value, "sent": error.sent})


def _unreadable(step: HttpStep, error: TemplateError) -> Result:
    """The answer came, and a template that says how to read it cannot be filled: the rule is wrong."""
    act = step.planned.purpose is Purpose.ACT
    outcome = Outcome.INCONCLUSIVE if step.planned.purpose in LOOKS else Outcome.LOST if act else Outcome.BROKEN
    return Result(outcome, f"{_shown(step)} was answered, but the answer cannot be read: {error}")


def _shown(step: HttpStep) -> str:
    return f"{step.prepared.method} {step.prepared.shown}"


def _explain(step: HttpStep, outcome: Outcome, says: str) -> str:
    """Say who was refused, and what to do: the connection or the credential itself."""
    request: Request = step.content.request
    if outcome is Outcome.DENIED and request.actor:
        return f"{says}: the connection was refused; give its identity the permission for this call"
    if outcome is Outcome.DENIED:
        return f"{says}: the credential itself was refused; a connection with more rights can act on it"
    if outcome is Outcome.ALREADY_GONE and request.actor:
        return f"{says}: the connection's account does not have it; is it the right connection?"
    return says
