"""Kingfisher itself beside revoq: the same rule against the same server sends the same requests, where both are sound.

Where revoq is stricter is shown by tests/rules/test_kingfisher_language.py and tests/worker/test_kingfisher_rules.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from rules.lifecycle import Verdict
from tests.sandbox import Sandbox
from tests.sandbox.fixtures import sandbox
from tests.servers.missing import report_missing
from tests.servers.recorder import Recorder, Said, Seen, running_recorder
from tests.worker.bench import open_bench

__all__ = ["sandbox"]

pytestmark = pytest.mark.acceptance

RULE = "custom.example.token"
TOKEN = "ex_Ab3dEf6h"
KEY_ID = "AKID0042"
OK = [{"report_response": True}, {"type": "StatusMatch", "status": [200, 202]}]
BEARER = {"Authorization": "Bearer {{ TOKEN }}"}
# Filters that are the same at any time. Those of time and chance are shown by our own tests alone.
FILTERS = {
    "Append": '{{ "api:" | append: TOKEN | b64enc }}',
    "B64dec": '{{ "aGVsbG8=" | b64dec }}-{{ TOKEN | b64enc | b64dec }}',
    "B64url": '{{ TOKEN | append: "??>>" | b64url_enc }} {{ "Kys_Pw" | b64url_dec }}',
    "Base36": "{{ TOKEN | crc32 | base36: 8 }}",
    "Base62": "{{ TOKEN | crc32 | base62: 7 }}",
    "Case": "{{ TOKEN | upcase }}{{ TOKEN | downcase }}",
    "Crc32": "{{ TOKEN | crc32 }} {{ TOKEN | crc32_dec }} {{ TOKEN | crc32_dec: 6 }}",
    "Crc32-Hex": "{{ TOKEN | crc32_hex }} {{ TOKEN | crc32_hex: 6 }}",
    "Crc32-Le": "{{ TOKEN | crc32_le_b64 }} {{ TOKEN | crc32_le_b64: 6 }}",
    "Hmac-1": '{{ TOKEN | hmac_sha1: "key" }}',
    "Hmac-256": '{{ TOKEN | hmac_sha256: "key" }}',
    "Hmac-256-B64": '{{ TOKEN | hmac_sha256_b64key: "a2V5" }}',
    "Hmac-384": '{{ TOKEN | hmac_sha384: "key" }}',
    "Hmac-384-Hex": '{{ TOKEN | hmac_sha384_hex: "key" }}',
    "Jwt": '{{ "HS256" | jwt_header }}',
    "Prefix": "{{ TOKEN | prefix: 4 }}{{ TOKEN | suffix: 3 }}",
    "Replace": '{{ TOKEN | replace: "_", "-" }}',
    "Sha256": "{{ TOKEN | sha256 }}",
    "Split": "{{ TOKEN | split: '_' | last }}",
}


def once(method: str, path: str, **more: Any) -> dict[str, Any]:
    """A revocation of one request; `{url}` is put in later."""
    asked = {"method": method, "url": f"{{url}}{path}", "headers": BEARER, "response_matcher": OK, **more}
    return {"type": "Http", "content": {"request": asked}}


def twice(extract: Mapping[str, Any], path: str, **more: Any) -> dict[str, Any]:
    """A lookup and a deletion."""
    first = {"method": "GET", "url": "{url}/tokens/current?full=yes", "headers": BEARER, "response_matcher": OK}
    second = {"method": "DELETE", "url": f"{{url}}{path}", "headers": BEARER, "response_matcher": OK, **more}
    return {
        "type": "HttpMultiStep",
        "content": {"steps": [{"name": "lookup", "request": first, "extract": extract}, {"request": second}]},
    }


REVOCATIONS = {
    "get": once("GET", "/revoke?token={{ TOKEN | url_encode }}"),
    "post a form": once(
        "POST",
        "/revoke",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        body="token={{ TOKEN }}&hint=access_token",
    ),
    "post json": once(
        "POST",
        "/revoke",
        headers={**BEARER, "Content-Type": "application/json", "X-Api-Version": "2026-03-10"},
        body='{"token":"{{ TOKEN }}","force":true}',
    ),
    "put": once("PUT", "/tokens/{{ TOKEN }}/state", body='{"state":"off"}'),
    "delete": once("DELETE", "/tokens/{{ TOKEN }}"),
    "patch": once("PATCH", "/tokens/{{ TOKEN }}", body="off"),
    "a variable": once("DELETE", "/keys/{{ AKID }}", headers={**BEARER, "X-Key-Id": "{{ AKID }}"}),
    "basic": once(
        "DELETE", "/self", headers={"Authorization": 'Basic {{ AKID | append: ":" | append: TOKEN | b64enc }}'}
    ),
    "filters": once("POST", "/revoke", headers=FILTERS),
    "assign and capture": once(
        "POST",
        "/revoke?{%- assign s = TOKEN | sha256 -%}{%- capture a -%}a={{ TOKEN }}{%- endcapture -%}{{ a }}&b={{ s }}",
    ),
    "json path": twice({"ID": {"type": "JsonPath", "path": "$.data.id"}}, "/tokens/{{ ID }}"),
    "json path, a number": twice({"ID": {"type": "JsonPath", "path": "$.number"}}, "/tokens/{{ ID }}"),
    "small letters": twice({"token_id": {"type": "JsonPath", "path": "$.data.id"}}, "/tokens/{{ TOKEN_ID }}"),
    "regex": twice({"ID": {"type": "Regex", "pattern": r'"{{ TOKEN }}":\s*"([^"]+)"'}}, "/tokens/{{ ID }}"),
    "header": twice({"ID": {"type": "Header", "name": "X-Token-ID"}}, "/tokens/{{ ID }}"),
    "status": twice({"CODE": {"type": "StatusCode"}}, "/tokens/{{ TOKEN }}?was={{ CODE }}"),
    "body": twice({"ALL": {"type": "Body"}}, "/tokens/{{ TOKEN }}", headers={**BEARER, "X-Sum": "{{ ALL | sha256 }}"}),
    "several, and filters on them": twice(
        {"ID": {"type": "JsonPath", "path": "$.data.id"}, "ACCOUNT": {"type": "Header", "name": "x-account"}},
        "/accounts/{{ ACCOUNT }}/tokens/{{ ID | upcase }}?sum={{ ID | sha256 | prefix: 8 }}",
    ),
}


@pytest.fixture(scope="module")
def kingfisher() -> str:
    """The peer, from the test environment or the path."""
    beside = Path(sys.executable).with_name("kingfisher")
    found = str(beside) if beside.exists() else shutil.which("kingfisher")
    return found or report_missing("Kingfisher", "make install's test requirements bring it")


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """The provider of both."""
    with running_recorder() as running:
        running.script = answer
        yield running


def answer(seen: Seen) -> Said:
    """One answer out of which every extractor can take something."""
    if seen.path == "/tokens/current":
        found = {"data": {"id": "k-17"}, "number": 17, TOKEN: "k-17", "other": "x"}
        return Said(200, found, {"X-Token-ID": "k-17", "X-Account": "acct7"})
    return Said(200, {})


def put_url(value: Any, url: str) -> Any:
    if isinstance(value, dict):
        return {key: put_url(item, url) for key, item in value.items()}
    if isinstance(value, list):
        return [put_url(item, url) for item in value]
    return value.replace("{url}", url) if isinstance(value, str) else value


def named_headers(revocation: Mapping[str, Any]) -> set[str]:
    content = revocation["content"]
    requests = [step["request"] for step in content["steps"]] if "steps" in content else [content["request"]]
    return {name.lower() for request in requests for name in request["headers"]}


def outline(seen: list[Seen], names: set[str]) -> list[tuple[str, str, bytes, dict[str, str]]]:
    return [
        (each.method, each.target, each.body, {name: each.headers[name] for name in names & set(each.headers)})
        for each in seen
    ]


@pytest.mark.parametrize("name", REVOCATIONS)
def test_both_send_the_same(
    name: str, tmp_path: Path, sqlite_url: str, sandbox: Sandbox, recorder: Recorder, kingfisher: str
) -> None:
    """Method, path, query, body and every header that the rule names are the same, and both call it a success."""
    revocation = put_url(REVOCATIONS[name], recorder.url)
    rule: dict[str, Any] = {"id": RULE, "name": "Example token", "pattern": r"\b(ex_[A-Za-z0-9]{8})\b"}
    rule |= {"examples": [TOKEN], "revocation": revocation}
    needs_id = "AKID" in json.dumps(revocation)
    if needs_id:
        rule["depends_on_rule"] = [{"rule_id": "custom.example.id", "variable": "AKID"}]
    folder = tmp_path / "kingfisher"
    folder.mkdir()
    file = folder / "rules.yml"
    file.write_text(yaml.safe_dump({"rules": [rule]}), encoding="utf-8")
    names = named_headers(revocation)

    command = [kingfisher, "revoke", "--no-update-check", "--no-builtins", "--rules-path", str(file)]
    command += ["--rule", RULE, "--format", "json", *(["--var", f"AKID={KEY_ID}"] if needs_id else []), "--", TOKEN]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    theirs = outline(recorder.seen, names)
    assert '"revoked": true' in said.stdout, said.stdout + said.stderr

    recorder.seen.clear()
    local = {"local": {"provider": "custom", "base_url": recorder.url}}
    settings = {"rules_path": [str(folder)]}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=local, settings=settings) as bench:
        assert not bench.runtime.catalogue.get(RULE).notices
        job = bench.run(RULE, TOKEN, "local", variables={"AKID": KEY_ID} if needs_id else {})

    assert job.verdict is Verdict.ACKNOWLEDGED, job.says
    ours = outline(recorder.seen, names)
    assert ours == theirs
    assert all(names <= set(headers) for *_, headers in theirs[-1:])
