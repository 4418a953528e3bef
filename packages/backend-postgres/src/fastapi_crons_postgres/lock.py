"""The PostgreSQL lock store: claims for a fleet, decided in transactions under the clock of the server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from hashlib import blake2b
from typing import Any, ClassVar, TypeVar

from pydantic import SecretStr

from fastapi_crons.config import CronConfig
from fastapi_crons.locking import LockBackend, LockTransaction, Reach, TransactionalLockBackend
from fastapi_crons_postgres._batch import fit
from fastapi_crons_postgres._connection import Connection
from fastapi_crons_postgres._driver import Driver
from fastapi_crons_postgres._findings import obstacle
from fastapi_crons_postgres._layout import is_made, prepare
from fastapi_crons_postgres._lock_transaction import NoRecords, PostgresLockTransaction
from fastapi_crons_postgres.settings import PostgresSettings
from fastapi_crons_postgres.url import place_of

T = TypeVar("T")


class PostgresLockBackend(TransactionalLockBackend):
    """Job records, leases and instances in a PostgreSQL database.

    `url` is that of the database, as in `CRON_POSTGRES_URL`; what the other settings `CRON_POSTGRES_…` say holds besides. A
    holder on this boot and in this pid namespace is alive as long as its process; any other as its heartbeat says.
    """

    reach: ClassVar[Reach] = "fleet"

    def __init__(self, url: str) -> None:
        self._set_up(PostgresSettings(url=SecretStr(url)), CronConfig().store_timeout)

    @classmethod
    def by_settings(cls, settings: PostgresSettings, timeout: float) -> PostgresLockBackend:
        """A lock store as the settings say; no call takes longer than `timeout` seconds."""
        backend = cls.__new__(cls)
        backend._set_up(settings, timeout)
        return backend

    def _set_up(self, settings: PostgresSettings, timeout: float) -> None:
        self._settings, self._timeout = settings, timeout
        #: Closes what was opened.
        self._open = AsyncExitStack()
        self._obstacle: str | None = None
        super().__init__(f"lock store in {place_of(settings.url.get_secret_value())}")

    async def connect(self, *, to_read: bool) -> None:
        # A little less than the scheduler waits: then our error, which names the server, comes first.
        self._connection = Connection.shared(self._settings, self._timeout * 0.9, self.instance.id)
        self._open.push_async_callback(self._connection.leave)
        self._lock_key = _key_of(self._connection.schema, self.namespace)
        if to_read:
            self._has_tables = await is_made(self._connection)
            self._obstacle = await obstacle(self._connection, migrates=self._settings.migrate)
        else:
            await prepare(self._connection, may_change=self._settings.migrate)
            self._has_tables = True

    async def close(self) -> None:
        await self._open.aclose()

    def obstacle(self) -> str | None:
        return self._obstacle

    def clone(self) -> LockBackend:
        clone = PostgresLockBackend.by_settings(self._settings, self._timeout)
        clone.damage = self.damage
        return clone

    async def transact(self, work: Callable[[LockTransaction], Coroutine[Any, Any, T]], *, to_read: bool = False) -> T:
        # One that is opened to read makes no tables. They may be made at any time.
        self._has_tables = self._has_tables or await is_made(self._connection)
        kind = NoRecords if to_read and not self._has_tables else PostgresLockTransaction

        async def within(connection: Driver) -> T:
            transaction = kind(connection, self._connection.schema, self.namespace)
            answer = await work(transaction)
            await transaction.flush()
            return answer

        return await (self._connection.read(within) if to_read else self._connection.write(within, self._lock_key))


def _key_of(schema: str, namespace: str) -> int:
    """The advisory lock of a namespace: eight bytes that no other program is likely to use."""
    digest = blake2b(f"fastapi-crons lock {schema} {fit(namespace)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
