"""The pretend hub answers as JupyterHub 6.1 did."""

import httpx

from tests.sandbox import Sandbox
from tests.sandbox.hub import Token


def ask(sandbox: Sandbox, token: Token, method: str, path: str) -> httpx.Response:
    """One call, signed with this token."""
    headers = {"Authorization": f"token {token.secret}"}
    return httpx.request(method, f"{sandbox.url('hub')}/hub/api{path}", headers=headers)


def test_token_tells_its_id_and_dies_with_403(sandbox: Sandbox) -> None:
    """Who am I gives user and id; after the DELETE the token gets 403 and the admin 404; the others live on."""
    admin = sandbox.hub.add_token("revoq", admin=True)
    first, target, last = (sandbox.hub.add_token("bob", note) for note in "abc")
    about = ask(sandbox, target, "GET", "/user").json()
    path = f"/users/{about['name']}/tokens/{about['token_id']}"

    assert ask(sandbox, admin, "DELETE", path).status_code == 204

    dead = ask(sandbox, target, "GET", "/user")
    assert (dead.status_code, dead.json()["status"]) == (403, 403)
    assert ask(sandbox, admin, "DELETE", path).status_code == 404
    assert [sandbox.alive("hub", token.id) for token in (first, target, last)] == [True, False, True]


def test_list_is_not_in_order_of_creation(sandbox: Sandbox) -> None:
    """Rows hold no secret, and the target is neither the first nor the last."""
    first, target, last = (sandbox.hub.add_token("bob") for _ in range(3))

    rows = ask(sandbox, target, "GET", "/users/bob/tokens").json()["api_tokens"]

    assert [last.id, target.id, first.id] == [row["id"] for row in rows]
    assert all(token.secret not in str(rows) for token in (first, target, last))


def test_others_are_not_seen(sandbox: Sandbox) -> None:
    """A user's token reads and deletes that user's tokens only."""
    bob, erin = sandbox.hub.add_token("bob"), sandbox.hub.add_token("erin")

    assert ask(sandbox, bob, "GET", "/users/erin/tokens").status_code == 404
    assert ask(sandbox, bob, "DELETE", f"/users/bob/tokens/{erin.id}").status_code == 404
    assert ask(sandbox, bob, "POST", "/users/bob/tokens").json()["id"] == "a3"
