"""A proxy that serves an app under a prefix that the app does not see, as nginx with `proxy_pass …/`."""

from __future__ import annotations

import asyncio
import threading


class StrippingProxy:
    """Passes what is under a prefix on to a server, without the prefix. One request a connection."""

    def __init__(self, port: int, prefix: str) -> None:
        self._target = port
        self._prefix = prefix.encode()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _serve(self) -> None:
        self._loop.run_until_complete(self._begin())
        self._ready.set()
        self._loop.run_forever()

    async def _begin(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _pass_on(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            head = await client.readuntil(b"\r\n\r\n")
            line, _, headers = head.partition(b"\r\n")
            method, path, version = line.split(b" ")
            if not path.startswith(self._prefix + b"/"):
                answer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            server, request = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                kept = [each for each in headers.split(b"\r\n") if each and not each.lower().startswith(b"connection:")]
                kept += [b"Connection: close", b"X-Forwarded-Prefix: " + self._prefix]
                first = b" ".join([method, path.removeprefix(self._prefix), version])
                request.write(b"\r\n".join([first, *kept, b"", b""]))
                await asyncio.gather(_pipe(client, request), _pipe(server, answer))
            finally:
                request.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            answer.close()


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    finally:
        target.close()
