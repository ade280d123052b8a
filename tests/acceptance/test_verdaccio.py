"""Tokens of a real Verdaccio, which all look alike in its list: over HTTP, and by the real npm command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.acceptance.system import System
from tests.servers.broker import start_broker
from tests.servers.missing import report_missing
from tests.servers.verdaccio import Verdaccio

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("verdaccio")]

NPM = "/usr/bin/npm"
"""Where Debian, and Node's own packages for it, put npm; the rule names it."""


RULES = pytest.mark.parametrize(
    ("rule", "connection"), [("verdaccio.token", "by-verdaccio"), ("npm.token_cli", "by-npm")], ids=["http", "npm"]
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, verdaccio: Verdaccio) -> Iterator[System]:
    """A system that knows the registry under both names, with its workers and its clock; for all tests here."""
    directory = tmp_path_factory.mktemp("revoq")
    broker = start_broker(tmp_path_factory.mktemp("redis"))
    made = System.build(
        directory,
        broker,
        f"sqlite:///{directory / 'ledger.db'}",
        connections={f"by-{name}": {"provider": name, "base_url": verdaccio.base_url} for name in ("verdaccio", "npm")},
        secrets={},
        # Starting Node takes its time on a busy machine.
        settings={"commands_allowed": [NPM], "request_timeout": "20s", "claim": "50s"},
    )
    made.start_all()
    yield made
    made.stop()
    broker.stop()


@pytest.fixture(autouse=True)
def npm(request: pytest.FixtureRequest) -> None:
    """The npm command line, for the tests that use it."""
    if request.node.callspec.params["rule"] == "npm.token_cli" and not Path(NPM).exists():
        report_missing(NPM, "install npm there")


def make_tokens(registry: Verdaccio, user: str) -> tuple[str, str, list[str]]:
    """Five tokens of one user, masked alike: the key and the secret of one in the middle, and the other secrets."""
    registry.create_user(user)
    made = dict(registry.create_token(user) for _ in range(5))
    rows = registry.list_tokens(user)
    assert len({row["token"].partition("...")[0] for row in rows}) == 1
    key = rows[2]["key"]
    return key, made[key], [token for other, token in made.items() if other != key]


def answer(done: CompletedProcess[str]) -> dict[str, Any]:
    """What a command said, as JSON."""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@RULES
def test_the_right_one_of_five_dies_and_is_proved_dead(
    system: System, verdaccio: Verdaccio, rule: str, connection: str
) -> None:
    """The others live on; a second submission finds it dead and deletes nothing."""
    user = f"bob-{connection}"
    key, target, others = make_tokens(verdaccio, user)
    before = verdaccio.count_deletes()
    asked = ("revoke", "--rule", rule, "--connection", connection, "--wait", "--format", "json")

    done = system.revoq(*asked, stdin=target + "\n")

    assert done.returncode == 0, done.stdout + done.stderr + system.logs()[-4000:]
    assert verdaccio.whoami(target) is None
    assert [verdaccio.whoami(token) for token in others] == [user] * 4
    assert (verdaccio.count_deletes(key), verdaccio.count_deletes()) == (1, before + 1)
    shown = system.job(answer(done)["job"])
    assert shown["verdict"] == "revoked"
    assert [(step["purpose"], step["outcome"]) for step in shown["steps"]] == [
        ("before", "alive"),
        ("read", "ok"),
        ("act", "ok"),
        ("after", "dead"),
        ("after", "dead"),
    ]
    assert target not in json.dumps(shown) + system.logs()

    again = system.revoq(*asked, stdin=target)

    assert again.returncode == 0, again.stderr
    assert system.job(answer(again)["job"])["verdict"] == "already_revoked"
    assert verdaccio.count_deletes() == before + 1
    assert [verdaccio.whoami(token) for token in others] == [user] * 4


@RULES
def test_a_token_that_signing_in_gave_is_left_to_a_person(
    system: System, verdaccio: Verdaccio, rule: str, connection: str
) -> None:
    """It has no key and stands in no list: nothing is deleted, though the list holds tokens that look alike."""
    user = f"eve-{connection}"
    make_tokens(verdaccio, user)
    before = verdaccio.count_deletes()

    done = system.revoq("revoke", "--rule", rule, "--connection", connection, "--wait", stdin=verdaccio.sessions[user])

    assert done.returncode == 3, done.stdout + done.stderr + system.logs()[-4000:]
    assert verdaccio.count_deletes() == before
    assert verdaccio.whoami(verdaccio.sessions[user]) == user


@pytest.mark.parametrize(("rule", "connection"), [("npm.token_cli", "by-npm")], ids=["npm"])
def test_what_npm_could_not_tell_is_asked_of_the_registry(
    system: System, verdaccio: Verdaccio, rule: str, connection: str
) -> None:
    """The answer to npm's DELETE is lost: nothing is sent again, and the token itself is asked whether it is dead."""
    user = "ann"
    key, target, others = make_tokens(verdaccio, user)
    verdaccio.front.lose_next_answer("DELETE")

    done = system.revoq("revoke", "--rule", rule, "--connection", connection, "--wait", stdin=target)

    assert done.returncode == 0, done.stdout + done.stderr + system.logs()[-4000:]
    assert verdaccio.whoami(target) is None
    assert [verdaccio.whoami(token) for token in others] == [user] * 4
    assert verdaccio.count_deletes(key) == 1
