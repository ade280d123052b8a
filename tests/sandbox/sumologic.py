"""Pretends to be Sumo Logic's access-key API, and is not it: after sumologic.com/help (access keys; troubleshooting;
api-errors) and its generated clients (paths, `limit` and `token` of the list, `corsHeaders`).

The first row of a list is a key with an allow list of origins. Two documented troubles can be had: a key that was taken
away goes on working for a while (`linger`), and a good key is refused once in a while (`flaky`). Guessed: the fields of
a row beside id, label and disabled, and what a deleted key's id is answered.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.clock import Clock
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import Provider, draw

ERRORS = {
    401: ("unauthorized", "Credential could not be verified."),
    403: ("forbidden", "This operation is not allowed for your account type."),
    404: ("notfound", "Requested resource could not be found."),
    405: ("method.unsupported", "Unsupported method for URL."),
    429: ("rate.limit.exceeded", "The API request rate is higher than 4 request per second."),
    500: ("internal.error", "Internal server error."),
    503: ("service.unavailable", "Service is currently unavailable."),
}


@dataclass
class Key:
    """One access key. `linger`: calls that it still signs when it is gone; `flaky`: calls that it is refused, alive."""

    id: str
    secret: str
    label: str
    manager: bool = False
    cors: list[str] = field(default_factory=list)
    linger: int = 0
    flaky: int = 0
    disabled: bool = False
    alive: bool = True

    def row(self) -> dict[str, Any]:
        return {"id": self.id, "label": self.label, "corsHeaders": self.cors, "disabled": self.disabled}


@dataclass
class Switches:
    """`moved`: the account is of another deployment, so that everything is answered 301."""

    moved: bool = False
    most_per_page: int = 2


class SumoLogic(Provider):
    """One account of one deployment."""

    name = "sumologic"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.keys: dict[str, Key] = {}
        self.seeds = {"key": self.add_key}
        self.add_key(label="dashboard in browsers, not to be touched", cors=["https://a.example", "https://b.example"])
        self.route("GET", "/api/v1/accessKeys", self.list_keys)
        self.route("GET", "/api/v1/accessKeys/personal", self.list_own)
        self.route("PUT", "/api/v1/accessKeys/{id}", self.change_key)
        self.route("DELETE", "/api/v1/accessKeys/{id}", self.delete_key)

    def add_key(
        self,
        label: str = "a key",
        cors: list[str] | None = None,
        linger: int = 0,
        flaky: int = 0,
        *,
        manager: bool = False,
        alive: bool = True,
    ) -> Key:
        """A key; a `manager` may change those of others."""
        key = Key(f"su{draw(12)}", draw(64), label, manager, cors or [], linger, flaky, alive=alive)
        with self.lock:
            self.keys[key.id] = key
        return key

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {key.id: key.alive and not key.disabled for key in self.keys.values()}

    def complain(self, status: int) -> Reply:
        code, message = ERRORS.get(status, ("error", "Error."))
        return say_json(status, {"id": draw(5), "errors": [{"code": code, "message": message}]})

    def find_signer(self, call: Call) -> Key | None:
        user, password = call.basic() or ("", "")
        key = self.keys.get(user)
        return key if key is not None and key.secret == password else None

    def actor(self, call: Call) -> str:
        key = self.find_signer(call)
        return key.id if key is not None else ""

    def require(self, call: Call, identifier: str = "") -> Key:
        """The key that signs; to do something to another key it has to be a manager's."""
        if self.switches.moved:
            moved = {"status": 301, "id": draw(5), "code": "moved", "message": "See the Location Header."}
            raise RefusedError(say_json(301, moved, {"Location": "https://api.eu.sumologic.com/api/v1/accessKeys"}))
        key = self.find_signer(call)
        if key is None:
            raise RefusedError(self.complain(401))
        if key.disabled or not key.alive:
            key.linger -= 1
            if key.linger < 0:
                raise RefusedError(self.complain(401))
        elif key.flaky > 0:
            key.flaky -= 1
            raise RefusedError(self.complain(401))
        if identifier and identifier != key.id and not key.manager:
            raise RefusedError(self.complain(403))
        return key

    def find_key(self, identifier: str) -> Key:
        key = self.keys.get(identifier)
        if key is None or not key.alive:
            raise RefusedError(self.complain(404))
        return key

    def list_own(self, call: Call) -> Reply:
        return say_json(200, {"data": [self.require(call).row()]})

    def list_keys(self, call: Call) -> Reply:
        self.require(call, "*")
        rows = [key.row() for key in self.keys.values() if key.alive]
        start = int(call.query.get("token", "0"))
        size = min(int(call.query.get("limit", "100")), self.switches.most_per_page)
        following = str(start + size) if start + size < len(rows) else None
        return say_json(200, {"data": rows[start : start + size], "next": following})

    def change_key(self, call: Call, identifier: str) -> Reply:
        self.require(call, identifier)
        key, wanted = self.find_key(identifier), call.json()
        key.disabled, key.cors = wanted["disabled"], wanted.get("corsHeaders", [])
        return say_json(200, key.row())

    def delete_key(self, call: Call, identifier: str) -> Reply:
        self.require(call, identifier)
        self.find_key(identifier).alive = False
        return Reply(204)
