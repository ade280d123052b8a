"""Pretends to be a provider that does not exist and that revoq has no rule for; one test brings it to the sandbox.

Its list shows the beginning and the end of each key, in pages with a cursor, and what was retired stays in it. Keys
come in a header of its own.
"""

from dataclasses import dataclass
from typing import Any

from tests.sandbox.clock import Clock
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import Provider, draw

HEAD, TAIL = 6, 4
CODES = {403: "key_unknown", 404: "nothing_here", 405: "nothing_here", 429: "slow_down"}


@dataclass
class Key:
    """One key."""

    ref: str
    secret: str
    retired: bool = False

    def row(self) -> dict[str, Any]:
        state = "retired" if self.retired else "active"
        return {"ref": self.ref, "starts": self.secret[:HEAD], "ends": self.secret[-TAIL:], "state": state}


class Larder(Provider):
    """One account. Its first key is the one that may list and retire the others."""

    name = "larder"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.keys: list[Key] = []
        self.admin = self.add_key()
        self.route("GET", "/v2/self", self.read_self)
        self.route("GET", "/v2/keys", self.list_keys)
        self.route("POST", "/v2/keys/{ref}/retire", self.retire)

    def add_key(self, like: str = "", *, same_end: bool = False, retired: bool = False) -> Key:
        """A key; `like` another secret, it begins as that one does, and may end so too."""
        head, tail = (like or f"lk_{draw(3)}")[:HEAD], like[-TAIL:] if same_end else draw(TAIL)
        key = Key(f"ref-{draw(8)}", f"{head}{draw(20)}{tail}", retired)
        self.keys.append(key)
        return key

    def complain(self, status: int) -> Reply:
        return say_json(status, {"code": CODES.get(status, "error")}, {"Retry-After": "1"} if status == 429 else {})

    def state(self) -> dict[str, bool]:
        return {key.ref: not key.retired for key in self.keys}

    def find_signer(self, call: Call) -> Key | None:
        given = call.headers.get("x-larder-key")
        return next((key for key in self.keys if key.secret == given), None)

    def actor(self, call: Call) -> str:
        key = self.find_signer(call)
        return key.ref if key is not None else ""

    def require(self, call: Call) -> Key:
        key = self.find_signer(call)
        if key is None or key.retired:
            raise RefusedError(say_json(403, {"code": "key_unknown" if key is None else "key_retired"}))
        return key

    def read_self(self, call: Call) -> Reply:
        return say_json(200, {"self": self.require(call).row()})

    def require_admin(self, call: Call) -> None:
        if self.require(call) is not self.admin:
            raise RefusedError(say_json(403, {"code": "admins_only"}))

    def list_keys(self, call: Call) -> Reply:
        self.require_admin(call)
        start, limit = int(call.query.get("after", "0")), int(call.query.get("limit", "2"))
        end = start + limit
        rows = [key.row() for key in self.keys[start:end]]
        return say_json(200, {"items": rows, "paging": {"after": str(end) if end < len(self.keys) else None}})

    def retire(self, call: Call, ref: str) -> Reply:
        self.require_admin(call)
        key = next((key for key in self.keys if key.ref == ref), None)
        if key is None:
            raise RefusedError(self.complain(404))
        if key.retired:
            raise RefusedError(say_json(409, {"code": "already_retired"}))
        if not call.json()["why"]:
            raise RefusedError(self.complain(400))
        key.retired = True
        return say_json(200, {"state": "retired"})
