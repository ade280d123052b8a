"""What all pretend providers share: routes, a lock, switches and seeds; how each one answers is its own file's."""

import secrets
import string
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from threading import RLock
from typing import Any, ClassVar

from tests.sandbox.clock import Clock
from tests.sandbox.exchange import Call, RefusedError, Reply

LETTERS = string.ascii_letters + string.digits

Act = Callable[..., Reply]


@dataclass(frozen=True)
class Route:
    """One method and path; a part in braces fits anything that is not empty and is handed to the act."""

    method: str
    parts: tuple[str, ...]
    act: Act

    def match(self, segments: tuple[str, ...]) -> list[str] | None:
        """The values of the parts in braces, or None where the path is another one."""
        if len(segments) != len(self.parts):
            return None
        values = []
        for part, segment in zip(self.parts, segments, strict=True):
            if part.startswith("{") and segment:
                values.append(segment)
            elif part != segment:
                return None
        return values


class Provider:
    """One pretend provider. Its state is read and changed under its lock only."""

    name: ClassVar[str]
    switches: Any

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = RLock()
        self.routes: list[Route] = []
        self.seeds: dict[str, Callable[..., Any]] = {}

    def route(self, method: str, path: str, act: Act) -> None:
        """What answers here; where two routes fit, the first one does."""
        self.routes.append(Route(method, tuple(path.split("/")[1:]), act))

    def answer(self, call: Call) -> Reply:
        """Handle one call."""
        with self.lock:
            try:
                return self.dispatch(call)
            except RefusedError as refused:
                return refused.reply

    def dispatch(self, call: Call) -> Reply:
        known = False
        for route in self.routes:
            values = route.match(call.segments)
            if values is not None and route.method == call.method:
                return route.act(call, *values)
            known = known or values is not None
        return self.complain(405 if known else 404)

    def complain(self, status: int) -> Reply:
        """An error with this status, in the words and the shape that this provider uses."""
        raise NotImplementedError

    def actor(self, call: Call) -> str:
        """The id of the credential that the call is signed with, or nothing where it is not known; never a secret."""
        raise NotImplementedError

    def state(self) -> dict[str, bool]:
        """Every credential's id, and whether it is alive: the truth, not what the provider says."""
        raise NotImplementedError

    def works(self, secret: str) -> bool:
        """Whether this very secret is taken: the truth, where ids outlive secrets; not every provider here can say."""
        raise ValueError(f"{self.name} cannot tell whether a secret works")

    def switch(self, **values: Any) -> None:
        """Turn this provider's switches; a name that it does not have is refused."""
        known = {each.name for each in fields(self.switches)}
        if unknown := values.keys() - known:
            raise ValueError(f"expected a switch of {self.name} ({', '.join(sorted(known))}), got {sorted(unknown)}")
        with self.lock:
            for name, value in values.items():
                setattr(self.switches, name, value)

    def seed(self, kind: str, **values: Any) -> dict[str, Any]:
        """Put something there, and say what it is, with its secret."""
        if kind not in self.seeds:
            raise ValueError(f"expected a kind that {self.name} has ({', '.join(sorted(self.seeds))}), got {kind!r}")
        return asdict(self.seeds[kind](**values))


def draw(length: int, alphabet: str = LETTERS) -> str:
    """Random characters."""
    return "".join(secrets.choice(alphabet) for _ in range(length))
