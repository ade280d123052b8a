"""The pretend Tailscale answers as the real one documents."""

import httpx

from tests.sandbox import Sandbox
from tests.sandbox.tailscale import Key

KEYS = "/api/v2/tailnet/-/keys"


def ask(sandbox: Sandbox, key: Key, method: str, path: str = "") -> httpx.Response:
    """One call, signed with this key."""
    headers = {"Authorization": f"Bearer {key.secret}"}
    return httpx.request(method, sandbox.url("tailscale") + KEYS + path, headers=headers)


def test_dead_key_reads_as_200(sandbox: Sandbox) -> None:
    """To an admin a dead key is 200 with `invalid: true`; the key itself is answered 401."""
    actor, target = sandbox.tailscale.add_key(admin=True, user="uADMIN"), sandbox.tailscale.add_key()
    assert target.secret.split("-")[:3] == ["tskey", "api", target.id]
    assert "invalid" not in ask(sandbox, actor, "GET", f"/{target.id}").json()

    deleted = ask(sandbox, actor, "DELETE", f"/{target.id}")
    read = ask(sandbox, actor, "GET", f"/{target.id}")

    assert (deleted.status_code, deleted.content) == (200, b"")
    assert (read.status_code, read.json()["invalid"]) == (200, True)
    assert "revoked" in read.json()
    assert ask(sandbox, target, "GET", f"/{target.id}").status_code == 401
    assert ask(sandbox, target, "GET").json() == {"message": "API token invalid"}
    assert ask(sandbox, actor, "GET", "/kNOBODYCNTRL").status_code == 404


def test_expired_key_is_dead(sandbox: Sandbox) -> None:
    """An expiry is a death that nobody asked for."""
    actor = sandbox.tailscale.add_key(admin=True, lifetime=10 * 86400)
    key = sandbox.tailscale.add_key(lifetime=3600)
    sandbox.advance(hours=2)

    read = ask(sandbox, actor, "GET", f"/{key.id}").json()

    assert read["invalid"] is True
    assert "revoked" not in read
    assert not sandbox.alive("tailscale", key.id)


def test_list_shows_other_kinds_first(sandbox: Sandbox) -> None:
    """Only one's own keys without `all`; with it, a client or an auth key is first."""
    admin, mine = sandbox.tailscale.add_key(admin=True, user="uADMIN"), sandbox.tailscale.add_key()

    own = ask(sandbox, mine, "GET").json()["keys"]
    everything = ask(sandbox, admin, "GET", "?all=true").json()["keys"]

    assert [mine.id] == [row["id"] for row in own]
    assert everything[0]["keyType"] != "api"
    assert {mine.id, admin.id} < {row["id"] for row in everything}


def test_basic_and_other_kinds(sandbox: Sandbox) -> None:
    """Basic takes the token as its user; keys of other kinds sign nothing; others' keys are an admin's matter."""
    key, other = sandbox.tailscale.add_key(), sandbox.tailscale.add_key(kind="auth")
    url = sandbox.url("tailscale") + KEYS

    assert httpx.get(url, auth=(key.secret, "")).status_code == 200
    assert httpx.get(url, auth=(key.secret, "password")).status_code == 401
    assert ask(sandbox, other, "GET").status_code == 401
    assert ask(sandbox, sandbox.tailscale.add_key(user="uERIN"), "GET", f"/{key.id}").status_code == 403
