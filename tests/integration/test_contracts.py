"""Every store of ours keeps the contracts, which authors of other backends run in the same way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import SecretStr

from fastapi_crons.locking import LocalLockBackend, LockBackend, TransactionalLockBackend
from fastapi_crons.run import MissedTicks, Run, RunIds, RunStatus
from fastapi_crons.state import MemoryStateBackend, MissedQuery, RunQuery, StateBackend
from fastapi_crons.testing import LockContract, LockWalk, StateContract
from fastapi_crons_redis import RedisLockBackend, RedisStateBackend
from fastapi_crons_redis.connection import Connection
from fastapi_crons_redis.settings import RedisSettings
from fastapi_crons_sqlite import SQLiteLockBackend, SQLiteStateBackend
from tests.faults.redis_server import RedisServer, needs_redis

pytestmark = pytest.mark.leaves("lease", "instances that are made up leave the record at any moment")


def _patient(url: str) -> Connection:
    """What keeps a contract says nothing of how busy the machine is."""
    return Connection.by_settings(RedisSettings(url=SecretStr(url), connect_timeout=60), 60)


class TestLocalLock(LockContract, LockWalk):
    def make_store(self) -> LockBackend:
        return LocalLockBackend()


class TestSQLiteLock(LockContract, LockWalk):
    def make_store(self) -> LockBackend:
        return SQLiteLockBackend()


@needs_redis
class TestRedisLock(LockContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.url

    def make_store(self) -> LockBackend:
        return RedisLockBackend.on(_patient(self.url))


class PlainLock(SQLiteLockBackend):
    """Whatever a lock store need not write itself."""

    pauses, last_handled, leased = LockBackend.pauses, LockBackend.last_handled, LockBackend.leased
    release, renew = TransactionalLockBackend.release, TransactionalLockBackend.renew
    restore = LockBackend.restore


class TestPlainLock(LockContract, LockWalk):
    walks = 10

    def make_store(self) -> LockBackend:
        return PlainLock()


class TestMemoryState(StateContract):
    def make_store(self) -> StateBackend:
        return MemoryStateBackend()


class PlainState(SQLiteStateBackend):
    """Whatever a state store need not write itself."""

    states, unfinished = StateBackend.states, StateBackend.unfinished
    figures, sums, restore = StateBackend.figures, StateBackend.sums, StateBackend.restore
    runs_by_id, runs_by_job = StateBackend.runs_by_id, StateBackend.runs_by_job
    missed_by_job = StateBackend.missed_by_job
    find_runs, find_missed, find_ids = StateBackend.find_runs, StateBackend.find_missed, StateBackend.find_ids

    async def runs(
        self, job: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        query = RunQuery(None if job is None else [job], (status,) if status else (), before=before, limit=limit)
        return await SQLiteStateBackend.find_runs(self, query)

    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        return await SQLiteStateBackend.find_missed(self, MissedQuery([job], limit=limit))


class TestPlainState(StateContract):
    def make_store(self) -> StateBackend:
        return PlainState()


class TestSQLiteState(StateContract):
    def make_store(self) -> StateBackend:
        return SQLiteStateBackend()


@needs_redis
class TestRedisState(StateContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.url

    def make_store(self) -> StateBackend:
        return RedisStateBackend.on(_patient(self.url))


def test_run_ids_only_grow_whatever_the_clock_does() -> None:
    times = iter([5.0, 5.0, 3.0, 4.0, 9.0] * 2000)
    make: Callable[[], str] = RunIds(lambda: next(times))
    ids = [make() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 10_000
