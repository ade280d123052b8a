"""What is to go wrong, for which calls and how often; doing it to a connection is `wire`'s."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from threading import Event, Lock

from tests.sandbox.exchange import Call, Reply, say_json, say_text

INSTEAD = frozenset({"status", "html_200", "redirect", "wrong_json", "broken_json"})
"""Kinds that answer something else; the provider does not see the call, unless `handled` says so."""

ON_THE_WIRE = frozenset(
    {"drop_before", "drop_after", "delay", "delay_after", "drip", "cut", "endless", "bomb", "short"}
    | {"hold", "hold_after"}
)
"""Kinds that are done to the connection; all but `drop_before` let the provider handle the call."""

LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in to continue.</body></html>"


@dataclass
class Gate:
    """Where a call waits, on its way in (`hold`) or when it was handled (`hold_after`), until a test lets it pass."""

    reached: Event = field(default_factory=Event)
    opened: Event = field(default_factory=Event)


@dataclass
class Fault:
    """One thing that goes wrong.

    `times` calls are hit (None: all, until it is cleared), after `after` fitting calls have passed unharmed. A `status`
    fault without a body answers the provider's own documented error.
    """

    provider: str
    kind: str = "status"
    method: str = ""
    path: str = "*"
    times: int | None = 1
    after: int = 0
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    seconds: float = 0.05
    to: str = ""
    handled: bool = False
    gate: Gate = field(default_factory=Gate)

    def __post_init__(self) -> None:
        if self.kind not in INSTEAD | ON_THE_WIRE:
            raise ValueError(f"expected one of {', '.join(sorted(INSTEAD | ON_THE_WIRE))}, got {self.kind!r}")
        if self.kind == "redirect":
            self.status = self.status if 300 <= self.status < 400 else 302

    def fits(self, provider: str, call: Call) -> bool:
        return (
            self.provider == provider
            and self.method in ("", call.method)
            and fnmatchcase(call.path, self.path)
            and self.times != 0
        )

    def strike(self) -> bool:
        """Whether this fitting call is hit; counts it either way."""
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """Faults in the order in which they were asked for; each call meets one at most."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self.lock:
            self.waiting.append(fault)

    def clear(self) -> None:
        with self.lock:
            self.waiting.clear()

    def meet(self, provider: str, call: Call) -> Fault | None:
        """The first fault that hits this call."""
        with self.lock:
            hit = next((each for each in self.waiting if each.fits(provider, call) and each.strike()), None)
            self.waiting = [each for each in self.waiting if each.times != 0]
            return hit


def speak_instead(fault: Fault, documented: Reply) -> Reply:
    """The other answer; `documented` is the provider's own for this status."""
    if fault.kind == "html_200":
        reply = say_text(200, LOGIN_PAGE if fault.body is None else fault.body, "text/html; charset=utf-8")
    elif fault.kind == "redirect":
        reply = Reply(fault.status, {"Location": fault.to})
    elif fault.kind == "wrong_json":
        reply = say_json(200, [["nobody", "asked", "for", "this"]])
    elif fault.kind == "broken_json":
        reply = Reply(200, {"Content-Type": "application/json"}, b'{"result": [{"id": "')
    elif fault.body is not None:
        reply = Reply(fault.status, {"Content-Type": "application/json"}, fault.body.encode())
    else:
        reply = documented
    return Reply(reply.status, {**reply.headers, **fault.headers}, reply.body)
