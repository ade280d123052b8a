"""A loopback HTTP server that answers by a script and remembers what it was sent; it knows nothing of any provider."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Seen:
    """One request: its target as it was written, its headers with names in lower case, its body."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query


@dataclass(frozen=True)
class Said:
    """One answer; a body that is no text is sent as JSON."""

    status: int = 200
    body: object = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def sent(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


Script = Callable[[Seen], Said]


class Recorder:
    """What was seen, and what is answered; the script may be changed at any time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[Seen] = []
        self.script: Script = lambda _seen: Said()

    def answer(self, answers: Mapping[str, Said | list[Said]]) -> None:
        """Answer `METHOD /path` by this; of several answers the last one stays."""
        left = {key: list(said) if isinstance(said, list) else [said] for key, said in answers.items()}

        def script(seen: Seen) -> Said:
            said = left.get(f"{seen.method} {seen.path}", [Said(404, {"error": "there is nothing here"})])
            return said.pop(0) if len(said) > 1 else said[0]

        self.script = script

    def calls(self, *methods: str) -> list[str]:
        """The requests so far as `METHOD target`, of these methods or of all."""
        return [f"{seen.method} {seen.target}" for seen in self.seen if not methods or seen.method in methods]

    @property
    def mutating(self) -> list[str]:
        return self.calls("POST", "PUT", "PATCH", "DELETE")


@contextmanager
def running_recorder() -> Iterator[Recorder]:
    """Listen on a free port until the test is over."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.command, self.path, headers, self.rfile.read(length))
            recorder.seen.append(seen)
            said = recorder.script(seen)
            self.send_response(said.status)
            # Nobody's connection outlives the test.
            given = {"Content-Type": "application/json", "Connection": "close", **said.headers}
            given["Content-Length"] = str(len(said.sent))
            for name, value in given.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said.sent)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    for method in METHODS:
        setattr(Handler, f"do_{method}", Handler.answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recorder = Recorder(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
