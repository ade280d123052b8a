"""`--dry-run` at the terminal: what is shown, its JSON keys, its exit codes, and that nothing comes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.sandbox import Sandbox
from tests.sandbox.keyring import Key
from tests.scheduler.cli.conftest import Home
from tests.worker.bench import SANDBOX_RULES
from worker.ledger import reads
from worker.ledger.database import Database

WORDS = ("--rule", "keyring.token", "--connection", "ring", "--dry-run")
KEYS = {
    *(
        "dry_run",
        "intent",
        "rule",
        "connection",
        "sinks",
        "plan",
        "would",
        "verdict",
        "reason",
        "says",
        "exit_code",
        "means",
    ),
    *("reads", "requests", "candidates", "held", "joins"),
}
READ_KEYS = {"name", "purpose", "outcome", "says", "method", "url", "taken", "evidence", "retry_after"}
REQUEST_KEYS = {"step", "purpose", "mutating", "method", "url", "headers", "body", "signed_by", "lacking"}


@pytest.fixture
def ring(home: Home) -> Iterator[Sandbox]:
    """A pretend provider that `home` has a connection to."""
    with Sandbox() as sandbox:
        admin = sandbox.keyring.add_key(owner="revoq", admin=True)
        home.environ["RING_TOKEN"] = admin.secret
        identity = {"token": "env:RING_TOKEN"}
        connection = {"provider": "keyring", "base_url": sandbox.url("keyring"), "identity": identity}
        home.write_config(rules_path=[str(SANDBOX_RULES)], connections={"ring": connection})
        yield sandbox


@pytest.fixture
def key(ring: Sandbox) -> Key:
    """A key that could be revoked."""
    return ring.keyring.add_key(owner="ann", name="deploy")


def is_untouched(ring: Sandbox, home: Home) -> bool:
    """Nothing was changed at the provider, and no job was made."""
    database = Database(f"sqlite:///{home.database_file}")
    jobs = reads.jobs(database)
    database.dispose()
    return ring.mutations() == [] and jobs == []


def test_keys(home: Home, ring: Sandbox, key: Key) -> None:
    """JSON has exactly the documented keys, and no secret."""
    result = home.run("revoke", *WORDS, "--format", "json", stdin=key.secret)

    shown = json.loads(result.stdout)
    assert result.exit_code == 0
    assert set(shown) == KEYS
    assert [set(read) for read in shown["reads"]] == [READ_KEYS, READ_KEYS]
    assert [set(request) for request in shown["requests"]] == [REQUEST_KEYS, REQUEST_KEYS]
    assert (shown["dry_run"], shown["would"], shown["exit_code"]) == (True, "act", 0)
    assert shown["reads"][1]["taken"] == {"KEY_ID": key.id}
    assert shown["requests"][0] == {
        "step": "delete",
        "purpose": "act",
        "mutating": True,
        "method": "DELETE",
        "url": f"{ring.url('keyring')}/v1/keys/{key.id}",
        "headers": {},
        "body": None,
        "signed_by": "ring",
        "lacking": None,
    }
    assert key.secret not in result.output
    assert home.environ["RING_TOKEN"] not in result.output
    assert is_untouched(ring, home)


def test_a_person_sees_what_would_be_sent(home: Home, ring: Sandbox, key: Key) -> None:
    """What was found, the plan's hash, each request with its secrets masked, and who signs it."""
    result = home.run("revoke", *WORDS, stdin=key.secret)

    told = " ".join(result.stdout.split())
    assert "nothing is changed, nothing is written down, no job is made" in told
    assert "revoke keyring.token over ring, plan " in told
    assert "read · find: ok" in told
    assert f"Taken out of the answer: KEY_ID {key.id}" in told
    assert f"1. delete: DELETE {ring.url('keyring')}/v1/keys/{key.id}" in told
    assert "signed by the connection ring" in told
    assert "Authorization: Bearer ••••" in told
    assert is_untouched(ring, home)


def test_two_that_look_alike(home: Home, ring: Sandbox, key: Key) -> None:
    """Exit code 3, the reason and both candidates."""
    twin = ring.keyring.add_key(owner="ben", like=key.secret)

    shown = home.run("revoke", *WORDS, "--format", "json", stdin=key.secret)
    told = home.run("revoke", *WORDS, stdin=key.secret)

    found = json.loads(shown.stdout)
    assert (shown.exit_code, told.exit_code) == (3, 3)
    assert (found["would"], found["reason"], found["requests"]) == ("park", "needs_selection", [])
    assert {candidate["id"] for candidate in found["candidates"]} == {key.id, twin.id}
    assert f"{twin.id}: " in told.stdout
    assert is_untouched(ring, home)


def test_one_that_is_dead(home: Home, ring: Sandbox) -> None:
    """Dead without evidence would be parked; a probe that is tried out only says that it is dead."""
    dead = ring.keyring.add_key(revoked=True)

    assert home.run("revoke", *WORDS, stdin=dead.secret).exit_code == 3
    assert home.run("probe", *WORDS, stdin=dead.secret).exit_code == 0


def test_a_probe_of_one_that_works(home: Home, ring: Sandbox, key: Key) -> None:
    """Exit code 4, as without --dry-run, and no job."""
    assert home.run("probe", *WORDS, stdin=key.secret).exit_code == 4
    assert is_untouched(ring, home)


def test_a_provider_that_refuses_us(home: Home, ring: Sandbox, key: Key) -> None:
    """A connection that cannot sign in would park the job as denied."""
    home.environ["RING_TOKEN"] = "kr_" + "x" * 32

    result = home.run("revoke", *WORDS, "--format", "json", stdin=key.secret)

    assert (result.exit_code, json.loads(result.stdout)["reason"]) == (3, "denied")


def test_bad_input(home: Home, ring: Sandbox, key: Key) -> None:
    """An order that would be refused is refused, with exit code 2 and nothing asked of the provider."""
    assert home.run("revoke", *WORDS, stdin="hunter2").exit_code == 2
    assert home.run("revoke", *WORDS, "--var", "COLOUR=red", stdin=key.secret).exit_code == 2
    assert home.run("revoke", *WORDS, "--reason", f"leaked {key.secret}", stdin=key.secret).exit_code == 2
    assert ring.calls() == []


def test_nothing_to_wait_for(home: Home, ring: Sandbox, key: Key) -> None:
    """A dry run makes no job."""
    result = home.run("revoke", *WORDS, "--wait", stdin=key.secret)

    assert result.exit_code == 2
    assert "--dry-run makes no job" in result.stderr
