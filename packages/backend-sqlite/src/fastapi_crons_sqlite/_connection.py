"""Connection: one SQLite connection, whose thread does whole transactions at a time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

import aiosqlite

T = TypeVar("T")


class _Answer(Generic[T]):
    """What a function returned, where a cursor is expected."""

    def __init__(self, value: T) -> None:
        self._value = value

    def fetchall(self) -> T:
        return self._value


class _TakesFunctions(sqlite3.Connection):
    """Takes a function where it expects a statement.

    aiosqlite goes to its thread and back for each statement, which costs more than the statement; so does a function of many.
    """

    def execute(self, sql: Any, parameters: Any = (), /) -> Any:
        return _Answer(sql(self)) if callable(sql) else super().execute(sql, parameters)


class Connection:
    """Does one piece of work after another; the work begins and ends its transactions."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._closed = False

    @classmethod
    async def open(cls, uri: str, *, busy_timeout: float) -> Connection:
        """Open a database, as its URI says. Raises what SQLite raises."""
        connection = aiosqlite.connect(
            uri, uri=True, timeout=busy_timeout, isolation_level=None, factory=_TakesFunctions
        )
        # Its thread must not keep a process that wants to end.
        thread = connection if hasattr(connection, "daemon") else getattr(connection, "_thread", None)
        if thread is not None:
            thread.daemon = True
        return cls(await connection)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or is about to be."""
        return self._closed

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the connection; raises what the work raises. A caller that is cancelled does not cancel it."""
        if self._closed:
            raise sqlite3.ProgrammingError("the connection is closed")
        return cast("T", await self._connection.execute_fetchall(cast("str", work)))

    async def close(self) -> None:
        """Close the connection, once what was asked before is done."""
        if not self._closed:
            self._closed = True
            with suppress(sqlite3.Error, ValueError):
                await asyncio.shield(asyncio.ensure_future(self._connection.close()))
