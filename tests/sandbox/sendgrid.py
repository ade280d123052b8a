"""Pretends to be SendGrid's key API, and is not it: after twilio/sendgrid-oai (spec/yaml/tsg_api_keys_v3.yaml and
tsg_scopes_v3.yaml, dbe0e0d) and twilio.com/docs/sendgrid (key format, rate limits).

The id of a key is its second part. A deleted key may go on answering for a while; a list has no order, and the key that
one looks for is never first. Nobody has read, and it is guessed: which scope deletes, that a read by id is flat, and
that address management answers 403.
"""

from dataclasses import dataclass
from typing import Any

from tests.sandbox.clock import Clock
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import LETTERS, Provider, draw

URL_SAFE = LETTERS + "-_"
ALL_SCOPES = ("api_keys.create", "api_keys.delete", "api_keys.read", "api_keys.update", "mail.send")
MOST_KEYS = 100
MESSAGES = {
    400: "bad request",
    401: "The provided authorization grant is invalid, expired, or revoked",
    403: "access forbidden",
    404: "unable to find API Key",
    405: "method not allowed",
    429: "too many requests",
    500: "internal error",
}


@dataclass
class Key:
    """One API key. `linger`: how many calls it still answers after it was deleted."""

    id: str
    secret: str
    name: str
    scopes: list[str]
    linger: int = 0
    alive: bool = True

    def row(self) -> dict[str, Any]:
        return {"name": self.name, "api_key_id": self.id}


@dataclass
class Switches:
    """`addresses_allowed`: off means that IP access management refuses every call with 403, whatever its key."""

    addresses_allowed: bool = True


class SendGrid(Provider):
    """One account."""

    name = "sendgrid"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.keys: dict[str, Key] = {}
        self.by_secret: dict[str, Key] = {}
        self.seeds = {"key": self.add_key}
        self.first = self.add_key(name="newsletter, not to be touched")
        self.last = self.add_key(name="receipts, not to be touched")
        self.route("GET", "/v3/scopes", self.list_scopes)
        self.route("GET", "/v3/api_keys", self.list_keys)
        self.route("POST", "/v3/api_keys", self.create_key)
        self.route("GET", "/v3/api_keys/{id}", self.read_key)
        self.route("PUT", "/v3/api_keys/{id}", self.change_key)
        self.route("DELETE", "/v3/api_keys/{id}", self.delete_key)

    def add_key(
        self, name: str = "a key", scopes: list[str] | None = None, linger: int = 0, *, alive: bool = True
    ) -> Key:
        """A key; without scopes it may do everything."""
        identifier, secret = draw_secret()
        key = Key(identifier, secret, name, list(ALL_SCOPES if scopes is None else scopes), linger, alive)
        with self.lock:
            self.keys[key.id] = self.by_secret[secret] = key
        return key

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {key.id: key.alive for key in self.keys.values()}

    def complain(self, status: int) -> Reply:
        headers = {}
        if status == 429:
            reset = str(int(self.clock.now()) + 1)
            headers = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
        errors = [{"field": None, "message": MESSAGES.get(status, "error")}]
        return say_json(status, {"errors": errors}, headers)

    def find_signer(self, call: Call) -> Key | None:
        key = self.by_secret.get(call.authorization("bearer") or "")
        return key if key is not None and (key.alive or key.linger > 0) else None

    def actor(self, call: Call) -> str:
        key = self.find_signer(call)
        return key.id if key is not None else ""

    def require(self, call: Call, scope: str | None = None) -> Key:
        """The key that signs the call, which must have the scope; a deleted one uses up one of its last answers."""
        if not self.switches.addresses_allowed:
            raise RefusedError(self.complain(403))
        key = self.find_signer(call)
        if key is None:
            raise RefusedError(self.complain(401))
        if not key.alive:
            key.linger -= 1
        if scope is not None and scope not in key.scopes:
            raise RefusedError(self.complain(403))
        return key

    def find_key(self, identifier: str) -> Key:
        key = self.keys.get(identifier)
        if key is None or not key.alive:
            raise RefusedError(self.complain(404))
        return key

    def list_scopes(self, call: Call) -> Reply:
        return say_json(200, {"scopes": self.require(call).scopes})

    def list_keys(self, call: Call) -> Reply:
        self.require(call, "api_keys.read")
        between = [key for key in reversed(self.keys.values()) if key.id not in {self.first.id, self.last.id}]
        rows = [key.row() for key in (self.first, *between, self.last) if key.alive]
        limit = call.query.get("limit", "")
        return say_json(200, {"result": rows[: int(limit)] if limit.isdigit() else rows})

    def read_key(self, call: Call, identifier: str) -> Reply:
        self.require(call, "api_keys.read")
        key = self.find_key(identifier)
        return say_json(200, {**key.row(), "scopes": key.scopes})

    def create_key(self, call: Call) -> Reply:
        signer = self.require(call, "api_keys.create")
        if sum(key.alive for key in self.keys.values()) >= MOST_KEYS:
            raise RefusedError(self.complain(403))
        wanted = call.json()
        if not set(wanted.get("scopes") or []) <= set(signer.scopes):
            raise RefusedError(self.complain(403))
        key = self.add_key(wanted["name"], wanted.get("scopes"))
        return say_json(201, {"api_key": key.secret, **key.row(), "scopes": key.scopes})

    def change_key(self, call: Call, identifier: str) -> Reply:
        self.require(call, "api_keys.update")
        key = self.find_key(identifier)
        wanted = call.json()
        key.name, key.scopes = wanted["name"], list(wanted["scopes"])
        return say_json(200, {**key.row(), "scopes": key.scopes})

    def delete_key(self, call: Call, identifier: str) -> Reply:
        self.require(call, "api_keys.delete")
        self.find_key(identifier).alive = False
        return Reply(204)


def draw_secret() -> tuple[str, str]:
    """A key's id, and the key that holds it; that it looks right does not make it exist."""
    identifier = draw(22, URL_SAFE)
    return identifier, f"SG.{identifier}.{draw(43, URL_SAFE)}"
