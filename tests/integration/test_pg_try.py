from __future__ import annotations
from collections.abc import Iterator
import pytest
from fastapi_crons.locking import LockBackend
from fastapi_crons.testing import LockContract, LockWalk
from fastapi_crons_postgres.lock import PostgresLockBackend
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
