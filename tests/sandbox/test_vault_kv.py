"""The pretend KV engine answers as the real ones document."""

from typing import Any

import httpx

from tests.sandbox import Sandbox
from tests.sandbox.vault_kv import Login

DATA = "/v1/kv/data/bots/ann"


def ask(
    sandbox: Sandbox, login: Login | None, method: str, path: str = DATA, body: Any = None, namespace: str = ""
) -> httpx.Response:
    """One call, signed with this login."""
    headers = {"X-Vault-Namespace": namespace} if namespace else {}
    if login is not None:
        headers["X-Vault-Token"] = login.token
    return httpx.request(method, sandbox.url("vault_kv") + path, json=body, headers=headers)


def write(sandbox: Sandbox, login: Login, over: int | None) -> httpx.Response:
    """One version, over this one."""
    options = {} if over is None else {"cas": over}
    return ask(sandbox, login, "POST", body={"options": options, "data": {"key": "x"}})


def test_check_and_set(sandbox: Sandbox) -> None:
    """0 is for what is not there; another number has to be the newest version's; without one anything is taken."""
    login = sandbox.vault_kv.add_token()

    assert ask(sandbox, login, "GET").json() == {"errors": []}
    assert write(sandbox, login, 1).status_code == 400
    assert write(sandbox, login, 0).json()["data"]["version"] == 1
    refused = write(sandbox, login, 0)
    assert (refused.status_code, "check-and-set" in refused.json()["errors"][0]) == (400, True)
    assert write(sandbox, login, 1).json()["data"]["version"] == 2
    assert write(sandbox, login, None).json()["data"]["version"] == 3
    assert ask(sandbox, login, "GET").json()["data"]["data"] == {"key": "x"}


def test_a_deleted_version_is_404_with_its_number(sandbox: Sandbox) -> None:
    """The number counts for the next check-and-set."""
    login = sandbox.vault_kv.add_token()
    write(sandbox, login, 0)
    sandbox.vault_kv.delete_newest("bots/ann")

    gone = ask(sandbox, login, "GET")

    assert gone.status_code == 404
    assert gone.json()["data"]["data"] is None
    assert gone.json()["data"]["metadata"]["deletion_time"]
    assert write(sandbox, login, 0).status_code == 400
    assert write(sandbox, login, 1).json()["data"]["version"] == 2


def test_policies(sandbox: Sandbox) -> None:
    """The longest beginning of a path counts; who has no token learns nothing, and a token can ask about itself."""
    login = sandbox.vault_kv.add_token({"kv/data/": ["read"], "kv/data/bots/": ["create", "update"]})
    asked = {"paths": ["kv/data/bots/ann"]}

    told = ask(sandbox, login, "POST", "/v1/sys/capabilities-self", asked).json()

    assert told["capabilities"] == told["data"]["kv/data/bots/ann"] == ["create", "update"]
    assert ask(sandbox, login, "GET").status_code == 403
    assert ask(sandbox, login, "GET", "/v1/kv/data/other").status_code == 404
    assert ask(sandbox, login, "GET", "/v1/nowhere/data/x").json()["errors"] != []
    assert ask(sandbox, None, "GET", "/v1/nowhere/data/x").status_code == 403
    assert ask(sandbox, login, "GET", namespace="team").status_code == 403


def test_an_app_role_logs_in_and_out(sandbox: Sandbox) -> None:
    """A secret id that is used up is refused in the same words as a wrong one."""
    role = sandbox.vault_kv.add_role(uses=1)
    body = {"role_id": role.role_id, "secret_id": role.secret_id}
    first = ask(sandbox, None, "POST", "/v1/auth/approle/login", body)
    login = sandbox.vault_kv.logins[first.json()["auth"]["client_token"]]

    assert ask(sandbox, None, "POST", "/v1/auth/approle/login", body).status_code == 400
    assert ask(sandbox, login, "POST", "/v1/auth/token/revoke-self").status_code == 204
    assert ask(sandbox, login, "GET").status_code == 403
    assert not sandbox.alive("vault_kv", login.id)


def test_sealed_and_old(sandbox: Sandbox) -> None:
    """Sealed, everything is 503; an engine of version 1 takes a write without a word."""
    login = sandbox.vault_kv.add_token()
    sandbox.switch("vault_kv", old_engine=True)
    assert write(sandbox, login, 0).status_code == 204
    sandbox.switch("vault_kv", sealed=True)
    assert ask(sandbox, login, "GET").status_code == 503
