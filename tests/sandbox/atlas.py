"""Pretends to be MongoDB Atlas's API for organization keys, and is not it: after mongodb.com/docs/atlas (API
authentication, service accounts, rate limits) and mongodb/atlas-sdk-go (docs/docs/ApiKeyUserDetails.md).

A key signs by Digest with its public half as the user; its id is a third value, which only the list tells. The first
row is not a key at all. Guessed, since nobody has read it: the words of errors, that a refusal repeats the challenge,
how a row masks its private key, and its link to itself.
"""

import secrets
from dataclasses import dataclass
from hashlib import md5
from re import findall
from typing import Any
from uuid import uuid4

from tests.sandbox.clock import Clock
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import Provider, draw

REALM = "MMS Public API"
HEX = "0123456789abcdef"
LOWER = "abcdefghijklmnopqrstuvwxyz"
REASONS = {
    400: ("BAD_REQUEST", "Bad Request"),
    403: ("USER_UNAUTHORIZED", "Forbidden"),
    404: ("API_KEY_NOT_FOUND", "Not Found"),
    405: ("METHOD_NOT_ALLOWED", "Method Not Allowed"),
    429: ("RATE_LIMITED_TOKEN_BUCKET", "Too Many Requests"),
    500: ("UNEXPECTED_ERROR", "Internal Server Error"),
    503: ("SERVICE_UNAVAILABLE", "Service Unavailable"),
}


@dataclass
class Key:
    """One API key. `linger`: how many calls it still signs after it was deleted. `owner`: it owns the organization."""

    id: str
    org: str
    public: str
    secret: str
    desc: str
    owner: bool = False
    linger: int = 0
    alive: bool = True

    def row(self) -> dict[str, Any]:
        href = f"https://cloud.mongodb.com/api/atlas/v2/orgs/{self.org}/apiKeys/{self.id}"
        return {
            "id": self.id,
            "publicKey": self.public,
            "privateKey": f"********-****-****-{self.secret[-12:]}",
            "desc": self.desc,
            "roles": [{"orgId": self.org, "roleName": "ORG_OWNER" if self.owner else "ORG_MEMBER"}],
            "links": [{"href": href, "rel": "self"}],
        }


@dataclass
class Switches:
    """`addresses_allowed`: off means that every signed call comes from an address that is on no access list."""

    addresses_allowed: bool = True
    most_per_page: int = 2


class Atlas(Provider):
    """Two organizations and a service account that owns the first."""

    name = "mongodb_atlas"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.keys: dict[str, Key] = {}
        self.org, self.other_org = draw(24, HEX), draw(24, HEX)
        self.client_id, self.client_secret = f"mdb_sa_id_{draw(24, HEX)}", f"mdb_sa_sk_{draw(40)}"
        self.sessions: set[str] = set()
        self.nonces: set[str] = set()
        self.seeds = {"key": self.add_key}
        self.add_key(desc="terraform, not to be touched", owner=True)
        self.route("POST", "/api/oauth/token", self.sign_in)
        self.route("POST", "/api/oauth/revoke", self.sign_out)
        self.route("GET", "/api/atlas/v2/orgs", self.list_orgs)
        self.route("GET", "/api/atlas/v2/orgs/{org}/apiKeys", self.list_keys)
        self.route("GET", "/api/atlas/v2/orgs/{org}/apiKeys/{id}", self.read_key)
        self.route("DELETE", "/api/atlas/v2/orgs/{org}/apiKeys/{id}", self.delete_key)

    def add_key(
        self,
        desc: str = "a key",
        org: str = "",
        public: str = "",
        end: str = "",
        linger: int = 0,
        *,
        owner: bool = False,
        alive: bool = True,
    ) -> Key:
        """A key; `public` and the `end` of its private half can be made those of another key."""
        secret = str(uuid4())[: 36 - len(end)] + end
        key = Key(
            draw(24, HEX), org or self.org, public or draw(8, LOWER), secret, desc, owner, linger=linger, alive=alive
        )
        with self.lock:
            self.keys[key.id] = key
        return key

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {key.id: key.alive for key in self.keys.values()}

    def complain(self, status: int, code: str = "") -> Reply:
        if status == 401:
            nonce = secrets.token_hex(8)
            self.nonces.add(nonce)
            challenge = f'Digest realm="{REALM}", domain="", nonce="{nonce}", algorithm=MD5, qop="auth", stale=false'
            detail = "You are not authorized for this resource."
            body = {"error": 401, "reason": "Unauthorized", "detail": detail}
            return say_json(401, body, {"WWW-Authenticate": challenge})
        told, reason = REASONS.get(status, ("UNEXPECTED_ERROR", "Error"))
        headers = {"Retry-After": "1", "RateLimit-Remaining": "0"} if status == 429 else {}
        body = {"error": status, "errorCode": code or told, "reason": reason, "detail": reason, "parameters": []}
        return say_json(status, body, headers)

    def find_signer(self, call: Call) -> Key | None:
        given = call.authorization("digest")
        if given is None:
            return None
        parts = {name: quoted or plain for name, quoted, plain in findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', given)}
        fitting = [key for key in self.keys.values() if fits(key, parts, call.method)]
        return fitting[0] if fitting and parts.get("nonce") in self.nonces else None

    def actor(self, call: Call) -> str:
        if call.authorization("bearer") in self.sessions:
            return self.client_id
        key = self.find_signer(call)
        return key.id if key is not None else ""

    def require(self, call: Call, org: str = "", *, owner: bool = False) -> Key | None:
        """Who signs: a key, or None for the service account, which owns the first organization alone."""
        if call.authorization("bearer") in self.sessions:
            if org not in {"", self.org}:
                raise RefusedError(self.complain(403))
            return None
        key = self.find_signer(call)
        if key is None or not (key.alive or key.linger > 0):
            raise RefusedError(self.complain(401))
        if not self.switches.addresses_allowed:
            raise RefusedError(self.complain(403, "IP_ADDRESS_NOT_ON_ACCESS_LIST"))
        key.linger -= 0 if key.alive else 1
        if org not in {"", key.org} or (owner and not key.owner):
            raise RefusedError(self.complain(403))
        return key

    def sign_in(self, call: Call) -> Reply:
        if call.basic() != (self.client_id, self.client_secret):
            return say_json(401, {"error": "invalid_client"})
        session = f"eyJ{draw(60)}"
        self.sessions.add(session)
        return say_json(200, {"access_token": session, "expires_in": 3600, "token_type": "Bearer"})

    def sign_out(self, call: Call) -> Reply:
        self.sessions.discard(call.form().get("token", ""))
        return Reply(200)

    def list_orgs(self, call: Call) -> Reply:
        key = self.require(call)
        org = self.org if key is None else key.org
        return say_json(200, {"results": [{"id": org, "name": "acme", "isDeleted": False}], "totalCount": 1})

    def list_keys(self, call: Call, org: str) -> Reply:
        self.require(call, org, owner=True)
        rows: list[dict[str, Any]] = [{"id": self.org, "clientId": self.client_id, "desc": "no API key"}]
        rows += [key.row() for key in self.keys.values() if key.org == org and key.alive]
        size = min(int(call.query.get("itemsPerPage", "100")), self.switches.most_per_page)
        start = (int(call.query.get("pageNum", "1")) - 1) * size
        return say_json(200, {"results": rows[start : start + size], "totalCount": len(rows), "links": []})

    def find_key(self, org: str, identifier: str) -> Key:
        key = self.keys.get(identifier)
        if key is None or key.org != org or not key.alive:
            raise RefusedError(self.complain(404))
        return key

    def read_key(self, call: Call, org: str, identifier: str) -> Reply:
        self.require(call, org, owner=True)
        return say_json(200, self.find_key(org, identifier).row())

    def delete_key(self, call: Call, org: str, identifier: str) -> Reply:
        self.require(call, org, owner=True)
        self.find_key(org, identifier).alive = False
        return Reply(204)


def fits(key: Key, parts: dict[str, str], method: str) -> bool:
    """Whether a Digest answer was made with this key (RFC 7616, MD5, qop=auth)."""
    if parts.get("username") != key.public:
        return False
    one = hash_text(f"{key.public}:{REALM}:{key.secret}")
    two = hash_text(f"{method}:{parts.get('uri', '')}")
    middle = ":".join(parts.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
    return parts.get("response") == hash_text(f"{one}:{middle}:{two}")


def hash_text(text: str) -> str:
    """MD5, which Digest is made of here."""
    return md5(text.encode(), usedforsecurity=False).hexdigest()
