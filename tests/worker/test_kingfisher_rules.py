"""Rules in Kingfisher's own format, carried by the engine against a recording server: what leaves, and what must not.

How such a file is read is tested with the rules (`tests/rules/test_kingfisher_language.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from rules.errors import BadInput
from rules.lifecycle import Reason, Verdict
from tests.sandbox import Sandbox
from tests.servers.recorder import Recorder, Said, running_recorder
from tests.worker.bench import Bench, open_bench

RULE = "custom.example.token"
TOKEN = "ex_abcdefgh"
BEARER = {"Authorization": "Bearer {{ TOKEN }}"}
OK = [{"type": "StatusMatch", "status": [200]}]
ALIVE = {"user": "dana"}
SETTLED = {"verification": {"window": "0s", "spacing": "1s"}}

Rule = dict[str, Any]
Open = Callable[..., Bench]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A provider that says what the test wants."""
    with running_recorder() as running:
        yield running


@pytest.fixture
def open_with(tmp_path: Path, sqlite_url: str, sandbox: Sandbox, recorder: Recorder) -> Iterator[Open]:
    """Open a bench whose rules are these, in a folder of Kingfisher's; a connection says that the server is local."""
    with ExitStack() as stack:

        def open_it(*rules: Rule, at: str = recorder.url) -> Bench:
            folder = tmp_path / "kingfisher"
            folder.mkdir()
            (folder / "rules.yml").write_text(yaml.safe_dump({"rules": list(rules)}), encoding="utf-8")
            settings = {"rules_path": [str(folder)], "retry_for": "2s"}
            local = {"local": {"provider": "custom", "base_url": at}}
            return stack.enter_context(open_bench(tmp_path, sqlite_url, sandbox, connections=local, settings=settings))

        yield open_it


def request(method: str, url: str, *, matchers: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    """A request as such a file says it, signed with the token."""
    asked = {"method": method, "url": url, "headers": BEARER, **more}
    return {"request": asked if matchers is None else {**asked, "response_matcher": matchers}}


def probing(url: str, matchers: list[Any] = OK) -> Rule:
    """A validation of type Http."""
    return {"validation": {"type": "Http", "content": request("GET", f"{url}/me", matchers=matchers)}}


def steps(*listed: Rule) -> Rule:
    """A revocation in steps."""
    return {"revocation": {"type": "HttpMultiStep", "content": {"steps": list(listed)}}}


def rule(*parts: Rule, **more: Any) -> Rule:
    """A rule for the tokens of these tests."""
    made: Rule = {"name": "Example token", "id": RULE, "pattern": r"\b(ex_[a-z.]{8})\b"}
    for part in parts:
        made |= part
    return made | more


def look_up(url: str, extract: Rule, then: str, **more: Any) -> Rule:
    """The page's own shape: look an id up, then delete by it."""
    return steps(
        {**request("GET", f"{url}/tokens/current", matchers=OK), "name": "lookup", "extract": extract},
        {**request("DELETE", f"{url}{then}", matchers=OK, **more), "name": "delete"},
    )


ID = {"token_id": {"type": "JsonPath", "path": "$.id"}}


# ── an imported probe ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_alive_and_is_refused_is_dead(open_with: Open, recorder: Recorder) -> None:
    """Alive, two steps, refused: proved, by a probe that has no word for dead."""
    bench = open_with(rule(probing(recorder.url), look_up(recorder.url, ID, "/tokens/{{ TOKEN_ID }}")))
    recorder.answer(
        {
            "GET /me": [Said(200, ALIVE), Said(401, {"error": "unauthorized"})],
            "GET /tokens/current": Said(200, {"id": "k 1/2"}),
            "DELETE /tokens/k%201%2F2": Said(200),
        }
    )

    job = bench.run(RULE, TOKEN, "local")

    assert job.verdict is Verdict.REVOKED
    assert recorder.mutating == ["DELETE /tokens/k%201%2F2"]
    assert bench.outline(job)[-1] == ("after", "probe", "dead")


def test_the_ledger_remembers_that_it_was_alive(open_with: Open, recorder: Recorder) -> None:
    """A 401 at the first look is dead where an earlier job saw it alive, and nothing is sent then."""
    bench = open_with(rule(probing(recorder.url), look_up(recorder.url, ID, "/tokens/{{ TOKEN_ID }}")))
    recorder.answer({"GET /me": [Said(200, ALIVE), Said(401, {})]})
    assert bench.run(RULE, TOKEN, "local", intent="probe").verdict is Verdict.ALIVE

    job = bench.run(RULE, TOKEN, "local")

    assert job.verdict is Verdict.ALREADY_REVOKED
    assert recorder.mutating == []


def test_the_first_401_proves_nothing(open_with: Open, recorder: Recorder) -> None:
    """Nobody ever saw it work, so that 401 may be the wrong region: parked, and nothing is sent."""
    bench = open_with(rule(probing(recorder.url), look_up(recorder.url, ID, "/tokens/{{ TOKEN_ID }}")))
    recorder.answer({"GET /me": Said(401, {})})

    job = bench.run(RULE, TOKEN, "local")

    assert job.reason == Reason.NOT_RECOGNISED
    assert "no word for dead" in str(job.says)
    assert recorder.calls() == ["GET /me"]


@pytest.mark.parametrize("said", [Said(404, {}), Said(200, {"ok": False, "error": "token_revoked"})])
def test_what_cannot_be_proved_is_acknowledged(open_with: Open, recorder: Recorder, said: Said) -> None:
    """Any other answer than a refusal is no proof: the provider said yes, and that is all."""
    words = [*OK, {"type": "WordMatch", "words": ['"user"']}]
    revocation = {"revocation": {"type": "Http", "content": request("POST", f"{recorder.url}/revoke", matchers=OK)}}
    bench = open_with(rule(probing(recorder.url, words), revocation, SETTLED))
    recorder.answer({"GET /me": [Said(200, ALIVE), said], "POST /revoke": Said(200)})

    job = bench.run(RULE, TOKEN, "local")

    assert job.verdict is Verdict.ACKNOWLEDGED
    assert "no word for dead" in str(job.says)


@pytest.mark.parametrize(
    "said",
    [
        Said(401, {"message": "Two-factor authentication required"}),
        Said(401, {}, {"X-Github-OTP": "required; app"}),
        Said(403, {"message": "Your IP address is not allowed"}),
        Said(403, {"message": "API rate limit exceeded"}),
        Said(403, {}, {"X-RateLimit-Remaining": "0"}),
        Said(403, {}, {"Retry-After": "1"}),
        Said(429, {}),
        Said(503, {}),
        Said(403, "<!doctype html><html>blocked</html>"),
    ],
)
def test_a_marked_refusal_is_never_dead(open_with: Open, recorder: Recorder, said: Said) -> None:
    """OTP, address, throttling, outage: it was alive before, and still this proves nothing."""
    revocation = {"revocation": {"type": "Http", "content": request("POST", f"{recorder.url}/revoke", matchers=OK)}}
    bench = open_with(rule(probing(recorder.url), revocation, SETTLED))
    recorder.answer({"GET /me": [Said(200, ALIVE), said], "POST /revoke": Said(200)})

    job = bench.run(RULE, TOKEN, "local")

    assert job.verdict is None
    assert job.reason == Reason.BUDGET_SPENT
    assert ("after", "probe", "inconclusive") in bench.outline(job)


def test_without_a_probe_it_is_acknowledged(open_with: Open, recorder: Recorder) -> None:
    """A validation that revoq cannot ask costs the proof and not the revocation."""
    revocation = {"revocation": {"type": "Http", "content": request("POST", f"{recorder.url}/revoke", matchers=OK)}}
    bench = open_with(rule(revocation, validation={"type": "MongoDB"}))
    recorder.answer({"POST /revoke": Said(200)})

    job = bench.run(RULE, TOKEN, "local")

    assert job.verdict is Verdict.ACKNOWLEDGED
    assert recorder.calls() == ["POST /revoke"]


# ── a rule that only finds, and dependencies ──────────────────────────────────────────────────────────────────────


def test_a_rule_without_revocation_can_be_probed(open_with: Open, recorder: Recorder) -> None:
    """It loads under its own id, probes, and says that it cannot revoke."""
    bench = open_with(rule(probing(recorder.url)))
    recorder.answer({"GET /me": Said(200, ALIVE)})

    assert bench.run(RULE, TOKEN, "local", intent="probe").verdict is Verdict.ALIVE
    with pytest.raises(BadInput, match="it has no revocation"):
        bench.submit(RULE, TOKEN, "local")


def test_a_dependency_is_a_required_variable_that_identifies(open_with: Open, recorder: Recorder) -> None:
    """It is asked for by name, kept as a secret, and what it names is tied to the credential."""
    revocation = {
        "revocation": {"type": "Http", "content": request("DELETE", f"{recorder.url}/keys/{{{{ AKID }}}}", matchers=OK)}
    }
    bench = open_with(rule(revocation, depends_on_rule=[{"rule_id": "custom.example.id", "variable": "akid"}]))
    recorder.answer({"DELETE /keys/AK1": Said(200)})

    with pytest.raises(BadInput, match="give --var AKID=…"):
        bench.submit(RULE, TOKEN, "local")
    job = bench.run(RULE, TOKEN, "local", variables={"AKID": "AK1"})

    assert job.verdict is Verdict.ACKNOWLEDGED
    assert recorder.calls() == ["DELETE /keys/AK1"]
    assert "AK1" not in repr(job)


# ── the first of a list ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "extract",
    [
        {"type": "JsonPath", "path": "$.keys[0].id"},
        {"type": "JsonPath", "path": "$.keys[*].id"},
        {"type": "Regex", "pattern": r'"id":\s*"([^"]+)"'},
    ],
)
def test_the_first_of_a_list_parks(open_with: Open, recorder: Recorder, extract: Rule) -> None:
    """It loads, and at run time a person has to say which one: even where the list has a single row."""
    bench = open_with(rule(probing(recorder.url), look_up(recorder.url, {"ID": extract}, "/tokens/{{ ID }}")))
    recorder.answer({"GET /me": Said(200, ALIVE), "GET /tokens/current": Said(200, {"keys": [{"id": "k1"}]})})

    job = bench.run(RULE, TOKEN, "local")

    assert job.reason == Reason.NEEDS_SELECTION
    assert recorder.mutating == []


def test_the_first_of_the_sandbox_parks(open_with: Open, sandbox: Sandbox) -> None:
    """The pretend provider lists a wrong row first; nobody's key dies."""
    key = sandbox.keyring.add_key(owner="ann", admin=True)
    url = sandbox.url("keyring")
    extract = {"ID": {"type": "JsonPath", "path": "$.keys[0].id"}}
    revocation = steps(
        {**request("GET", f"{url}/v1/keys", matchers=OK), "name": "lookup", "extract": extract},
        {**request("DELETE", f"{url}/v1/keys/{{{{ ID }}}}", matchers=OK), "name": "delete"},
    )
    validation = {"validation": {"type": "Http", "content": request("GET", f"{url}/v1/whoami", matchers=OK)}}
    bench = open_with(rule(validation, revocation, pattern=r"\b(kr_[A-Za-z0-9]{32})\b"), at=url)

    job = bench.run(RULE, key.secret, "local")

    assert job.reason == Reason.NEEDS_SELECTION
    assert sandbox.calls("keyring", "DELETE") == []
    assert all(sandbox.keyring.state().values())


# ── dangers: no mutating request leaves, and the error says why ───────────────────────────────────────────────────


@pytest.mark.parametrize("dots", ["..", "%2e%2e", "."])
def test_an_id_of_dots_goes_nowhere_else(open_with: Open, recorder: Recorder, dots: str) -> None:
    """A segment that would climb is refused before anything leaves."""
    bench = open_with(rule(look_up(recorder.url, ID, "/tokens/{{ TOKEN_ID }}")))
    recorder.answer({"GET /tokens/current": Said(200, {"id": dots})})

    job = bench.run(RULE, TOKEN, "local")

    assert set(recorder.mutating) <= {"DELETE /tokens/%252e%252e"}
    assert job.reason == Reason.PROVIDER_BROKEN


def test_an_id_that_climbs_and_asks(open_with: Open, recorder: Recorder) -> None:
    """An id of `../../x?y=1` names no other place: it is refused, and nothing is deleted."""
    bench = open_with(rule(look_up(recorder.url, ID, "/tokens/{{ TOKEN_ID }}")))
    recorder.answer({"GET /tokens/current": Said(200, {"id": "../../x?y=1"})})

    job = bench.run(RULE, TOKEN, "local")

    assert recorder.mutating == []
    assert job.reason == Reason.PROVIDER_BROKEN
    assert "segment of the path" in str(job.says)


def test_a_token_is_no_pattern(open_with: Open, recorder: Recorder) -> None:
    """The dots of a token match dots only: the row of another token is not taken for ours."""
    extract = {"ID": {"type": "Regex", "pattern": r'"{{ TOKEN }}":"([^"]+)"'}}
    bench = open_with(rule(look_up(recorder.url, extract, "/tokens/{{ ID }}")))
    recorder.answer({"GET /tokens/current": Said(200, '{"ex_abXXXXgh":"theirs"}'), "DELETE /tokens/theirs": Said(200)})

    job = bench.run(RULE, "ex_ab....gh", "local")

    assert recorder.mutating == []
    assert job.reason == Reason.PROVIDER_BROKEN
    assert "it is not there" in str(job.says)


def test_a_line_break_makes_no_header(open_with: Open, recorder: Recorder) -> None:
    """A value with a line break is refused before the request leaves."""
    headers = {**BEARER, "X-Key": "{{ TOKEN_ID }}"}
    bench = open_with(rule(look_up(recorder.url, ID, "/tokens/current", headers=headers)))
    recorder.answer({"GET /tokens/current": Said(200, {"id": "k1\r\nX-Admin: yes"})})

    job = bench.run(RULE, TOKEN, "local")

    assert recorder.mutating == []
    assert "a line break" in str(job.says)


def test_an_undefined_name_in_a_header_leaves_the_rule_out(open_with: Open, recorder: Recorder) -> None:
    """Kingfisher drops such a header and calls the answer a success; here there is no such rule."""
    headers = {"Authorization": "Bearer {{ TOKN }}"}
    bench = open_with(rule(look_up(recorder.url, ID, "/tokens/{{ TOKEN_ID }}", headers=headers)))

    assert RULE not in bench.runtime.catalogue
    assert recorder.calls() == []


def test_an_optional_name_that_is_not_given_is_asked_for(open_with: Open, recorder: Recorder) -> None:
    """A dependency may be absent; a request that cannot do without it is not sent without it."""
    depends = [{"rule_id": "custom.example.team", "variable": "TEAM", "optional": True}]
    content = request("POST", f"{recorder.url}/revoke", matchers=OK, headers={**BEARER, "X-Team": "{{ TEAM }}"})
    bench = open_with(rule(revocation={"type": "Http", "content": content}, depends_on_rule=depends))

    with pytest.raises(BadInput, match="needs TEAM"):
        bench.submit(RULE, TOKEN, "local")
    assert recorder.calls() == []


def test_a_host_never_comes_from_a_credential(open_with: Open, recorder: Recorder) -> None:
    """A URL that begins with a captured value leaves the rule out, however the value would look."""
    bench = open_with(rule(look_up("http://{{ TOKEN }}", ID, "/tokens/{{ TOKEN_ID }}")))

    assert RULE not in bench.runtime.catalogue
    assert recorder.calls() == []


def test_a_redirect_is_not_followed(open_with: Open, recorder: Recorder) -> None:
    """Neither the lookup nor the deletion goes where an answer points."""
    bench = open_with(rule(look_up(recorder.url, ID, "/tokens/{{ TOKEN_ID }}")))
    with running_recorder() as elsewhere:
        elsewhere.script = lambda _seen: Said(200, {"id": "k1"})
        recorder.answer({"GET /tokens/current": Said(302, "", {"Location": f"{elsewhere.url}/tokens/current"})})

        job = bench.run(RULE, TOKEN, "local")

        assert elsewhere.calls() == []
    assert recorder.mutating == []
    assert job.reason == Reason.PROVIDER_BROKEN
    assert "302" in str(job.says)


def test_a_redirected_deletion_is_no_success(open_with: Open, recorder: Recorder) -> None:
    """A 302 after the deletion is not followed to a page that says 200."""
    bench = open_with(rule(look_up(recorder.url, ID, "/tokens/{{ TOKEN_ID }}")))
    with running_recorder() as elsewhere:
        recorder.answer(
            {
                "GET /tokens/current": Said(200, {"id": "k1"}),
                "DELETE /tokens/k1": Said(302, "", {"Location": f"{elsewhere.url}/login"}),
            }
        )

        job = bench.run(RULE, TOKEN, "local")

        assert elsewhere.calls() == []
    assert job.verdict is None
    assert job.reason == Reason.PROVIDER_BROKEN


def test_a_broken_first_step_ends_there(open_with: Open, recorder: Recorder) -> None:
    """A 500 with a body that could be used is no answer: its matcher is enforced, and step two is never sent."""
    bench = open_with(rule(look_up(recorder.url, ID, "/tokens/{{ TOKEN_ID }}")))
    recorder.answer({"GET /tokens/current": Said(500, {"id": "k1"}), "DELETE /tokens/k1": Said(200)})

    job = bench.run(RULE, TOKEN, "local")

    assert recorder.mutating == []
    assert job.reason == Reason.BUDGET_SPENT
    assert "answered 500" in str(job.says)
