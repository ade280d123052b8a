"""Pretends to be GitLab's API of personal access tokens, and is not it: after gitlabhq/gitlabhq
(doc/api/personal_access_tokens.md) and docs.gitlab.com (rotate, automatic reuse detection).

A rotation revokes the token and makes another one of the same name and scopes; rotating one that is revoked already
ends its whole family. Not here: groups, projects, administrators. Nobody has read, and guessed: the words of a 400.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tests.sandbox.clock import Clock, write_time
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import LETTERS, Provider, draw

MESSAGES = {400: "400 Bad request - token already revoked", 401: "401 Unauthorized", 404: "404 Not Found"}
WEEK = 7 * 86400.0


@dataclass
class Token:
    """One personal access token; those that came of one another by rotation are one `family`."""

    id: int
    secret: str
    name: str
    user: int
    scopes: list[str]
    family: int
    created: float
    expires: float
    revoked: bool = False

    def is_alive(self, now: float) -> bool:
        return not self.revoked and now < self.expires

    def row(self, now: float) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "revoked": self.revoked,
            "created_at": write_time(self.created),
            "scopes": self.scopes,
            "user_id": self.user,
            "last_used_at": None,
            "active": self.is_alive(now),
            "expires_at": write_time(self.expires)[:10],
        }


@dataclass
class Switches:
    """Nothing can be switched here."""


class GitLab(Provider):
    """One instance with one user."""

    name = "gitlab"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.tokens: dict[int, Token] = {}
        self.by_secret: dict[str, Token] = {}
        self.seeds = {"token": self.add_token}
        self.route("GET", "/api/v4/personal_access_tokens", self.list_tokens)
        self.route("GET", "/api/v4/personal_access_tokens/self", self.read_self)
        self.route("POST", "/api/v4/personal_access_tokens/{id}/rotate", self.rotate)

    def add_token(self, name: str = "a token", scopes: list[str] | None = None, days: float = 90) -> Token:
        """A token of the user's."""
        with self.lock:
            number, now = len(self.tokens) + 41, self.clock.now()
            secret = f"glpat-{draw(20, LETTERS)}"
            token = Token(number, secret, name, 7, scopes or ["api"], number, now, now + days * 86400)
            self.tokens[number] = self.by_secret[secret] = token
        return token

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {str(token.id): token.is_alive(self.clock.now()) for token in self.tokens.values()}

    def complain(self, status: int) -> Reply:
        return say_json(status, {"message": MESSAGES.get(status, f"{status} Error")})

    def find_signer(self, call: Call) -> Token | None:
        token = self.by_secret.get(call.headers.get("private-token", ""))
        return token if token is not None and token.is_alive(self.clock.now()) else None

    def actor(self, call: Call) -> str:
        token = self.find_signer(call)
        return str(token.id) if token is not None else ""

    def require(self, call: Call, scope: str | None = None) -> Token:
        token = self.find_signer(call)
        if token is None or (scope is not None and scope not in token.scopes):
            raise RefusedError(self.complain(401))
        return token

    def read_self(self, call: Call) -> Reply:
        return say_json(200, self.require(call).row(self.clock.now()))

    def list_tokens(self, call: Call) -> Reply:
        self.require(call, "api")
        now, wanted = self.clock.now(), call.query.get("search", "")
        rows = [token.row(now) for token in self.tokens.values() if wanted in token.name]
        active = call.query.get("state") == "active"
        return say_json(200, [row for row in rows if row["active"] or not active])

    def rotate(self, call: Call, identifier: str) -> Reply:
        self.require(call, "api")
        token = self.tokens.get(int(identifier)) if identifier.isdigit() else None
        if token is None:
            raise RefusedError(self.complain(404))
        if token.revoked:
            for relative in self.tokens.values():
                relative.revoked = relative.revoked or relative.family == token.family
            raise RefusedError(self.complain(400))
        token.revoked = True
        until = call.json().get("expires_at")
        now = self.clock.now()
        expires = datetime.fromisoformat(until).replace(tzinfo=UTC).timestamp() if until else now + WEEK
        made = self.add_token(token.name, token.scopes)
        self.tokens[made.id] = self.by_secret[made.secret] = kept = replace(made, family=token.family, expires=expires)
        return say_json(200, {**kept.row(now), "token": kept.secret})
