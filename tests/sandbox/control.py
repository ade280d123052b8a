"""The sandbox's own pages under /_sandbox, for tests and demos in other processes; every one is JSON."""

from collections.abc import Callable
from typing import Any

from tests.sandbox.cast import seed, show_cast
from tests.sandbox.exchange import Call, Reply, say_json
from tests.sandbox.world import World

PREFIX = "_sandbox"


class Control:
    """What a `World` can do, by path. Mistakes are answered 400 with a sentence."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pages: dict[tuple[str, str], Callable[[Call], Any]] = {
            ("GET", "state"): lambda _: world.state(),
            ("GET", "calls"): self.list_calls,
            ("DELETE", "calls"): lambda _: world.forget_calls(),
            ("POST", "fault"): lambda call: world.fault(**call.json()),
            ("DELETE", "fault"): lambda _: world.clear_faults(),
            ("POST", "seed"): lambda call: world.seed(**call.json()),
            ("POST", "switch"): lambda call: world.switch(**call.json()),
            ("POST", "works"): lambda call: world.works(**call.json()),
            ("POST", "advance"): lambda call: world.advance(**call.json()),
            ("POST", "cast"): self.seed_cast,
        }

    def answer(self, call: Call) -> Reply:
        """Do what the path says."""
        page = self.pages.get((call.method, "/".join(call.segments[1:])))
        if page is None:
            known = ", ".join(f"{method} /{PREFIX}/{name}" for method, name in self.pages)
            return say_json(404, {"error": f"expected one of {known}"})
        try:
            return say_json(200, page(call))
        except (KeyError, TypeError, ValueError) as error:
            return say_json(400, {"error": str(error)})

    def list_calls(self, call: Call) -> list[dict[str, Any]]:
        """The calls that fit `provider`, `method` and `path` of the query."""
        wanted = {name: call.query[name] for name in ("provider", "method", "path") if name in call.query}
        return [received.shown() for received in self.world.calls(**wanted)]

    def seed_cast(self, _: Call) -> dict[str, Any]:
        """Put the demo's cast on stage, and hand over all that a demo needs to know of it, secrets included."""
        return show_cast(seed(self.world))
