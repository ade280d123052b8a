"""Pretends to be a KV engine of version 2 with its logins, and is neither Vault nor OpenBao: after their documentation
(openbao.org/api-docs/secret/kv/kv-v2, /auth/approle, /auth/token, /system/capabilities-self, /api-docs for statuses).

A token has capabilities by the beginning of a path, as a policy ending in `*` gives them. Not here: versions that are
undeleted, metadata of its own, leases, wrapping. Nobody has read, and it is guessed: the words beside an empty list of
errors for a path without a secret, which are none.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.clock import Clock
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import LETTERS, Provider, draw

EVERYTHING = ["create", "delete", "list", "read", "update"]
MESSAGES = {
    400: "failed to parse JSON input",
    403: "permission denied",
    429: "request path limited: rate limit quota exceeded",
    500: "internal error",
    503: "Vault is sealed",
}
MISMATCH = "check-and-set parameter did not match the current version"
CREATED = "2026-03-01T09:00:00.000000Z"


@dataclass
class Login:
    """One token, and what it may do below which paths."""

    id: str
    token: str
    policy: dict[str, list[str]]
    namespace: str = ""
    alive: bool = True


@dataclass
class Version:
    """One version of one secret; a deleted one keeps its number."""

    number: int
    values: dict[str, Any] | None
    deleted: bool = False

    def about(self) -> dict[str, Any]:
        return {
            "created_time": CREATED,
            "custom_metadata": None,
            "deletion_time": CREATED if self.deleted else "",
            "destroyed": False,
            "version": self.number,
        }


@dataclass
class Switches:
    """`old_engine`: the mount has version 1. `asking_allowed`: the default policy, by which one asks about oneself."""

    sealed: bool = False
    old_engine: bool = False
    asking_allowed: bool = True


@dataclass
class Role:
    """An app role, and how often its secret id may still be used (None: always)."""

    role_id: str
    secret_id: str
    policy: dict[str, list[str]] = field(default_factory=dict)
    uses: int | None = None


class VaultKv(Provider):
    """One server with one mount, `kv`."""

    name = "vault_kv"
    mount = "kv"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.logins: dict[str, Login] = {}
        self.roles: list[Role] = []
        self.secrets: dict[tuple[str, str], list[Version]] = {}
        self.seeds = {"token": self.add_token, "role": self.add_role}
        self.route("POST", "/v1/auth/approle/login", self.log_in)
        self.route("POST", "/v1/auth/token/revoke-self", self.log_out)
        self.route("POST", "/v1/sys/capabilities-self", self.tell_capabilities)

    # ── what tests put there ──────────────────────────────────────────────────────────────────────────────────────

    def add_token(self, policy: dict[str, list[str]] | None = None, namespace: str = "") -> Login:
        """A token; without a policy it may do everything in the mount."""
        given = {f"{self.mount}/data/": EVERYTHING} if policy is None else policy
        login = Login(draw(24), f"hvs.{draw(90, LETTERS)}", given, namespace)
        with self.lock:
            self.logins[login.token] = login
        return login

    def add_role(self, uses: int | None = None) -> Role:
        """An app role that may do everything in the mount."""
        role = Role(draw(36), draw(36), {f"{self.mount}/data/": EVERYTHING}, uses)
        with self.lock:
            self.roles.append(role)
        return role

    def write_behind(self, path: str, values: dict[str, Any], namespace: str = "") -> None:
        """Somebody else writes a version."""
        with self.lock:
            versions = self.secrets.setdefault((namespace, path), [])
            versions.append(Version(len(versions) + 1, values))

    def delete_newest(self, path: str, namespace: str = "") -> None:
        """Somebody else deletes the newest version; its number stays."""
        with self.lock:
            self.secrets[namespace, path][-1].deleted = True

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {login.id: login.alive for login in self.logins.values()}

    # ── what it answers ───────────────────────────────────────────────────────────────────────────────────────────

    def complain(self, status: int) -> Reply:
        return say_json(status, {"errors": [MESSAGES[status]] if status in MESSAGES else []})

    def find_login(self, call: Call) -> Login | None:
        login = self.logins.get(call.headers.get("x-vault-token", ""))
        alive = login is not None and login.alive and login.namespace == call.headers.get("x-vault-namespace", "")
        return login if alive else None

    def actor(self, call: Call) -> str:
        login = self.find_login(call)
        return login.id if login is not None else ""

    def require(self, call: Call, path: str, *capabilities: str) -> Login:
        """The login that signs the call, which must have one of these capabilities at the path."""
        login = self.find_login(call)
        if login is None or not set(capabilities) & set(allowed(login, path)):
            raise RefusedError(self.complain(403))
        return login

    def dispatch(self, call: Call) -> Reply:
        if self.switches.sealed:
            return self.complain(503)
        version, mount = (*call.segments, "")[:2]
        rest = call.segments[2:]
        if version != "v1" or mount in {"auth", "sys"}:
            return super().dispatch(call)
        if self.find_login(call) is None:
            return self.complain(403)
        if mount != self.mount:
            where = "/".join([mount, *rest])
            return say_json(404, {"errors": [f'no handler for route "{where}". route entry not found.']})
        if self.switches.old_engine:
            return Reply(204) if call.method == "POST" else self.complain(404)
        if rest[:1] != ("data",):
            return self.complain(404)
        acts = {"GET": self.read_secret, "POST": self.write_secret}
        return acts[call.method](call, "/".join(rest[1:])) if call.method in acts else self.complain(405)

    def read_secret(self, call: Call, path: str) -> Reply:
        self.require(call, f"{self.mount}/data/{path}", "read")
        versions = self.secrets.get((call.headers.get("x-vault-namespace", ""), path))
        if not versions:
            return say_json(404, {"errors": []})
        newest = versions[-1]
        data = None if newest.deleted else newest.values
        return say_json(404 if newest.deleted else 200, {"data": {"data": data, "metadata": newest.about()}})

    def write_secret(self, call: Call, path: str) -> Reply:
        versions = self.secrets.setdefault((call.headers.get("x-vault-namespace", ""), path), [])
        self.require(call, f"{self.mount}/data/{path}", "update" if versions else "create")
        wanted = call.json()
        over = wanted.get("options", {}).get("cas")
        if over is not None and over != len(versions):
            return say_json(400, {"errors": [MISMATCH]})
        versions.append(Version(len(versions) + 1, wanted["data"]))
        return say_json(200, {"data": versions[-1].about()})

    def log_in(self, call: Call) -> Reply:
        wanted = call.json()
        for role in self.roles:
            if (role.role_id, role.secret_id) == (wanted.get("role_id"), wanted.get("secret_id")) and role.uses != 0:
                role.uses = role.uses - 1 if role.uses is not None else None
                login = self.add_token(role.policy)
                return say_json(200, {"auth": {"client_token": login.token, "lease_duration": 1200}})
        return say_json(400, {"errors": ["invalid role or secret ID"]})

    def log_out(self, call: Call) -> Reply:
        login = self.find_login(call)
        if login is None:
            return self.complain(403)
        login.alive = False
        return Reply(204)

    def tell_capabilities(self, call: Call) -> Reply:
        login = self.find_login(call)
        if login is None or not self.switches.asking_allowed:
            return self.complain(403)
        told = {path: allowed(login, path) or ["deny"] for path in call.json()["paths"]}
        if len(told) == 1:
            told["capabilities"] = next(iter(told.values()))
        return say_json(200, {**told, "data": told})


def allowed(login: Login, path: str) -> list[str]:
    """What the policy says of the longest beginning of the path that it knows."""
    known = [beginning for beginning in login.policy if path.startswith(beginning)]
    return login.policy[max(known, key=len)] if known else []
