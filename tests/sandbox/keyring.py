"""Pretends to be a provider that does not exist: invented, after the list-then-delete shape of many real ones whose
tokens hold no id, and after npm's list of first and last characters (npm/api-documentation, 5d24314,
api/registry.npmjs.com/token.yaml).

A list row shows the first seven and the last four characters of its token, pages are short, and a wrong row is first.
A key can be made to be throttled, or to stay alive after a DELETE that was answered 200.
"""

from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from tests.sandbox.clock import Clock, write_time
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import Provider, draw

PREFIX = "kr_"
LENGTH = 32
SHOWN = 4
CODES = {
    401: ("key_invalid", "This key is unknown, or it has been revoked."),
    403: ("forbidden", "Only an admin may do this."),
    404: ("not_found", "There is no such key."),
    405: ("method_not_allowed", "This cannot be done here."),
    429: ("slow_down", "Too many requests."),
    500: ("internal", "Something went wrong."),
    503: ("unavailable", "Please try again later."),
}


@dataclass
class Key:
    """One key. `throttle`: how many DELETEs are answered 429 before one is heard."""

    id: str
    secret: str
    owner: str
    name: str
    created: float
    admin: bool = False
    revoked: float | None = None
    last_used: float | None = None
    throttle: int = 0
    retry_after: int = 1
    yes_but_alive: bool = False

    @property
    def prefix(self) -> str:
        return self.secret[: len(PREFIX) + SHOWN]

    @property
    def last4(self) -> str:
        return self.secret[-SHOWN:]

    def row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "hint": f"{self.prefix}…{self.last4}",
            "prefix": self.prefix,
            "last4": self.last4,
            "owner": self.owner,
            "name": self.name,
            "created": write_time(self.created),
            "revoked_at": None if self.revoked is None else write_time(self.revoked),
            "last_used": None if self.last_used is None else write_time(self.last_used),
        }


@dataclass
class Switches:
    """`list_cut_at`: rows after this many are never sent, while `total` still counts them.

    `shuffle`: the order of the rows is drawn anew for each reading of the `list`, or, as real lists that change under
    their reader, for each `page`. `born_dead`: new keys do not work.
    """

    list_cut_at: int | None = None
    born_dead: bool = False
    shuffle: Literal["", "list", "page"] = ""


class Keyring(Provider):
    """One account."""

    name = "keyring"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.random = Random()
        self.order: list[Key] = []
        self.keys: dict[str, Key] = {}
        self.by_secret: dict[str, Key] = {}
        self.seeds = {"key": self.add_key}
        self.add_key(owner="billing", name="billing, not to be touched")
        self.route("GET", "/v1/whoami", self.read_self)
        self.route("GET", "/v1/keys", self.list_keys)
        self.route("POST", "/v1/keys", self.create_key)
        self.route("POST", "/v1/keys/{id}/roll", self.roll_key)
        self.route("DELETE", "/v1/keys/{id}", self.delete_key)

    def add_key(
        self,
        owner: str = "dana",
        name: str = "",
        like: str = "",
        throttle: int = 0,
        retry_after: int = 1,
        *,
        admin: bool = False,
        revoked: bool = False,
        same_end: bool = True,
        yes_but_alive: bool = False,
    ) -> Key:
        """A key. `like` another secret: it begins as that one does, and ends so too with `same_end`."""
        head = like[: len(PREFIX) + SHOWN] or PREFIX + draw(SHOWN)
        tail = like[-SHOWN:] if like and same_end else draw(SHOWN)
        secret = head + draw(len(PREFIX) + LENGTH - len(head) - SHOWN) + tail
        now = self.clock.now()
        key = Key(f"key_{draw(12)}", secret, owner, name, now - 86400, admin, now - 60 if revoked else None)
        key.throttle, key.retry_after, key.yes_but_alive = throttle, retry_after, yes_but_alive
        with self.lock:
            self.keys[key.id] = self.by_secret[secret] = key
        return key

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {key.id: key.revoked is None for key in self.keys.values()}

    def works(self, secret: str) -> bool:
        with self.lock:
            key = self.by_secret.get(secret)
            return key is not None and key.revoked is None

    def complain(self, status: int) -> Reply:
        code, message = CODES.get(status, ("error", "Error."))
        headers = {"Retry-After": "1"} if status == 429 else {}
        return say_json(status, {"error": {"code": code, "message": message}}, headers)

    def find_signer(self, call: Call) -> Key | None:
        key = self.by_secret.get(call.authorization("bearer") or "")
        return key if key is not None and key.revoked is None else None

    def actor(self, call: Call) -> str:
        key = self.find_signer(call)
        return key.id if key is not None else ""

    def require(self, call: Call, *, admin: bool) -> Key:
        key = self.find_signer(call)
        if key is None:
            raise RefusedError(self.complain(401))
        if admin and not key.admin:
            raise RefusedError(self.complain(403))
        return key

    def read_self(self, call: Call) -> Reply:
        key = self.require(call, admin=False)
        key.last_used = self.clock.now()
        return say_json(200, {"owner": key.owner})

    def create_key(self, call: Call) -> Reply:
        """A new key, shown this once."""
        self.require(call, admin=True)
        asked = call.json()
        key = self.add_key(owner=asked["owner"], name=asked["name"], revoked=self.switches.born_dead)
        return say_json(201, {**key.row(), "key": key.secret})

    def roll_key(self, call: Call, identifier: str) -> Reply:
        """Another secret for the same id; the one before is dead at once."""
        self.require(call, admin=True)
        key = self.keys.get(identifier)
        if key is None or key.revoked is not None:
            raise RefusedError(self.complain(404))
        with self.lock:
            del self.by_secret[key.secret]
            key.secret = PREFIX + draw(LENGTH)
            self.by_secret[key.secret] = key
        return say_json(200, {**key.row(), "key": key.secret})

    def list_keys(self, call: Call) -> Reply:
        self.require(call, admin=True)
        page, size = read_number(call, "page", 1), min(read_number(call, "per_page", 20), 100)
        sent = self.put_in_order(page)[: self.switches.list_cut_at]
        rows = [key.row() for key in sent[(page - 1) * size : page * size]]
        answer = {"keys": rows, "page": page, "per_page": size, "total": len(self.keys)}
        return say_json(200, answer)

    def put_in_order(self, page: int) -> list[Key]:
        """All rows: a wrong one first and then the newest, or in an order that was drawn."""
        first, *others = self.keys.values()
        if not self.switches.shuffle:
            return [first, *reversed(others)]
        if self.switches.shuffle == "page" or page == 1 or not self.order:
            self.order = self.random.sample([first, *others], len(self.keys))
        return self.order

    def forget_dead(self) -> None:
        """Take revoked keys off the list, as if they had been swept away long ago."""
        with self.lock:
            for key in [each for each in self.keys.values() if each.revoked is not None]:
                del self.keys[key.id], self.by_secret[key.secret]

    def delete_key(self, call: Call, identifier: str) -> Reply:
        self.require(call, admin=True)
        key = self.keys.get(identifier)
        if key is None or key.revoked is not None:
            raise RefusedError(self.complain(404))
        if key.throttle > 0:
            key.throttle -= 1
            reply = self.complain(429)
            return Reply(429, {**reply.headers, "Retry-After": str(key.retry_after)}, reply.body)
        if key.yes_but_alive:
            return say_json(200, {"id": key.id, "status": "revoked"})
        key.revoked = self.clock.now()
        return Reply(204)


def read_number(call: Call, name: str, default: int) -> int:
    """A positive number from the query."""
    given = call.query.get(name, "")
    return max(int(given), 1) if given.isdigit() else default
