"""By which names an administrator of the server sees connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons_postgres import PostgresStateBackend
from tests.faults.pgbouncer import PgBouncer, needs_pgbouncer
from tests.faults.postgres_server import PostgresServer
from tests.support import nothing


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """A database of its own."""
    name = f"names_{uuid4().hex}"
    postgres.psql(f"CREATE DATABASE {name}")
    yield name
    postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def scheduler(url: str, instance: str) -> AsyncIterator[Crons]:
    crons = Crons(
        state_backend=PostgresStateBackend(url), config=CronConfig(instance_id=instance, heartbeat_interval=1)
    )
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    try:
        await crons.run_job("job")
        yield crons
    finally:
        await crons.stop()


def names(server: PostgresServer, database: str) -> set[str]:
    told = server.psql(f"SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = '{database}'")
    return set(told.splitlines())


@pytest.mark.parametrize(
    ("instance", "name"),
    [
        ("worker-1", "fastapi-crons worker-1"),
        ("Jürgen's", "fastapi-crons J?rgen?s"),
        ("w" * 60, f"fastapi-crons {'w' * 49}"),
    ],
)
async def test_a_connection_has_the_name_of_its_instance(
    postgres: PostgresServer, database: str, instance: str, name: str
) -> None:
    async with scheduler(postgres.url_of(database), instance):
        assert names(postgres, database) == {name}


async def test_one_that_the_url_names_is_kept(postgres: PostgresServer, database: str) -> None:
    async with scheduler(f"{postgres.url_of(database)}?application_name=shop", "worker-1"):
        assert names(postgres, database) == {"shop"}


@needs_pgbouncer
async def test_behind_a_pooler_a_transaction_has_it() -> None:
    with PostgresServer(log_statement="all", log_line_prefix="%a:") as server, PgBouncer(server, 1) as pooler:
        async with scheduler(pooler.url, "one"), scheduler(f"{pooler.url}?sslmode=disable", "two"):
            pass
        writes = [line for line in server.log().splitlines() if "AS (INSERT INTO" in line]
    assert {line.partition(":")[0] for line in writes} == {"fastapi-crons one", "fastapi-crons two"}
