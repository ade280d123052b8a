"""`revoq credentials list` over Pangolin: users' tokens and service users, as a table and as JSON, and no secret."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox import Sandbox
from tests.scheduler.cli.conftest import Home

LIST = ("credentials", "list", "--connection", "pangolin", "--rule")


@pytest.fixture
def sandbox(home: Home) -> Iterator[Sandbox]:
    """A pretend Pangolin that the settings know, with an administrator of the tenant to sign in as."""
    with Sandbox() as running:
        admin = running.pangolin.add_user("revoq-bot", "tenant-admin")
        home.environ["PANGOLIN_PASSWORD"] = admin.password
        identity = {"username": admin.username, "password": "env:PANGOLIN_PASSWORD"}
        where = {"provider": "pangolin", "base_url": running.url("pangolin")}
        home.write_config(connections={"pangolin": {**where, "identity": identity}})
        yield running


def test_a_persons_tokens(home: Home, sandbox: Sandbox) -> None:
    """Ids and expiries; the raw token, which the server's answer holds, is left where it is."""
    user = sandbox.pangolin.add_user("dana")
    token = sandbox.pangolin.add_token(user.id)

    result = home.run(*LIST, "pangolin.token", "--subject", user.id)
    (row,) = home.ask(*LIST, "pangolin.token", "--subject", user.id)

    assert (result.exit_code, row["id"]) == (0, token.id)
    assert set(row["shown"]) == {"id", "expires_at"}
    assert token.secret not in result.output + repr(row)
    assert "eyJ" not in result.output + repr(row)


def test_service_users(home: Home, sandbox: Sandbox) -> None:
    """What tells them apart, and when each was last used; the session that asked is revoked again."""
    used = sandbox.pangolin.add_service_user("etl", expires_in_days=30)
    used.last_used = sandbox.clock.now()
    sandbox.pangolin.add_service_user("ci", role="tenant-admin")

    result = home.run(*LIST, "pangolin.service_user")
    rows = home.ask(*LIST, "pangolin.service_user")

    assert result.exit_code == 0
    assert [row["shown"]["name"] for row in rows] == ["etl", "ci"]
    told = {"id", "name", "role", "active", "created_at", "created_by", "expires_at", "last_used"}
    assert set(rows[0]["shown"]) == told
    assert "pgl_" not in result.output + repr(rows)
    assert not any(sandbox.pangolin.is_alive(token) for token in sandbox.pangolin.tokens.values())


def test_an_empty_list_is_explained(home: Home, sandbox: Sandbox) -> None:
    """Nothing there is a thing to explain, and no proof."""
    user = sandbox.pangolin.add_user("dana")

    result = home.run(*LIST, "pangolin.token", "--subject", user.id)

    assert (result.exit_code, "no proof" in result.stdout) == (0, True)
