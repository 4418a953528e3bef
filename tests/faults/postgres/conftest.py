"""A private PostgreSQL server for each test, and what stands before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.postgres_server import PostgresServer, needs_postgres
from tests.faults.proxy import Proxy


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that the test may break."""
    if needs_postgres.args[0]:
        pytest.skip(needs_postgres.kwargs["reason"])
    with PostgresServer() as server:
        yield server


@pytest.fixture
def proxy(own_postgres: PostgresServer) -> Iterator[Proxy]:
    """A proxy before the private server."""
    with Proxy(own_postgres.port) as running:
        yield running


def through(proxy: Proxy, server: PostgresServer) -> str:
    """The URL of a server's database by way of a proxy."""
    return server.url.replace(f":{server.port}/", f":{proxy.port}/")
