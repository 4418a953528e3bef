"""While the database can't be used, health says over HTTP which one it is and why; afterwards it is well again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

import pytest
from httpx2 import AsyncClient

from fastapi_crons import CronConfig, Crons
from fastapi_crons.state import PostgresStateBackend
from tests.faults.postgres_server import PostgresServer, postgres_programs
from tests.integration.api.client import STRANGER, client_of
from tests.support import nothing, until_async

_PASSWORD = "s3cr3t-for-nobody"


class Fault(NamedTuple):
    """How a database is broken and mended, and what is said meanwhile."""

    begin: Callable[[PostgresServer], object]
    end: Callable[[PostgresServer], object]
    said: str


def _end_sessions(server: PostgresServer) -> None:
    server.terminate("usename = 'app'")


def _set_read_only(server: PostgresServer) -> None:
    server.psql("ALTER DATABASE postgres SET default_transaction_read_only = on")
    _end_sessions(server)


def _set_read_write(server: PostgresServer) -> None:
    server.psql("ALTER DATABASE postgres RESET default_transaction_read_only", "template1")
    _end_sessions(server)


def _refuse_connections(server: PostgresServer) -> None:
    server.psql("ALTER DATABASE postgres CONNECTION LIMIT 0")
    _end_sessions(server)


def _change_password(server: PostgresServer) -> None:
    server.psql("ALTER ROLE app PASSWORD 'another'")
    _end_sessions(server)


FAULTS = {
    "server gone": Fault(PostgresServer.stop, PostgresServer.start, "check that the server runs"),
    "read-only": Fault(_set_read_only, _set_read_write, "it takes no writes"),
    "too many connections": Fault(
        _refuse_connections,
        lambda server: server.psql("ALTER DATABASE postgres CONNECTION LIMIT -1", "template1"),
        "raise the CONNECTION LIMIT that it has, or put a pooler before the server",
    ),
    "password": Fault(
        _change_password,
        lambda server: server.psql(f"ALTER ROLE app PASSWORD '{_PASSWORD}'"),
        "check user and password in CRON_POSTGRES_URL",
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that tests break, with a role that needs a password."""
    if not postgres_programs():
        pytest.skip("no PostgreSQL server is installed")
    with PostgresServer() as server:
        server.psql(f"CREATE ROLE app LOGIN PASSWORD '{_PASSWORD}'; GRANT ALL ON SCHEMA public TO app")
        server.ask_password_of("app")
        yield server


@pytest.fixture
async def api(server: PostgresServer) -> AsyncIterator[AsyncClient]:
    """Asks a scheduler that has a job each second."""
    crons = Crons(
        state_backend=PostgresStateBackend(server.url_of("postgres", "app", _PASSWORD)),
        config=CronConfig(heartbeat_interval=1),
    )
    crons.cron("* * * * * *", name="job")(nothing)
    await crons.start()
    try:
        async with client_of(crons) as api:
            yield api
    finally:
        await crons.stop()


@pytest.mark.parametrize("name", FAULTS)
async def test_the_store_and_the_cause_are_named_and_it_recovers(
    server: PostgresServer, api: AsyncClient, name: str
) -> None:
    fault = FAULTS[name]
    assert await _findings(api) == (200, [])
    fault.begin(server)
    try:
        await until_async(lambda: _is_said(api, fault.said))
        status, findings = await _findings(api)
        assert status == 503
        (said,) = {each for each in findings if each.startswith("the lock store does not answer")}
        assert f"PostgreSQL at 127.0.0.1:{server.port}, database 'postgres', user 'app': " in said
        assert _PASSWORD not in str(findings)
        _, told = await _findings(api, STRANGER)
        assert told
        assert "PostgreSQL" not in str(told)
    finally:
        fault.end(server)
    await until_async(lambda: _is_well(api))


async def _findings(api: AsyncClient, who: dict[str, str] | None = None) -> tuple[int, list[str]]:
    answer = await api.get("/scheduler/health", headers=who)
    return answer.status_code, answer.json()["findings"]


async def _is_said(api: AsyncClient, text: str) -> bool:
    return text in str(await _findings(api))


async def _is_well(api: AsyncClient) -> bool:
    return await _findings(api) == (200, [])
