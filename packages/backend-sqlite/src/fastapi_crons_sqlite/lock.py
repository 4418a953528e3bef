"""The SQLite lock store: claims for all processes of one host, in one file."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from fastapi_crons.locking import (
    LeaseRef,
    LockBackend,
    LockTransaction,
    Pause,
    Reach,
    TransactionalLockBackend,
    without_waiting,
)
from fastapi_crons.locking.checks import checked_last_handled, checked_pause
from fastapi_crons.locking.rule import LIMITS, is_credible
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._lock_transaction import NAMED, SQLiteLockTransaction
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Transaction, as_json

T = TypeVar("T")


class SQLiteLockBackend(TransactionalLockBackend):
    """Job records, leases and instances in a SQLite file, shared by all processes of a host.

    A holder on the same boot and in the same pid namespace is judged by its process; another one by its heartbeat.
    """

    reach: ClassVar[Reach] = "host"

    def __init__(self, db_path: str | Path = "crons.db", *, busy_timeout: float = 4.0) -> None:
        # A claim that a power cut takes back could run its tick twice.
        self._database = Database(db_path, busy_timeout=busy_timeout, synchronous="FULL")
        self._busy_timeout = busy_timeout
        super().__init__(f"lock store in {self.path}")

    @property
    def path(self) -> str:
        """The database file."""
        return self._database.path

    async def connect(self, *, to_read: bool) -> None:
        await self._database.open(to_read=to_read)

    async def close(self) -> None:
        await self._database.close()

    def clone(self) -> LockBackend:
        clone = SQLiteLockBackend(self.path, busy_timeout=self._busy_timeout)
        clone.damage = self.damage
        return clone

    def obstacle(self) -> str | None:
        return self._database.obstacle()

    async def transact(self, work: Callable[[LockTransaction], Coroutine[Any, Any, T]], *, to_read: bool = False) -> T:
        do = self._database.read if to_read else self._database.write
        return await do(lambda transaction: without_waiting(work(self._of(transaction))))

    def _of(self, transaction: Transaction) -> SQLiteLockTransaction:
        return SQLiteLockTransaction(transaction, self.namespace, self.clock)

    # By run ids alone: the records of their jobs need not be read.

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        if any(lease.until_now for lease in leases):
            return await super().release(leases)
        return await self._database.write(lambda transaction: self._of(transaction).release(leases))

    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        now, term = self.clock.now(), self.terms.lease
        return await self._database.write(
            lambda transaction: self._of(transaction).renew(leases, now, term, LIMITS["MAX_TERM"])
        )

    async def pauses(self) -> dict[str, Pause]:
        names = Names(self.namespace)
        rows = await self._database.plain_rows(
            "SELECT name, paused_since, paused_by, paused_note FROM lock_job WHERE paused_since IS NOT NULL"
        )
        return {job: checked_pause(*row[1:]) for row in rows if (job := names.own(row[0])) is not None}

    async def last_handled(self, jobs: Sequence[str]) -> list[int | None]:
        names = Names(self.namespace)
        keys = [names.key(job) for job in jobs]
        rows = await self._database.rows("name, mark", f"FROM lock_job WHERE name {NAMED}", as_json(keys))
        now = self.clock.now()
        ticks = {key: tick for key, mark in rows if is_credible(tick := checked_last_handled(mark), now)}
        return [ticks.get(key) for key in keys]
