"""Pretends to be npm's registry as far as tokens go, and is not it: after npm/api-documentation (5d24314,
api/registry.npmjs.com/token.yaml) and docs.npmjs.com/revoking-access-tokens.

A list is a user's own, begins at page 0, and shows the first eight and the last four characters of each token; tokens
of the old form and revoked ones are in it. Only a session may list and revoke. Guessed: what `whoami` answers to a
revoked token, and how the old form is masked.
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.sandbox.clock import Clock, write_time
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import Provider, draw

LONGEST = 40
ERRORS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    429: "Too many requests",
    500: "Internal server error",
    503: "Service unavailable",
}


@dataclass
class Token:
    """One token. `linger`: how many calls it still signs after it was revoked."""

    id: str
    secret: str
    user: str
    name: str
    session: bool = False
    linger: int = 0
    revoked: float | None = None

    def row(self, created: float) -> dict[str, Any]:
        return {
            "key": self.id,
            "name": self.name,
            "token": f"{self.secret[:8]}...{self.secret[-4:]}",
            "readonly": False,
            "bypass_2fa": False,
            "cidr": None,
            "revoked": None if self.revoked is None else write_time(self.revoked),
            "created": write_time(created),
            "updated": None,
            "accessed": None,
        }


@dataclass
class Switches:
    """`second_factor`: a revocation asks for a one-time password."""

    second_factor: bool = False
    most_per_page: int = 2


class Npm(Provider):
    """A registry with a few users."""

    name = "npm"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.tokens: dict[str, Token] = {}
        self.seeds = {"token": self.add_token}
        self.route("GET", "/-/whoami", self.who_am_i)
        self.route("GET", "/-/npm/v1/tokens", self.list_tokens)
        self.route("DELETE", "/-/npm/v1/tokens/token/{key}", self.revoke_token)

    def add_token(
        self,
        user: str = "dana",
        name: str = "a token",
        like: str = "",
        linger: int = 0,
        *,
        session: bool = False,
        legacy: bool = False,
        revoked: bool = False,
        same_end: bool = True,
    ) -> Token:
        """A token. `like` another secret: it begins as that one does, and ends so too with `same_end`."""
        head = like[:8] or f"npm_{draw(4)}"
        tail = like[-4:] if like and same_end else draw(4)
        secret = str(uuid4()) if legacy else head + draw(LONGEST - len(head) - len(tail)) + tail
        token = Token(str(uuid4()), secret, user, name, session, linger, self.clock.now() - 60 if revoked else None)
        with self.lock:
            self.tokens[token.id] = token
        return token

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {token.id: token.revoked is None for token in self.tokens.values()}

    def complain(self, status: int) -> Reply:
        return say_json(status, {"error": ERRORS.get(status, "Error")})

    def find_signer(self, call: Call) -> Token | None:
        given = call.authorization("bearer")
        token = next((each for each in self.tokens.values() if each.secret == given), None)
        return token if token is not None and (token.revoked is None or token.linger > 0) else None

    def actor(self, call: Call) -> str:
        token = self.find_signer(call)
        return token.id if token is not None else ""

    def require(self, call: Call, *, session: bool) -> Token:
        token = self.find_signer(call)
        if token is None:
            raise RefusedError(self.complain(401))
        token.linger -= 0 if token.revoked is None else 1
        if session and not token.session:
            raise RefusedError(self.complain(403))
        return token

    def who_am_i(self, call: Call) -> Reply:
        return say_json(200, {"username": self.require(call, session=False).user})

    def list_tokens(self, call: Call) -> Reply:
        user = self.require(call, session=True).user
        rows = [token.row(self.clock.now() - 86400) for token in self.tokens.values() if token.user == user]
        size = min(int(call.query.get("perPage", "10")), self.switches.most_per_page)
        start = int(call.query.get("page", "0")) * size
        return say_json(200, {"objects": rows[start : start + size], "total": len(rows), "urls": {}})

    def revoke_token(self, call: Call, key: str) -> Reply:
        user = self.require(call, session=True).user
        if self.switches.second_factor:
            asked = {"error": "You must provide a one-time pass. Upgrade your client to npm@latest."}
            return say_json(401, asked, {"WWW-Authenticate": "OTP"})
        token = next((each for each in self.tokens.values() if key in {each.id, each.secret}), None)
        if token is None or token.user != user or token.revoked is not None:
            return say_json(400, {"message": "could not delete token"})
        token.revoked = self.clock.now()
        return Reply(204)
