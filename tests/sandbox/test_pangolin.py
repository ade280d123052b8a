"""The pretend Pangolin has the real one's routes, and each of its traps."""

from typing import Any

import httpx
import pytest

from tests.sandbox import Sandbox
from tests.sandbox.jwt import read_token
from tests.sandbox.pangolin import ServiceUser, Token, User

UNKNOWN = "00000000-0000-4000-8000-000000000000"
USERS, TOKENS, SERVICE_USERS = "/api/v1/users", "/api/v1/tokens", "/api/v1/service-users"
REVOKE = "/api/v1/auth/revoke"
ME = f"{USERS}/me/tokens"


@pytest.fixture
def user(sandbox: Sandbox) -> User:
    """Somebody with tokens."""
    return sandbox.pangolin.add_user("dana")


@pytest.fixture
def admin(sandbox: Sandbox) -> Token:
    """A tenant admin's log-in."""
    return sandbox.pangolin.add_login(sandbox.pangolin.add_user("boss", "tenant-admin").id)


@pytest.fixture
def service_user(sandbox: Sandbox) -> ServiceUser:
    """A machine with a key."""
    return sandbox.pangolin.add_service_user("etl")


def ask(sandbox: Sandbox, token: Token | None, method: str, path: str, **options: Any) -> httpx.Response:
    """One call, signed with this token."""
    headers = {"Authorization": f"Bearer {token.secret}"} if token is not None else {}
    return httpx.request(method, sandbox.url("pangolin") + path, headers=headers, **options)


def probe(sandbox: Sandbox, token: Token) -> int:
    """200 alive, 401 dead."""
    return ask(sandbox, token, "GET", ME).status_code


def trade(sandbox: Sandbox, service_user_id: str, key: str) -> httpx.Response:
    """Trade a service user's id and key for a token."""
    form = {"grant_type": "client_credentials", "client_id": service_user_id, "client_secret": key}
    return ask(sandbox, None, "POST", "/v1/main/v1/oauth/tokens", data=form)


def test_log_in(sandbox: Sandbox, user: User) -> None:
    """A log-in gives a real JWT of one day; a wrong password or tenant gives 401."""
    body = {"username": user.username, "password": user.password}

    answer = ask(sandbox, None, "POST", f"{USERS}/login", json={**body, "tenant_id": user.tenant})

    claims = read_token(answer.json()["token"], sandbox.pangolin.signing_key)
    assert (user.id, user.tenant) == (claims["sub"], claims["tenant_id"])
    assert claims["exp"] - claims["iat"] == 86400
    assert ask(sandbox, None, "POST", f"{USERS}/login", json={**body, "password": "x"}).status_code == 401
    assert ask(sandbox, None, "POST", f"{USERS}/login", json={**body, "tenant_id": UNKNOWN}).status_code == 401


def test_self_revoke_lasts(sandbox: Sandbox, user: User) -> None:
    """A token that revokes itself is dead until its own expiry."""
    token = sandbox.pangolin.add_token(user.id, hours=24 * 30)
    assert probe(sandbox, token) == 200

    answer = ask(sandbox, token, "POST", REVOKE, json={})

    assert "message" in answer.json()
    sandbox.advance(hours=24 * 29)
    assert (probe(sandbox, token), ask(sandbox, token, "GET", ME).text) == (401, "Token has been revoked")


def test_revoked_by_id_comes_back(sandbox: Sandbox, user: User, admin: Token) -> None:
    """A token that was revoked by its id is alive again a day later, and again after each repetition."""
    token = sandbox.pangolin.add_token(user.id, hours=24 * 30)
    assert ask(sandbox, admin, "POST", f"{REVOKE}/{token.id}", json={}).status_code == 200
    assert probe(sandbox, token) == 401

    sandbox.advance(hours=25)

    assert probe(sandbox, token) == 200
    assert sandbox.alive("pangolin", token.id)


def test_lapse_can_be_switched_off(sandbox: Sandbox, user: User, admin: Token) -> None:
    """A server that mended this keeps the token dead."""
    sandbox.switch("pangolin", lapses=False)
    token = sandbox.pangolin.add_token(user.id, hours=24 * 30)
    assert ask(sandbox, admin, "DELETE", f"{TOKENS}/{token.id}").status_code == 204

    sandbox.advance(hours=25)

    assert probe(sandbox, token) == 401


def test_any_id_is_answered_200(sandbox: Sandbox, admin: Token) -> None:
    """An id that nobody knows is revoked, too; switched off, it is 404; what is no id is 400."""
    path = f"{REVOKE}/{UNKNOWN}"

    assert ask(sandbox, admin, "POST", path, json={}).status_code == 200
    sandbox.switch("pangolin", any_id_is_ok=False)
    assert ask(sandbox, admin, "POST", path, json={}).status_code == 404
    assert ask(sandbox, admin, "POST", f"{REVOKE}/nonsense", json={}).status_code == 400


@pytest.mark.parametrize(("store", "again"), [("memory", 200), ("postgres", 500)])
def test_second_revoke(sandbox: Sandbox, user: User, admin: Token, store: str, again: int) -> None:
    """On PostgreSQL a second revocation of one id is a 500, while the first one's row is there."""
    sandbox.switch("pangolin", store=store)
    token = sandbox.pangolin.add_token(user.id, hours=24 * 30)
    path = f"{REVOKE}/{token.id}"

    assert [200, again] == [ask(sandbox, admin, "POST", path, json={}).status_code for _ in range(2)]
    sandbox.advance(hours=23.9)
    renewed = sandbox.pangolin.add_login(admin.user_id)
    sandbox.advance(hours=1.5)
    assert ask(sandbox, renewed, "POST", path, json={}).status_code == 200


def test_only_admins_revoke_others(sandbox: Sandbox, user: User) -> None:
    """A user may end the own token, and nobody else's."""
    token = sandbox.pangolin.add_token(user.id)

    refused = ask(sandbox, token, "POST", f"{REVOKE}/{token.id}", json={})

    assert (refused.status_code, refused.text) == (403, "Admin access required")
    assert ask(sandbox, token, "DELETE", f"{TOKENS}/{token.id}").status_code == 403
    assert ask(sandbox, token, "GET", f"{USERS}/{user.id}/tokens").status_code == 403


def test_bodies_are_checked(sandbox: Sandbox, user: User) -> None:
    """A JSON body is needed, and a field that is not known is refused."""
    token = sandbox.pangolin.add_token(user.id)

    assert ask(sandbox, token, "POST", REVOKE).status_code == 415
    assert ask(sandbox, token, "POST", REVOKE, json={"why": "x"}).status_code == 422
    sandbox.switch("pangolin", refuses_unknown_fields=False)
    assert ask(sandbox, token, "POST", REVOKE, json={"why": "x"}).status_code == 200


def test_status_that_cannot_be_told(sandbox: Sandbox, user: User) -> None:
    """503 is no death."""
    token = sandbox.pangolin.add_token(user.id)
    sandbox.switch("pangolin", status_unknown=True)

    answer = ask(sandbox, token, "GET", ME)

    assert (answer.status_code, answer.text) == (503, "Unable to verify token status")


def test_list_misleads_on_postgres(sandbox: Sandbox, user: User, admin: Token) -> None:
    """PostgreSQL lists what is revoked, as valid, unknown and made just now; the raw JWT is in every row."""
    sandbox.switch("pangolin", store="postgres")
    live, dead = (sandbox.pangolin.add_token(user.id, hours=240) for _ in range(2))
    ask(sandbox, dead, "POST", REVOKE, json={})
    sandbox.advance(hours=1)

    rows = ask(sandbox, admin, "GET", f"{USERS}/{user.id}/tokens").json()

    assert [(live.id, live.secret), (dead.id, dead.secret)] == [(row["id"], row["token"]) for row in rows]
    assert [(row["is_valid"], row["username"]) for row in rows] == [(True, "unknown")] * 2
    assert len({row["created_at"] for row in rows}) == 1
    assert len(ask(sandbox, admin, "GET", f"{USERS}/{user.id}/tokens?limit=1&offset=1").json()) == 1


def test_list_in_memory(sandbox: Sandbox, user: User, admin: Token) -> None:
    """The memory store leaves out what is revoked; a server that mended it shows no JWT."""
    sandbox.switch("pangolin", list_shows_secret=False)
    live, dead = (sandbox.pangolin.add_token(user.id) for _ in range(2))
    ask(sandbox, dead, "POST", REVOKE, json={})

    rows = ask(sandbox, admin, "GET", f"{USERS}/{user.id}/tokens").json()

    assert [(live.id, "dana", None)] == [(row["id"], row["username"], row.get("token")) for row in rows]


def test_root_sees_an_empty_list(sandbox: Sandbox, user: User) -> None:
    """Root has no tenant, so its list is empty, and 200."""
    sandbox.pangolin.add_token(user.id)
    root = sandbox.pangolin.add_login(sandbox.pangolin.add_user("root", "root").id)

    answer = ask(sandbox, root, "GET", f"{USERS}/{user.id}/tokens")

    assert (answer.status_code, answer.json()) == (200, [])


def test_logins_are_not_listed(sandbox: Sandbox, user: User, admin: Token) -> None:
    """What a log-in or OAuth gave is alive and in no list."""
    login = sandbox.pangolin.add_login(user.id)

    assert ask(sandbox, admin, "GET", f"{USERS}/{user.id}/tokens").json() == []
    assert probe(sandbox, login) == 200
    sandbox.switch("pangolin", logins_listed=True)
    assert len(ask(sandbox, admin, "GET", f"{USERS}/{user.id}/tokens").json()) == 1


def test_mint_and_rotate_a_token(sandbox: Sandbox, user: User, admin: Token) -> None:
    """An admin mints for at most a year; a token that rotates itself is dead afterwards."""
    body = {"tenant_id": user.tenant, "username": user.username, "expires_in_hours": 48}
    assert ask(sandbox, admin, "POST", TOKENS, json={**body, "expires_in_hours": 8761}).status_code == 400
    minted = ask(sandbox, admin, "POST", TOKENS, json=body).json()
    old = sandbox.pangolin.add_token(user.id)

    rotated = ask(sandbox, old, "POST", f"{TOKENS}/rotate")

    assert minted.keys() == rotated.json().keys() == {"token", "expires_at", "tenant_id"}
    assert probe(sandbox, old) == 401


def test_new_key_is_refused_as_api_key(sandbox: Sandbox, admin: Token) -> None:
    """A key that was just made gets 401 on X-API-Key, with an event there, and a token by OAuth."""
    made = ask(sandbox, admin, "POST", SERVICE_USERS, json={"name": "new", "role": "tenant-user"})
    row, url = made.json(), sandbox.url("pangolin") + ME
    headers = {"X-API-Key": row["api_key"]}

    assert made.status_code == 201
    assert httpx.get(url, headers=headers).status_code == 401
    assert sandbox.pangolin.rejected_api_keys == 1
    traded = trade(sandbox, row["id"], row["api_key"]).json()
    assert (traded["token_type"], traded["expires_in"]) == ("Bearer", 3600)
    assert httpx.get(url, headers={"Authorization": f"Bearer {traded['access_token']}"}).status_code == 200
    assert ask(sandbox, admin, "GET", f"{SERVICE_USERS}/{row['id']}").json()["last_used"] is not None
    sandbox.switch("pangolin", legacy_keys=True)
    assert httpx.get(url, headers=headers).status_code == 200
    assert httpx.post(sandbox.url("pangolin") + REVOKE, headers=headers, json={}).status_code == 400


def test_rotation_has_no_overlap(sandbox: Sandbox, admin: Token, service_user: ServiceUser) -> None:
    """The old key is dead in the moment in which the new one is shown."""
    old = service_user.key

    new = ask(sandbox, admin, "POST", f"{SERVICE_USERS}/{service_user.id}/rotate").json()

    assert new["name"] == "etl"
    assert trade(sandbox, service_user.id, old).status_code == 401
    assert trade(sandbox, service_user.id, new["api_key"]).status_code == 200


def test_rotation_fails_for_ever_on_postgres(sandbox: Sandbox, admin: Token, service_user: ServiceUser) -> None:
    """500, however often, and the old key lives; a second service user with the same name is a 500, too."""
    sandbox.switch("pangolin", store="postgres")
    old = service_user.key
    twin = {"name": "etl", "role": "tenant-user"}

    statuses = [ask(sandbox, admin, "POST", f"{SERVICE_USERS}/{service_user.id}/rotate").status_code for _ in range(3)]

    assert statuses == [500] * 3
    assert trade(sandbox, service_user.id, old).status_code == 200
    assert ask(sandbox, admin, "POST", SERVICE_USERS, json=twin).status_code == 500
    assert ask(sandbox, admin, "POST", SERVICE_USERS, json={**twin, "name": "etl-2"}).status_code == 201


def test_tenant_is_not_checked(sandbox: Sandbox, admin: Token) -> None:
    """A mistyped id reads and rotates another tenant's service user, which no list shows."""
    foreign = sandbox.pangolin.add_service_user("theirs", tenant=UNKNOWN)
    old = foreign.key

    assert ask(sandbox, admin, "GET", SERVICE_USERS).json() == []
    assert ask(sandbox, admin, "GET", f"{SERVICE_USERS}/{foreign.id}").json()["tenant_id"] == UNKNOWN
    assert ask(sandbox, admin, "POST", f"{SERVICE_USERS}/{foreign.id}/rotate").status_code == 200
    assert foreign.key != old
    sandbox.switch("pangolin", tenant_checked=True)
    assert ask(sandbox, admin, "GET", f"{SERVICE_USERS}/{foreign.id}").status_code == 404


@pytest.mark.parametrize(("store", "status"), [("memory", 500), ("postgres", 200)])
def test_unknown_service_user(sandbox: Sandbox, admin: Token, store: str, status: int) -> None:
    """PostgreSQL changes and deletes what is not there with 200; reading and rotating it is 404."""
    sandbox.switch("pangolin", store=store)
    path = f"{SERVICE_USERS}/{UNKNOWN}"

    assert ask(sandbox, admin, "PUT", path, json={"active": False}).status_code == status
    assert ask(sandbox, admin, "DELETE", path).status_code == status
    assert ask(sandbox, admin, "GET", path).status_code == 404
    assert ask(sandbox, admin, "POST", f"{path}/rotate").status_code == 404


def test_deactivated_service_user(sandbox: Sandbox, admin: Token, service_user: ServiceUser) -> None:
    """`active: false` stops OAuth; a token that was traded before does not ask."""
    traded = trade(sandbox, service_user.id, service_user.key).json()["access_token"]
    path = f"{SERVICE_USERS}/{service_user.id}"

    assert ask(sandbox, admin, "PUT", path, json={"active": False}).json() == {"status": "updated"}

    assert trade(sandbox, service_user.id, service_user.key).status_code == 401
    assert not sandbox.alive("pangolin", service_user.id)
    headers = {"Authorization": f"Bearer {traded}"}
    assert httpx.get(sandbox.url("pangolin") + ME, headers=headers).status_code == 200
    assert ask(sandbox, admin, "DELETE", path).json() == {"status": "deleted"}


def test_clean_up(sandbox: Sandbox, admin: Token, user: User) -> None:
    """The clean-up counts the rows that have run out, and is an admin's."""
    assert ask(sandbox, admin, "POST", "/api/v1/auth/tokens/cleanup").json()["count"] == 0
    token = sandbox.pangolin.add_token(user.id)
    assert ask(sandbox, token, "POST", "/api/v1/auth/tokens/cleanup").status_code == 403


SCOPE = {"type": "catalog", "catalog_id": UNKNOWN}


@pytest.mark.parametrize(("store", "again"), [("memory", 201), ("postgres", 500)])
def test_roles_hang_on_the_id(
    sandbox: Sandbox, admin: Token, service_user: ServiceUser, user: User, store: str, again: int
) -> None:
    """An admin gives them, to a service user too; a second time PostgreSQL stumbles over the row."""
    sandbox.switch("pangolin", store=store)
    role = sandbox.pangolin.add_role("reader", {"scope": SCOPE, "actions": ["read"]})
    path, body = f"{USERS}/{service_user.id}/roles", {"role-id": role.id}

    assert ask(sandbox, sandbox.pangolin.add_login(user.id), "POST", path, json=body).status_code == 403
    assert ask(sandbox, admin, "POST", path, json={"role_id": role.id}).status_code == 422
    assert [ask(sandbox, admin, "POST", path, json=body).status_code for _ in range(2)] == [201, again]
    (row,) = ask(sandbox, admin, "GET", path).json()
    assert (row["id"], row["tenant-id"]) == (role.id, sandbox.pangolin.tenant)


@pytest.mark.parametrize(("store", "listed"), [("memory", 2), ("postgres", 3)])
def test_permissions_hang_on_the_id(
    sandbox: Sandbox, admin: Token, service_user: ServiceUser, store: str, listed: int
) -> None:
    """As often as they are given; PostgreSQL lists those of roles among them, each time under another id."""
    sandbox.switch("pangolin", store=store)
    sandbox.pangolin.add_role("reader", {"scope": SCOPE, "actions": ["read"]}, to=service_user.id)
    body = {"user-id": service_user.id, "scope": SCOPE, "actions": ["read", "list"]}
    root = sandbox.pangolin.add_login(sandbox.pangolin.add_user("root", "root").id)

    assert ask(sandbox, root, "POST", "/api/v1/permissions", json=body).status_code == 403
    assert [ask(sandbox, admin, "POST", "/api/v1/permissions", json=body).status_code for _ in range(2)] == [201, 201]
    lists = [ask(sandbox, admin, "GET", f"/api/v1/permissions?user={service_user.id}").json() for _ in range(2)]
    assert [len(rows) for rows in lists] == [listed, listed]
    same = {row["id"] for row in lists[0]} & {row["id"] for row in lists[1]}
    assert len(same) == 2
