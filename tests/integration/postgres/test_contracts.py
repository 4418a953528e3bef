"""The PostgreSQL stores keep the contracts, and answer as the rule says, on each major version."""

from __future__ import annotations

import pytest

from fastapi_crons.locking import LockBackend
from fastapi_crons.state import StateBackend
from fastapi_crons.testing import LockContract, LockWalk, StateContract
from fastapi_crons_postgres import PostgresLockBackend, PostgresStateBackend
from tests.faults.pgbouncer import PgBouncer, needs_pgbouncer
from tests.faults.postgres_server import PostgresServer
from tests.integration.postgres.conftest import ServerClock

pytestmark = pytest.mark.leaves("lease", "instances that are made up leave the record at any moment")


@pytest.mark.each_major
class TestLock(LockContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres: PostgresServer) -> None:
        self.url = postgres.url

    def make_store(self) -> LockBackend:
        return PostgresLockBackend(self.url)


class TestWalk(LockWalk):
    @pytest.fixture(autouse=True)
    def _server(self, server_clock: ServerClock) -> None:
        self.clock = server_clock

    def make_store(self) -> LockBackend:
        return PostgresLockBackend(self.clock.url)

    def set_time(self, store: LockBackend, now: float) -> None:
        self.clock.set(now)


@pytest.mark.each_major
class TestState(StateContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres: PostgresServer) -> None:
        self.url = postgres.url

    def make_store(self) -> StateBackend:
        return PostgresStateBackend(self.url)


@needs_pgbouncer
class TestLockBehindAPooler(LockContract):
    @pytest.fixture(autouse=True)
    def _server(self, pooler: PgBouncer) -> None:
        self.url = pooler.url

    def make_store(self) -> LockBackend:
        return PostgresLockBackend(self.url)


@needs_pgbouncer
class TestWalkBehindAPooler(LockWalk):
    @pytest.fixture(autouse=True)
    def _server(self, server_clock: ServerClock, pooler: PgBouncer) -> None:
        self.clock, self.url = server_clock, pooler.url_of(server_clock.database)

    def make_store(self) -> LockBackend:
        return PostgresLockBackend(self.url)

    def set_time(self, store: LockBackend, now: float) -> None:
        self.clock.set(now)


@needs_pgbouncer
class TestStateBehindAPooler(StateContract):
    @pytest.fixture(autouse=True)
    def _server(self, pooler: PgBouncer) -> None:
        self.url = pooler.url

    def make_store(self) -> StateBackend:
        return PostgresStateBackend(self.url)
