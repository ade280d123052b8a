"""Pretends to be Tailscale's key API, and is not it: after tailscale/tailscale-client-go-v2 (b506490,
tools/openapi/spec/tailscale-v2-openapi.yaml) and tailscale/tailscale (7334217, publicapi/tailnet.md).

The id of a key is inside it. To others a dead key still reads as 200, with `invalid: true`; the list holds other kinds
of keys, and one of those is first. Nobody has read, and it is guessed: that a dead token is answered 401, that a token
may delete itself, and that deleting a dead key is answered 404.
"""

import re
from dataclasses import dataclass
from typing import Any

from tests.sandbox.clock import Clock, write_time
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import Provider, draw

DESCRIPTION = re.compile(r"[A-Za-z0-9 -]{0,50}")
NINETY_DAYS = 90 * 86400.0
MESSAGES = {
    400: "invalid request",
    401: "API token invalid",
    403: "calling actor does not have enough permissions to perform this function",
    404: "not found",
    405: "method not allowed",
    429: "rate limit exceeded",
}


@dataclass
class Key:
    """One key of any kind; only `api` keys sign calls."""

    id: str
    secret: str
    kind: str
    description: str
    user: str
    admin: bool
    created: float
    expires: float
    revoked: float | None = None
    capabilities: dict[str, Any] | None = None

    def is_alive(self, now: float) -> bool:
        return self.revoked is None and now < self.expires

    def row(self, now: float) -> dict[str, Any]:
        """As the API shows it; what is dead says so, with the same status as what is alive."""
        row: dict[str, Any] = {
            "id": self.id,
            "keyType": self.kind,
            "description": self.description,
            "created": write_time(self.created),
            "expires": write_time(self.expires),
            "scopes": ["all"],
            "userId": self.user,
        }
        if self.capabilities is not None:
            row["capabilities"] = self.capabilities
        if self.revoked is not None:
            row["revoked"] = write_time(self.revoked)
        return row if self.is_alive(now) else {**row, "invalid": True}


@dataclass
class Switches:
    """Nothing can be switched here."""


class Tailscale(Provider):
    """One tailnet."""

    name = "tailscale"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.keys: dict[str, Key] = {}
        self.by_secret: dict[str, Key] = {}
        self.seeds = {"key": self.add_key}
        self.add_key(kind="client", description="deploys, not to be touched", user="uDEPLOY")
        self.add_key(kind="auth", description="nodes, not to be touched", user="uDEPLOY")
        self.route("GET", "/api/v2/tailnet/-/keys", self.list_keys)
        self.route("GET", "/api/v2/tailnet/-/keys/{id}", self.read_key)
        self.route("POST", "/api/v2/tailnet/-/keys", self.create_key)
        self.route("DELETE", "/api/v2/tailnet/-/keys/{id}", self.delete_key)

    def add_key(
        self,
        kind: str = "api",
        description: str = "",
        user: str = "uDANA",
        lifetime: float = NINETY_DAYS,
        *,
        admin: bool = False,
        revoked: bool = False,
        capabilities: dict[str, Any] | None = None,
    ) -> Key:
        """A key; `revoked` means that it died a minute ago."""
        now = self.clock.now()
        identifier = f"k{draw(6)}CNTRL"
        secret = f"tskey-{kind}-{identifier}-{draw(32)}"
        key = Key(identifier, secret, kind, description, user, admin, now - 3600, now + lifetime)
        key.revoked = now - 60 if revoked else None
        key.capabilities = capabilities
        with self.lock:
            self.keys[key.id] = self.by_secret[secret] = key
        return key

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {key.id: key.is_alive(self.clock.now()) for key in self.keys.values()}

    def complain(self, status: int) -> Reply:
        return say_json(status, {"message": MESSAGES.get(status, "error")})

    def find_signer(self, call: Call) -> Key | None:
        """The live `api` key that is given as Bearer, or as the user of Basic with an empty password."""
        basic = call.basic()
        token = basic[0] if basic is not None and basic[1] == "" else call.authorization("bearer")
        key = self.by_secret.get(token or "")
        return key if key is not None and key.kind == "api" and key.is_alive(self.clock.now()) else None

    def actor(self, call: Call) -> str:
        key = self.find_signer(call)
        return key.id if key is not None else ""

    def require(self, call: Call) -> Key:
        key = self.find_signer(call)
        if key is None:
            raise RefusedError(self.complain(401))
        return key

    def find_key(self, signer: Key, identifier: str) -> Key:
        """The key of this id; another user's only for an admin."""
        key = self.keys.get(identifier)
        if key is None:
            raise RefusedError(self.complain(404))
        if key.user != signer.user and not signer.admin:
            raise RefusedError(self.complain(403))
        return key

    def list_keys(self, call: Call) -> Reply:
        signer = self.require(call)
        everybody = call.query.get("all") == "true" and signer.admin
        now = self.clock.now()
        keys = [key for key in self.keys.values() if key.is_alive(now) and (everybody or key.user == signer.user)]
        return say_json(200, {"keys": [key.row(now) for key in sorted(keys, key=lambda key: key.kind == "api")]})

    def read_key(self, call: Call, identifier: str) -> Reply:
        return say_json(200, self.find_key(self.require(call), identifier).row(self.clock.now()))

    def create_key(self, call: Call) -> Reply:
        """An auth key; access tokens are made in the console alone."""
        signer = self.require(call)
        wanted = call.json()
        description = wanted.get("description", "")
        capabilities = wanted.get("capabilities")
        if wanted.get("keyType", "auth") != "auth" or capabilities is None or not DESCRIPTION.fullmatch(description):
            raise RefusedError(self.complain(400))
        lifetime = float(wanted.get("expirySeconds") or NINETY_DAYS)
        key = self.add_key("auth", description, signer.user, lifetime, capabilities=capabilities)
        return say_json(200, {**key.row(self.clock.now()), "key": key.secret})

    def delete_key(self, call: Call, identifier: str) -> Reply:
        key = self.find_key(self.require(call), identifier)
        if key.revoked is not None:
            raise RefusedError(self.complain(404))
        key.revoked = self.clock.now()
        return Reply(200)
