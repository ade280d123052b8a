"""Pretends to be Twilio's API for keys, and is not it: after twilio/twilio-oai (spec/yaml/twilio_iam_v1.yaml, d50069b)
and twilio.com/docs (key types; errors 20003, 20429, 70005).

Only an account's auth token and Main keys may read or delete keys. Guessed: the code 20404 and the words of a 404, and
after how many questions about a deleted key the answer becomes an error.
"""

from dataclasses import dataclass
from typing import Any, Literal

from tests.sandbox.clock import Clock, write_time
from tests.sandbox.exchange import Call, RefusedError, Reply, say_json
from tests.sandbox.provider import Provider, draw

HEX = "0123456789abcdef"
PATIENCE = 10
CODES = {
    401: (20003, "Authenticate"),
    403: (20003, "Permission Denied"),
    404: (20404, "The requested resource was not found"),
    405: (20004, "Method not allowed"),
    429: (20429, "Too Many Requests"),
    500: (20500, "Internal Server Error"),
    503: (20503, "Service Unavailable"),
}


@dataclass
class Key:
    """One API key. `linger`: how many reads still find it after it was deleted."""

    id: str
    secret: str
    friendly_name: str
    kind: Literal["main", "standard"] = "standard"
    ours: bool = True
    linger: int = 0
    alive: bool = True
    asked: int = 0


@dataclass
class Switches:
    """`region_fits`: off means that the connection's credentials are of another region."""

    region_fits: bool = True


class Twilio(Provider):
    """Our account with its auth token; keys of another account are there too, and are unknown to ours."""

    name = "twilio"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.switches = Switches()
        self.account, self.auth_token = f"AC{draw(32, HEX)}", draw(32, HEX)
        self.keys: dict[str, Key] = {}
        self.seeds = {"key": self.add_key}
        self.add_key(friendly_name="billing, not to be touched")
        self.route("GET", "/v1/Keys/{sid}", self.read_key)
        self.route("DELETE", "/v1/Keys/{sid}", self.delete_key)

    def add_key(
        self,
        friendly_name: str = "a key",
        kind: Literal["main", "standard"] = "standard",
        linger: int = 0,
        *,
        ours: bool = True,
        alive: bool = True,
    ) -> Key:
        """A key of our account, or of somebody else's."""
        key = Key(f"SK{draw(32, HEX)}", draw(32), friendly_name, kind, ours, linger, alive)
        with self.lock:
            self.keys[key.id] = key
        return key

    def state(self) -> dict[str, bool]:
        with self.lock:
            return {key.id: key.alive for key in self.keys.values()}

    def complain(self, status: int) -> Reply:
        code, message = CODES.get(status, (20500, "Error"))
        more = f"https://www.twilio.com/docs/errors/{code}"
        return say_json(status, {"code": code, "message": message, "more_info": more, "status": status})

    def actor(self, call: Call) -> str:
        user, password = call.basic() or ("", "")
        if (user, password) == (self.account, self.auth_token):
            return user
        key = self.keys.get(user)
        return user if key is not None and key.secret == password and key.alive else ""

    def require(self, call: Call) -> None:
        """The account itself, or a Main key of it; one code says all that can be wrong."""
        who = self.actor(call)
        if not who or not self.switches.region_fits:
            raise RefusedError(self.complain(401))
        key = self.keys.get(who)
        if key is not None and (key.kind != "main" or not key.ours):
            raise RefusedError(self.complain(401))

    def find_key(self, sid: str) -> Key:
        key = self.keys.get(sid)
        if key is None or not key.ours or (not key.alive and key.linger <= 0):
            if key is not None:
                key.asked += 1
            if key is not None and key.asked > PATIENCE:
                raise RefusedError(say_json(400, {"code": 70005, "message": "Deleted resource", "status": 400}))
            raise RefusedError(self.complain(404))
        return key

    def read_key(self, call: Call, sid: str) -> Reply:
        self.require(call)
        key = self.find_key(sid)
        key.linger -= 0 if key.alive else 1
        return say_json(200, describe(key, self.clock.now()))

    def delete_key(self, call: Call, sid: str) -> Reply:
        self.require(call)
        self.find_key(sid).alive = False
        return Reply(204)


def describe(key: Key, now: float) -> dict[str, Any]:
    """A key as a read shows it: never with its secret."""
    moment = write_time(now - 86400)
    return {
        "sid": key.id,
        "friendly_name": key.friendly_name,
        "date_created": moment,
        "date_updated": moment,
        "policy": None,
    }
