"""An answer means what the rule's own matchers say of it; nothing is guessed into a yes or a death."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from rules.lifecycle import Outcome
from rules.match import holds, outcomes, read_probe, read_recognition, read_step
from rules.message import Answer
from rules.schema import Matcher, ProbeContent, Recognition, Step

MATCHER: TypeAdapter[Matcher] = TypeAdapter(Matcher)
OK_200 = {"type": "StatusMatch", "status": [200]}
GONE_404 = {"is": "already_gone", "when": [{"type": "StatusMatch", "status": [404]}]}
PAGE = "<!DOCTYPE html><html>maintenance</html>"


def answer(status: int = 200, body: object = "", **headers: str) -> Answer:
    """An answer with this body, as JSON unless it is text."""
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode())


def held(said: dict[str, Any], given_answer: Answer, **values: str) -> bool:
    """Whether a matcher, as a rule file says it, holds."""
    return holds(MATCHER.validate_python(said), given_answer, values)


# ── matchers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_status() -> None:
    """A status is one of those named; `negative` turns it round."""
    assert held({"type": "StatusMatch", "status": [200, 204]}, answer(204))
    assert not held({"type": "StatusMatch", "status": [200, 204], "match_all_status": True}, answer(204))
    assert held({"type": "StatusMatch", "status": [401, 403], "negative": True}, answer(200))


def test_words() -> None:
    """Words are looked for as they are, any of them or all of them."""
    words = {"type": "WordMatch", "words": ['"ok": true', "x"]}
    assert held(words, answer(body='{"ok": true}'))
    assert not held(words, answer(body='{"ok":true}'))
    assert not held({**words, "match_all_words": True}, answer(body='{"ok": true}'))
    assert held({**words, "negative": True}, answer(body="no"))


def test_header() -> None:
    """A header's value is looked at in any case; one that is not there contains nothing."""
    matcher = {"type": "HeaderMatch", "header": "Content-Type", "expected": ["Application/JSON"]}
    assert held(matcher, answer(content_type="application/json; charset=utf-8"))
    assert not held(matcher, answer())
    assert held({**matcher, "negative": True}, answer())


@pytest.mark.parametrize(
    ("said", "value", "expected"),
    [
        ({"equals": "k1"}, "k1", True),
        ({"equals": "{{ KEY }}"}, "k1", True),
        ({"equals": "{{ KEY }}"}, "k2", False),
        ({"equals": "1"}, 1, False),
        ({"equals": "true"}, True, False),
        ({"equals": "{{ NUMBER }}"}, 17, True),
        ({"equals": "{{ NUMBER }}"}, "17", True),
        ({"equals": "{{ NUMBER }}"}, 17.5, False),
        ({"equals": "{{ TRUTH }}"}, True, True),
        ({"equals": "{{ TRUTH }}"}, 1, False),
        ({"equals": "{{ EMPTY }}"}, "", False),
        ({"equals": "{{ EMPTY }}"}, None, False),
        ({"equals": "{{ NUMBER }}", "negative": True}, 18, True),
        ({"equals": 1}, 1, True),
        ({"equals": 1}, True, False),
        ({"equals": True}, 1, False),
        ({"equals": True}, True, True),
        ({"equals": False}, 0, False),
        ({"equals": "x"}, None, False),
        ({"is_null": True}, None, True),
        ({"is_null": False}, "", True),
        ({"exists": True}, None, True),
        ({"equals": True, "negative": True}, False, True),
    ],
)
def test_json(said: dict[str, Any], value: object, expected: bool) -> None:  # noqa: FBT001 - one of the parameters
    """A JSON value equals a text, a number or a truth of its own type; what a name stands for, as it is written."""
    values = {"KEY": "k1", "NUMBER": "17", "TRUTH": "true", "EMPTY": ""}
    assert held({"type": "JsonMatch", "path": "$.a", **said}, answer(body={"a": value}), **values) is expected


@pytest.mark.parametrize("body", ["", "text", "{}", '{"a": [1, 2]}'])
def test_json_missing(body: str) -> None:
    """Where nothing, or more than one thing, is at the path, nothing equals anything."""
    matcher = {"type": "JsonMatch", "path": "$.a[*]"}
    assert not held({**matcher, "equals": 1}, answer(body=body))
    assert not held({**matcher, "is_null": True}, answer(body=body))
    assert held({**matcher, "exists": False}, answer(body=body)) is (body != '{"a": [1, 2]}')


@pytest.mark.parametrize(
    ("kept", "found", "expected"),
    [
        ('["a", "b"]', ["b", "a"], True),
        ('["a", "b"]', ["a"], False),
        ('["a"]', ["a", "a"], False),
        ('{"x": ["a", "b"], "y": true}', {"y": True, "x": ["b", "a"]}, True),
        ('{"x": 1}', {"x": True}, False),
        ('{"x": "1"}', {"x": 1}, False),
        ('["a"]', "a", False),
        ("no JSON", "no JSON", False),
    ],
)
def test_the_same_json(kept: str, found: object, expected: bool) -> None:  # noqa: FBT001 - one of the parameters
    """What was kept as JSON is the same in whatever order its lists are, and one item more or less is another."""
    assert (
        held({"type": "JsonMatch", "path": "$.v", "same": "{{ KEPT }}"}, answer(body={"v": found}), KEPT=kept)
        is expected
    )


def test_any_of_several_values() -> None:
    """An id in a list is found wherever it stands; that it is not there is never something that a rule can ask for."""
    matcher = {"type": "JsonMatch", "path": "$.rows[*].id", "equals": "{{ KEY }}", "match_any_value": True}
    listed = answer(body={"rows": [{"id": 16}, {"id": 17}, {"id": None}]})
    assert held(matcher, listed, KEY="17")
    assert not held(matcher, listed, KEY="18")
    assert not held(matcher, answer(body={"rows": []}), KEY="17")
    assert outcomes([MATCHER.validate_python(matcher)], listed, {"KEY": "17"}) == [
        ("JsonMatch $.rows[*].id has '{{ KEY }}'", True)
    ]
    known = Recognition.model_validate({"request": {"url": "https://h/"}, "known": [matcher]})
    assert read_recognition(known, listed, {"KEY": "17"}) is Outcome.KNOWN
    assert read_recognition(known, listed, {"KEY": "18"}) is Outcome.UNKNOWN
    for wrong in ({**matcher, "negative": True}, {**matcher, "equals": None, "exists": True}):
        with pytest.raises(ValueError, match="match_any_value"):
            MATCHER.validate_python(wrong)


def test_documents() -> None:
    """JSON is JSON and XML is XML; XML that declares entities is neither read nor expanded."""
    assert held({"type": "JsonValid"}, answer(body="[]"))
    assert not held({"type": "JsonValid"}, answer(body="[" * 100_000))
    assert held({"type": "XmlValid"}, answer(body="<a><b/></a>"))
    assert not held({"type": "XmlValid"}, answer(body="<a>"))
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
    assert not held({"type": "XmlValid"}, answer(body=bomb))
    outside = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
    assert not held({"type": "XmlValid"}, answer(body=outside))


def test_evidence() -> None:
    """Evidence names each matcher by the rule's own words, and never by what was filled in."""
    matchers = [
        MATCHER.validate_python(said)
        for said in (OK_200, {"report_response": True}, {"type": "JsonMatch", "path": "$.id", "equals": "{{ KEY }}"})
    ]
    labels = outcomes(matchers, answer(body={"id": "s3cr3t"}), {"KEY": "s3cr3t"})
    assert labels == [("StatusMatch 200", True), ("JsonMatch $.id equals '{{ KEY }}'", True)]


# ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def step(*matchers: dict[str, Any], method: str = "DELETE", **said: Any) -> Step:
    """A step with these matchers."""
    request = {"method": method, "url": "https://h/", "response_matcher": list(matchers)}
    return Step.model_validate({"request": request | said.pop("request", {}), **said})


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (204, "broken"), (302, "broken"), (400, "broken"), (404, "broken"), (401, "denied"), (403, "denied"),
     (407, "denied"), (408, "lost"), (425, "retry"), (429, "retry"), (500, "lost"), (503, "lost")],
)  # fmt: skip
def test_step(status: int, outcome: str) -> None:
    """A mutating step is done when its matchers hold; a failure of the server may have done it all the same."""
    assert read_step(step(OK_200), answer(status), {}) == outcome
    if outcome == "lost":
        assert read_step(step(OK_200, method="GET"), answer(status), {}) is Outcome.RETRY


def test_step_without_status() -> None:
    """Where no matcher names the right status, the answer has to be 2xx besides."""
    assert read_step(step({"report_response": True}), answer(204), {}) is Outcome.OK
    assert read_step(step(), answer(500), {}) is Outcome.LOST
    assert read_step(step({"type": "JsonValid"}), answer(500, {}), {}) is Outcome.LOST
    negative = {"type": "StatusMatch", "status": [401], "negative": True}
    assert read_step(step(negative), answer(503), {}) is Outcome.LOST


def test_clauses() -> None:
    """The rule's own clauses come before everything else, the first that fits."""
    later = {"is": "broken", "when": [{"type": "StatusMatch", "status": [404, 409]}]}
    assert read_step(step(OK_200, outcomes=[GONE_404, later]), answer(404), {}) is Outcome.ALREADY_GONE
    assert read_step(step(OK_200, outcomes=[GONE_404, later]), answer(409), {}) is Outcome.BROKEN
    unsure = {"is": "inconclusive", "when": [OK_200]}
    assert read_step(step(OK_200, outcomes=[unsure]), answer(200), {}) is Outcome.RETRY


def test_clauses_of_doubt_and_of_another_owner() -> None:
    """What an answer leaves open is lost where something may have changed; another's credential is never ours."""
    lost = {"is": "lost", "when": [{"type": "StatusMatch", "status": [202]}]}
    theirs = {"is": "not_ours", "when": [{"type": "StatusMatch", "status": [200]}]}
    changing = step(OK_200, outcomes=[lost, theirs])
    assert changing.mutates
    looking = step(OK_200, outcomes=[lost, theirs], mutating=False)
    assert read_step(changing, answer(202), {}) is Outcome.LOST
    assert read_step(looking, answer(202), {}) is Outcome.RETRY
    assert read_step(changing, answer(200), {}) is Outcome.NOT_OURS
    assert read_step(looking, answer(200), {}) is Outcome.NOT_OURS
    assert read_probe(probe(outcomes=[lost, theirs]), answer(202), {}) is Outcome.INCONCLUSIVE
    assert read_probe(probe(outcomes=[lost, theirs]), answer(200), {}) is Outcome.NOT_OURS


def test_pages() -> None:
    """A web page is what a proxy answers, and no yes, unless the rule expects one."""
    assert read_step(step(OK_200), answer(200, PAGE), {}) is Outcome.BROKEN
    assert read_step(step(OK_200), answer(200, "", content_type="text/html"), {}) is Outcome.BROKEN
    assert read_step(step(OK_200, request={"response_is_html": True}), answer(200, PAGE), {}) is Outcome.OK
    assert read_step(step(OK_200), answer(502, PAGE), {}) is Outcome.LOST


# ── probes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def probe(*dead: dict[str, Any], alive: list[dict[str, Any]] | None = None, **said: Any) -> ProbeContent:
    """A probe that says alive at 200 and dead at these."""
    request = {"url": "https://h/", "response_matcher": [OK_200] if alive is None else alive}
    return ProbeContent.model_validate({"request": request, "dead": list(dead), **said})


ANY_STATUS_DEAD = {"type": "StatusMatch", "status": list(range(300, 600))}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "alive"), (401, "dead"), (403, "dead"), (404, "dead"), (201, "inconclusive"), (302, "inconclusive"),
     (407, "inconclusive"), (408, "inconclusive"), (421, "inconclusive"), (425, "inconclusive"),
     (429, "inconclusive"), (500, "inconclusive"), (503, "inconclusive")],
)  # fmt: skip
def test_probe(status: int, outcome: str) -> None:
    """A status that speaks of the request, the moment or the address is never read as dead, whatever the rule says."""
    assert read_probe(probe(ANY_STATUS_DEAD), answer(status), {}) == outcome


def test_probe_doubts() -> None:
    """An OTP demand, a web page, both and neither are inconclusive; no matcher says neither alive nor dead."""
    content = probe(ANY_STATUS_DEAD)
    assert read_probe(content, answer(401, www_authenticate="OTP"), {}) is Outcome.INCONCLUSIVE
    assert read_probe(content, answer(401, PAGE), {}) is Outcome.INCONCLUSIVE
    assert read_probe(content, answer(200, PAGE), {}) is Outcome.INCONCLUSIVE
    assert read_probe(probe({"type": "JsonValid"}), answer(200, {}), {}) is Outcome.INCONCLUSIVE
    assert read_probe(probe(), answer(401), {}) is Outcome.UNPROVABLE
    assert read_probe(probe(alive=[{"report_response": True}]), answer(200), {}) is Outcome.UNPROVABLE
    assert read_probe(probe({"report_response": True}), answer(401), {}) is Outcome.INCONCLUSIVE


def test_probe_clauses() -> None:
    """A clause of a probe says alive, dead, or that nothing can be said."""
    ok = {"is": "ok", "when": [{"type": "StatusMatch", "status": [402]}]}
    denied = {"is": "denied", "when": [{"type": "StatusMatch", "status": [403]}]}
    content = probe(ANY_STATUS_DEAD, outcomes=[ok, GONE_404, denied])
    assert read_probe(content, answer(402), {}) is Outcome.ALIVE
    assert read_probe(content, answer(404), {}) is Outcome.DEAD
    assert read_probe(content, answer(403), {}) is Outcome.INCONCLUSIVE


# ── recognition ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "known"), (404, "unknown"), (302, "unknown"), (401, "denied"), (403, "denied"), (408, "retry"),
     (425, "retry"), (429, "retry"), (500, "retry"), (400, "unknown")],
)  # fmt: skip
def test_recognition(status: int, outcome: str) -> None:
    """An account knows a credential when it says so; an answer that says nothing is no evidence."""
    recognition = Recognition.model_validate({"request": {"url": "https://h/"}, "known": [OK_200]})
    assert read_recognition(recognition, answer(status), {}) == outcome
    assert read_recognition(recognition, answer(200, PAGE), {}) is Outcome.UNKNOWN


@given(status=st.integers(100, 599), body=st.binary(max_size=40), method=st.sampled_from(["GET", "POST", "DELETE"]))
def test_any_answer(status: int, body: bytes, method: str) -> None:
    """Whatever comes, it is read as something; a lost answer of a mutating request is never read as one to repeat."""
    given_answer = Answer(status, {}, body)
    outcome = read_step(step(OK_200, method=method), given_answer, {})
    assert (outcome is Outcome.OK) <= (status == 200)
    assert not (method != "GET" and outcome is Outcome.RETRY and (status == 408 or status >= 500))
    assert read_probe(probe(ANY_STATUS_DEAD), given_answer, {}) in {Outcome.ALIVE, Outcome.DEAD, Outcome.INCONCLUSIVE}
    for said in ({"type": "JsonValid"}, {"type": "XmlValid"}, {"type": "JsonMatch", "path": "$..a", "exists": True}):
        assert held(said, given_answer) in {True, False}
