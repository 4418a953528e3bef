"""A TCP proxy with faults that a test switches on and off: delays, resets, refusals, silence, lost replies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from tests.faults.redis_server import HOST, PORTS_TO_TRY, free_port

if TYPE_CHECKING:
    from typing_extensions import Self

# A client that sends nothing for so long has sent all of its request.
QUIET = 0.05

T = TypeVar("T")
Queue = asyncio.Queue[tuple[float, bytes]]


class Proxy:
    """Stands in front of a server, in a thread of its own; its methods may be called from any other thread.

    - `delay`: seconds that everything takes on its way, in each direction; the order stays.
    - `silent`: both directions are swallowed, and connections stay open, also when the server goes away. A connection
      that has lost something this way stays silent for good: TCP never goes on with a gap.
    - `refuse`: nobody listens; open connections stay.
    """

    def __init__(self, port: int, host: str = HOST) -> None:
        self.target = (host, port)
        self.host = HOST
        self.port = 0
        self.delay = 0.0
        self.silent = False
        self.accepted = 0
        """How many connections were made to it so far."""
        self.answered = 0
        """How many requests, or pipelines of them, were answered so far: round trips."""
        self.dropped = 0
        """How many replies `drop_replies` has swallowed so far."""
        self._refuse = False
        self._drops_left = 0
        self._drops_of = b""
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._listener: asyncio.Server | None = None
        self._resetting: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    @property
    def refuse(self) -> bool:
        return self._refuse

    @refuse.setter
    def refuse(self, value: bool) -> None:
        self._refuse = value
        self._call(self._unlisten if value else self._listen)

    def reset_all(self) -> int:
        """Break all open connections with RST, on both sides; returns how many."""
        return self._call(self._reset_all)

    def reset_every(self, seconds: float | None) -> None:
        """Do so again and again, until called with None."""

        async def again(seconds: float) -> None:
            while True:
                await asyncio.sleep(seconds)
                await self._reset_all()

        async def switch() -> None:
            if self._resetting is not None:
                await _cancelled(self._resetting)
            self._resetting = None if seconds is None else asyncio.create_task(again(seconds))

        self._call(switch)

    def drop_replies(self, count: int, to: str | bytes = b"") -> None:
        """Swallow the next `count` replies of the server, and close the connection of each.

        By then the server has done all that was asked on it. A reply is what it sends after a request or a pipeline.
        With `to`, only the reply to a request that contains these bytes counts, in any case
        of letters: "EVALSHA". Without, the replies of a client's handshake count too.
        """
        self._drops_left = count
        self._drops_of = (to.encode() if isinstance(to, str) else to).upper()

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        for left in reversed(range(PORTS_TO_TRY)):
            self.port = free_port()
            try:
                self._call(self._listen)
            except OSError:
                if not left:
                    self.stop()
                    raise
            else:
                return

    def stop(self) -> None:
        """Close everything and end the thread."""
        if self._loop is None or self._thread is None:
            return
        self._call(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    def takes(self, asked: bytes) -> bool:
        """Whether the reply to this request is one to be swallowed."""
        if self._drops_left <= 0 or self._drops_of not in asked.upper():
            return False
        self._drops_left -= 1
        self.dropped += 1
        return True

    def _call(self, function: Callable[[], Awaitable[T]]) -> T:
        async def called() -> T:
            return await function()

        assert self._loop is not None, "it isn't started"
        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(20)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, self.host, self.port)

    async def _unlisten(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(self, reader, writer)
        task = asyncio.ensure_future(link.run())
        self._links[link] = task
        task.add_done_callback(lambda _: self._links.pop(link))

    async def _reset_all(self) -> int:
        links = dict(self._links)
        for link in links:
            link.reset()
        await asyncio.gather(*(_cancelled(task) for task in links.values()))
        await _closed()
        return len(links)

    async def _shut(self) -> None:
        await self._unlisten()
        if self._resetting is not None:
            await _cancelled(self._resetting)
        await self._reset_all()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Link:
    """One connection of a client, and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._client = writer
        self._server: asyncio.StreamWriter | None = None
        self._asked = b""
        self._lost = False
        self._dropping: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()

    async def run(self) -> None:
        try:
            reader, self._server = await asyncio.open_connection(*self._proxy.target)
        except OSError:
            self.reset()
            return
        requests, replies = Queue(), Queue()
        tasks = [
            asyncio.ensure_future(work)
            for work in (
                self._read(self._reader, requests),
                self._read(reader, replies),
                self._deliver(requests, self._request),
                self._deliver(replies, self._reply),
            )
        ]
        try:
            await self._over.wait()
        finally:
            if self._dropping is not None:
                self._dropping.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._client.close()
            self._server.close()

    def reset(self) -> None:
        """Close both sides with RST instead of an orderly end."""
        for writer in (self._client, self._server):
            if writer is not None and not writer.is_closing():
                # No lingering: what wasn't sent is thrown away, and the other side is told by RST.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader, queue: Queue) -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            queue.put_nowait((asyncio.get_running_loop().time() + self._proxy.delay, data))

    async def _deliver(self, queue: Queue, take: Callable[[bytes], None]) -> None:
        data = b"-"
        while data:
            due, data = await queue.get()
            wait = due - asyncio.get_running_loop().time()
            if wait > 0:
                await asyncio.sleep(wait)
            take(data)

    def _request(self, data: bytes) -> None:
        if self._lost or self._proxy.silent:
            self._lost = True
            if not data:
                self._over.set()
        elif data:
            self._asked += data
            self._to_server(data)
            if self._dropping is not None:
                self._drop()
        else:
            # The server still does what it has got, as it would without a proxy; then it closes too.
            self._to_server(b"")

    def _reply(self, data: bytes) -> None:
        if self._lost or self._proxy.silent:
            self._lost = True
        elif not data:
            self._over.set()
        elif self._dropping is None:
            asked, self._asked = self._asked, b""
            self._proxy.answered += bool(asked)
            if self._proxy.takes(asked):
                self._drop()
            else:
                self._client.write(data)

    def _drop(self) -> None:
        """Swallow replies from now on; when the client has sent all, tell the server the end, and wait for its own."""
        if self._dropping is not None:
            self._dropping.cancel()
        self._dropping = asyncio.get_running_loop().call_later(QUIET, self._to_server, b"")

    def _to_server(self, data: bytes) -> None:
        server = self._server
        assert server is not None
        with contextlib.suppress(OSError, RuntimeError):
            if data:
                server.write(data)
            elif not server.is_closing():
                server.write_eof()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _closed() -> None:
    """A transport closes its socket in the next rounds of the loop."""
    for _ in range(3):
        await asyncio.sleep(0)
