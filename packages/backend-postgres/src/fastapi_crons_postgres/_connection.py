"""Connections to the database: made when they are needed, made anew when lost, used by one transaction at a time.

A process has one for each of its event loops, which the stores of a scheduler share, and another one while people ask.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar
from uuid import uuid4

import asyncpg

from fastapi_crons.errors import StoreError, StoreUnusableError
from fastapi_crons_postgres._driver import Driver
from fastapi_crons_postgres._faults import ERRORS, PASSING, fault, is_about_data, is_broken, reason_of
from fastapi_crons_postgres.settings import PostgresSettings
from fastapi_crons_postgres.url import Place, missing_files, names_application, place_of

logger = logging.getLogger("fastapi_crons.postgres")

T = TypeVar("T")
#: Of the time of a call, how much a transaction waits for a lock; and for how long (seconds) it may stand still inside.
_FOR_LOCKS, _STANDS_STILL = 0.8, 5.0
#: How often a transaction is begun again after a deadlock and the like.
_AGAIN = 3
#: The oldest major version of the server that is supported.
OLDEST = 13
#: Statements that begin a transaction. The last one may wait for a lock.
_Begin = tuple[str, ...]
_LOCK = "SELECT pg_advisory_xact_lock"
#: A server is far away from so many seconds on, there and back.
_FAR = 0.03
#: How long (seconds) a notification to ourselves may take.
_HEARD = 1.0


class Connection:
    """Runs transactions, one after the other. A call takes `patience` seconds at most.

    Every statement is sent inside a transaction: behind a pooler, the next one may be on another connection to the server. With
    `kept`, the connection is closed when it was not used for so many seconds.
    """

    def __init__(
        self, settings: PostgresSettings, patience: float, *, name: str = "", kept: float | None = None
    ) -> None:
        """`name` is that of the instance, by which the server's administrator knows it."""
        self._settings = settings
        self.name = name
        self._url = settings.url.get_secret_value()
        self.patience = patience
        self._kept = kept
        self._connection: Driver | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()
        #: How long (seconds) the last transactions took to begin, of those that did not wait for a lock.
        self._beginnings: deque[float] = deque(maxlen=4)
        #: How many stores share it.
        self.users = 0
        #: Who is woken by notifications, by channel.
        self._listeners: dict[str, set[asyncio.Event]] = {}
        #: Whether notifications arrive, once that is known; and who finds it out.
        self._hears: bool | None = None
        self._finding_out = asyncio.Lock()
        # Without these limits an instance that stands still while it holds a lock stops all others, and a statement that
        # nobody waits for any more is carried on.
        self._limits = (
            f"SET LOCAL statement_timeout = {int(patience * 1000)}",
            f"SET LOCAL lock_timeout = {int(patience * _FOR_LOCKS * 1000)}",
            f"SET LOCAL idle_in_transaction_session_timeout = {int(_STANDS_STILL * 1000)}",
        )

    @classmethod
    def shared(cls, settings: PostgresSettings, patience: float, name: str) -> Connection:
        """The one of the running event loop, which whoever has it gives back by `leave`."""
        with _SHARING:
            for of_closed in [key for key in _SHARED if key[0].is_closed()]:
                del _SHARED[of_closed]  # nobody could give it back any more
            key = (asyncio.get_running_loop(), settings, patience)
            connection = _SHARED.setdefault(key, cls(settings, patience, name=name))
            connection.users += 1
        return connection

    async def leave(self) -> None:
        """Give a shared connection back. The last one to do so closes it."""
        with _SHARING:
            self.users -= 1
            if self.users:
                return
            _SHARED.pop((asyncio.get_running_loop(), self._settings, self.patience), None)
        await self.close()

    @property
    def place(self) -> Place:
        """The database, for people, without a password."""
        return place_of(self._url)

    @property
    def is_far(self) -> bool:
        """Whether the way to the server takes so long that a transaction should not wait for another one's."""
        return min(self._beginnings, default=0.0) > _FAR

    @property
    def schema(self) -> str:
        """The schema of our tables, quoted."""
        return f'"{self._settings.db_schema}"'

    async def write(self, work: Callable[[Driver], Awaitable[T]], lock: int | None = None) -> T:
        """Do `work` in a transaction that sees what was committed before each of its statements.

        Where a `lock` is named, an advisory one, no other transaction with it goes on at the same time.
        """
        # Not READ WRITE: an administrator may have set the database to read only, because its disk is nearly full.
        begin = ("BEGIN ISOLATION LEVEL READ COMMITTED", *self._limits)
        return await self._transact(begin if lock is None else (*begin, f"{_LOCK}({lock})"), work)

    async def read(self, work: Callable[[Driver], Awaitable[T]]) -> T:
        """Do `work` in a transaction that writes nothing, and sees one state of the database."""
        return await self._transact(("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", *self._limits), work)

    async def rows(self, statement: str, *parameters: object) -> list[asyncpg.Record]:
        """The rows of one statement that writes nothing."""

        async def work(connection: Driver) -> list[asyncpg.Record]:
            return await connection.fetch(statement, *parameters)

        return await self.read(work)

    async def listen(self, channel: str, woken: asyncio.Event) -> None:
        """Have notifications set an event. So does the loss of the connection, with which some may have been lost."""

        async def listen() -> None:
            async with self._turn:
                connection = await self._opened()
                try:
                    await connection.add_listener(channel, self._wake)
                except BaseException:
                    self._drop(connection)
                    raise
                self._listeners.setdefault(channel, set()).add(woken)

        await self._bounded(listen())

    def unlisten(self, channel: str, woken: asyncio.Event) -> None:
        """Leave an event alone from now on."""
        listeners = self._listeners.get(channel, set())
        listeners.discard(woken)
        if not listeners:
            self._listeners.pop(channel, None)

    def _wake(self, connection: object, pid: int, channel: str, payload: object) -> None:
        for woken in self._listeners.get(channel, ()):
            woken.set()

    def _wake_all(self, connection: object) -> None:
        for channel in self._listeners:
            self._wake(connection, 0, channel, None)

    async def hears(self) -> bool:
        """Whether notifications arrive, which a pooler may take.

        It is found out once; as long as it can't be, the answer is no.
        """
        async with self._finding_out:
            if self._hears is None:
                try:
                    self._hears = await self.find_out_whether_it_hears()
                except StoreError as error:
                    logger.debug("whether %s sends notifications is not known: %s", self.place, error)
        return self._hears is True

    async def find_out_whether_it_hears(self) -> bool | None:
        """Whether a connection hears what ours tells; None where it was lost meanwhile, or the server is slow.

        It does nothing else: a pooler hands over what comes in the middle of a transaction, and only that. Raises `StoreError`
        where there can't be another connection.
        """
        channel, heard = f"crons_{uuid4().hex}", asyncio.Event()
        other = await self._bounded(self._connect())
        try:
            await self._bounded(other.add_listener(channel, lambda *_: heard.set()))
            await self.write(lambda driver: driver.execute(f"NOTIFY {channel}"))
            await asyncio.wait_for(heard.wait(), _HEARD)
        except asyncio.TimeoutError:
            return None if other.is_closed() else await self._bounded(self._unheard(other, channel))
        finally:
            other.terminate()
        return True

    async def _unheard(self, other: Driver, channel: str) -> bool | None:
        """False where a connection hears nothing because of a pooler, None where that may come."""
        # A pooler gives its connection to the server to others, who would be told of this channel.
        await other.execute(f"UNLISTEN {channel}")
        return False if await other.is_behind_a_pooler() else None

    async def close(self) -> None:
        """Disconnect. Never raises."""
        if self._closing is not None:
            self._closing.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=1)
            except ERRORS as error:
                logger.debug("closing a connection: %s", reason_of(error))
                connection.terminate()

    async def _transact(self, begin: _Begin, work: Callable[[Driver], Awaitable[T]]) -> T:
        return await self._bounded(self._in_turn(begin, work))

    async def _bounded(self, work: Awaitable[T]) -> T:
        """What `work` returns, in time; what the driver raises is raised as our error."""
        try:
            return await asyncio.wait_for(work, self.patience)
        except ERRORS as error:
            if is_about_data(error):
                # The scheduler drops a record that raises this; it would write it again and again otherwise.
                raise OverflowError(reason_of(error)) from None
            raise self._fault(error) from None

    async def _in_turn(self, begin: _Begin, work: Callable[[Driver], Awaitable[T]]) -> T:
        async with self._turn:
            was_open = self._connection is not None
            for _ in range(_AGAIN):
                try:
                    return await self._once(begin, work)
                except PASSING as error:
                    logger.debug("a transaction in %s is begun again: %s", self.place, reason_of(error))
                except asyncpg.ReadOnlySQLTransactionError as error:
                    # The connection keeps what it began with, and one of several hosts may take writes by now.
                    if not was_open:
                        raise
                    was_open = False
                    logger.debug("a new connection to %s is made: %s", self.place, reason_of(error))
            return await self._once(begin, work)

    async def _once(self, begin: _Begin, work: Callable[[Driver], Awaitable[T]]) -> T:
        connection = await self._begun(begin)
        try:
            answer = await work(connection)
            await connection.execute("COMMIT")
        except BaseException as error:
            await self._undo(connection, error)
            raise
        finally:
            self._rest()
        return answer

    def _rest(self) -> None:
        """Begin the time after which an unused connection is closed."""
        if self._closing is not None:
            self._closing.cancel()
        if self._kept is not None:
            self._closing = asyncio.get_running_loop().call_later(self._kept, self._close_unused)

    def _close_unused(self) -> None:
        if self._connection is not None and not self._turn.locked():
            self._drop(self._connection)

    async def _begun(self, begin: _Begin) -> Driver:
        """A connection on which a transaction has begun. One that was lost while it was idle is made anew."""
        was_open = self._connection is not None
        try:
            return await self._begun_on(await self._opened(), begin)
        except ERRORS as error:
            if not was_open or not is_broken(error):
                raise
            logger.debug("the connection to %s was lost: %s", self.place, reason_of(error))
        return await self._begun_on(await self._opened(), begin)

    async def _begun_on(self, connection: Driver, begin: _Begin) -> Driver:
        try:
            asked = monotonic()
            await connection.begin(*begin)
            if not begin[-1].startswith(_LOCK):
                self._beginnings.append(monotonic() - asked)
        except BaseException as error:
            await self._undo(connection, error)
            raise
        return connection

    async def _opened(self) -> Driver:
        """The connection, made where there is none, which listens to all channels."""
        if self._connection is None or self._connection.is_closed():
            connection = self._connection = await self._connect()
            try:
                for channel in list(self._listeners):
                    await connection.add_listener(channel, self._wake)
            except BaseException:
                self._drop(connection)
                raise
            connection.add_termination_listener(self._wake_all)
        return self._connection

    async def _connect(self) -> Driver:
        driver = await Driver.connect(self._url, timeout=self._settings.connect_timeout, command_timeout=self.patience)
        if driver.major < OLDEST:
            driver.terminate()
            raise StoreUnusableError(
                f"{self.place}: the server is PostgreSQL {driver.major}, which is too old; use {OLDEST} or newer"
            )
        encoding = driver.encoding
        if encoding not in ("UTF8", ""):
            driver.terminate()
            raise StoreUnusableError(
                f"{self.place}: the database keeps texts as {encoding}, which lacks most characters; make one with "
                f"UTF8: createdb --encoding UTF8 --template template0 {shlex.quote(self.place.database or 'NAME')}"
            )
        try:
            if not names_application(self._url):
                await driver.introduce(f"fastapi-crons {self.name}".rstrip())
        except BaseException:
            driver.terminate()
            raise
        return driver

    async def _undo(self, connection: Driver, error: BaseException) -> None:
        """End a transaction that failed. A connection in an unknown state is dropped: the server undoes what it had begun."""
        if isinstance(error, Exception) and not is_broken(error) and not connection.is_closed():
            try:
                await connection.execute("ROLLBACK")
            except ERRORS as failure:
                logger.debug("rolling back: %s", reason_of(failure))
            else:
                return
        self._drop(connection)

    def _drop(self, connection: Driver) -> None:
        if self._connection is connection:
            self._connection = None
            self._wake_all(connection)
        connection.terminate()

    def _fault(self, error: BaseException) -> StoreError:
        return fault(error, self.place, missing_files(self._url))


#: By event loop, and by what it was made from. Threads have loops of their own.
_SHARED: dict[tuple[asyncio.AbstractEventLoop, PostgresSettings, float], Connection] = {}
_SHARING = threading.Lock()
