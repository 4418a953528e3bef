"""What a restored backup means: of a fleet that runs, and of one that was stopped. The commands are those of the guide."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from fastapi_crons import Crons, JobContext
from fastapi_crons_postgres import PostgresStateBackend
from fastapi_crons_postgres.settings import PostgresSettings
from tests.faults.postgres_server import PostgresServer
from tests.support import runs_of, until_async
from tests.system.conftest import ROOT

#: The schema that the tables are in, in place of the guide's.
SCHEMAS = ("public", "of_its_own")
GUIDE = (ROOT / "docs/how-to/postgres.md").read_text(encoding="utf-8").replace("\\\n", " ")
URL = "postgresql://crons:secret@localhost:5432/shop"


class Database:
    """One of a server, which is dumped and restored as the guide says."""

    def __init__(self, server: PostgresServer, schema: str) -> None:
        self._server, self._name, self._schema = server, f"restored_{uuid4().hex}", schema
        server.psql(f"CREATE DATABASE {self._name}")
        server.psql(f"CREATE SCHEMA IF NOT EXISTS {schema}", self._name)
        self.url = server.url_of(self._name)
        self.ran: list[int] = []

    def run(self, program: str) -> None:
        (line,) = re.findall(rf"^{program} .*", GUIDE, re.MULTILINE)
        command = [word.replace(URL, self.url) for word in shlex.split(self._of_schema(line))]
        path = f"{self._server.programs}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": path})

    def sql(self, beginning: str) -> None:
        (statement,) = (
            text for text in re.findall(r"```sql\n *(.*?)```", GUIDE, re.DOTALL) if text.startswith(beginning)
        )
        self._server.psql(self._of_schema(statement), self._name)

    def forget_who_ran(self) -> None:
        (statement,) = re.findall(r"`(DELETE FROM .*?)`", GUIDE)
        self._server.psql(self._of_schema(statement), self._name)

    def _of_schema(self, text: str) -> str:
        return re.sub(r"\bpublic\.", f"{self._schema}.", text)

    def crons(self) -> Crons:
        settings = PostgresSettings(url=SecretStr(self.url), db_schema=self._schema)
        crons = Crons(state_backend=PostgresStateBackend.by_settings(settings, 20))

        @crons.cron("* * * * * *", name="job")
        async def job(context: JobContext) -> None:
            assert context.tick is not None
            self.ran.append(int(context.tick.timestamp()))

        return crons

    async def until_ran(self, more: int) -> None:
        wanted = len(self.ran) + more
        await until_async(lambda: len(self.ran) >= wanted)


@pytest.fixture
def database(postgres: PostgresServer, request: pytest.FixtureRequest) -> Database:
    return Database(postgres, getattr(request, "param", "public"))


@pytest.mark.full
async def test_a_fleet_that_runs_goes_on_after_a_restore(database: Database) -> None:
    instances = [database.crons() for _ in range(2)]
    for crons in instances:
        await crons.start()
    try:
        await database.until_ran(2)
        await asyncio.to_thread(database.run, "pg_dump")
        await database.until_ran(4)
        await asyncio.to_thread(database.run, "pg_restore")
        before = len(database.ran)
        await database.until_ran(5)
        health = [crons.health() for crons in instances]
    finally:
        for crons in instances:
            await crons.stop()
    # One that the other instance had handled may be among them.
    assert len(set(database.ran[before:]) - set(database.ran[:before])) >= 4
    assert [found.status for found in health] == ["ok", "ok"]


async def restored(database: Database) -> int:
    """Dumped, used further, stopped and restored; returns the last tick that has run."""
    crons = database.crons()
    await crons.start()
    try:
        await database.until_ran(1)
        await asyncio.to_thread(database.run, "pg_dump")
        await database.until_ran(3)
    finally:
        await crons.stop()
    await asyncio.to_thread(database.run, "pg_restore")
    assert Path("crons.dump").exists()
    return database.ran[-1]


async def test_after_a_restore_one_run_stands_for_what_was_due_since_the_backup(database: Database) -> None:
    await restored(database)
    crons = database.crons()
    await crons.start()
    try:
        await database.until_ran(1)
        first = await until_async(lambda: _newest_late(crons))
    finally:
        await crons.stop()
    assert first >= 2


async def _newest_late(crons: Crons) -> int:
    """How many ticks a late run stands for."""
    return max((run.missed_ticks for run in await runs_of(crons, "job")), default=0)


@pytest.mark.parametrize("database", SCHEMAS, indirect=True)
async def test_with_marks_set_to_now_nothing_of_before_the_restore_runs(database: Database) -> None:
    last = await restored(database)
    database.sql("UPDATE public.crons_job")
    database.forget_who_ran()
    crons = database.crons()
    await crons.start()
    try:
        await database.until_ran(1)
        assert await _newest_late(crons) <= 1
    finally:
        await crons.stop()
    assert min(database.ran[database.ran.index(last) + 1 :]) > last
