"""Pretends to be JupyterHub, and is not it: after what JupyterHub 6.1.1 answered on loopback. The acceptance suite uses
the real one.

A token does not hold its id: `GET /hub/api/user` with the token tells it. The list is in no order that helps, and a
dead token gets 403, not 401.
"""

from dataclasses import dataclass
from typing import Any

from tests.sandbox.clock import Clock, write_time
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import Provider, draw

HEX = "0123456789abcdef"
MESSAGES = {
    403: "Missing or invalid credentials.",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
}


@dataclass
class Token:
    """One token of a user, or of a service that may do everything."""

    id: str
    secret: str
    owner: str
    note: str
    created: float
    admin: bool = False
    alive: bool = True

    def row(self) -> dict[str, Any]:
        return {
            "user": self.owner,
            "id": self.id,
            "kind": "api_token",
            "roles": [],
            "scopes": ["inherit"],
            "note": self.note,
            "created": write_time(self.created),
            "expires_at": None,
            "last_activity": None,
            "session_id": None,
        }


@dataclass
class Switches:
    """Nothing can be switched here."""


class Hub(Provider):
    """One hub."""

    name = "hub"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.tokens: dict[str, Token] = {}
        self.by_secret: dict[str, Token] = {}
        self.seeds = {"token": self.add_token}
        self.route("GET", "/hub/api/user", self.read_self)
        self.route("GET", "/hub/api/users/{user}/tokens", self.list_tokens)
        self.route("POST", "/hub/api/users/{user}/tokens", self.create_token)
        self.route("GET", "/hub/api/users/{user}/tokens/{id}", self.read_token)
        self.route("DELETE", "/hub/api/users/{user}/tokens/{id}", self.delete_token)

    def add_token(self, owner: str = "dana", note: str = "", *, admin: bool = False, alive: bool = True) -> Token:
        """A token of this user; an admin's belongs to a service, which is no user."""
        with self.lock:
            identifier = f"a{len(self.tokens) + 1}"
            token = Token(identifier, draw(32, HEX), owner, note, self.clock.now(), admin, alive)
            self.tokens[identifier] = self.by_secret[token.secret] = token
        return token

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {token.id: token.alive for token in self.tokens.values()}

    def complain(self, status: int) -> Reply:
        return say_json(status, {"status": status, "message": MESSAGES.get(status, "Error")})

    def find_signer(self, call: Call) -> Token | None:
        token = self.by_secret.get(call.authorization("token") or call.authorization("bearer") or "")
        return token if token is not None and token.alive else None

    def actor(self, call: Call) -> str:
        token = self.find_signer(call)
        return token.id if token is not None else ""

    def require(self, call: Call, user: str | None = None) -> Token:
        """The token that signs the call, which must be the user's own or an admin's."""
        token = self.find_signer(call)
        if token is None:
            raise RefusedError(self.complain(403))
        if user is not None and token.owner != user and not token.admin:
            raise RefusedError(self.complain(404))
        return token

    def find_token(self, user: str, identifier: str) -> Token:
        token = self.tokens.get(identifier)
        if token is None or not token.alive or token.owner != user:
            raise RefusedError(self.complain(404))
        return token

    def read_self(self, call: Call) -> Reply:
        token = self.require(call)
        kind = "service" if token.admin else "user"
        about = {"kind": kind, "name": token.owner, "admin": token.admin, "scopes": ["self"], "token_id": token.id}
        return say_json(200, about)

    def list_tokens(self, call: Call, user: str) -> Reply:
        self.require(call, user)
        mine = [token for token in self.tokens.values() if token.alive and token.owner == user]
        return say_json(200, {"api_tokens": [token.row() for token in reversed(mine)]})

    def create_token(self, call: Call, user: str) -> Reply:
        self.require(call, user)
        token = self.add_token(user, call.json().get("note", "") if call.body else "")
        return say_json(201, {**token.row(), "token": token.secret})

    def read_token(self, call: Call, user: str, identifier: str) -> Reply:
        self.require(call, user)
        return say_json(200, self.find_token(user, identifier).row())

    def delete_token(self, call: Call, user: str, identifier: str) -> Reply:
        self.require(call, user)
        self.find_token(user, identifier).alive = False
        return Reply(204)
