"""The demo's cast is complete, and what is expected of it can come true."""

import httpx
import pytest

from rules.lifecycle import Reason, Verdict
from tests.sandbox import Sandbox
from tests.sandbox.cast import Cast, connections, environment, seed


@pytest.fixture
def cast(sandbox: Sandbox) -> Cast:
    """Everybody on stage."""
    return seed(sandbox)


def test_a_dozen(cast: Cast) -> None:
    """Twelve members, each with one ending that revoq knows, and each handed in or named."""
    verdicts, reasons = {verdict.value for verdict in Verdict}, {reason.value for reason in Reason}

    assert len(cast.members) == 12
    assert all((member.verdict in verdicts) != (member.reason in reasons) for member in cast.members)
    assert all((member.secret is None) == bool(member.vars) for member in cast.members)
    assert len({member.title for member in cast.members}) == 12


def test_five_service_users(cast: Cast, sandbox: Sandbox) -> None:
    """Each has a key that works and that its consumer has; one of them will be an incident, and one gets a twin."""
    assert len({rotation.name for rotation in cast.rotations}) == 5
    assert all(sandbox.works(each.provider, each.record[each.secret_field]) for each in cast.rotations)
    assert [rotation.reason for rotation in cast.rotations if not rotation.verdict] == ["provider_broken"]
    assert [rotation.rule for rotation in cast.rotations].count("pangolin.service_user") == 1


def test_connections_refer_to_secrets(cast: Cast, sandbox: Sandbox) -> None:
    """Every member's connection is there; no secret is in the settings, and every reference has its value."""
    settings, values = connections(cast), environment(cast)

    assert {member.connection for member in cast.members} == set(settings)
    references = {
        text.removeprefix("env:")
        for connection in settings.values()
        for text in connection["identity"].values()
        if text.startswith("env:")
    }
    assert references == set(values)
    assert not any(secret in str(settings) for secret in values.values())
    assert settings["hub-demo"]["base_url"] == sandbox.url("hub")


def test_who_is_alive_at_first(cast: Cast, sandbox: Sandbox) -> None:
    """All but the one that died before and the one that never was, and all bystanders."""
    dead = {member.title for member in cast.members if not sandbox.alive(member.provider, member.id)}

    assert {member.title for member in cast.members if member.verdict == "already_revoked" or not member.id} == dead
    assert all(sandbox.alive(*bystander) for bystander in cast.bystanders)
    assert len(cast.bystanders) >= 12


def test_identities_sign_in(cast: Cast, sandbox: Sandbox) -> None:
    """Each account's own credential is taken by its provider."""
    values = environment(cast)

    def look(url: str, authorization: str) -> int:
        return httpx.get(url, headers={"Authorization": authorization}).status_code

    assert look(f"{sandbox.url('sendgrid')}/v3/scopes", f"Bearer {values['DEMO_SENDGRID_TOKEN']}") == 200
    keys = f"{sandbox.url('tailscale')}/api/v2/tailnet/-/keys"
    assert look(keys, f"Bearer {values['DEMO_TAILSCALE_TOKEN']}") == 200
    assert look(f"{sandbox.url('hub')}/hub/api/user", f"token {values['DEMO_JUPYTERHUB_TOKEN']}") == 200
    assert look(f"{sandbox.url('keyring')}/v1/keys", f"Bearer {values['DEMO_KEYRING_TOKEN']}") == 200
    login = {
        "username": "revoq-bot",
        "password": values["DEMO_PANGOLIN_PASSWORD"],
        "tenant_id": sandbox.pangolin.tenant,
    }
    assert httpx.post(f"{sandbox.url('pangolin')}/api/v1/users/login", json=login).status_code == 200


def test_secrets_are_not_shown(cast: Cast) -> None:
    """A cast can be printed."""
    secrets = [member.secret for member in cast.members if member.secret] + list(environment(cast).values())

    assert not any(secret in repr(cast) for secret in secrets)
