"""Connection: one SQLite connection, in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
#: What is to be done, and who waits for it; None to end.
_Asked = tuple[asyncio.Future[Any], Callable[[sqlite3.Connection], Any] | None]


class Connection:
    """Does one piece of work after another, each whole in its thread: the way there and back costs more than a statement.

    Transactions are begun and ended by the work. The thread keeps no process that wants to end.
    """

    def __init__(self, path: str, *, busy_timeout: float) -> None:
        self._queue: SimpleQueue[_Asked] = SimpleQueue()
        self._closed = False
        arguments = (path, busy_timeout, self._queue)
        Thread(target=_live, args=arguments, name="fastapi-crons-sqlite", daemon=True).start()

    @classmethod
    async def open(cls, path: str, *, busy_timeout: float) -> Connection:
        """Open a file, which is made where there is none. Raises what SQLite raises."""
        connection = cls(path, busy_timeout=busy_timeout)
        try:
            await connection.do(lambda opened: opened)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the connection; raises what the work raises. A caller that is cancelled does not cancel it."""
        if self._closed:
            raise sqlite3.ProgrammingError("the connection is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put((future, work))
        return await future

    async def close(self) -> None:
        """Close the connection, once what was asked before is done."""
        if not self._closed:
            self._closed = True
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.put((future, None))
            await future


def _live(path: str, busy_timeout: float, queue: SimpleQueue[_Asked]) -> None:
    connection: sqlite3.Connection | None = None
    while True:
        future, work = queue.get()
        result: object = None
        error: BaseException | None = None
        try:
            if work is None:
                if connection is not None:
                    connection.close()
            else:
                if connection is None:
                    connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)
                result = work(connection)
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
            future.get_loop().call_soon_threadsafe(_settle, future, result, error)
        if work is None:
            return
        # Nothing of what is done may live on in a thread that waits.
        del future, work, result, error


def _settle(future: asyncio.Future[object], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
