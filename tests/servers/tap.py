"""A tap on the wire between a client and a real PostgreSQL: it tells one message from the next, and leads to a trap."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer

from tests.servers.trap import Trap, When

STARTUP = 196608
"""The code of the one message without a type after which all have one."""
CHUNK = 1 << 16
WORDS = 9
"""How much of a statement is told: enough to know which columns it sets first."""
NOT_OURS = ("SELECT (extract(epoch",)
"""How a statement begins that comes with the time and not with the work."""


@contextmanager
def open_tap(host: str, port: int, trap: Trap) -> Iterator[int]:
    """Listen before the server at this address; the port."""
    handler = type("TapOfOneServer", (Tap,), {"behind": (host, port), "trap": trap})
    with ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Reader:
    """Cuts what a client sends into messages, each with what it executes; none where it executes nothing."""

    rest: bytes = b""
    whole: bytes = b""
    started: bool = False
    label: str | None = None
    prepared: dict[bytes, str] = field(default_factory=dict)

    def read(self, chunk: bytes) -> Iterator[tuple[bytes, str | None]]:
        """The messages that are whole by now: up to the frame after which the client waits for an answer."""
        self.rest += chunk
        while (frame := self._frame()) is not None:
            self.whole += frame
            if self._ends(frame):
                yield self.whole, self.label
                self.whole, self.label = b"", None

    def _frame(self) -> bytes | None:
        head = int(self.started)
        if len(self.rest) < head + 4:
            return None
        length = head + struct.unpack_from("!I", self.rest, head)[0]
        if len(self.rest) < length:
            return None
        frame, self.rest = self.rest[:length], self.rest[length:]
        return frame

    def _ends(self, frame: bytes) -> bool:
        if not self.started:
            self.started = struct.unpack_from("!I", frame, 4)[0] == STARTUP
            return True
        kind, body = frame[:1], frame[5:]
        if kind == b"P":
            name, text = body.split(b"\0")[:2]
            self.prepared[name] = text.decode()
        elif kind == b"B":
            self.label = self.prepared.get(body.split(b"\0")[1], "")
        elif kind == b"Q":
            self.label = body.rstrip(b"\0").decode()
        return kind in {b"Q", b"S", b"X"}


class Tap(BaseRequestHandler):
    """Passes one connection on, message by message."""

    behind: tuple[str, int]
    trap: Trap
    doomed: int | None = None

    def handle(self) -> None:
        with socket.create_connection(self.behind) as server:
            for end in (server, self.request):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=self.pass_back, args=(server,), daemon=True)
            back.start()
            with suppress(OSError):
                self.pass_on(server)
            # The server takes this as a client that is gone, and rolls back what was not committed.
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            back.join()

    def pass_on(self, server: socket.socket) -> None:
        reader, last = Reader(), ""
        while chunk := self.request.recv(CHUNK):
            for message, label in reader.read(chunk):
                if label and not label.startswith(NOT_OURS):
                    # A COMMIT is told with the last statement that it commits.
                    last = f"{label} {last}" if label == "COMMIT" else " ".join(label.split()[:WORDS])
                    number = self.trap.count(last)
                    if self.trap.springs(number, When.BEFORE):
                        return
                    self.doomed = number if self.trap.is_set_for(number, When.AFTER) else None
                server.sendall(message)

    def pass_back(self, server: socket.socket) -> None:
        with suppress(OSError):
            while chunk := server.recv(CHUNK):
                if self.doomed is not None and self.trap.springs(self.doomed, When.AFTER):
                    break
                self.request.sendall(chunk)
        # Also where the server has reset the connection: its client must not wait for an answer for ever.
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)
