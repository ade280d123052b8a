"""A road between clients and a real server, which can be cut, or blocked in either direction; it reads no message."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from socketserver import BaseRequestHandler, ThreadingTCPServer

CHUNK = 1 << 16
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing resets the connection, as a firewall that forgot it would."""


class Towards(StrEnum):
    """The two directions of a road."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(eq=False)
class Link:
    """One connection that goes by the road; what is blocked waits, and arrives when the way is free again."""

    client: socket.socket
    server: socket.socket
    free: dict[Towards, threading.Event] = field(default_factory=lambda: {way: threading.Event() for way in Towards})

    def __post_init__(self) -> None:
        for event in self.free.values():
            event.set()

    def pass_on(self, towards: Towards) -> None:
        """Until one of the ends hangs up."""
        source, target = (self.client, self.server) if towards is Towards.SERVER else (self.server, self.client)
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                self.free[towards].wait()
                target.sendall(chunk)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Break it off for both ends."""
        for event in self.free.values():
            event.set()
        for end in (self.client, self.server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RDWR)


@dataclass(eq=False)
class Road:
    """The way to one server, for as long as it is open."""

    port: int
    behind: tuple[str, int]
    closed: bool = False
    links: list[Link] = field(default_factory=list)

    def cut(self) -> None:
        """Reset every connection, and let nobody through."""
        self.closed = True
        self.reset()

    def reset(self) -> None:
        """Reset every connection; new ones pass."""
        for link in list(self.links):
            link.reset()

    def block(self, *directions: Towards) -> None:
        """Hold back what travels on the connections that are there; new ones pass."""
        for link in list(self.links):
            for towards in directions or Towards:
                link.free[towards].clear()

    def heal(self) -> None:
        """Let everything through, what was held back as well."""
        self.closed = False
        for link in list(self.links):
            for event in link.free.values():
                event.set()


@contextmanager
def open_road(host: str, port: int) -> Iterator[Road]:
    """Listen before the server at this address, which need not be there yet."""
    with ThreadingTCPServer(("127.0.0.1", 0), Passage) as server:
        server.daemon_threads = True
        server.request_queue_size = 128
        road = Road(server.server_address[1], (host, port))
        server.RequestHandlerClass = type("PassageOfOneRoad", (Passage,), {"road": road})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield road
        finally:
            road.cut()
            server.shutdown()
            thread.join()


class Passage(BaseRequestHandler):
    """Lets one connection pass."""

    road: Road

    def handle(self) -> None:
        if self.road.closed:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return
        try:
            server = socket.create_connection(self.road.behind, timeout=10)
        except OSError:
            return
        server.settimeout(None)
        with server:
            for end in (server, self.request):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(self.request, server)
            self.road.links.append(link)
            back = threading.Thread(target=link.pass_on, args=(Towards.CLIENT,), daemon=True)
            back.start()
            link.pass_on(Towards.SERVER)
            back.join()
            self.road.links.remove(link)
