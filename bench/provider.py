"""A pretend provider in a process of its own, so fast that it is not what is measured; no framework, and no faults.

    python -m bench.provider PORT

    GET    /v1/token           whose token it is, by its Authorization: {"id": "a-17"}, or 401 once it is deleted
    DELETE /v1/tokens/ID       204
    GET    /stats              what was counted: looks, deletions, faults, and when the last deletion was
    POST   /stats?delay=0.1    count anew; from now on each answer takes so many seconds, and `faults` of them fail

The token of the id `a-17` is `bt_a-17`. Connections are kept alive, and every answer is written at once.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from urllib.parse import parse_qs, urlsplit

PREFIX = b"bt_"
REASONS = {200: "OK", 204: "No Content", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests", 503: "Busy"}
FAULTS = {"busy": 30, "cut": 30, "page": 30, "throttled": 1}
"""What goes wrong, and how often: a 503, no answer though it was done, a page instead of JSON, and a 429."""
PAGE = b"<!DOCTYPE html><title>Back soon</title>"


@dataclass
class Counted:
    """What the provider has answered since it was last told to count anew."""

    looks: int = 0
    deletions: int = 0
    faults: int = 0
    last: float = 0.0
    watched: dict[str, float] = field(default_factory=dict)
    """When an id that begins with `urgent` was first asked about."""


class Provider:
    """What all connections share: who is dead, how slow the answers are, and the counts."""

    def __init__(self) -> None:
        self.counted = Counted()
        self.dead: set[bytes] = set()
        self.delay = 0.0
        self.fault_share = 0.0

    def answer(self, method: bytes, target: bytes, token: bytes) -> tuple[int, bytes, float]:
        """Status (0: hang up instead), body, and after how long it is to be sent."""
        if target.startswith(b"/stats"):
            return 200, self._stats(method, target.decode()), 0.0
        fault = ""
        if self.fault_share and random.random() < self.fault_share:  # noqa: S311 - a coin
            self.counted.faults += 1
            (fault,) = random.choices([*FAULTS], [*FAULTS.values()])  # noqa: S311 - as above
        if fault == "busy":
            return 503, b"{}", self.delay
        if fault == "throttled":
            return 429, b"{}", self.delay
        said = self._handle(method, target, token)
        if fault:
            return (0, b"", self.delay) if fault == "cut" else (200, PAGE, self.delay)
        return said

    def _handle(self, method: bytes, target: bytes, token: bytes) -> tuple[int, bytes, float]:
        if method == b"GET" and target == b"/v1/token":
            return *self._look(token), self.delay
        if method == b"DELETE" and target.startswith(b"/v1/tokens/"):
            self.dead.add(target.removeprefix(b"/v1/tokens/"))
            self.counted.deletions += 1
            # When it is handled; the answer of a slow provider comes later.
            self.counted.last = time.time() + self.delay
            return 204, b"", self.delay
        return 404, b"{}", 0.0

    def _look(self, token: bytes) -> tuple[int, bytes]:
        identifier = token.removeprefix(PREFIX)
        self.counted.looks += 1
        if identifier.startswith(b"urgent"):
            self.counted.watched.setdefault(identifier.decode(), time.time())
        if identifier == token or identifier in self.dead:
            return 401, b'{"error":"unknown_token"}'
        return 200, b'{"id":"' + identifier + b'"}'

    def _stats(self, method: bytes, target: str) -> bytes:
        if method == b"POST":
            asked = {name: float(values[0]) for name, values in parse_qs(urlsplit(target).query).items()}
            self.counted, self.dead = Counted(), set()
            self.delay, self.fault_share = asked.get("delay", 0.0), asked.get("faults", 0.0)
        return json.dumps(asdict(self.counted)).encode()


class Exchange(asyncio.Protocol):
    """One connection: requests come whole or in parts, and are answered one after another."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what create_server makes
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            lines = head.split(b"\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
            length = int(headers.get(b"content-length", 0))
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            method, target, _ = lines[0].split(b" ", 2)
            token = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
            status, body, delay = self.provider.answer(method, target, token)
            if status == 0:
                self.transport.close()
                return
            answer = b"HTTP/1.1 %d %s\r\n" % (status, REASONS[status].encode())
            if status != 204:
                answer += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
            if status == 429:
                answer += b"Retry-After: 1\r\n"
            answer += b"\r\n" + body
            if delay:
                asyncio.get_running_loop().call_later(delay, self.transport.write, answer)
            else:
                self.transport.write(answer)


async def serve(port: int) -> None:
    """Until we are ended."""
    provider = Provider()
    server = await asyncio.get_running_loop().create_server(lambda: Exchange(provider), "127.0.0.1", port, backlog=1024)
    print("ready.", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
