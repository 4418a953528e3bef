"""Transactions that the server ends are begun again where that mends it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest
from pydantic import SecretStr

from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.run import Run
from fastapi_crons.state import HistoryLimits
from fastapi_crons_postgres import PostgresStateBackend
from fastapi_crons_postgres.settings import PostgresSettings
from tests.faults.postgres_server import PostgresServer
from tests.support import until_async

A_RUN = Run("0195d0c0-0000-7000-8000-000000000000", "job", 60, "schedule", 1, "here", 7, "completed", 60.0, 61.0)


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """The name of a database of its own."""
    postgres.psql("CREATE DATABASE ended")
    yield "ended"
    postgres.psql("DROP DATABASE ended WITH (FORCE)")


@pytest.mark.parametrize("code", ["40P01", "40001"])
async def test_a_write_that_lost_against_another_one_is_done_again(
    postgres: PostgresServer, database: str, code: str
) -> None:
    state = PostgresStateBackend(postgres.url_of(database))
    await state.open("default", HistoryLimits(100, 30))
    try:
        refuse(postgres, database, code, times=2)
        await state.write([A_RUN])
        assert [each.id for each in await state.runs("job")] == [A_RUN.id]
    finally:
        await state.close()


async def test_one_that_always_loses_is_given_up(postgres: PostgresServer, database: str) -> None:
    state = PostgresStateBackend(postgres.url_of(database))
    await state.open("default", HistoryLimits(100, 30))
    try:
        refuse(postgres, database, "40P01", times=1_000)
        with pytest.raises(StoreUnavailableError, match="lost on purpose"):
            await state.write([A_RUN])
        assert await state.runs("job") == []
    finally:
        await state.close()


async def test_a_database_that_takes_writes_again_is_written_to_at_once(
    postgres: PostgresServer, database: str
) -> None:
    """Sessions keep what they began with."""
    read_only = f"ALTER DATABASE {database} SET default_transaction_read_only = on"
    state = PostgresStateBackend(postgres.url_of(database))
    await state.open("default", HistoryLimits(100, 30))
    try:
        postgres.psql(read_only)
        postgres.terminate(f"datname = '{database}'")
        with pytest.raises(StoreUnavailableError, match="it takes no writes"):
            await state.write([A_RUN])
        assert await state.runs("job") == []
        postgres.terminate(f"datname = '{database}'")
        await state.forget([])  # a connection that is made while the database is read only
        postgres.psql(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        await state.write([A_RUN])
        assert [each.id for each in await state.runs("job")] == [A_RUN.id]
    finally:
        await state.close()


async def test_a_table_that_another_session_has_locked(postgres: PostgresServer, database: str) -> None:
    """An administrator's ALTER TABLE, for example; the advice shows who it is."""
    state = PostgresStateBackend.by_settings(PostgresSettings(url=SecretStr(postgres.url_of(database))), 2)
    await state.open("default", HistoryLimits(100, 30))
    other = await asyncpg.connect(postgres.url_of(database))
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE crons_run")
            writing = asyncio.create_task(state.write([A_RUN]))
            shown = "SELECT pid, pg_blocking_pids(pid), query FROM pg_stat_activity"
            await until_async(lambda: f"|{{{other.get_server_pid()}}}|" in postgres.psql(shown))
            with pytest.raises(StoreUnavailableError, match="lock timeout; another session holds a lock: ") as raised:
                await writing
            assert shown in str(raised.value)
        await state.write([A_RUN])
    finally:
        await other.close()
        await state.close()


def refuse(server: PostgresServer, database: str, code: str, times: int) -> None:
    """Have the server end the next transactions that write runs."""
    server.psql(
        "CREATE SEQUENCE refused; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF nextval('refused') <= {times} THEN RAISE 'lost on purpose' USING ERRCODE = '{code}'; END IF; "
        "RETURN NEW; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON crons_run FOR EACH ROW EXECUTE FUNCTION refuse()",
        database,
    )
