"""The backend: a connection with a thread of its own, and transactions that never overlap."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from fastapi_crons import StoreUnavailableError, StoreUnusableError
from fastapi_crons.locking import LockBackend, LockTransaction, Reach, TransactionalLockBackend, without_waiting
from fastapi_crons_plain_sql.transaction import LAYOUT, TABLES, PlainSqlTransaction

T = TypeVar("T")


class PlainSqlLockBackend(TransactionalLockBackend):
    """Claims for all processes of a host, in three tables of a SQLite file."""

    reach: ClassVar[Reach] = "host"

    def __init__(self, path: str | Path, *, timeout: float = 4.0) -> None:
        """`timeout` is how long (seconds) a transaction waits for another process's one."""
        super().__init__(f"lock store in {path}")
        self._path, self._timeout = Path(path), timeout
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def connect(self, *, to_read: bool) -> None:
        self._thread = ThreadPoolExecutor(1, "plain-sql")
        try:
            await self._do(lambda: self._connect(to_read))
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    def _connect(self, to_read: bool) -> None:
        # A file that is not there reads as empty, and is not made: an empty one in memory takes its place.
        place = ":memory:" if to_read and not self._path.exists() else self._path
        self._connection = sqlite3.connect(place, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        try:
            ((layout,),) = self._connection.execute("PRAGMA user_version")
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error):
                raise StoreUnusableError(
                    f"{self._path} is not a database; set CRON_PLAIN_SQL_PATH to another file"
                ) from None
            raise
        if layout > LAYOUT:
            raise StoreUnusableError(f"{self._path} was written by a newer version of fastapi-crons-plain-sql")
        if layout < LAYOUT:
            for statement in TABLES:
                self._connection.execute(statement)

    async def close(self) -> None:
        thread, connection = self._thread, self._connection
        self._thread = self._connection = None
        if connection is not None:
            connection.close()
        if thread is not None:
            thread.shutdown(wait=False)

    def clone(self) -> LockBackend:
        clone = PlainSqlLockBackend(self._path, timeout=self._timeout)
        clone.damage = self.damage
        return clone

    async def transact(self, work: Callable[[LockTransaction], Coroutine[Any, Any, T]], *, to_read: bool = False) -> T:
        begin = "BEGIN" if to_read else "BEGIN IMMEDIATE"  # the latter waits for its turn before it reads
        return await self._do(lambda: self._transact(begin, work))

    def _transact(self, begin: str, work: Callable[[LockTransaction], Coroutine[Any, Any, T]]) -> T:
        if self._connection is None:
            raise StoreUnavailableError(f"{self._path} is not open")
        with self._connection:  # commits, or rolls back where something is raised
            self._connection.execute(begin)
            return without_waiting(work(PlainSqlTransaction(self._connection, self.namespace, self.clock)))

    async def _do(self, work: Callable[[], T]) -> T:
        """Do something in the thread of the connection. A caller that is cancelled does not cancel it."""
        if self._thread is None:
            raise StoreUnavailableError(f"{self._path} is not open")
        try:
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"{self._path}: {error}") from error
