"""What an answer means: whether matchers hold, and the outcome of a step, a probe or a recognition."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from xml.parsers import expat

from rules.extract import Values, find, scalar
from rules.lifecycle import Outcome
from rules.message import Answer
from rules.schema import (
    Action,
    Aws,
    Command,
    HeaderMatch,
    JsonMatch,
    JsonValid,
    Matcher,
    OutcomeClause,
    ProbeContent,
    Recognition,
    ReportResponse,
    Request,
    StatusMatch,
    Step,
    WordMatch,
    XmlValid,
)
from rules.template import Place, compile_template

REFUSED = frozenset({401, 403, 407})
TOO_EARLY_OR_MANY = frozenset({425, 429})
NEVER_DEAD = frozenset({407, 408, 421, 425, 429})
"""Statuses that are said of a request, an address or a moment, and never of the credential."""
MARKS = re.compile(
    r"otp|one[-_ ]?time|two[-_ ]?factor|second[-_ ]factor|multi[-_ ]?factor|\b[2m]fa\b|\bsso\b|saml|captcha"
    r"|\bips?\b|ip[-_ ]?address|allow[-_ ]?list|white[-_ ]?list|block[-_ ]?list|geo|region"
    r"|rate[-_ ]?limit|too many|throttl|quota|slow[-_ ]?down|try again|temporar",
    re.IGNORECASE,
)
"""Words by which a refusal speaks of a second factor, an address or a moment, and not of the credential."""
MOST_READ = 1 << 16
MARKING_HEADERS = re.compile(r"otp|sso|retry-after", re.IGNORECASE)
BUDGET_HEADERS = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining")
AWS_CODES = {
    "NoSuchEntity": Outcome.ALREADY_GONE,
    "LimitExceeded": Outcome.FULL,
    "Throttling": Outcome.RETRY,
    "ThrottlingException": Outcome.RETRY,
    "RequestLimitExceeded": Outcome.RETRY,
    "EntityTemporarilyUnmodifiable": Outcome.RETRY,
    "ConcurrentModification": Outcome.RETRY,
}
"""What AWS says with a code, and a status that alone would mean something else."""
SAID_BY_PROBE = {
    Outcome.OK: Outcome.ALIVE,
    Outcome.ALREADY_GONE: Outcome.DEAD,
    Outcome.NOT_OURS: Outcome.NOT_OURS,
}
"""What a clause of a probe means; any other says nothing of the credential."""
MISSING = object()


# ── matchers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def holds(matcher: Matcher, answer: Answer, values: Values) -> bool:
    """Whether one matcher holds for an answer."""
    match matcher:
        case StatusMatch():
            return _status_holds(matcher, answer) != matcher.negative
        case WordMatch():
            return _any_or_all(matcher.words, answer.text, every=matcher.match_all_words) != matcher.negative
        case HeaderMatch():
            return _header_holds(matcher, answer) != matcher.negative
        case JsonMatch():
            return _json_holds(matcher, answer, values) != matcher.negative
        case JsonValid():
            return _document(answer) is not MISSING
        case XmlValid():
            return _is_xml(answer.body)
        case ReportResponse():
            return True


def outcomes(matchers: Iterable[Matcher], answer: Answer, values: Values) -> list[tuple[str, bool]]:
    """Each matcher's label and whether it held, as evidence; the wish to keep the answer is none."""
    return [(_label(matcher), holds(matcher, answer, values)) for matcher in matchers if _decides(matcher)]


def _status_holds(matcher: StatusMatch, answer: Answer) -> bool:
    same = [answer.status == status for status in matcher.status]
    return all(same) if matcher.match_all_status else any(same)


def _any_or_all(words: Sequence[str], text: str, *, every: bool) -> bool:
    return all(word in text for word in words) if every else any(word in text for word in words)


def _header_holds(matcher: HeaderMatch, answer: Answer) -> bool:
    value = answer.headers.get(matcher.header.lower(), "").lower()
    return _any_or_all([word.lower() for word in matcher.expected], value, every=matcher.match_all_values)


def _json_holds(matcher: JsonMatch, answer: Answer, values: Values) -> bool:
    document = _document(answer)
    found = [] if document is MISSING else find(matcher.path, document)
    if matcher.exists is not None:
        return bool(found) == matcher.exists
    if matcher.match_any_value:
        return any(_equals(matcher.equals, value, values) for value in found)
    if len(found) != 1:
        return False
    if matcher.is_null is not None:
        return (found[0] is None) == matcher.is_null
    if matcher.same is not None:
        return _same(matcher.same, found[0], values)
    return _equals(matcher.equals, found[0], values)


def _equals(expected: object, found: object, values: Values) -> bool:
    """Compare with a type for a type: 1 is not true, and "1" is not 1; what a name stands for, as it is written.

    A name that stands for nothing equals nothing, as in the conditions of `select`.
    """
    if isinstance(expected, str):
        template = compile_template(expected)
        text = template.fill(values, Place.PLAIN)
        return bool(text) and scalar(found) == text if template.names else found == text
    if isinstance(expected, bool) or isinstance(found, bool):
        return isinstance(expected, bool) and isinstance(found, bool) and expected == found
    return isinstance(found, int | float) and found == expected


def _same(source: str, found: object, values: Values) -> bool:
    try:
        expected = json.loads(compile_template(source).fill(values, Place.PLAIN))
    except ValueError:
        return False
    return _unordered(expected) == _unordered(found)


def _unordered(value: object) -> str:
    """A JSON value as text, the items of its lists sorted: scopes and permissions come in no order."""
    if isinstance(value, list):
        return f"[{','.join(sorted(map(_unordered, value)))}]"
    if isinstance(value, dict):
        return f"{{{','.join(sorted(f'{json.dumps(key)}:{_unordered(item)}' for key, item in value.items()))}}}"
    return json.dumps(value)


def _document(answer: Answer) -> object:
    try:
        return answer.json
    except ValueError:
        return MISSING


class _Entity(Exception):
    pass


def _refuse_entity(*_: object) -> None:
    raise _Entity


def _is_xml(body: bytes) -> bool:
    """Whether it is well-formed XML; what declares entities is refused, since they can grow without end."""
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse_entity
    try:
        parser.Parse(body, True)  # noqa: FBT003 - expat takes no names
    except (expat.ExpatError, _Entity, ValueError):
        return False
    return True


def _decides(matcher: Matcher) -> bool:
    return not isinstance(matcher, ReportResponse)


def _label(matcher: Matcher) -> str:
    """Name a matcher by the rule's own words; what a template was filled with is not among them."""
    negative = "not " if getattr(matcher, "negative", False) else ""
    match matcher:
        case StatusMatch():
            return f"StatusMatch {negative}{', '.join(map(str, matcher.status))}"
        case WordMatch():
            return f"WordMatch {negative}{', '.join(map(repr, matcher.words))}"
        case HeaderMatch():
            return f"HeaderMatch {negative}{matcher.header}: {', '.join(matcher.expected)}"
        case JsonMatch():
            return f"JsonMatch {negative}{matcher.path} {_condition(matcher)}"
        case _:
            return str(matcher.type)


def _condition(matcher: JsonMatch) -> str:
    if matcher.exists is not None:
        return "exists" if matcher.exists else "is absent"
    if matcher.is_null is not None:
        return "is null" if matcher.is_null else "is not null"
    if matcher.same is not None:
        return f"is the same as {matcher.same!r}"
    return f"{'has' if matcher.match_any_value else 'equals'} {matcher.equals!r}"


# ── readings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def read_step(step: Step, answer: Answer, values: Values) -> Outcome:
    """Read a step's answer; the clauses of the rule come first."""
    clause = _first_clause(step.outcomes, answer, values)
    if clause is Outcome.INCONCLUSIVE or (clause is Outcome.LOST and not step.mutates):
        return Outcome.RETRY
    if clause is not None:
        return clause
    if isinstance(step.action, Command):
        return _read_exit(step.action, answer, values, mutates=step.mutates)
    told = AWS_CODES.get(code_of(answer)) if isinstance(step.action, Aws) else None
    return told or _read_status(step, answer, values)


def _read_status(step: Step, answer: Answer, values: Values) -> Outcome:
    """Read an answer over HTTP; nothing is guessed from a web page."""
    status = answer.status
    if _is_redirect(status) or (_is_page(step.action, answer) and status < 500):
        return Outcome.BROKEN
    if _accepts(step.action.response_matcher, answer, values):
        return Outcome.OK
    if status in REFUSED:
        return Outcome.DENIED
    if status in TOO_EARLY_OR_MANY:
        return Outcome.RETRY
    if status == 408 or status >= 500:
        return Outcome.LOST if step.mutates else Outcome.RETRY
    return Outcome.BROKEN


def _read_exit(command: Command, answer: Answer, values: Values, *, mutates: bool) -> Outcome:
    """Read a program's exit code; one that a signal ended, or that nobody foresaw, may have done anything."""
    if _ended_well(command, answer, values):
        return Outcome.OK
    if answer.status in command.already_gone:
        return Outcome.ALREADY_GONE
    if answer.status in command.retry:
        return Outcome.RETRY
    if answer.status in command.ok:
        return Outcome.BROKEN
    if mutates:
        return Outcome.LOST
    return Outcome.RETRY if answer.status < 0 else Outcome.BROKEN


def _ended_well(command: Command, answer: Answer, values: Values) -> bool:
    matchers = command.response_matcher
    return answer.status in command.ok and all(holds(matcher, answer, values) for matcher in matchers)


def code_of(answer: Answer) -> str:
    """The error code of an answer of AWS, or nothing."""
    try:
        document = answer.json
    except ValueError:
        return ""
    error = document.get("Error") if isinstance(document, dict) else None
    return str(error.get("Code", "")) if isinstance(error, dict) else ""


def read_probe(content: ProbeContent, answer: Answer, values: Values, *, was_alive: bool = False) -> Outcome:
    """Read a probe's answer: alive and dead each need their own matchers, and both or neither is inconclusive.

    `was_alive`: an earlier look at this very credential said alive. A probe without a word for dead needs that.
    """
    clause = _first_clause(content.outcomes, answer, values)
    if clause is not None:
        return SAID_BY_PROBE.get(clause, Outcome.INCONCLUSIVE)
    if _is_page(content.action, answer):
        return Outcome.INCONCLUSIVE
    if not content.can_say_dead and content.request is not None:
        return _read_imported(content.request, answer, values, was_alive=was_alive)
    said = [outcome for outcome, is_said in _said_by(content, answer, values) if is_said]
    return said[0] if len(said) == 1 else Outcome.INCONCLUSIVE


def _said_by(content: ProbeContent, answer: Answer, values: Values) -> Iterator[tuple[Outcome, bool]]:
    """Alive, dead, disabled: exactly one of them has to be said."""
    disabled = _all_hold(content.disabled, answer, values)
    dead = _all_hold(content.dead, answer, values)
    command = content.command
    if command is not None:
        yield Outcome.ALIVE, _ended_well(command, answer, values) and not disabled and not dead
        yield Outcome.DEAD, answer.status in command.already_gone or (dead and answer.status in command.ok)
        yield Outcome.DISABLED, disabled and answer.status in command.ok
        return
    yield Outcome.ALIVE, _all_hold(content.action.response_matcher, answer, values)
    yield Outcome.DEAD, dead and not _is_never_dead(answer)
    yield Outcome.DISABLED, disabled and not _is_never_dead(answer)


def _read_imported(request: Request, answer: Answer, values: Values, *, was_alive: bool) -> Outcome:
    """Read a probe that only says alive: what was alive and is refused now, and for no other cause, is dead.

    Every answer that may change by itself is inconclusive; any other that does not say alive proves nothing.
    """
    if _is_never_dead(answer):
        return Outcome.INCONCLUSIVE
    matchers = request.response_matcher
    if _all_hold(matchers, answer, values) and (_names_yes(matchers) or 200 <= answer.status < 300):
        return Outcome.ALIVE
    if _is_marked(answer):
        return Outcome.INCONCLUSIVE
    return Outcome.DEAD if was_alive and answer.status in {401, 403} else Outcome.UNPROVABLE


def _names_yes(matchers: Iterable[Matcher]) -> bool:
    """Whether a matcher names what a good answer has; that no bad word is in it says little of a 404."""
    return any(isinstance(matcher, StatusMatch | WordMatch) and not matcher.negative for matcher in matchers)


def _is_marked(answer: Answer) -> bool:
    """Whether a refusal speaks of something else than the credential; many words count, since doubt is free."""
    if any(MARKING_HEADERS.search(name) for name in answer.headers):
        return True
    if any(answer.headers.get(name, "").strip() == "0" for name in BUDGET_HEADERS):
        return True
    said = f"{answer.headers.get('www-authenticate', '')}\n{answer.text[:MOST_READ]}"
    return answer.status in REFUSED and MARKS.search(said) is not None


def read_recognition(recognition: Recognition, answer: Answer, values: Values) -> Outcome:
    """Read whether this account once knew the credential; an answer that says neither is no evidence."""
    status = answer.status
    if isinstance(recognition.action, Command):
        known = status in recognition.action.ok and _all_hold(recognition.known, answer, values)
        return Outcome.KNOWN if known else Outcome.RETRY if status in recognition.action.retry else Outcome.UNKNOWN
    throttled = isinstance(recognition.action, Aws) and AWS_CODES.get(code_of(answer)) is Outcome.RETRY
    if throttled or status in TOO_EARLY_OR_MANY or status == 408 or status >= 500:
        return Outcome.RETRY
    if _is_redirect(status) or _is_page(recognition.action, answer):
        return Outcome.UNKNOWN
    if _accepts(recognition.known, answer, values):
        return Outcome.KNOWN
    return Outcome.DENIED if status in REFUSED else Outcome.UNKNOWN


def find_clause(clauses: Iterable[OutcomeClause], answer: Answer, values: Values) -> OutcomeClause | None:
    """The first clause that fits the answer."""
    return next((clause for clause in clauses if _all_hold(clause.when, answer, values)), None)


def _first_clause(clauses: Iterable[OutcomeClause], answer: Answer, values: Values) -> Outcome | None:
    clause = find_clause(clauses, answer, values)
    return None if clause is None else clause.outcome


def _all_hold(matchers: Iterable[Matcher], answer: Answer, values: Values) -> bool:
    """Whether there are matchers that decide, and all of them hold."""
    deciding = [matcher for matcher in matchers if _decides(matcher)]
    return bool(deciding) and all(holds(matcher, answer, values) for matcher in deciding)


def _accepts(matchers: Sequence[Matcher], answer: Answer, values: Values) -> bool:
    """Whether an answer is a yes. Where no matcher names a status that is right, it has to be 2xx as well."""
    names_status = any(isinstance(matcher, StatusMatch) and not matcher.negative for matcher in matchers)
    if not names_status and not 200 <= answer.status < 300:
        return False
    return all(holds(matcher, answer, values) for matcher in matchers)


def _is_redirect(status: int) -> bool:
    return 300 <= status < 400


def _is_page(action: Action, answer: Answer) -> bool:
    return answer.is_html and isinstance(action, Request) and not action.response_is_html


def _is_never_dead(answer: Answer) -> bool:
    status = answer.status
    asks_for_more = "otp" in answer.headers.get("www-authenticate", "").lower()
    return _is_redirect(status) or status in NEVER_DEAD or status >= 500 or asks_for_more
