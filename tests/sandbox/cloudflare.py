"""Pretends to be Cloudflare's API of user tokens, and is not it: after cloudflare/cloudflare-typescript
(src/resources/user/tokens) and developers.cloudflare.com/api (verify, read, roll).

A roll gives a token another secret at once; its id, name and status stay. Not here: tokens of accounts, policies,
expiry. Nobody has read, and it is guessed: the code of a dead token, and what a missing permission is answered with.
"""

from dataclasses import dataclass
from typing import Any

from tests.sandbox.clock import Clock
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import Provider, draw

HEX = "0123456789abcdef"
ERRORS = {401: (1000, "Invalid API Token"), 403: (9109, "Unauthorized to access requested resource")}


@dataclass
class Token:
    """One token; only one that `writes` may read and roll others."""

    id: str
    secret: str
    name: str
    writes: bool
    status: str = "active"

    def row(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "status": self.status}


@dataclass
class Switches:
    """Nothing can be switched here."""


class Cloudflare(Provider):
    """One user."""

    name = "cloudflare"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.tokens: dict[str, Token] = {}
        self.seeds = {"token": self.add_token}
        self.route("GET", "/client/v4/user/tokens/verify", self.verify)
        self.route("GET", "/client/v4/user/tokens/{id}", self.read_token)
        self.route("PUT", "/client/v4/user/tokens/{id}/value", self.roll)

    def add_token(self, name: str = "a token", *, writes: bool = False) -> Token:
        """A token of the user's."""
        token = Token(draw(32, HEX), draw(40), name, writes)
        with self.lock:
            self.tokens[token.id] = token
        return token

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {token.id: token.status == "active" for token in self.tokens.values()}

    def complain(self, status: int) -> Reply:
        code, says = ERRORS.get(status, (1003, "not found"))
        error = {"code": code, "message": says}
        return say_json(status, {"success": False, "errors": [error], "messages": [], "result": None})

    def grant(self, result: object) -> Reply:
        return say_json(200, {"success": True, "errors": [], "messages": [], "result": result})

    def find_signer(self, call: Call) -> Token | None:
        secret = call.authorization("bearer")
        return next((token for token in self.tokens.values() if token.secret == secret), None)

    def actor(self, call: Call) -> str:
        token = self.find_signer(call)
        return token.id if token is not None else ""

    def require(self, call: Call, *, writes: bool) -> Token:
        token = self.find_signer(call)
        if token is None:
            raise RefusedError(self.complain(401))
        if writes and not token.writes:
            raise RefusedError(self.complain(403))
        return token

    def find_token(self, call: Call, identifier: str) -> Token:
        self.require(call, writes=True)
        if identifier not in self.tokens:
            raise RefusedError(self.complain(404))
        return self.tokens[identifier]

    def verify(self, call: Call) -> Reply:
        token = self.require(call, writes=False)
        return self.grant({"id": token.id, "status": token.status})

    def read_token(self, call: Call, identifier: str) -> Reply:
        return self.grant(self.find_token(call, identifier).row())

    def roll(self, call: Call, identifier: str) -> Reply:
        token = self.find_token(call, identifier)
        token.secret = draw(40)
        return self.grant(token.secret)
