"""Event loops that end without a stop leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from uuid import uuid4

import pytest

from fastapi_crons.run import Run
from fastapi_crons.state import HistoryLimits
from fastapi_crons_postgres import PostgresStateBackend
from tests.faults.postgres_server import PostgresServer
from tests.support import until

A_RUN = Run("0195d0c0-0000-7000-8000-000000000000", "job", 60, "schedule", 1, "here", 7, "completed", 60.0, 61.0)


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """A database of its own."""
    name = f"unclean_{uuid4().hex}"
    postgres.psql(f"CREATE DATABASE {name}")
    yield name
    postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_connection_of_a_loop_that_ended_with_an_error_goes_with_the_next_one(
    postgres: PostgresServer, database: str
) -> None:
    async def ends_with_an_error() -> None:
        state = PostgresStateBackend(postgres.url_of(database))
        await state.open("default", HistoryLimits(100, 30))
        raise RuntimeError("before it could be closed")

    async def ends_well() -> int:
        state = PostgresStateBackend(postgres.url_of(database))
        await state.open("default", HistoryLimits(100, 30))
        await state.write([A_RUN])
        gc.collect()
        until(lambda: connections() == 1)
        await state.close()
        return connections()

    def connections() -> int:
        return int(postgres.psql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"))

    for _ in range(3):
        with pytest.raises(RuntimeError, match="before it could be closed"):
            asyncio.run(ends_with_an_error())
    assert asyncio.run(ends_well()) <= 1
    until(lambda: connections() == 0)
