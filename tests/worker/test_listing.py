"""What exists at a provider, read by a rule's listing from the sandbox; no secret comes out of it."""

from __future__ import annotations

import pytest

from rules.errors import BadInput
from tests.sandbox import Sandbox
from tests.worker.bench import Bench
from worker.listing import Listed, list_credentials


def listed(bench: Bench, rule: str, connection: str, subject: str | None = None) -> Listed:
    """What the rule lists over this connection."""
    loaded = bench.runtime.catalogue.get(rule)
    return list_credentials(bench.runtime.connections.account(connection, loaded), loaded, subject, {})


def test_one_persons_tokens_are_listed_without_their_secrets(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """Pangolin's list holds the raw tokens; what is shown holds ids and expiries, over all pages, and nobody else's."""
    user = sandbox.pangolin.add_user("zoe")
    tokens = [sandbox.pangolin.add_token(user.id) for _ in range(3)]

    found = listed(sqlite_bench, "pangolin.token", "pangolin-demo", user.id)

    assert {row["id"] for row in found.rows} == {token.id for token in tokens}
    assert found.cut_off == ""
    assert "eyJ" not in repr(found)


def test_an_accounts_keys_are_listed(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """SendGrid lists every key of the account; the ids are those inside the keys."""
    key = sandbox.sendgrid.add_key()

    found = listed(sqlite_bench, "sendgrid.api_key", "sendgrid-demo")

    assert key.id in {row["id"] for row in found.rows}
    assert key.secret not in repr(found)


def test_a_subject_is_asked_for_where_one_is_needed(sqlite_bench: Bench) -> None:
    """Whose list it is has to be said, and may not be said where the list is the account's."""
    with pytest.raises(BadInput, match="--subject"):
        listed(sqlite_bench, "jupyterhub.token", "hub-demo")
    with pytest.raises(BadInput, match="leave --subject out"):
        listed(sqlite_bench, "sendgrid.api_key", "sendgrid-demo", "bob")


def test_a_rule_without_a_listing_says_so(sqlite_bench: Bench) -> None:
    """Nothing is guessed from the steps of a rule."""
    with pytest.raises(BadInput, match="has no listing"):
        listed(sqlite_bench, "keyring.token", "keyring-demo")


def test_listing_changes_nothing(sqlite_bench: Bench, sandbox: Sandbox) -> None:
    """Only reads leave."""
    listed(sqlite_bench, "tailscale.api_key", "tailscale-demo")

    assert sandbox.mutations() == []
