"""Layouts that live together: two versions on one database, and a database in which nothing was made yet."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from fastapi_crons import CronConfig, Crons
from fastapi_crons.errors import StoreUnusableError
from fastapi_crons.run import Run
from fastapi_crons.state import HistoryLimits
from fastapi_crons_cli.main import Commands
from fastapi_crons_postgres import PostgresStateBackend
from fastapi_crons_postgres.plugin import cli_commands
from tests.faults.postgres_server import PostgresServer
from tests.integration.postgres.conftest import MAJORS
from tests.support import nothing, runs_of, until_async

# What is read and written here does not depend on the server's version.
pytestmark = pytest.mark.parametrize("postgres", [MAJORS[-1] if MAJORS else 0], indirect=True, scope="session")

_APP = """
from fastapi import FastAPI
from fastapi_crons import Crons

app = FastAPI()
crons = Crons(app)


@crons.cron("0 0 1 1 *", name="job")
async def job(): ...
"""


@pytest.fixture
def url(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty database, which the environment names."""
    postgres.psql("CREATE DATABASE layouts")
    monkeypatch.setenv("CRON_POSTGRES_URL", postgres.url_of("layouts"))
    Path("main.py").write_text(_APP)
    yield postgres.url_of("layouts")
    postgres.psql("DROP DATABASE layouts WITH (FORCE)")


@asynccontextmanager
async def scheduler(url: str) -> AsyncIterator[Crons]:
    crons = Crons(state_backend=PostgresStateBackend(url), config=CronConfig(store_timeout=20))
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    try:
        yield crons
    finally:
        await crons.stop()


def postgres_command(name: str) -> Result:
    """Runs `fastapi-crons postgres …` of this version, in this process."""
    cli = typer.Typer(cls=Commands)
    cli_commands(cli)
    return CliRunner().invoke(cli, ["postgres", name])


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `fastapi-crons` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fastapi_crons", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_a_newer_layout_works_as_long_as_it_lets_us(postgres: PostgresServer, url: str) -> None:
    async with scheduler(url) as crons:
        await crons.run_job("job")
    postgres.psql("UPDATE crons_layout SET version = 99; ALTER TABLE crons_run ADD COLUMN later text", "layouts")
    async with scheduler(url) as crons:
        assert (await crons.run_job("job")).status == "completed"
        assert len(await runs_of(crons, "job")) == 2
    done = await asyncio.to_thread(postgres_command, "migrate")
    assert done.output.endswith("the tables are up to date (layout 99 of a newer version, which lets this one work)\n")
    assert postgres.psql("SELECT version FROM crons_layout", "layouts") == "99"


async def test_one_that_does_not_is_left_alone(postgres: PostgresServer, url: str) -> None:
    async with scheduler(url):
        pass
    postgres.psql("UPDATE crons_layout SET version = 99, compatible_from = 98", "layouts")
    newer = (
        r"was written by a newer version of fastapi-crons-postgres \(layout 99, which needs at least 98; .*install that"
    )
    with pytest.raises(StoreUnusableError, match=newer):
        async with scheduler(url):
            pass
    state = PostgresStateBackend(url)
    try:
        with pytest.raises(StoreUnusableError, match=newer):
            await state.open_to_read("default", HistoryLimits(100, 30))
    finally:
        await state.close()
    for name in ("migrate", "sql", "check"):
        done = await asyncio.to_thread(postgres_command, name)
        assert (done.exit_code, "by a newer version" in done.output + str(done.exception)) == (1, True)


async def test_tables_are_brought_up_to_date_while_an_older_instance_goes_on(
    postgres: PostgresServer, url: str, next_version: dict[str, str]
) -> None:
    async with scheduler(url) as older:
        migrating = asyncio.create_task(asyncio.to_thread(command, "postgres", "migrate", **next_version))
        ran = 0
        while not migrating.done() or not ran:
            assert (await older.run_job("job")).status == "completed"
            ran += 1
        assert (await migrating).stdout.endswith("the tables are brought from layout 1 to 2\n")
        assert postgres.psql("SELECT version, compatible_from FROM crons_layout", "layouts") == "2|1"
        newer = await asyncio.to_thread(command, "run-job", "job", **next_version)
        assert newer.returncode == 0, newer.stderr
        await older.run_job("job")
        runs = await runs_of(older, "job")
        assert [run.status for run in runs] == ["completed"] * (ran + 2)
    async with scheduler(url) as again:  # as after a roll-back
        assert len(await runs_of(again, "job")) == ran + 2


@pytest.mark.full
async def test_a_newer_version_that_may_not_change_tables_says_what_to_do(
    postgres: PostgresServer, url: str, next_version: dict[str, str]
) -> None:
    async with scheduler(url):
        pass
    for arguments in (("run-job", "job"), ("list-jobs",)):
        refused = await asyncio.to_thread(command, *arguments, **next_version, CRON_POSTGRES_MIGRATE="false")
        assert refused.returncode == 1
        assert (
            "has tables of an older version of fastapi-crons-postgres (layout 1; this version needs 2)"
            in refused.stderr
        )
        assert "run: fastapi-crons postgres migrate" in refused.stderr
    printed = (await asyncio.to_thread(command, "postgres", "sql", **next_version)).stdout
    assert 'ALTER TABLE "public".crons_run ADD COLUMN later' in printed
    assert "CREATE TABLE" not in printed
    postgres.psql(printed, "layouts")
    done = await asyncio.to_thread(command, "run-job", "job", **next_version, CRON_POSTGRES_MIGRATE="false")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name", ["logs", *(pytest.param(name, marks=pytest.mark.full) for name in ("list-jobs", "stats", "check"))]
)
async def test_a_database_without_tables_reads_as_empty_and_stays_so(
    postgres: PostgresServer, url: str, name: str
) -> None:
    done = await asyncio.to_thread(command, name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert postgres.psql("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'crons%'", "layouts") == "0"


async def test_tables_that_are_made_later_are_read_at_once(url: str) -> None:
    state = PostgresStateBackend(url)
    await state.open_to_read("default", HistoryLimits(100, 30))
    try:
        assert await state.runs("job") == []
        async with scheduler(url) as crons:
            run = await crons.run_job("job")
        assert [each.id for each in await state.runs("job")] == [run.id]
    finally:
        await state.close()


async def test_events_are_to_be_had_as_soon_as_there_are_tables(postgres: PostgresServer, url: str) -> None:
    state = PostgresStateBackend(url)
    await state.open_to_read("default", HistoryLimits(100, 30))
    try:
        none = state.events()
        assert none is not None
        with pytest.raises(StoreUnusableError, match=r"and what to do, is said by: fastapi-crons postgres check$"):
            await anext(none)
        async with scheduler(url) as crons:
            events = state.events()
            assert events is not None
            async with aclosing(events):
                coming = asyncio.ensure_future(anext(events))
                await until_async(lambda: postgres.psql("SELECT count(*) FROM crons_listener", "layouts") == "1")
                await crons.run_job("job")
                assert isinstance(await coming, Run)
    finally:
        await state.close()


@pytest.mark.full
async def test_two_versions_that_make_the_tables_at_once_wait_for_each_other(
    postgres: PostgresServer, url: str, next_version: dict[str, str]
) -> None:
    ours, theirs = await asyncio.gather(
        asyncio.to_thread(command, "postgres", "migrate"),
        asyncio.to_thread(command, "postgres", "migrate", **next_version),
    )
    assert (ours.returncode, theirs.returncode) == (0, 0), ours.stderr + theirs.stderr
    assert postgres.psql("SELECT version, compatible_from FROM crons_layout", "layouts") == "2|1"
