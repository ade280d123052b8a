"""A provider that revoq has never heard of, by a rule that says nothing but what the two pages tell of the language."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Build
from tests.acceptance.system import System
from tests.sandbox.larder import Larder
from tests.sandbox.server import Sandbox

pytestmark = pytest.mark.acceptance

RULES = Path(__file__).with_name("own")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """The sandbox with one provider more."""
    with Sandbox() as running:
        running.providers = {**running.providers, Larder.name: Larder(running.clock)}
        yield running


@pytest.fixture
def larder(sandbox: Sandbox) -> Larder:
    """The invented provider."""
    found = sandbox.provider("larder")
    assert isinstance(found, Larder)
    return found


@pytest.fixture
def system(build_system: Build, sandbox: Sandbox, larder: Larder, sqlite_url: str) -> System:
    """A system that has been told of the folder with the rule, and of one account."""
    identity = {"key": "env:LARDER_KEY"}
    connection = {"provider": "larder", "base_url": sandbox.url("larder"), "identity": identity}
    return build_system(
        sqlite_url,
        connections={"pantry": connection},
        secrets={"LARDER_KEY": larder.admin.secret},
        settings={"rules_path": [str(RULES)]},
    )


def test_the_rule_is_without_fault(system: System) -> None:
    """It loads, its recorded answers play, nothing is warned of, and it reads as sentences."""
    checked = system.ask("rules", "check", str(RULES))
    assert checked == {"rules": 1, "mistakes": [], "warnings": [], "notices": []}

    shown = system.revoq("rules", "show", "larder.key")
    assert shown.returncode == 0
    read = " ".join(shown.stdout.split())
    assert "A connection is needed: its identity signs the calls." in read
    assert "BASE_URL, the address of the provider, comes from the connection." in read
    assert "it reads the list page by page to its end, finds the one row that fits, and takes REF out of it." in read
    assert (
        "exactly one row of the list in the step find: its starts equals <HEAD>, its ends equals <TAIL> and its state "
        "equals active; none or several are left to a person."
    ) in read
    assert "the end is proved by asking again" in read.lower()
    assert "{{" not in read


def test_the_right_key_is_retired_and_proved_dead(system: System, sandbox: Sandbox, larder: Larder) -> None:
    """Neither first nor last among keys that look alike, over several pages and a demand for patience."""
    others = [larder.add_key(), larder.add_key()]
    target = larder.add_key()
    others += [larder.add_key(like=target.secret) for _ in range(3)]
    larder.add_key(like=target.secret, same_end=True, retired=True)
    sandbox.fault("larder", "status", status=429, method="POST")
    system.start_all()
    asked = ("revoke", "--rule", "larder.key", "--connection", "pantry", "--wait", "--format", "json")

    done = system.revoq(*asked, stdin=target.secret)

    assert done.returncode == 0, done.stdout + done.stderr + system.logs()[-4000:]
    job = system.job(json.loads(done.stdout)["job"])
    assert job["verdict"] == "revoked"
    assert [(step["purpose"], step["outcome"]) for step in job["steps"]] == [
        ("before", "alive"),
        ("read", "ok"),
        ("act", "retry"),
        ("act", "ok"),
        ("after", "dead"),
        ("after", "dead"),
    ]
    assert target.retired
    assert [key.retired for key in [larder.admin, *others]] == [False] * 6
    assert len(sandbox.calls("larder", "GET", "/v2/keys")) == 4

    again = system.revoq(*asked, stdin=target.secret)

    assert again.returncode == 0, again.stderr
    assert system.job(json.loads(again.stdout)["job"])["verdict"] == "already_revoked"
    assert len(sandbox.calls("larder", "POST")) == 2
