"""Database: one file, opened with care, written in whole transactions."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from fastapi_crons.errors import ConfigurationError, StoreError, StoreUnavailableError, StoreUnusableError
from fastapi_crons_sqlite._connection import Connection
from fastapi_crons_sqlite._schema import prepare
from fastapi_crons_sqlite._transaction import Row, Transaction, Value

logger = logging.getLogger("fastapi_crons.sqlite")

T = TypeVar("T")
#: Device and inode of a file; None where there is none.
_Identity = tuple[int, int] | None

_NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs")
#: A larger file is not checked page by page at the start.
_CHECKED_BYTES = 64 * 1024 * 1024

# Writers of one file in one process take turns here rather than in SQLite's busy handler, which sleeps.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, asyncio.Lock]] = WeakKeyDictionary()


class Database:
    """Connections to one file: one that writes, and one that reads beside it.

    Raises `StoreUnusableError` from `open` for a file that can't be used as it is, and `StoreUnavailableError` from
    everything else. `synchronous` is SQLite's: FULL survives a power cut, NORMAL may lose the last transactions then.
    """

    def __init__(self, path: str | Path, *, busy_timeout: float, synchronous: Literal["FULL", "NORMAL"]) -> None:
        given = os.fspath(path)
        if given in ("", ":memory:") or given.startswith("file:"):
            raise ConfigurationError(
                f"db_path can't be {given!r}: give the path of a file, or use MemoryStateBackend for a store in memory"
            )
        self.path = os.path.abspath(given)
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        #: Which file, and which write-ahead log, the connections have open.
        self._identity: tuple[_Identity, _Identity] | None = None
        self._turn: asyncio.Lock | None = None
        self._pid = os.getpid()

    async def open(self) -> None:
        """Open the file, making it where there is none, and bring it to our layout."""
        _check_file(self.path)
        turns = _turns.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        self._turn = turns.setdefault(os.path.realpath(self.path), asyncio.Lock())
        try:
            async with self._turn:
                await self._connect()
        except sqlite3.Error as error:
            await self._disconnect()
            if _is_passing(error):
                raise self._unavailable(error) from error
            if "not a database" in str(error):
                raise StoreUnusableError(
                    f"{self.path} is not a database; it is left as it is. Set CRON_SQLITE_PATH to another file"
                ) from error
            raise StoreUnusableError(f"{self.path} can't be used as a database: {error}") from error
        except BaseException:
            await self._disconnect()
            raise

    async def close(self) -> None:
        """Close the connections once what is under way has ended."""
        turn, self._turn = self._turn, None
        if turn is not None:
            async with turn:
                await self._disconnect()

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Do `work` in one transaction, which is committed when it returns and undone when it raises.

        It is called in the connection's thread. A caller that is cancelled does not cancel the transaction.
        """

        def transaction(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(Transaction(connection))
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
            return result

        async def whole() -> T:
            async with self._open_turn():
                self._open_turn()  # it may have been closed while others had their turn
                await self._follow_file()
                return await self._connected(self._writer).do(transaction)

        return await self._guarded(whole())

    async def read(self, sql: str, *parameters: Value) -> list[Row]:
        """The rows of a query whose first column is a JSON array of rows: for many."""
        return await self._read(lambda connection: Transaction(connection).rows(sql, *parameters))

    async def read_plain(self, sql: str, *parameters: Value) -> list[Row]:
        """The rows of a query: for few, and exact, while JSON gives numbers 15 digits."""
        return await self._read(lambda connection: connection.execute(sql, parameters).fetchall())

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        async def whole() -> T:
            return await self._connected(self._reader).do(work)

        return await self._guarded(whole())

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # The transaction goes on; nobody is left to hear how it ends.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        except UnicodeError:
            raise  # about the data, not the store
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _open_turn(self) -> asyncio.Lock:
        if self._turn is None:
            raise StoreUnavailableError(f"{self.path} is not open")
        return self._turn

    def _connected(self, connection: Connection | None) -> Connection:
        if connection is None:
            raise StoreUnavailableError(f"{self.path} is not open")
        return connection

    async def _connect(self) -> None:
        self._check_fork()
        self._writer = await Connection.open(self.path, busy_timeout=self._busy_timeout)
        # Before anything is written: a damaged file is left as it is.
        if os.path.getsize(self.path) <= _CHECKED_BYTES:
            found = await self._writer.do(lambda connection: _pragma(connection, "quick_check(1)"))
            if found != "ok":
                raise StoreUnusableError(
                    f"{self.path} is damaged: {found!a}; restore it from a backup, or move it away"
                )
        mode = await self._log_ahead(self._writer)
        if mode != "wal":
            logger.warning(
                "%s: write-ahead logging can't be had (%s): readers and writers wait for each other", self.path, mode
            )
        _warn_of_network(self.path)
        await self._writer.do(self._prepare)
        self._reader = await Connection.open(self.path, busy_timeout=self._busy_timeout)
        await self._reader.do(lambda connection: connection.execute("PRAGMA query_only = ON"))
        self._identity = self._found()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        prepare(connection, self.path)

    async def _log_ahead(self, writer: Connection) -> object:
        """Switch to write-ahead logging; returns the mode that was had.

        Where another process opens the file at the same moment SQLite does not wait, as one of the two would for ever.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._busy_timeout
        while True:
            try:
                return await writer.do(lambda connection: _pragma(connection, "journal_mode = WAL"))
            except sqlite3.OperationalError as error:
                if not _is_passing(error) or loop.time() >= deadline:
                    raise
            await asyncio.sleep(random.uniform(0.01, 0.1))

    def _check_fork(self) -> None:
        """SQLite's locks are its process's: what a fork inherits of them would let two processes write at a time."""
        place = os.path.realpath(self.path)
        if any(other.is_open_elsewhere and os.path.realpath(other.path) == place for other in _databases):
            raise StoreUnusableError(
                f"{self.path} is open in the process that this one was forked from; fork first, and start schedulers in each "
                "process"
            )
        self._pid = os.getpid()
        _databases.add(self)

    @property
    def is_open_elsewhere(self) -> bool:
        """Whether this was opened by the process that this one was forked from, and not closed before."""
        return self._writer is not None and self._pid != os.getpid()

    async def _disconnect(self) -> None:
        for connection in (self._writer, self._reader):
            if connection is not None:
                try:
                    await connection.close()
                except sqlite3.Error:
                    logger.debug("closing %s", self.path, exc_info=True)
        self._writer = self._reader = None

    async def _follow_file(self) -> None:
        """A file that was deleted or replaced while we have it open would take our writes to nowhere."""
        if self._writer is not None and self._found() == self._identity:
            return
        if self._writer is not None:
            logger.warning(
                "%s was deleted or replaced while in use; it is opened, and made where missing, anew", self.path
            )
        await self._disconnect()
        _check_file(self.path)
        await self._connect()

    def _found(self) -> tuple[_Identity, _Identity]:
        return _identity(self.path), _identity(f"{self.path}-wal")

    def _unavailable(self, error: Exception) -> StoreError:
        return StoreUnavailableError(f"{self.path}: {error}")


_databases: WeakSet[Database] = WeakSet()


def _pragma(connection: sqlite3.Connection, pragma: str) -> object:
    """What a pragma answers."""
    ((answer,),) = connection.execute(f"PRAGMA {pragma}")
    return answer


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        logger.debug("rolling back", exc_info=True)


def _is_passing(error: sqlite3.Error) -> bool:
    return any(word in str(error) for word in ("locked", "busy", "full", "disk I/O"))


def _identity(path: str) -> _Identity:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check_file(path: str) -> None:
    """Refuse a path that can't lead to a file.

    The file itself is SQLite's to open: closing any other descriptor of it drops the locks that this process holds on it
    (POSIX `fcntl`), and another process would take us for gone and delete the log that we write to.
    """
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise StoreUnusableError(f"{path} can't be made: there is no folder {folder}")
    if os.path.isdir(path):
        raise StoreUnusableError(f"{path} is a folder; set CRON_SQLITE_PATH to a file")


def _warn_of_network(path: str) -> None:
    kind = _file_system(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        logger.warning("%s lies on a network file system (%s): SQLite can't coordinate several hosts there", path, kind)


def _file_system(path: str) -> str:
    """The type of the file system that holds a path, where Linux says so."""
    best, kind = "", ""
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        mount = before.split()[4]
        if (path == mount or path.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, after.split()[0]
    return kind
