"""The pretend provider of the canaries: it takes secrets wherever a request can carry them, and repeats them all."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.servers.recorder import Said, Seen

LETTERS = 'ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789/+"&=%'
CRASH = "nobody can make sense of this"
LENGTH = 24


def draw(chance: Random, prefix: str = "") -> str:
    """A secret that no two encodings write alike; it ends in letters, as a header's value has to."""
    middle = "".join(chance.choice(LETTERS) for _ in range(LENGTH - 6))
    return f'{prefix}{middle}/+"zQ7'


@dataclass
class Key:
    """One key, and how the provider behaves about it."""

    token: str
    half: str
    busy: int = 0
    crashes: bool = False
    dead: bool = False


@dataclass
class Aviary:
    """All keys; whatever is asked, the answer repeats what it was asked with."""

    chance: Random
    keys: dict[str, Key] = field(default_factory=dict)
    sessions: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **wanted: Any) -> Key:
        """Another key."""
        key = Key(draw(self.chance, "av_"), draw(self.chance, "half"), **wanted)
        self.keys[key.token] = key
        return key

    def answer(self, seen: Seen) -> Said:
        """One request, one after the other."""
        with self.lock:
            return self._answer(seen)

    def _answer(self, seen: Seen) -> Said:
        token = self._token(seen)
        key = self.keys.get(token)
        echo = {"key": token, "asked": seen.target, "headers": dict(seen.headers)}
        headers = {"X-Request-Id": f"req-{token}", "X-Echo": seen.target}
        self.asked[f"{seen.method} {seen.path.split('/')[1]}"] += 1
        if key is None or key.dead:
            return Said(401, {"error": "unknown_key", **echo}, headers)
        if seen.method == "GET":
            return Said(200, {"owner": "dana", **echo}, headers)
        if key.busy:
            key.busy -= 1
            return Said(503, {"error": "busy", **echo}, {**headers, "Retry-After": "1"})
        if seen.method == "POST":
            session = draw(self.chance, "session")
            self.sessions.append(session)
            more = {"note": CRASH} if key.crashes else {}
            key.crashes = False
            return Said(201, {"session": session, **more, **echo}, headers)
        key.dead = True
        return Said(204, "", headers)

    @staticmethod
    def _token(seen: Seen) -> str:
        """Where it stands depends on what is asked."""
        if seen.method == "POST":
            return str(json.loads(seen.body)["key"])
        if seen.method == "DELETE":
            return unquote(seen.path.removeprefix("/keys/"))
        return parse_qs(seen.query, keep_blank_values=True)["key"][0]
