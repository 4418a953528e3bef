"""Database: one file, opened with care, written in whole transactions."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from fastapi_crons.errors import ConfigurationError, StoreError, StoreUnavailableError, StoreUnusableError
from fastapi_crons_sqlite._connection import Connection
from fastapi_crons_sqlite._file import check_path, has_log, make_file, uri_of, why_not
from fastapi_crons_sqlite._schema import VERSION, Found, look, prepare, roll_back
from fastapi_crons_sqlite._transaction import NoRows, Row, Transaction, Value

logger = logging.getLogger("fastapi_crons.sqlite")

T = TypeVar("T")
#: Device and inode of a file, and for one that is read as a snapshot when it was changed; None where there is none.
_Identity = tuple[int, ...] | None

_NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs")
#: A larger file is not checked page by page at the start.
_CHECKED_BYTES = 64 * 1024 * 1024

# Writers of one file in one process take turns here rather than in SQLite's busy handler, which sleeps.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, asyncio.Lock]] = WeakKeyDictionary()


class Database:
    """Connections to one file: one that writes and one that reads, or the latter alone for a backend that is opened to read.

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
        #: Which file, and which write-ahead log, the connections have open; None where these are no longer there, or not yet.
        self._identity: tuple[_Identity, _Identity] | None = None
        self._turn: asyncio.Lock | None = None
        #: Whether the file is only read: then none is made, and nothing is changed but for what listeners say of themselves.
        self._only_reads = False
        #: Whether the reader does not see what others write.
        self._is_snapshot = False
        self._pid = os.getpid()

    async def open(self, *, to_read: bool = False) -> None:
        """Open the file and bring it to our layout, making it where there is none.

        One that is opened `to_read` is neither made nor changed: what is not there reads as empty.
        """
        self._only_reads = to_read
        check_path(self.path)
        turns = _turns.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        self._turn = turns.setdefault(os.path.realpath(self.path), asyncio.Lock())
        try:
            async with self._turn:
                await (self._connect_to_read() if to_read else self._connect())
        except sqlite3.Error as error:
            await self._disconnect()
            if _is_passing(error):
                raise self._unavailable(error) from error
            if "not a database" in str(error):
                raise StoreUnusableError(
                    f"{self.path} is not a database; it is left as it is. Set CRON_SQLITE_PATH to another file"
                ) from error
            raise StoreUnusableError(f"{self.path} can't be used as a database: {error}{why_not(self.path)}") from error
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
        return (await self.write_timed(work))[0]

    async def write_timed(self, work: Callable[[Transaction], T]) -> tuple[T, float]:
        """As `write`; returns also for how long (seconds) the transaction kept others from writing."""

        def transaction(connection: sqlite3.Connection) -> tuple[T, float]:
            connection.execute("BEGIN IMMEDIATE")
            began = monotonic()
            try:
                result = work(Transaction(connection))
                connection.execute("COMMIT")
            except BaseException:
                roll_back(connection)
                raise
            return result, monotonic() - began

        async def whole() -> tuple[T, float]:
            async with self._open_turn():
                self._open_turn()  # it may have been closed while others had their turn
                await self._follow_file()
                return await self._connected(self._writer).do(transaction)

        return await self._guarded(whole())

    async def rows(self, columns: str, rest: str, *parameters: Value) -> list[Row]:
        """See `Transaction.rows`."""
        return await self.read(lambda transaction: transaction.rows(columns, rest, *parameters))

    async def plain_rows(self, sql: str, *parameters: Value) -> list[Row]:
        """See `Transaction.plain_rows`."""
        return await self.read(lambda transaction: transaction.plain_rows(sql, *parameters))

    @property
    def is_there(self) -> bool:
        """Whether there is a file: a backend that is opened to read does not make one."""
        return self._reader is not None or os.path.exists(self.path)

    def obstacle(self) -> str | None:
        """Why this process can't write to the file, or make it; None where nothing prevents it."""
        if all(os.access(f"{self.path}{end}", os.W_OK) for end in ("", "-wal", "-shm")):
            return None  # nothing is to be made in the folder
        why = why_not(self.path)
        if not why:
            return None
        return f"{self.path} can't be {'written to' if os.path.exists(self.path) else 'made'}{why}"

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Do `work`, which reads, while others may write. Where there is no file, it finds no rows."""

        async def whole() -> T:
            if self._only_reads and self._writer is None:
                self._open_turn()
                await self._follow_file_to_read()
                if self._reader is None:
                    return work(NoRows())
            if self._reader is None or self._reader.is_closed:
                async with self._open_turn():  # it is being opened anew, to be written to
                    self._open_turn()
            return await self._connected(self._reader).do(lambda connection: work(Transaction(connection)))

        return await self._guarded(whole())

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # The transaction is finished all the same; its answer has no reader any more.
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
        make_file(self.path)
        # Seen before it is opened: where it is deleted or replaced meanwhile, what is open is not what is there.
        file = _identity(self.path, changed=True)
        # Before anything is written: another program's file, and a damaged one, stay as they are.
        await self._look()
        self._writer = await Connection.open(uri_of(self.path), busy_timeout=self._busy_timeout)
        if file is None or file[-1] <= _CHECKED_BYTES:
            found = await self._writer.do(lambda connection: _pragma(connection, "quick_check(1)"))
            if found != "ok":
                raise StoreUnusableError(
                    f"{self.path} is damaged: {found!a}; restore it from a backup, or move it away"
                )
        mode = await self._log_ahead(self._writer)
        if mode != "wal":
            logger.warning(
                "%s: no write-ahead logging (journal mode %s): readers and writers wait for each other", self.path, mode
            )
        _warn_of_network(self.path)
        await self._writer.do(self._prepare)
        self._reader, self._is_snapshot = (
            await Connection.open(uri_of(self.path), busy_timeout=self._busy_timeout),
            False,
        )
        await self._reader.do(_only_query)
        log = _identity(f"{self.path}-wal", changed=False)
        if file is not None and (log is not None or mode != "wal"):
            self._identity = file[:2], log

    async def _connect_to_read(self) -> None:
        """Open the file, where there is one with anything in it, to see what is there and what others write."""
        self._check_fork()
        self._is_snapshot = True
        file, _ = self._identity = self._found()
        if file is None:
            return
        found = await self._look()
        if found.is_empty:
            return
        if found.layout < VERSION:
            await self._read_copy()
            return
        try:
            await self._open_reader(uri_of(self.path), snapshot=False)
        except sqlite3.OperationalError as error:
            if _is_passing(error):
                raise
            # SQLite's other files can't be made there: no process with these rights writes to it either.
            await self._disconnect()
            snapshot = not has_log(self.path)
            await self._open_reader(uri_of(self.path, snapshot=snapshot), snapshot=snapshot)
        now, log = self._found()
        self._identity = (now, log) if now is not None and now[:2] == file[:2] else None

    async def _open_reader(self, uri: str, *, snapshot: bool) -> None:
        self._is_snapshot = snapshot
        self._reader = await Connection.open(uri, busy_timeout=self._busy_timeout)
        await self._reader.do(_only_query)
        await self._reader.do(lambda connection: connection.execute("SELECT 1 FROM sqlite_master").fetchone())

    async def _read_copy(self) -> None:
        """Read an older layout: what it would be like in ours is found out with a copy."""
        self._reader = await Connection.open("file::memory:", busy_timeout=self._busy_timeout)

        def copy(connection: sqlite3.Connection) -> None:
            uri = uri_of(self.path, snapshot=not has_log(self.path))
            with closing(sqlite3.connect(uri, uri=True, timeout=self._busy_timeout)) as source:
                source.backup(connection)
            prepare(connection, self.path)
            _only_query(connection)

        await self._reader.do(copy)

    async def _look(self) -> Found:
        """What is in the file, without changing it. Raises `StoreUnusableError` where it is another program's."""
        logged = has_log(self.path)
        peek = await Connection.open(uri_of(self.path, snapshot=not logged), busy_timeout=self._busy_timeout)
        try:
            return await peek.do(lambda connection: look(connection, self.path))
        except StoreUnusableError:
            if logged or not has_log(self.path):
                raise
        finally:
            await peek.close()
        # It was written at the same moment, and what was read may be half of that.
        return await self._look()

    async def _follow_file_to_read(self) -> None:
        """Open a file that was made or replaced since; or changed, where the connection does not see that."""
        if self._found() == self._identity:
            return
        async with self._open_turn():
            if self._found() != self._identity:
                self._open_turn()
                await self._disconnect()
                check_path(self.path)
                await self._connect_to_read()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        message = prepare(connection, self.path)
        if message is not None:
            logger.info("%s: %s", self.path, message)

    async def _log_ahead(self, writer: Connection) -> object:
        """Switch to write-ahead logging; returns the journal mode that SQLite chose.

        SQLite does not wait here for another process that opens the file at the same moment: two could wait for ever.
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
        """Refuse a file that the parent process has open: SQLite's locks belong to a process, a fork would write beside it."""
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
        """Whether the process that this one was forked from opened it, and did not close it before."""
        return self._writer is not None and self._pid != os.getpid()

    async def _disconnect(self) -> None:
        for connection in (self._writer, self._reader):
            if connection is not None:
                try:
                    await connection.close()
                except sqlite3.Error:
                    logger.debug("closing %s", self.path, exc_info=True)
        self._writer = self._reader = None
        self._identity = None

    async def _follow_file(self) -> None:
        """Open the file anew where it was deleted or replaced: our writes would be lost."""
        if self._only_reads and not os.path.exists(self.path):
            raise StoreUnavailableError(f"{self.path} does not exist, and a command that only reads does not make it")
        if self._writer is not None and self._found() == self._identity:
            return
        if self._writer is not None:
            logger.warning("%s was deleted or replaced while in use; it is opened again, or made", self.path)
        await self._disconnect()
        check_path(self.path)
        await self._connect()

    def _found(self) -> tuple[_Identity, _Identity]:
        changed = self._is_snapshot
        return _identity(self.path, changed=changed), _identity(f"{self.path}-wal", changed=changed)

    def _unavailable(self, error: Exception) -> StoreError:
        return StoreUnavailableError(f"{self.path}: {error}")


_databases: WeakSet[Database] = WeakSet()


def _pragma(connection: sqlite3.Connection, pragma: str) -> object:
    """What a pragma answers."""
    ((answer,),) = connection.execute(f"PRAGMA {pragma}")
    return answer


def _only_query(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON")


def _is_passing(error: sqlite3.Error) -> bool:
    return any(word in str(error) for word in ("locked", "busy", "full", "disk I/O"))


def _identity(path: str, *, changed: bool) -> _Identity:
    try:
        status = os.stat(path)
    except OSError:
        return None
    place = (status.st_dev, status.st_ino)
    return (*place, status.st_mtime_ns, status.st_size) if changed else place


def _warn_of_network(path: str) -> None:
    kind = _file_system(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        logger.warning("%s lies on a network file system (%s): SQLite can't coordinate several hosts there", path, kind)


def _file_system(path: str) -> str:
    """The type of a path's file system, on Linux."""
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
