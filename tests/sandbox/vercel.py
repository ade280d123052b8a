"""Pretends to be Vercel's authorization server and its API for users' tokens, and is not it: after vercel.com/docs
(sign-in-with-vercel/authorization-server-api; rest-api/authentication; rest-api/errors).

A revocation is answered 200 whatever it was about; introspection asks for no client. Guessed: that another app's token
is left alone with a 200, as some servers do, and what a deleted token of a user is answered.
"""

from dataclasses import dataclass
from typing import Literal

from tests.sandbox.clock import Clock
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import Provider, draw

CODES = {
    400: ("bad_request", "An error occurred"),
    401: ("forbidden", "Not authorized"),
    403: ("forbidden", "Not authorized"),
    404: ("not_found", "Could not find the RESOURCE: ID"),
    405: ("method_unknown", "This endpoint does not respond to this method"),
    429: ("rate_limited", "The rate limit was exceeded"),
    500: ("internal_server_error", "An unexpected internal error occurred"),
    503: ("internal_server_error", "Service unavailable"),
}


@dataclass
class Token:
    """One token: of an app (`vca`, `vcr`), of a user (`vcp`). `linger`: questions after its end that find it alive.

    `pair`: the id of the refresh token that an access token takes with it.
    """

    id: str
    secret: str
    client_id: str = ""
    pair: str = ""
    linger: int = 0
    alive: bool = True


@dataclass
class Switches:
    """`yes_but_alive`: revocations are answered with yes and do nothing."""

    yes_but_alive: bool = False


class Vercel(Provider):
    """Two apps, of which the first is ours, and users with tokens of their own."""

    name = "vercel"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.client_id, self.client_secret = f"cl_{draw(32)}", draw(43)
        self.other_client_id = f"cl_{draw(32)}"
        self.tokens: dict[str, Token] = {}
        self.seeds = {"token": self.add_token}
        self.add_token()
        self.add_token("vcp")
        self.route("POST", "/login/oauth/token/introspect", self.introspect)
        self.route("POST", "/login/oauth/token/revoke", self.revoke)
        self.route("GET", "/v5/user/tokens/current", self.read_current)
        self.route("DELETE", "/v3/user/tokens/current", self.delete_current)

    def add_token(
        self, kind: Literal["vca", "vcr", "vcp"] = "vca", pair: str = "", linger: int = 0, *, ours: bool = True
    ) -> Token:
        """A token; that of an app is our app's or the other's."""
        client = "" if kind == "vcp" else self.client_id if ours else self.other_client_id
        token = Token(f"tok_{draw(16)}", f"{kind}_{draw(56)}", client, pair, linger)
        with self.lock:
            self.tokens[token.id] = token
        return token

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {token.id: token.alive for token in self.tokens.values()}

    def complain(self, status: int) -> Reply:
        code, message = CODES.get(status, ("internal_server_error", "Error"))
        return say_json(status, {"error": {"code": code, "message": message}})

    def find_token(self, secret: str | None) -> Token | None:
        """The token with this secret, where it is alive or lingers; each such question uses one up."""
        token = next((each for each in self.tokens.values() if each.secret == secret), None)
        if token is None or token.alive:
            return token
        token.linger -= 1
        return token if token.linger >= 0 else None

    def actor(self, call: Call) -> str:
        if call.basic() == (self.client_id, self.client_secret):
            return self.client_id
        given = call.authorization("bearer")
        return next((each.id for each in self.tokens.values() if each.secret == given), "")

    def introspect(self, call: Call) -> Reply:
        token = self.find_token(call.form().get("token"))
        if token is None or not token.client_id:
            return say_json(200, {"active": False})
        told = {"active": True, "client_id": token.client_id, "token_type": "bearer", "sub": "345e869043f1"}
        return say_json(200, {**told, "iss": "https://vercel.com", "exp": int(self.clock.now()) + 3600})

    def revoke(self, call: Call) -> Reply:
        if call.basic() != (self.client_id, self.client_secret):
            return say_json(401, {"error": "invalid_client"})
        token = next((each for each in self.tokens.values() if each.secret == call.form().get("token")), None)
        if token is not None and token.client_id == self.client_id and not self.switches.yes_but_alive:
            token.alive = False
            if token.pair in self.tokens:
                self.tokens[token.pair].alive = False
        return Reply(200)

    def require_user(self, call: Call) -> Token:
        token = self.find_token(call.authorization("bearer"))
        if token is None or token.client_id:
            raise RefusedError(self.complain(403))
        return token

    def read_current(self, call: Call) -> Reply:
        token = self.require_user(call)
        return say_json(200, {"token": {"id": token.id, "name": "ci", "type": "oauth2-token", "origin": "manual"}})

    def delete_current(self, call: Call) -> Reply:
        token = self.require_user(call)
        token.alive = False
        return say_json(200, {"tokenId": token.id})
