"""The sandbox as a server on loopback, in a thread of its own; what it answers is the world's."""

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Self

from tests.sandbox.control import PREFIX, Control
from tests.sandbox.exchange import Call, Reply, say_json
from tests.sandbox.faults import INSTEAD, Fault, speak_instead
from tests.sandbox.log import Received
from tests.sandbox.provider import Provider
from tests.sandbox.wire import HEAD_LIMIT, Line, UnreadableError, misbehave, say_unreadable
from tests.sandbox.world import HOST, World

BACKLOG = 1024


class Sandbox(World):
    """Pretend providers behind one port, each below its name. Use it as a context manager, or call start and stop.

    Stopped and started again it keeps its port and its state, as a provider does that was down for a while.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.control = Control(self)
        self.thread: Thread | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.stopped: asyncio.Event | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; returns when calls are taken."""
        if self.thread is not None:
            raise RuntimeError("the sandbox is running already")
        listening: Future[int] = Future()
        self.thread = Thread(target=lambda: asyncio.run(self.serve(listening)), name="sandbox", daemon=True)
        self.thread.start()
        try:
            self.port = listening.result(timeout=10)
        except BaseException:
            self.thread = None
            raise

    def stop(self) -> None:
        """Hang up on everybody and listen no more; a second call does nothing."""
        if self.thread is None or self.loop is None or self.stopped is None:
            return
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join()
        self.thread = None

    async def serve(self, listening: Future[int]) -> None:
        """Listen until `stopped` is set."""
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(self.welcome, HOST, self.port, limit=HEAD_LIMIT, backlog=BACKLOG)
        except OSError as error:
            listening.set_exception(error)
            return
        listening.set_result(server.sockets[0].getsockname()[1])
        await self.stopped.wait()
        server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client, in a task that can be cancelled."""
        task = asyncio.ensure_future(self.converse(Line(reader, writer)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def converse(self, line: Line) -> None:
        """One call after another, until either side hangs up."""
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while (call := await line.read()) is not None:
                    if not await self.respond(line, call):
                        break
        except UnreadableError as error:
            with suppress(ConnectionError):
                await line.send(say_unreadable(error), last=True)
        finally:
            await line.close()

    async def respond(self, line: Line, call: Call) -> bool:
        """Answer one call, or let go wrong what is to go wrong; False when the connection is over."""
        last = call.headers.get("connection", "").lower() == "close"
        if call.segments[0] == PREFIX:
            return await line.send(self.control.answer(call), last=last)
        provider = self.providers.get(call.segments[0])
        if provider is None:
            return await line.send(say_json(404, {"error": "no pretend provider is here"}), last=last)
        inner = call.inside(provider.name)
        received = self.receive(provider, inner)
        handle = partial(handle_call, provider, inner, received)
        fault = self.faults.meet(provider.name, inner)
        if fault is None:
            return await line.send(handle(), last=last)
        received.fault = fault.kind
        if fault.kind in INSTEAD:
            return await line.send(answer_instead(provider, fault, inner, received), last=last)
        goes_on = await misbehave(line, fault, handle)
        if fault.kind == "drop_after":
            received.status = None
        return goes_on and not last


def handle_call(provider: Provider, call: Call, received: Received) -> Reply:
    """Let the provider act, and note that it did."""
    reply = provider.answer(call)
    received.handled, received.status = True, reply.status
    return reply


def answer_instead(provider: Provider, fault: Fault, call: Call, received: Received) -> Reply:
    """Another answer than the provider's own; with `handled`, the provider acts all the same."""
    if fault.handled:
        handle_call(provider, call, received)
    reply = speak_instead(fault, provider.complain(fault.status))
    received.status = reply.status
    return reply
