"""A front door before a real HTTP server: it notes every request and can lose an answer; it understands neither."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.trap import Trap, When

TIMEOUT = 30.0
# These speak of one connection only, and the front door has two.
HOP_BY_HOP = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"},
)


@dataclass
class Visit:
    """One request that came in; the status stays None until the server has answered it."""

    method: str
    path: str
    status: int | None = None


@dataclass
class Held:
    """One answer that is kept back: the server has done its work, and whoever asked does not know."""

    method: str
    done: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def wait_until_done(self) -> None:
        """Wait until the server has answered the request."""
        assert self.done.wait(TIMEOUT), f"no {self.method} came through the front door"


@dataclass
class Front:
    """What came through the door, and what is to be lost there."""

    port: int
    visits: list[Visit] = field(default_factory=list)
    to_lose: list[tuple[str, str]] = field(default_factory=list)
    to_hold: list["Held"] = field(default_factory=list)
    trap: Trap | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str, path: str = "") -> int:
        """How many requests with this method went to a path that contains these characters."""
        return sum(visit.method == method and path in visit.path for visit in list(self.visits))

    @contextmanager
    def holding_next_answer(self, method: str) -> Iterator["Held"]:
        """The next such request reaches the server, and its answer is kept back until the block ends."""
        held = Held(method)
        self.to_hold.append(held)
        try:
            yield held
        finally:
            held.released.set()

    def lose_next_answer(self, method: str, saying: str = "") -> None:
        """The next such request reaches the server, and its answer never comes back: the connection just closes.

        `saying` is what its path, one of its headers or its body has to hold.
        """
        self.to_lose.append((method, saying))


@contextmanager
def open_front(host: str, port: int) -> Iterator[Front]:
    """Open a front door before the server at this address, on a port that the system chooses."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.daemon_threads = True
    front = Front(port=server.server_address[1])
    server.RequestHandlerClass = type("DoorOfOneServer", (Door,), {"front": front, "behind": (host, port)})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Door(BaseHTTPRequestHandler):
    """Passes one connection's requests on, each over a connection of its own."""

    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT
    front: Front
    behind: tuple[str, int]

    def pass_on(self) -> None:
        visit = Visit(self.command, self.path)
        self.front.visits.append(visit)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        trap, number = self.front.trap, 0
        if trap is not None:
            number = trap.count(f"{self.command} {self.path}")
            if trap.springs(number, When.BEFORE):
                self.close_connection = True
                return
        server = HTTPConnection(*self.behind, timeout=TIMEOUT)
        try:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    server.putheader(name, value)
            server.putheader("Content-Length", str(len(body)))
            server.endheaders(body)
            answer = server.getresponse()
            content = answer.read()
        except (HTTPException, OSError):
            # What the server did not finish is not finished for whoever asked.
            self.close_connection = True
            return
        finally:
            server.close()
        visit.status = answer.status
        if trap is not None and trap.springs(number, When.AFTER):
            self.close_connection = True
            return
        held = next((held for held in self.front.to_hold if held.method == self.command), None)
        if held is not None:
            self.front.to_hold.remove(held)
            held.done.set()
            held.released.wait(TIMEOUT)
        for method, saying in list(self.front.to_lose):
            said = (self.path, *self.headers.values(), body.decode("utf-8", "replace"))
            if method == self.command and any(saying in value for value in said):
                self.front.to_lose.remove((method, saying))
                self.close_connection = True
                return
        self.pass_back(answer, content)

    def pass_back(self, answer: HTTPResponse, content: bytes) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content)

    do_DELETE = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = pass_on  # noqa: N815 (http.server asks for these names)

    def log_message(self, *_: Any) -> None:
        """Silence: the visits are the log."""
