from __future__ import annotations
from collections.abc import Iterator
import asyncio
import asyncpg
import pytest
from fastapi_crons.locking import LockBackend
from fastapi_crons.state import StateBackend
from fastapi_crons.testing import LockContract, LockWalk, StateContract
from fastapi_crons_postgres import PostgresLockBackend, PostgresStateBackend
from tests.faults.postgres_server import PostgresServer, needs_postgres

pytestmark = pytest.mark.leaves("lease", "x")

@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server

@needs_postgres
class TestPostgresLock(LockContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres_server: PostgresServer) -> None:
        self.url = postgres_server.url
    def make_store(self) -> LockBackend:
        return PostgresLockBackend(self.url)


class ServerClock:
    """A database whose server takes its time from a table."""

    def __init__(self, server: PostgresServer) -> None:
        server.psql("CREATE DATABASE walk")
        server.psql(
            "CREATE SCHEMA fake; CREATE TABLE fake.now (at float8); INSERT INTO fake.now VALUES (0); "
            "CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT to_timestamp(at) FROM fake.now'; "
            "ALTER DATABASE walk SET search_path = fake, pg_catalog",
            "walk",
        )
        self.url = server.url_of("walk")
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(self.url))

    def set(self, now: float) -> None:
        self._loop.run_until_complete(self._connection.execute(f"UPDATE fake.now SET at = {now!r}"))


@pytest.fixture(scope="module")
def server_clock(postgres_server: PostgresServer) -> ServerClock:
    return ServerClock(postgres_server)


@needs_postgres
class TestWalk(LockWalk):
    walks = 25

    @pytest.fixture(autouse=True)
    def _server(self, server_clock: ServerClock) -> None:
        self.clock = server_clock

    def make_store(self) -> LockBackend:
        return PostgresLockBackend(self.clock.url)

    def set_time(self, store: LockBackend, now: float) -> None:
        self.clock.set(now)


@needs_postgres
class TestPostgresState(StateContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres_server: PostgresServer) -> None:
        self.url = postgres_server.url

    def make_store(self) -> StateBackend:
        return PostgresStateBackend(self.url)
