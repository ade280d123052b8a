"""The pretend SendGrid answers as the real one documents."""

import httpx
import pytest

from tests.sandbox import Sandbox
from tests.sandbox.sendgrid import Key


def ask(sandbox: Sandbox, key: Key, method: str, path: str, **options: object) -> httpx.Response:
    """One call, signed with this key."""
    headers = {"Authorization": f"Bearer {key.secret}"}
    return httpx.request(method, sandbox.url("sendgrid") + path, headers=headers, json=options or None)


def test_key_holds_its_id(sandbox: Sandbox) -> None:
    """A key is SG, 22 characters of id, 43 of secret: 69 in all."""
    key = sandbox.sendgrid.add_key()

    assert (key.id, 22, 43, 69) == (key.secret.split(".")[1], *map(len, key.secret.split(".")[1:]), len(key.secret))


def test_life_and_death(sandbox: Sandbox) -> None:
    """Any live key reads its scopes; a deleted one is answered 401 in the documented words; deleting again is 404."""
    actor, target = sandbox.sendgrid.add_key(), sandbox.sendgrid.add_key(scopes=["mail.send"])
    path = f"/v3/api_keys/{target.id}"

    assert ask(sandbox, target, "GET", "/v3/scopes").json() == {"scopes": ["mail.send"]}
    assert ask(sandbox, actor, "GET", path).json() == {
        "name": "a key",
        "api_key_id": target.id,
        "scopes": ["mail.send"],
    }
    assert ask(sandbox, actor, "DELETE", path).status_code == 204
    dead = ask(sandbox, target, "GET", "/v3/scopes")
    assert dead.status_code == 401
    assert dead.json() == {
        "errors": [{"field": None, "message": "The provided authorization grant is invalid, expired, or revoked"}]
    }
    assert [ask(sandbox, actor, method, path).status_code for method in ("GET", "DELETE")] == [404, 404]


def test_scope_is_needed(sandbox: Sandbox) -> None:
    """A key that may only send mail cannot delete itself."""
    key = sandbox.sendgrid.add_key(scopes=["mail.send"])

    assert ask(sandbox, key, "DELETE", f"/v3/api_keys/{key.id}").status_code == 403
    assert sandbox.alive("sendgrid", key.id)


def test_deleted_key_lingers(sandbox: Sandbox) -> None:
    """A deleted key goes on answering for as many calls as was asked, though it is no longer listed."""
    actor, slow = sandbox.sendgrid.add_key(), sandbox.sendgrid.add_key(linger=2)
    ask(sandbox, actor, "DELETE", f"/v3/api_keys/{slow.id}")

    listed = ask(sandbox, actor, "GET", "/v3/api_keys").json()["result"]

    assert slow.id not in [row["api_key_id"] for row in listed]
    assert [ask(sandbox, slow, "GET", "/v3/scopes").status_code for _ in range(3)] == [200, 200, 401]


@pytest.mark.parametrize("count", [1, 3])
def test_target_is_never_first(sandbox: Sandbox, count: int) -> None:
    """Whoever takes the first or the last row has the wrong one, and rows tell names and ids only."""
    keys = [sandbox.sendgrid.add_key() for _ in range(count)]

    rows = ask(sandbox, keys[0], "GET", "/v3/api_keys").json()["result"]

    assert {key.id for key in keys} == {row["api_key_id"] for row in rows[1:-1]}
    assert all(row.keys() == {"name", "api_key_id"} for row in rows)


def test_address_management_is_not_death(sandbox: Sandbox) -> None:
    """A call from an address that is not allowed is answered 403, whatever the key."""
    key = sandbox.sendgrid.add_key()
    sandbox.switch("sendgrid", addresses_allowed=False)

    assert ask(sandbox, key, "GET", "/v3/scopes").status_code == 403


def test_issue_and_narrow(sandbox: Sandbox) -> None:
    """A key that is made without scopes may do everything; a key can be narrowed and widened again."""
    actor = sandbox.sendgrid.add_key()

    made = ask(sandbox, actor, "POST", "/v3/api_keys", name="new")
    narrowed = ask(sandbox, actor, "PUT", f"/v3/api_keys/{made.json()['api_key_id']}", name="new", scopes=["mail.send"])

    assert made.status_code == 201
    assert "api_keys.delete" in made.json()["scopes"]
    assert narrowed.json()["scopes"] == ["mail.send"]
    assert made.json()["api_key"].split(".")[1] == made.json()["api_key_id"]
