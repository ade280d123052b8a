"""Kingfisher's 1.x format, as its RULES page describes it: such a file loads as it stands and does what the page says.

The rules here are our own. Where revoq is stricter, a test says so; what is sent beside Kingfisher itself is shown by
the acceptance suite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rules.errors import BadInput, ExtractError, RevoqError, RuleError, TemplateError
from rules.extract import take_all
from rules.lifecycle import Intent, Outcome
from rules.lint import lint
from rules.loader import LoadedRule, load, read, read_text
from rules.match import read_probe, read_step
from rules.message import Answer
from rules.plan import Purpose
from rules.planning import plan
from rules.request import prepare
from rules.schema import ProbeContent, Request
from rules.secret import Secret

Said = dict[str, Any]

SECRET = "ex_Ab3dEf6h"
NOW = datetime(2026, 3, 10, 12, 30, 1, tzinfo=UTC)
OK = {"type": "StatusMatch", "status": [200]}
URL = "https://api.example.com"
VALUES: dict[str, str | Secret] = {"TOKEN": Secret(SECRET), "AKID": "AK1"}
DEPENDS = [{"rule_id": "custom.example.id", "variable": "AKID"}]


def rule(**parts: Any) -> Said:
    """A rule as such a file says it."""
    return {"name": "Example token", "id": "custom.example.token", "pattern": r"\b(ex_[A-Za-z0-9]{8})\b", **parts}


def http(*matchers: Said, **request: Any) -> Said:
    """A validation or a revocation of type Http."""
    asked = {"method": "GET", "url": f"{URL}/me", "response_matcher": [*matchers], **request}
    return {"type": "Http", "content": {"request": asked}}


def two_steps(extract: Said, url: str = f"{URL}/tokens/current", **second: Any) -> Said:
    """A lookup and a deletion."""
    bearer = {"Authorization": "Bearer {{ TOKEN }}"}
    first = {"method": "GET", "url": url, "headers": bearer, "response_matcher": [OK]}
    last = {"method": "DELETE", "url": f"{URL}/tokens/{{{{ ID }}}}", "response_matcher": [OK], **second}
    return {"type": "HttpMultiStep", "content": {"steps": [{"request": first, "extract": extract}, {"request": last}]}}


def read_one(said: Said) -> tuple[LoadedRule | None, list[str], list[str]]:
    """One rule of a file: what was loaded, its mistakes, its notices."""
    found, wrong = read_text(yaml.safe_dump({"rules": [said]}, sort_keys=False), "k.yml")
    loaded = found[0] if found else None
    return loaded, [str(mistake) for mistake in wrong], [str(notice) for notice in (loaded.notices if loaded else ())]


def good(said: Said) -> LoadedRule:
    """A rule that loads with nothing to be said about it."""
    loaded, wrong, notices = read_one(said)
    assert (wrong, notices) == ([], [])
    assert loaded is not None
    return loaded


def probe_of(loaded: LoadedRule) -> ProbeContent:
    """The validation of a rule, which is its probe."""
    assert loaded.rule.validation is not None
    content = loaded.rule.validation.content
    assert isinstance(content, ProbeContent)
    return content


def answer(status: int = 200, body: object = "", headers: Mapping[str, str] | None = None) -> Answer:
    """An answer; a body that is no text is JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(status, {name.lower(): value for name, value in (headers or {}).items()}, text.encode())


JSON = {"content-type": "application/json; charset=utf-8"}


# ── matchers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("matcher", "fits", "misses"),
    [
        ({"type": "StatusMatch", "status": [200, 202]}, answer(202), answer(404)),
        ({"type": "StatusMatch", "status": [401, 403], "negative": True}, answer(200), answer(401)),
        ({"type": "WordMatch", "words": ['"ok":true', "fine"]}, answer(body="all fine"), answer(body='{"ok": true}')),
        ({"type": "WordMatch", "words": ["a", "b"], "match_all_words": True}, answer(body="ba"), answer(body="a")),
        ({"type": "WordMatch", "words": ["bad"], "negative": True}, answer(body="good"), answer(body="bad")),
        (
            {"type": "HeaderMatch", "header": "content-type", "expected": ["application/json"]},
            answer(headers=JSON),
            answer(headers={"content-type": "text/plain"}),
        ),
        (
            {"type": "HeaderMatch", "header": "X-Is", "expected": ["a", "b"], "match_all_values": True},
            answer(headers={"x-is": "b, a"}),
            answer(headers={"x-is": "a"}),
        ),
        ({"type": "JsonValid"}, answer(body={}), answer(body="{")),
        ({"type": "XmlValid"}, answer(body="<a/>"), answer(body="<a>")),
        ({"report_response": False, "type": "WordMatch", "words": ["yes"]}, answer(body="yes"), answer(body="no")),
    ],
)
def test_matchers(matcher: Said, fits: Answer, misses: Answer) -> None:
    """Each matcher does what the page says, in a probe and in a step; the wish to keep the answer decides nothing."""
    loaded = good(rule(validation=http({"report_response": True}, matcher), revocation=http(matcher)))
    probe, step = probe_of(loaded), loaded.rule.steps[0]
    assert read_probe(probe, fits, {}) is Outcome.ALIVE
    assert read_probe(probe, misses, {}) is not Outcome.ALIVE
    assert read_step(step, fits, {}) is Outcome.OK
    assert read_step(step, misses, {}) is not Outcome.OK


def test_all_matchers_hold() -> None:
    """Several matchers must all hold."""
    probe = probe_of(good(rule(validation=http(OK, {"type": "JsonValid"}, {"type": "WordMatch", "words": ["id"]}))))
    assert read_probe(probe, answer(body={"id": 1}), {}) is Outcome.ALIVE
    assert read_probe(probe, answer(body={"ok": 1}), {}) is Outcome.UNPROVABLE
    assert read_probe(probe, answer(202, {"id": 1}), {}) is Outcome.UNPROVABLE


def test_html_is_no_answer_unless_it_is_expected() -> None:
    """A web page is not read, whatever its status, unless `response_is_html` says that it is meant to come."""
    page = answer(200, "<!doctype html><html>hello</html>", {"content-type": "text/html"})
    assert read_probe(probe_of(good(rule(validation=http(OK)))), page, {}) is Outcome.INCONCLUSIVE
    assert read_probe(probe_of(good(rule(validation=http(OK, response_is_html=True)))), page, {}) is Outcome.ALIVE


def test_stricter_a_matcher_is_what_its_type_says() -> None:
    """Kingfisher guesses a matcher by its keys, so that a StatusMatch without a status means JsonValid: a mistake."""
    _, wrong, _ = read_one(rule(revocation=http({"type": "StatusMatch"})))
    assert "expected the key 'status' here" in wrong[0]
    _, wrong, _ = read_one(rule(revocation=http({"type": "WordMatch", "status": [200]})))
    assert any("unknown key 'status'" in mistake for mistake in wrong)


# ── the probe ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [401, 403])
def test_a_probe_says_dead_only_after_alive(status: int) -> None:
    """The format has no word for dead: a refusal counts only where an earlier look said alive."""
    probe = probe_of(good(rule(validation=http(OK))))
    assert read_probe(probe, answer(status), {}, was_alive=True) is Outcome.DEAD
    assert read_probe(probe, answer(status), {}) is Outcome.UNPROVABLE


@pytest.mark.parametrize("status", [204, 302, 400, 404, 407, 408, 410, 421, 425, 429, 500, 503])
def test_no_other_status_is_dead(status: int) -> None:
    """Not even after an alive answer, not even 404 and 410: a wrong path says them too."""
    probe = probe_of(good(rule(validation=http(OK))))
    assert read_probe(probe, answer(status), {}, was_alive=True) in {Outcome.UNPROVABLE, Outcome.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("OTP required", {}),
        ("two-factor authentication is needed", {}),
        ("Resource protected by organization SAML enforcement", {}),
        ("Your IP is not in the allowlist", {}),
        ("rate_limited: rate limit exceeded", {}),
        ("please try again later", {}),
        ("", {"www-authenticate": "OTP"}),
        ("", {"X-GitHub-OTP": "required"}),
        ("", {"retry-after": "5"}),
        ("", {"x-ratelimit-remaining": "0"}),
    ],
)
def test_a_marked_refusal_is_inconclusive(body: str, headers: dict[str, str]) -> None:
    """A second factor, an address or a moment is refused, and not the credential."""
    probe = probe_of(good(rule(validation=http(OK))))
    assert read_probe(probe, answer(403, body, headers), {}, was_alive=True) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("status", [429, 500, 503])
def test_stricter_an_outage_is_never_alive(status: int) -> None:
    """That no bad word and no bad status is there says nothing when the provider did not look."""
    lax = [{**OK, "status": [401], "negative": True}, {"type": "WordMatch", "words": ["bad"], "negative": True}]
    probe = probe_of(good(rule(validation=http(*lax))))
    assert read_probe(probe, answer(200), {}) is Outcome.ALIVE
    assert read_probe(probe, answer(status), {}) is Outcome.INCONCLUSIVE
    assert read_probe(probe, answer(404), {}) is Outcome.UNPROVABLE


def test_stricter_no_matcher_is_no_yes() -> None:
    """A probe whose only wish is to keep the answer never says alive."""
    assert (
        read_probe(probe_of(good(rule(validation=http({"report_response": True})))), answer(), {}) is not Outcome.ALIVE
    )


# ── extractors ────────────────────────────────────────────────────────────────────────────────────────────────────

FOUND = answer(
    200,
    {
        "data": {"id": "k1", "n": 17, "on": True},
        "list": [{"id": "a"}, {"id": "b"}],
        SECRET: "mine",
        "ex_XXXXXXXX": "no",
    },
    {"X-Token-ID": "h1"},
)


@pytest.mark.parametrize(
    ("extraction", "taken"),
    [
        ({"type": "JsonPath", "path": "$.data.id"}, "k1"),
        ({"type": "JsonPath", "path": "$.data.n"}, "17"),
        ({"type": "JsonPath", "path": "$.data.on"}, "true"),
        ({"type": "JsonPath", "path": "$.list[1].id"}, "b"),
        ({"type": "Regex", "pattern": r'"n":\s*(\d+)'}, "17"),
        ({"type": "Regex", "pattern": r'"{{ TOKEN }}":\s*"([^"]+)"'}, "mine"),
        ({"type": "Header", "name": "x-token-id"}, "h1"),
        ({"type": "Body"}, FOUND.text),
        ({"type": "StatusCode"}, "200"),
    ],
)
def test_extractors(extraction: Said, taken: str) -> None:
    """Each extractor takes what the page says, and its name is known in upper case from then on."""
    loaded = good(rule(revocation=two_steps({"id": extraction})))
    assert take_all(loaded.rule.steps[0].extract, FOUND, VALUES) == {"ID": taken}


@pytest.mark.parametrize(
    ("extraction", "says"),
    [
        ({"type": "JsonPath", "path": "$.list[*].id"}, "never takes the first of several"),
        ({"type": "Regex", "pattern": r'"id":\s*"([^"]+)"'}, "it fits 3 different ones"),
        ({"type": "JsonPath", "path": "$.none"}, "it is not there"),
        ({"type": "Header", "name": "X-None"}, "it is not there"),
        ({"type": "JsonPath", "path": "$.data"}, "found an object"),
    ],
)
def test_stricter_one_value_or_none(extraction: Said, says: str) -> None:
    """Several values, no value, or no scalar: nothing is taken, where Kingfisher takes the first or an empty text."""
    loaded = good(rule(revocation=two_steps({"id": extraction})))
    with pytest.raises(ExtractError, match=says):
        take_all(loaded.rule.steps[0].extract, FOUND, VALUES)


@pytest.mark.parametrize(
    ("extraction", "tied"),
    [
        ({"type": "JsonPath", "path": "$.data.id"}, True),
        ({"type": "Header", "name": "X-Token-ID"}, True),
        ({"type": "Regex", "pattern": '"{{ TOKEN }}":"([^"]+)"'}, True),
        ({"type": "JsonPath", "path": "$.list[0].id"}, False),
        ({"type": "Regex", "pattern": r'"id":\s*"([^"]+)"'}, False),
    ],
)
def test_stricter_the_first_of_a_list_is_flagged(extraction: Said, *, tied: bool) -> None:
    """Such a rule loads; what it would act on is not tied to the credential, and `rules check` says so."""
    loaded = good(rule(revocation=two_steps({"ID": extraction})))
    acts = [step for step in plan(loaded, Intent.REVOKE, {"TOKEN"}).steps if step.purpose is Purpose.ACT]
    assert [step.tied for step in acts] == [tied]
    assert any("parks before it as needs_selection" in warning.message for warning in lint(loaded)) is not tied


def test_stricter_every_matcher_is_enforced() -> None:
    """A 500 with a body that could be used is no answer to the first step."""
    loaded = good(rule(revocation=two_steps({"ID": {"type": "JsonPath", "path": "$.data.id"}})))
    assert read_step(loaded.rule.steps[0], answer(500, {"data": {"id": "k1"}}), VALUES) is Outcome.RETRY


# ── requests and templates ────────────────────────────────────────────────────────────────────────────────────────

FILTERS = {
    "append": ('{{ "api:" | append: TOKEN | b64enc }}', "YXBpOmV4X0FiM2RFZjZo"),
    "b64url_enc": ('{{ "++??" | b64url_enc }}', "Kys_Pw"),
    "b64dec": ('{{ "aGVsbG8=" | b64dec }}', "hello"),
    "b64url_dec": ('{{ "Kys_Pw" | b64url_dec }}', "++??"),
    "sha256": ("{{ TOKEN | sha256 }}", "23be8d22a457ee641f0d83439371a0b2f7c733d6fe0d6a94fd08ee8efc016d03"),
    "crc32": ("{{ TOKEN | crc32 }} {{ TOKEN | crc32_dec: 6 }}", "1071029486 029486"),
    "crc32_hex": ("{{ TOKEN | crc32_hex: 6 }}", "d69cee"),
    "crc32_le_b64": ("{{ TOKEN | crc32_le_b64: 6 }}", "7pzWPw"),
    "base62": ("{{ TOKEN | crc32 | base62: 7 }}", "01ATvh8"),
    "base36": ("{{ TOKEN | crc32 | base36: 8 }}", "00hpnvn2"),
    "hmac_sha1": ('{{ "data" | hmac_sha1: "key1" }}', "8ORXAyn23+fyaYmcNeI2u01JUK8="),
    "hmac_sha256": ('{{ TOKEN | hmac_sha256: "key" }}', "3PLQGT5wbKBKvYJTjSo0GmE9G+DRYkNjslIyx2oLx18="),
    "hmac_sha256_b64key": ('{{ TOKEN | hmac_sha256_b64key: "a2V5" }}', "3PLQGT5wbKBKvYJTjSo0GmE9G+DRYkNjslIyx2oLx18="),
    "hmac_sha384": (
        '{{ TOKEN | hmac_sha384: "key" }}',
        "4k6YKN6XW1MVXTKObxn/c65fPngn7wXID+gHdSTR/Awoatp5k+kMwoVEwsqnpz3i",
    ),
    "hmac_sha384_hex": (
        '{{ TOKEN | hmac_sha384_hex: "key" }}',
        "e24e9828de975b53155d328e6f19ff73ae5f3e7827ef05c80fe8077524d1fc0c286ada7993e90cc28544c2caa7a73de2",
    ),
    "prefix, suffix": ("{{ TOKEN | prefix: 4 }}{{ TOKEN | suffix: 3 }}", "ex_Af6h"),
    "replace": ('{{ "hello world" | replace: "world", "mars" }}', "hello mars"),
    "jwt_header": ('{{ "HS256" | jwt_header }}', "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9"),
    "url_encode": ("{{ TOKEN | url_encode }}", "ex%5FAb3dEf6h"),
    "json_escape": ("{{ TOKEN | json_escape }}", '"ex_Ab3dEf6h"'),
    "default": ("{{ NOT_THERE | default: TOKEN }}", SECRET),
    "time": ('{{ "" | unix_timestamp }} {{ "" | unix_timestamp_ms }}', "1773145801 1773145801000"),
    "iso": ('{{ "" | iso_timestamp_no_frac }}', "2026-03-10T12:30:01Z"),
    "iso_timestamp": ('{{ "" | iso_timestamp }}', "2026-03-10T12:30:01.000000000Z"),
    "rfc1123_date": ('{{ "" | rfc1123_date }}', "Tue, 10 Mar 2026 12:30:01 GMT"),
    "of the request": (
        "{{ REQUEST_RFC1123_DATE }} {{ REQUEST_UNIX_MILLIS }}",
        "Tue, 10 Mar 2026 12:30:01 GMT 1773145801000",
    ),
    "uuid": ('{{ "" | uuid | upcase }}', "00010203-0405-4607-8809-0A0B0C0D0E0F"),
    "random_string": ('{{ "" | random_string: 4 }}', "1Jbt"),
}


def sent(said: Said, values: Mapping[str, str | Secret] = VALUES) -> tuple[str, dict[str, str], str | None]:
    """URL, headers and body of a rule's revocation."""
    loaded = good(rule(revocation=said, depends_on_rule=DEPENDS))
    prepared = prepare(loaded.rule.steps[0].request, values, {}, now=NOW, random=lambda count: bytes(range(count)))  # type: ignore[arg-type]
    headers = {name: value.reveal() for name, value in prepared.headers.items()}
    return prepared.url.reveal(), headers, prepared.body.reveal() if prepared.body is not None else None


@pytest.mark.parametrize("name", FILTERS)
def test_filters(name: str) -> None:
    """Each filter of the page gives what Kingfisher's gives, in a header, where nothing is escaped."""
    source, filled = FILTERS[name]
    assert sent(http(OK, headers={"X-Is": source}))[1] == {"X-Is": filled}


def test_newline_in_a_body() -> None:
    """`newline` puts a line break where YAML would break the indentation; in a header it is refused."""
    assert sent(http(OK, method="POST", body='a{{ "" | newline }}b'))[2] == "a\nb"
    with pytest.raises(TemplateError, match="a line break"):
        sent(http(OK, headers={"X": 'a{{ "" | newline }}b'}))


def test_stricter_bip39_is_not_here() -> None:
    """The one filter of the page that asks for a dictionary is not supported, and is said to be none."""
    _, wrong, _ = read_one(rule(revocation=http(OK, headers={"X": "{{ TOKEN | bip39_valid }}"})))
    assert "there is no filter bip39_valid" in wrong[0]


def test_numbers_are_sent_as_written() -> None:
    """Kingfisher reads a number or a date without quotes as the text that it is in the file."""
    text = """\
    rules:
      - name: Example
        id: custom.example.token
        pattern: (ex_[a-z]{3})
        revocation:
          type: Http
          content:
            request:
              method: POST
              url: https://api.example.com/revoke
              headers: {X-Version: 2026-03-10, X-Number: 1.50, X-Int: 2, X-True: true}
              body: 12
    """
    found, wrong = read_text(text, "k.yml")
    assert wrong == []
    request = found[0].rule.steps[0].request
    assert getattr(request, "headers", None) == {
        "X-Version": "2026-03-10",
        "X-Number": "1.50",
        "X-Int": "2",
        "X-True": "true",
    }
    assert getattr(request, "body", None) == "12"


def test_digest_as_one_text() -> None:
    """`digest: user:password`, which Kingfisher ignores, signs; only the first colon parts the two."""
    loaded = good(rule(revocation=http(OK, digest='{{ AKID | append: ":" | append: TOKEN }}'), depends_on_rule=DEPENDS))
    prepared = prepare(loaded.rule.steps[0].request, {"AKID": "pub", "TOKEN": Secret("a:b")}, {})  # type: ignore[arg-type]
    assert prepared.digest is not None
    assert [part.reveal() for part in prepared.digest] == ["pub", "a:b"]
    assert plan(loaded, Intent.REVOKE, {"TOKEN", "AKID"}).steps[0].uses == ("AKID", "TOKEN")


def test_stricter_values_stay_in_their_place() -> None:
    """A path value is encoded, a JSON value escaped; Kingfisher puts both in raw."""
    odd: dict[str, str | Secret] = {"TOKEN": Secret('a/b?c="d"'), "AKID": "AK1"}
    url, _, body = sent(http(OK, method="POST", url=f"{URL}/t/{{{{ TOKEN }}}}", body='{"t":"{{ TOKEN }}"}'), odd)
    assert url == f"{URL}/t/a%2Fb%3Fc%3D%22d%22"
    assert json.loads(body or "") == {"t": 'a/b?c="d"'}


@pytest.mark.parametrize("place", ["url", "headers", "body"])
def test_stricter_an_unknown_name_is_a_mistake_everywhere(place: str) -> None:
    """Kingfisher drops a header with an unknown name, and sends the rest."""
    value: Any = f"{URL}/{{{{ NOPE }}}}" if place == "url" else "{{ NOPE }}"
    loaded, wrong, _ = read_one(rule(revocation=http(OK, **{place: {"X": value} if place == "headers" else value})))
    assert loaded is None
    assert "NOPE is defined nowhere before" in wrong[0]


@pytest.mark.parametrize("beside", [True, False])
def test_multipart(*, beside: bool) -> None:
    """Parts may stand in a request or beside it; Kingfisher ignores them in a revocation, and revoq sends them."""
    parts = {"parts": [{"name": "key", "type": "text", "content": "{{ TOKEN }}", "content_type": "text/plain"}]}
    said = http(OK, method="POST")
    said["content"] |= {"multipart": parts} if beside else {}
    said["content"]["request"] |= {} if beside else {"multipart": parts}
    _, headers, body = sent(said)
    assert headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert 'name="key"' in (body or "")
    assert SECRET in (body or "")


# ── the keys of a rule ────────────────────────────────────────────────────────────────────────────────────────────

EVERY_KEY = rule(
    pattern=r"(?xi) \b example (?:.|[\n\r]){0,16}? \b (?P<body>ex_[[:alnum:]]{8}) \b",
    min_entropy=3.5,
    confidence="High",
    examples=["example_key = ex_Ab3dEf6h"],
    negative_examples=["nothing"],
    references=["https://example.com/docs"],
    visible=False,
    path=r"\.env$",
    authoritative=True,
    vectorscan_compatible=True,
    tls_mode="strict",
    depends_on_rule=[
        {"rule_id": "a.b", "variable": "akid", "within": "2L,20C", "optional": True, "verify_candidates": True},
        None,
    ],
    pattern_requirements={
        "min_digits": 1,
        "min_uppercase": 1,
        "min_lowercase": 1,
        "min_special_chars": 0,
        "special_chars": "!@#",
        "ignore_if_contains": ["test"],
        "checksum": {
            "actual": {"template": "{{ MATCH | suffix: 6 }}", "requires_capture": "body"},
            "expected": "{{ BODY | crc32 | base62: 6 }}",
            "skip_if_missing": True,
        },
    },
    validation=http(OK, headers={"X": "{{ BODY }}"}),
    revocation=http(OK, body=None, response_is_html=False),
)


def test_every_key_is_known() -> None:
    """Every key of a rule loads with its type; names are raised to upper case."""
    loaded = good(EVERY_KEY)
    assert loaded.rule.confidence == "high"
    assert [depends.variable for depends in loaded.rule.depends_on_rule] == ["AKID"]
    assert loaded.rule.pattern_requirements is not None
    assert loaded.rule.pattern_requirements.checksum is not None


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("revocaton", {}, "unknown key 'revocaton'; did you mean 'revocation'?"),
        ("confidence", "sure", "expected 'low', 'medium' or 'high', got 'sure'"),
        ("tls_mode", "Lax", "expected 'strict', 'lax' or 'off', got 'Lax'"),
        ("min_entropy", "high", "expected a number or a whole number, got 'high'"),
        ("pattern_requirements", {"min_digit": 1}, "unknown key 'min_digit'; did you mean 'min_digits'?"),
        ("pattern_requirements", {"checksum": {"expected": "x"}}, "expected the key 'actual' here"),
        ("depends_on_rule", [{"rule_id": "a.b"}], "expected the key 'variable' here"),
        ("validation", {"type": "Raw"}, "expected the key 'content' here"),
        ("validation", {"type": "MongoDB", "content": 5}, "expected nothing, got the number 5"),
        ("validation", {"type": "Mongo"}, "expected a type, one of"),
        ("validation", {"type": "Grpc", "content": {"request": {}}}, "expected the key 'url' here"),
        ("revocation", {"type": "GCP", "content": {"project": "x"}}, "expected a type, one of"),
        ("examples", [{"token": "x"}], "expected text, got a mapping"),
    ],
)
def test_what_kingfisher_does_not_know_is_a_mistake(key: str, value: object, says: str) -> None:
    """Kingfisher passes over such keys in silence; here the rule is left out, and the line is named."""
    loaded, wrong, _ = read_one({**EVERY_KEY, key: value})
    assert loaded is None
    assert any(says in mistake for mistake in wrong), wrong


def test_keys_with_nothing_behind_them() -> None:
    """A key that is left empty is as if it were not there."""
    empty = dict.fromkeys(
        ("examples", "references", "validation", "revocation", "pattern_requirements", "depends_on_rule", "tls_mode")
    )
    assert good(rule(**empty)).rule.examples == []


def test_any_id() -> None:
    """An id needs no dot there."""
    assert good(rule(id="My-Token_1")).rule.id == "My-Token_1"


# ── what is not followed ──────────────────────────────────────────────────────────────────────────────────────────

UNASKABLE = [
    ({"type": kind}, kind)
    for kind in ("AzureStorage", "Coinbase", "CredentialUri", "GCP", "JWT", "Jdbc", "MongoDB", "MySQL", "Postgres")
] + [
    ({"type": "Assumed"}, "asks nobody"),
    ({"type": "Raw", "content": "kraken"}, "Raw"),
    ({"type": "Ethereum", "content": "mnemonic"}, "asks nobody"),
    (
        {"type": "Grpc", "content": {"request": {"url": f"{URL}/a.B/C", "headers": {"te": "trailers"}, "body": "\0"}}},
        "gRPC",
    ),
    (http(OK, url="https://{{ AKID }}.example.com/me"), "a host never comes from a credential"),
    (http(OK, url="{{ TOKEN }}"), "a host never comes from a credential"),
    (http(OK, headers={"X": "{{ NOPE }}"}), "NOPE is defined nowhere"),
    (http(OK, method="PROPFIND"), "PROPFIND"),
]


@pytest.mark.parametrize(("validation", "says"), UNASKABLE)
def test_a_validation_that_cannot_be_asked(validation: Said, says: str) -> None:
    """The rule revokes without a probe, and the notice has the line and the reason."""
    loaded, wrong, notices = read_one(
        rule(validation=validation, revocation=http(OK, method="POST"), depends_on_rule=DEPENDS)
    )
    assert wrong == []
    assert loaded is not None
    assert loaded.rule.validation is None
    assert len(notices) == 1
    assert says in notices[0]
    assert "ends as acknowledged at best" in notices[0]
    assert int(notices[0].split(":")[1]) > 4
    purposes = {step.purpose for step in plan(loaded, Intent.REVOKE, {"TOKEN", "AKID"}).steps}
    assert purposes == {Purpose.ACT}
    with pytest.raises(BadInput, match="has no probe"):
        plan(loaded, Intent.PROBE, {"TOKEN", "AKID"})


@pytest.mark.parametrize(
    ("revocation", "says"),
    [
        (http(OK, method="POST", url="https://{{ AKID }}.example.com/x"), "a host never comes from a credential"),
        (http(OK, method="POST", url="{{ TOKEN }}/x"), "a host never comes from a credential"),
        (two_steps({"ID": {"type": "Header", "name": "X"}}, url="https://{{ ID }}/x"), "is defined nowhere before"),
        (http(OK, method="PURGE"), "expected GET, HEAD, POST, PUT, PATCH or DELETE"),
        (http(OK, headers={"Host": "{{ AKID }}", "X": "{{ TOKEN | md5 }}"}), "there is no filter md5"),
    ],
)
def test_a_revocation_that_is_unsound_leaves_the_rule_out(revocation: Said, says: str) -> None:
    """Nothing is half loaded: such a rule does not exist, and the reason is told."""
    loaded, wrong, _ = read_one(rule(validation=http(OK), revocation=revocation, depends_on_rule=DEPENDS))
    assert loaded is None
    assert any(says in mistake for mistake in wrong), wrong


def test_gcp_is_recognised() -> None:
    """GCP's revocation is not supported yet: the rule finds and probes, and says why it cannot revoke."""
    loaded, wrong, notices = read_one(rule(validation=http(OK), revocation={"type": "GCP"}))
    assert wrong == []
    assert loaded is not None
    assert "its revocation (GCP) is not supported yet" in notices[0]
    with pytest.raises(BadInput, match="GCP"):
        plan(loaded, Intent.REVOKE, {"TOKEN"})
    assert plan(loaded, Intent.PROBE, {"TOKEN"}).steps


@pytest.mark.parametrize("mode", ["lax", "off"])
def test_certificates_are_always_verified(mode: str) -> None:
    """A rule cannot switch that off; it is said, and the rule works."""
    _, wrong, notices = read_one(rule(revocation=http(OK), tls_mode=mode))
    assert wrong == []
    assert f"tls_mode: {mode} is not followed" in notices[0]


def test_examples_that_do_not_match_are_told() -> None:
    """Kingfisher's own page has such examples: they are named, and the rule works."""
    loaded, wrong, notices = read_one(rule(examples=["ex_Ab3dEf6h", "MyS3cur3K3y"], negative_examples=["ex_Ab3dEf6h"]))
    assert loaded is not None
    assert wrong == []
    assert [notice.split(": ", 1)[1] for notice in notices] == [
        "example 2 does not match the pattern",
        "example 1 matches the pattern, and should not",
    ]


# ── detectors and dependencies ────────────────────────────────────────────────────────────────────────────────────


def test_a_rule_without_revocation_is_a_detector() -> None:
    """It is known by its id, can be probed, and says that it does not revoke."""
    loaded = good(rule(validation=http(OK)))
    assert plan(loaded, Intent.PROBE, {"TOKEN"}).steps[0].name == "probe"
    with pytest.raises(BadInput, match="it has no revocation"):
        plan(loaded, Intent.REVOKE, {"TOKEN"})


def test_dependencies_are_required_and_identify() -> None:
    """They have to be given unless they are optional, and what they name is tied to the credential."""
    loaded = good(rule(revocation=http(OK, method="DELETE", url=f"{URL}/keys/{{{{ AKID }}}}"), depends_on_rule=DEPENDS))
    with pytest.raises(BadInput, match="give --var AKID=…"):
        plan(loaded, Intent.REVOKE, {"TOKEN"})
    assert all(step.tied for step in plan(loaded, Intent.REVOKE, {"TOKEN", "AKID"}).steps)
    optional = good(rule(revocation=http(OK, method="DELETE"), depends_on_rule=[{**DEPENDS[0], "optional": True}]))
    assert plan(optional, Intent.REVOKE, {"TOKEN"}).steps


# ── folders ───────────────────────────────────────────────────────────────────────────────────────────────────────


def shapes() -> list[Said]:
    """A rule of every shape that the page describes."""
    made = [rule(validation=validation, revocation=http(OK), depends_on_rule=DEPENDS) for validation, _ in UNASKABLE]
    made += [rule(revocation=http(OK, headers={"X": source})) for source, _ in FILTERS.values()]
    made += [EVERY_KEY, rule(), rule(validation=http(OK)), rule(revocation={"type": "GCP"})]
    made += [
        rule(validation=http(OK), revocation=two_steps({"ID": extraction}))
        for extraction in (
            {"type": "JsonPath", "path": "$.id"},
            {"type": "JsonPath", "path": "$.ids[0]"},
            {"type": "Regex", "pattern": '"id":"([^"]+)"'},
            {"type": "Header", "name": "X-Id"},
            {"type": "Body"},
            {"type": "StatusCode"},
        )
    ]
    return [{**said, "id": f"custom.shape.{number}"} for number, said in enumerate(made)]


def test_a_folder_of_every_shape_loads(tmp_path: Path) -> None:
    """Every rule is there under its own id; in Kingfisher's one file for each provider."""
    listed = shapes()
    assert len(listed) >= 40
    for number, said in enumerate(listed):
        (tmp_path / f"{number}.yml").write_text(yaml.safe_dump({"rules": [said]}), encoding="utf-8")
    assert {loaded.rule.id for loaded in load([tmp_path])} == {said["id"] for said in listed}


def test_a_broken_rule_among_them_is_named(tmp_path: Path) -> None:
    """It is named with file and line, and all the others work."""
    listed = shapes()
    broken = {**rule(id="custom.broken"), "revocation": http(OK, url="https://{{ TOKEN }}.example.com")}
    text = yaml.safe_dump({"rules": [*listed[:20], broken, *listed[20:]]}, sort_keys=False)
    (tmp_path / "all.yml").write_text(text, encoding="utf-8")
    catalogue, wrong = read([tmp_path])
    assert len(catalogue) == len(listed)
    line = text[: text.index("https://{{ TOKEN }}.example.com")].count("\n") + 1
    assert [(Path(mistake.file).name, mistake.line) for mistake in wrong] == [("all.yml", line)]


# ── whatever a file says ──────────────────────────────────────────────────────────────────────────────────────────

KEYS = st.sampled_from(
    [
        *("type", "content", "request", "multipart", "digest", "tls_mode", "checksum", "actual", "template"),
        *("depends_on_rule", "variable", "rule_id", "within", "optional", "response_matcher", "report_response"),
        *("status", "words", "url", "method", "headers", "steps", "extract", "path", "examples", "name", "confidence"),
    ]
)
WORDS = st.sampled_from(
    [
        *(
            "Http",
            "HttpMultiStep",
            "AWS",
            "GCP",
            "Grpc",
            "Raw",
            "MongoDB",
            "Assumed",
            "Ethereum",
            "POST",
            "lax",
            "high",
        ),
        *("https://h/x", "https://{{ TOKEN }}/", "{{ TOKEN", "{{ TOKEN | b64enc }}", "$.a[0]", "(a", "JsonPath"),
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=16,
)


@given(
    key=st.sampled_from(sorted({*EVERY_KEY, "path", "examples"})),
    value=ANYTHING,
    more=st.dictionaries(KEYS, ANYTHING, max_size=3),
)
def test_any_value_of_any_key(key: str, value: object, more: Said) -> None:
    """A rule with anything in it loads or is named; every notice and mistake has its line; nothing else is raised."""
    found, wrong = read_text(yaml.safe_dump({"rules": [{**EVERY_KEY, key: value}, {**EVERY_KEY, **more}]}), "k.yml")
    told: list[RuleError] = [*wrong, *(notice for loaded in found for notice in loaded.notices)]
    assert all(told_one.line >= 1 and told_one.file == "k.yml" for told_one in told)
    for loaded in found:
        lint(loaded)


@given(token=st.text(min_size=6, max_size=20), digest=st.booleans())
def test_no_secret_in_a_message(token: str, *, digest: bool) -> None:
    """Whatever the secret holds, a request is made or refused by our own error, which does not repeat it."""
    signed = {"digest": "{{ TOKEN }}"} if digest else {"headers": {"X": "{{ TOKEN }}"}}
    loaded = good(rule(revocation=http(OK, method="POST", body='{"t": "{{ TOKEN }}"}', **signed)))
    secret = f"s3cr3t-{token}"
    shown = show_or_refuse(loaded, secret)
    assert "s3cr3t" not in shown


def show_or_refuse(loaded: LoadedRule, secret: str) -> str:
    """What can be seen of the request that was made, or of the error by which it was refused."""
    request = loaded.rule.steps[0].request
    assert isinstance(request, Request)
    try:
        return repr(prepare(request, {"TOKEN": Secret(secret)}, {}))
    except RevoqError as error:
        return f"{error} {error.__cause__!r} {error.__context__!r}"
