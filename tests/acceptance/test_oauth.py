"""The generic OAuth rule against a real server: only what it introspects as ours and active is revoked, and proved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rules.lifecycle import Reason, State, Verdict
from tests.sandbox.fixtures import sandbox
from tests.sandbox.server import Sandbox
from tests.servers.oauth import Client, OAuth
from tests.worker.bench import Bench, open_bench

__all__ = ["sandbox"]

RULE = "oauth.token"
REVOKE = "/oauth/revoke"


@pytest.fixture
def ours(oauth_server: OAuth) -> Client:
    """The client that the connection signs in as."""
    return oauth_server.add_client("ours")


@pytest.fixture
def theirs(oauth_server: OAuth) -> Client:
    """Somebody else's client on the same server."""
    return oauth_server.add_client("theirs")


@pytest.fixture
def bench(
    tmp_path: Path,
    sqlite_url: str,
    sandbox: Sandbox,
    oauth_server: OAuth,
    ours: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    """A runtime with a connection that signs as our client, one with a wrong secret, and one that sees every token."""
    auditor = oauth_server.add_client("auditor", audits=True)
    monkeypatch.setenv("OURS_SECRET", ours.secret)
    monkeypatch.setenv("AUDITOR_SECRET", auditor.secret)
    monkeypatch.setenv("WRONG_SECRET", "not-the-secret")
    identities = {
        "ours": {"client_id": "ours", "client_secret": "env:OURS_SECRET"},
        "wrong": {"client_id": "ours", "client_secret": "env:WRONG_SECRET"},
        "auditor": {"client_id": "auditor", "client_secret": "env:AUDITOR_SECRET"},
    }
    connections = {
        name: {"provider": "oauth", "base_url": oauth_server.base_url, "identity": identity}
        for name, identity in identities.items()
    }
    # And one whose settings say which client is ours.
    connections["owner"] = {**connections["auditor"], "owns": {"tenant": "ours"}}
    with open_bench(tmp_path, sqlite_url, sandbox, connections=connections, settings={"retry_for": "1s"}) as opened:
        yield opened


def test_the_right_token_dies_and_is_proved_dead(
    bench: Bench, oauth_server: OAuth, ours: Client, theirs: Client
) -> None:
    """One of three of our tokens, and nobody else's; a second job finds it dead and sends nothing."""
    before, target, after = (oauth_server.issue(ours) for _ in range(3))
    foreign = oauth_server.issue(theirs)

    job = bench.run(RULE, target, "ours")

    assert job.verdict is Verdict.REVOKED
    assert bench.outline(job) == [
        ("before", "probe", "alive"),
        ("read", "whose", "ok"),
        ("act", "revoke", "ok"),
        ("after", "probe", "dead"),
        ("after", "probe", "dead"),
    ]
    assert not oauth_server.works(target)
    assert all(oauth_server.works(token) for token in (before, after, foreign))

    again = bench.run(RULE, target, "ours")

    assert again.id != job.id
    assert again.verdict is Verdict.ALREADY_REVOKED
    assert oauth_server.seen.count(REVOKE) == 1


def test_the_paths_are_the_requesters(bench: Bench, oauth_server: OAuth, ours: Client) -> None:
    """A path that leads nowhere gives no verdict and changes nothing; the right ones may be given as well."""
    target = oauth_server.issue(ours)
    paths = {"REVOKE_PATH": "oauth/revoke", "INTROSPECT_PATH": "oauth/introspect"}

    lost = bench.run(RULE, target, "ours", variables={"INTROSPECT_PATH": "oauth2/v1/introspect"})
    assert (lost.state, lost.reason) == (State.PARKED, Reason.BUDGET_SPENT)
    assert "/oauth2/v1/introspect" in oauth_server.seen
    assert oauth_server.works(target)

    other = oauth_server.issue(ours)
    assert bench.run(RULE, other, "ours", variables=paths).verdict is Verdict.REVOKED
    assert not oauth_server.works(other)


def test_another_clients_token_is_left_alone(bench: Bench, oauth_server: OAuth, theirs: Client) -> None:
    """The server hides it from our client, which looks like death and is not believed."""
    foreign = oauth_server.issue(theirs)

    job = bench.run(RULE, foreign, "ours")

    assert (job.state, job.reason) == (State.PARKED, Reason.NOT_RECOGNISED)
    assert oauth_server.works(foreign)
    assert REVOKE not in oauth_server.seen


@pytest.mark.parametrize("connection", ["auditor", "owner"])
def test_a_token_that_is_seen_to_be_another_clients_is_left_alone(
    bench: Bench, oauth_server: OAuth, theirs: Client, connection: str
) -> None:
    """A client that may introspect all of them still acts on none but its own."""
    foreign = oauth_server.issue(theirs)

    job = bench.run(RULE, foreign, connection)

    assert (job.state, job.reason) == (State.PARKED, Reason.NOT_OURS)
    assert oauth_server.works(foreign)
    assert REVOKE not in oauth_server.seen


def test_a_client_that_cannot_sign_in_reads_nothing_as_dead(bench: Bench, oauth_server: OAuth, ours: Client) -> None:
    """401 is said of our secret here, and not of the token."""
    target = oauth_server.issue(ours)

    job = bench.run(RULE, target, "wrong")

    assert (job.state, job.reason) == (State.PARKED, Reason.BUDGET_SPENT)
    assert oauth_server.works(target)
    assert REVOKE not in oauth_server.seen


def test_an_unknown_token_is_not_believed_to_be_dead(bench: Bench, oauth_server: OAuth) -> None:
    """RFC 7009 answers 200 to anything and RFC 7662 calls it inactive: neither shows that it was ever there."""
    job = bench.run(RULE, "EXAMPLE-never-issued-by-anybody", "ours")

    assert (job.state, job.reason) == (State.PARKED, Reason.NOT_RECOGNISED)
    assert REVOKE not in oauth_server.seen
