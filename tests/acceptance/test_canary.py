"""A planted secret is looked for in everything that left: broker, logs, Flower, database, listings, process list.

Every flow, place and encoding is `make canaries`; this is the part of it that every run has, at a real provider.
"""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.canaries.search import ENCODINGS, WRAPPINGS, find, forms_of
from tests.acceptance.canaries.watch import dump, list_processes, monitoring, read_files
from tests.acceptance.system import System
from tests.acceptance.test_main_job import REVOKE, make_tokens
from tests.servers.hub import Hub

pytestmark = pytest.mark.acceptance


def test_a_planted_secret_is_nowhere_but_at_the_provider(
    sqlite_hub_system: System, jupyterhub: Hub, tmp_path: Path
) -> None:
    """Success, a park and a repetition, with everything at debug level and Flower watching."""
    system = sqlite_hub_system
    target, _others = make_tokens(jupyterhub, "cleo")
    stranger = "fedcba9876543210fedcba9876543210"
    planted = {"ours": target, "a stranger's": stranger, "the connection's": jupyterhub.admin_token}
    system.start("flower")
    system.start_all()

    outputs: list[str] = []
    processes = b""
    with monitoring(system.broker) as heard:
        for secret in (target, stranger, target):
            done = system.revoq("revoke", *REVOKE, "--wait", stdin=secret)
            outputs += [done.stdout, done.stderr]
            processes += list_processes()
        jobs: list[dict[str, Any]] = system.ask("jobs", "list")
        outputs += [json.dumps(system.job(job["id"])) for job in jobs]
        outputs += [system.revoq("jobs", "show", job["id"]).stdout for job in jobs]
        flower = httpx.get(f"http://127.0.0.1:{system.flower_port}/api/tasks", timeout=10)
        snapshot = dump(system.broker, tmp_path)

    assert {job["verdict"] or job["reason"] for job in jobs} == {"revoked", "already_revoked", "not_recognised"}
    assert heard, "the monitor heard nothing, so the test shows nothing"
    shown = {name: task for name, task in flower.json().items() if task["name"] == "revoke"}
    assert {task["state"] for task in shown.values()} == {"SUCCESS", "FAILURE"}, "Flower shows how the jobs stand"
    assert {task["args"] for task in shown.values()} == {"(jupyterhub.token revoke)"}
    assert {name.rpartition(".")[0] for name in shown} == {job["id"] for job in jobs}
    assert "not_recognised" in flower.text
    places = {
        "broker dump": snapshot,
        "MONITOR": b"\n".join(heard),
        "logs": system.logs().encode(),
        "Flower": flower.content,
        "data folder": read_files(system.directory / "data"),
        "database": read_files(Path(system.database_url.removeprefix("sqlite:///")).parent),
        "terminal": "\n".join(outputs).encode(),
        "ps": processes,
    }
    assert {place: find(content, planted) for place, content in places.items()} == {place: [] for place in places}


SECRET = '/0123+456"789&abc=def'


@pytest.mark.parametrize("encoding", sorted(forms_of("")))
def test_the_search_itself_finds_what_is_planted(encoding: str) -> None:
    """A canary that cannot sing proves nothing: each form among other bytes, and what is not there is not found."""
    content = b"..." + forms_of(SECRET)[encoding] + b"..."
    assert f"it ({encoding})" in find(content, {"it": SECRET})
    assert find(content, {"another": "0123456789abcdef0123456789abcdef"}) == []


@pytest.mark.parametrize("before", [b"", b"a", b"ab"])
def test_the_search_finds_it_in_what_base64_was_made_of(before: bytes) -> None:
    """Wherever the secret begins in it, and whatever follows."""
    for after in (b"", b"c", b"cd"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            assert find(encode(before + SECRET.encode() + after), {"it": SECRET})


def test_the_search_takes_wrappings_off() -> None:
    """Compressed, in a message's body, and compressed in a message's body in a log's line."""
    inner = json.dumps([[SECRET], {}]).encode()
    body = json.dumps({"body": base64.b64encode(inner).decode()})
    compressed = json.dumps({"body": base64.b64encode(gzip.compress(inner)).decode()})
    for content in (gzip.compress(inner), b"x" + gzip.compress(inner) + b"y", body.encode()):
        assert find(content, {"it": SECRET})
    assert find(json.dumps({"event": compressed}).encode(), {"it": SECRET})
    assert set(WRAPPINGS) < set(ENCODINGS)
