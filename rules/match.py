"""What an answer means: whether matchers hold, and the outcome of a step, a probe or a recognition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.parsers import expat

from rules.extract import Values, find
from rules.lifecycle import Outcome
from rules.message import Answer
from rules.schema import (
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
    if len(found) != 1:
        return False
    if matcher.is_null is not None:
        return (found[0] is None) == matcher.is_null
    return _equals(matcher.equals, found[0], values)


def _equals(expected: object, found: object, values: Values) -> bool:
    """Compare with a type for a type: 1 is not true, and "1" is not 1."""
    if isinstance(expected, str):
        return isinstance(found, str) and found == compile_template(expected).fill(values, Place.PLAIN)
    if isinstance(expected, bool) or isinstance(found, bool):
        return isinstance(expected, bool) and isinstance(found, bool) and expected == found
    return isinstance(found, int | float) and found == expected


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
    return f"equals {matcher.equals!r}"


# ── readings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def read_step(step: Step, answer: Answer, values: Values) -> Outcome:
    """Read a step's answer; the clauses of the rule come first, and nothing is guessed from a web page."""
    status = answer.status
    clause = _first_clause(step.outcomes, answer, values)
    if clause is not None:
        return Outcome.RETRY if clause is Outcome.INCONCLUSIVE else clause
    if _is_redirect(status) or (_is_page(step.request, answer) and status < 500):
        return Outcome.BROKEN
    if _accepts(step.request.response_matcher, answer, values):
        return Outcome.OK
    if status in REFUSED:
        return Outcome.DENIED
    if status in TOO_EARLY_OR_MANY:
        return Outcome.RETRY
    if status == 408 or status >= 500:
        return Outcome.LOST if step.mutates else Outcome.RETRY
    return Outcome.BROKEN


def read_probe(content: ProbeContent, answer: Answer, values: Values) -> Outcome:
    """Read a probe's answer: alive and dead each need their own matchers, and both or neither is inconclusive."""
    clause = _first_clause(content.outcomes, answer, values)
    if clause is not None:
        return {Outcome.OK: Outcome.ALIVE, Outcome.ALREADY_GONE: Outcome.DEAD}.get(clause, Outcome.INCONCLUSIVE)
    if _is_page(content.request, answer):
        return Outcome.INCONCLUSIVE
    alive = _all_hold(content.request.response_matcher, answer, values)
    dead = _all_hold(content.dead, answer, values) and not _is_never_dead(answer)
    if alive == dead:
        return Outcome.INCONCLUSIVE
    return Outcome.ALIVE if alive else Outcome.DEAD


def read_recognition(recognition: Recognition, answer: Answer, values: Values) -> Outcome:
    """Read whether this account once knew the credential; an answer that says neither is no evidence."""
    status = answer.status
    if status in TOO_EARLY_OR_MANY or status == 408 or status >= 500:
        return Outcome.RETRY
    if _is_redirect(status) or _is_page(recognition.request, answer):
        return Outcome.UNKNOWN
    if _accepts(recognition.known, answer, values):
        return Outcome.KNOWN
    return Outcome.DENIED if status in REFUSED else Outcome.UNKNOWN


def _first_clause(clauses: Iterable[OutcomeClause], answer: Answer, values: Values) -> Outcome | None:
    for clause in clauses:
        if _all_hold(clause.when, answer, values):
            return clause.outcome
    return None


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


def _is_page(request: Request, answer: Answer) -> bool:
    return answer.is_html and not request.response_is_html


def _is_never_dead(answer: Answer) -> bool:
    status = answer.status
    asks_for_more = "otp" in answer.headers.get("www-authenticate", "").lower()
    return _is_redirect(status) or status in NEVER_DEAD or status >= 500 or asks_for_more
