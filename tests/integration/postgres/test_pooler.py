"""What is special behind a pooler of transactions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from fastapi_crons.run import Run, RunIds
from fastapi_crons.state import HistoryLimits
from fastapi_crons_postgres import PostgresStateBackend
from tests.faults.pgbouncer import PgBouncer, needs_pgbouncer
from tests.faults.postgres_server import PostgresServer, needs_postgres

pytestmark = [needs_postgres, needs_pgbouncer]

new_id = RunIds()


def a_run() -> Run:
    return Run(new_id(), "job", 60, "schedule", 1, "here", 7, "completed", 60.0, 61.0)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One that writes down what it is told."""
    with PostgresServer(log_statement="all") as server:
        yield server


async def test_a_pooler_tells_the_server_nothing_besides_our_transactions(server: PostgresServer) -> None:
    with PgBouncer(server, pool_size=2) as pooler:
        state = PostgresStateBackend(pooler.url)
        await state.open("default", HistoryLimits(100, 30))
        await state.write([a_run()])
        await state.runs("job")
        await state.close()
    said = [line.partition("statement: ")[2] for line in server.log().splitlines() if "statement: " in line]
    assert len([each for each in said if each.startswith("BEGIN ")]) >= 4
    assert [each for each in said if each.startswith("SET ") and not each.startswith("SET LOCAL ")] == []


async def test_what_comes_in_the_middle_of_a_transaction_is_not_taken_for_a_notification_that_arrives(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_crons.postgres")
    with PgBouncer(server, pool_size=2) as pooler:
        # Each has a connection of its own.
        stores = [PostgresStateBackend(f"{pooler.url}?application_name=instance-{number}") for number in range(6)]
        await asyncio.gather(*map(begin_to_listen_while_busy, stores))
    assert caplog.text.count("sends no notifications") == len(stores)
    said = server.log()
    assert said.count("UNLISTEN crons_") == len(stores)  # the pooler's connections are others' afterwards


async def begin_to_listen_while_busy(state: PostgresStateBackend) -> None:
    await state.open("default", HistoryLimits(100, 30))
    events = state.events()
    assert events is not None

    async def write_forever() -> None:
        while True:
            await state.write([a_run()])

    writing = asyncio.create_task(write_forever())
    try:
        async with aclosing(events):
            await anext(events)
    finally:
        writing.cancel()
        await asyncio.wait({writing})
        await state.close()
