"""HTTP/1.1 on one connection: reading calls, sending replies, and misbehaving while doing so; it knows no provider."""

import asyncio
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl

from tests.sandbox.exchange import Call, Reply, say_text
from tests.sandbox.faults import Fault, Gate

HEAD_LIMIT = 64 * 1024
BODYLESS = frozenset({204, 304})
BLOCK = b"." * 65536
BOMB = 256
"""Megabytes that come out of a bomb of a quarter of one."""
GLANCE = 0.01


class UnreadableError(Exception):
    """What came in is not a call that is understood here."""


@dataclass
class Line:
    """One connection. A method that ends it returns False, so that its caller stops listening."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read(self) -> Call | None:
        """The next call, or None at the end of the connection."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            raise UnreadableError("the head is too long") from None
        call = parse_head(head.decode("latin-1"))
        if "transfer-encoding" in call.headers:
            raise UnreadableError("a body needs a Content-Length here")
        length = call.headers.get("content-length", "0")
        if not length.isdigit():
            raise UnreadableError("the Content-Length is not a number")
        body = await self.reader.readexactly(int(length))
        return Call(call.method, call.path, call.query, call.headers, body)

    async def send(self, reply: Reply, *, last: bool = False) -> bool:
        """The whole reply; with `last` the connection is to end after it."""
        self.writer.write(write_head(reply, last=last) + reply.body)
        await self.writer.drain()
        return not last

    async def drip(self, reply: Reply, seconds: float) -> bool:
        """The head at once, then one byte of the body after another."""
        self.writer.write(write_head(reply))
        for byte in reply.body:
            await self.writer.drain()
            await asyncio.sleep(seconds)
            self.writer.write(bytes([byte]))
        await self.writer.drain()
        return True

    async def cut(self, reply: Reply) -> bool:
        """Half of the body that the head promises, then the end; without a body, not even the whole head."""
        whole = write_head(reply) + reply.body
        self.writer.write(whole[: len(whole) - max(len(reply.body) // 2, 1)])
        await self.writer.drain()
        return False

    async def pour(self, reply: Reply) -> bool:
        """A body that never ends."""
        self.writer.write(write_head(reply, endless=True, last=True))
        while True:
            self.writer.write(BLOCK)
            await self.writer.drain()
            await asyncio.sleep(0.001)

    async def bomb(self, reply: Reply) -> bool:
        """A small body that unpacks into a very large one."""
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        body = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(BOMB)) + packer.flush()
        return await self.send(Reply(reply.status, {**reply.headers, "Content-Encoding": "gzip"}, body), last=True)

    async def send_short(self, reply: Reply) -> bool:
        """More body than the head says."""
        self.writer.write(write_head(reply) + reply.body + BLOCK[:100])
        await self.writer.drain()
        return False

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


async def misbehave(line: Line, fault: Fault, handle: Callable[[], Reply]) -> bool:
    """Do to the connection what the fault says; `handle` lets the provider act and gives its reply."""
    if fault.kind == "drop_before":
        return False
    if fault.kind in {"delay", "hold"}:
        await linger(fault)
    reply = handle()
    if fault.kind == "drop_after":
        return False
    if fault.kind in {"delay_after", "hold_after"}:
        await linger(fault)
    ways = {"cut": line.cut, "endless": line.pour, "bomb": line.bomb, "short": line.send_short}
    if fault.kind == "drip":
        return await line.drip(reply, fault.seconds)
    return await ways.get(fault.kind, line.send)(reply)


async def linger(fault: Fault) -> None:
    """For as long as it says."""
    if fault.kind.startswith("hold"):
        await wait_at(fault.gate)
    else:
        await asyncio.sleep(fault.seconds)


async def wait_at(gate: Gate) -> None:
    """Until a test, in another thread, opens the gate."""
    gate.reached.set()
    while not gate.opened.is_set():  # noqa: ASYNC110 - who opens it is in another thread
        await asyncio.sleep(GLANCE)


def parse_head(head: str) -> Call:
    """A call without its body."""
    request, *lines = head.rstrip("\r\n").split("\r\n")
    parts = request.split(" ")
    if len(parts) != 3 or not parts[1].startswith("/") or not parts[2].startswith("HTTP/1."):
        raise UnreadableError("the first line is not that of an HTTP/1.1 request")
    path, _, query = parts[1].partition("?")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise UnreadableError("a header has no colon")
        headers[name.strip().lower()] = value.strip()
    return Call(parts[0], path, dict(parse_qsl(query, keep_blank_values=True)), headers)


def write_head(reply: Reply, *, last: bool = False, endless: bool = False) -> bytes:
    """The status line and the headers."""
    reason = HTTPStatus(reply.status).phrase if reply.status in set(HTTPStatus) else ""
    headers = {"Date": formatdate(usegmt=True), **reply.headers}
    if reply.status not in BODYLESS and not endless:
        headers["Content-Length"] = str(len(reply.body))
    if last:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {reply.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def say_unreadable(error: UnreadableError) -> Reply:
    """The answer to what is not understood."""
    return say_text(400, f"{error}\n")
