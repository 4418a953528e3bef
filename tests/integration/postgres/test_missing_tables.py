"""Tables that were dropped, or emptied, behind our back: what is missing is named, and no advice leads in a circle."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import typer
from typer.testing import CliRunner, Result

from fastapi_crons import CronConfig, Crons
from fastapi_crons.errors import StoreUnusableError
from fastapi_crons_cli.main import Commands
from fastapi_crons_postgres import PostgresStateBackend
from fastapi_crons_postgres.plugin import cli_commands
from tests.faults.postgres_server import PostgresServer
from tests.integration.postgres.conftest import MAJORS
from tests.integration.postgres.test_layouts import command as in_a_process
from tests.support import nothing, runs_of

# What is missing does not depend on the server's version.
pytestmark = pytest.mark.parametrize("postgres", [MAJORS[-1] if MAJORS else 0], indirect=True, scope="session")

#: What a test suite does between its tests.
_TRUNCATE_ALL = """DO $$ BEGIN EXECUTE (
    SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'); END $$"""


class Database:
    """A database in which a scheduler has made the tables, and run a job once."""

    def __init__(self, server: PostgresServer) -> None:
        self._server, self.name = server, f"missing_{uuid4().hex}"
        server.psql(f"CREATE DATABASE {self.name}")
        self.url = server.url_of(self.name)

    def psql(self, sql: str) -> str:
        return self._server.psql(sql, self.name)

    def close(self) -> None:
        self._server.psql(f"DROP DATABASE {self.name} WITH (FORCE)")


@pytest.fixture
def database(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """One that the environment names."""
    database = Database(postgres)
    monkeypatch.setenv("CRON_POSTGRES_URL", database.url)
    asyncio.run(a_run(database))
    yield database
    database.close()


async def a_run(database: Database) -> int:
    """Start, run a job once, stop; returns how many runs are on record then."""
    crons = a_scheduler(database)
    await crons.start()
    try:
        await crons.run_job("job")
        return len(await runs_of(crons, "job"))
    finally:
        await crons.stop()


def a_scheduler(database: Database) -> Crons:
    crons = Crons(state_backend=PostgresStateBackend(database.url), config=CronConfig(store_timeout=20))
    crons.cron("0 0 1 1 *", name="job")(nothing)
    return crons


def postgres_command(arguments: str) -> Result:
    """Runs `fastapi-crons postgres …` in this process."""
    cli = typer.Typer(cls=Commands)
    cli_commands(cli)
    return CliRunner().invoke(cli, ["postgres", *shlex.split(arguments)])


@pytest.mark.parametrize(
    ("dropped", "named"),
    [
        ("TABLE crons_event", "crons_event, crons_event_seq_seq"),
        ("TABLE crons_lease", "crons_lease"),
        ("TABLE crons_layout", "crons_layout"),
        ("TABLE crons_job, crons_state", "crons_job, crons_state"),
        ("SEQUENCE crons_event_seq_seq CASCADE", "crons_event_seq_seq"),
    ],
)
def test_a_table_that_was_dropped_is_named_everywhere(database: Database, dropped: str, named: str) -> None:
    database.psql(f"DROP {dropped}")
    said_by_all(database, named)


def test_so_is_a_column(database: Database) -> None:
    database.psql("ALTER TABLE crons_lease DROP COLUMN cancelled_by")
    said_by_all(database, "crons_lease.cancelled_by")


def said_by_all(database: Database, named: str) -> None:
    said = (
        f' lacks {named} in the schema "public", beside other tables of fastapi-crons; restore all of them from a backup (or, '
        "which loses what is on record, drop all tables crons_… and run: fastapi-crons postgres migrate)"
    )
    checked = postgres_command("check")
    assert (checked.exit_code, checked.stdout.count(said)) == (1, 1), checked.stdout
    assert "✗ tables: " in checked.stdout
    migrated = postgres_command("migrate")
    assert (migrated.exit_code, migrated.stderr.count(said)) == (1, 1), migrated.output
    with pytest.raises(StoreUnusableError) as raised:
        asyncio.run(a_run(database))
    assert said in str(raised.value)
    Path("main.py").write_text("from fastapi_crons import Crons\ncrons = Crons()\n")
    checked_app = in_a_process("check")
    assert checked_app.returncode == 1
    assert said in checked_app.stdout + checked_app.stderr
    # What it advises helps.
    tables = database.psql("SELECT string_agg(tablename, ', ') FROM pg_tables WHERE tablename LIKE 'crons_%'")
    database.psql(f"DROP TABLE {tables} CASCADE")
    assert postgres_command("migrate").exit_code == 0
    assert asyncio.run(a_run(database)) == 1


def test_a_running_instance_says_who_knows_more(database: Database) -> None:
    async def run() -> str:
        crons = a_scheduler(database)
        await crons.start()
        try:
            database.psql("ALTER TABLE crons_run RENAME TO elsewhere")
            with pytest.raises(StoreUnusableError) as raised:
                await runs_of(crons, "job")
            return str(raised.value)
        finally:
            database.psql("ALTER TABLE elsewhere RENAME TO crons_run")
            await crons.stop()

    said = asyncio.run(run())
    assert said.endswith("; what is missing, and what to do, is said by: fastapi-crons postgres check")


def test_the_view_is_for_people_and_keeps_nobody_from_starting(database: Database) -> None:
    view = "CREATE VIEW " + postgres_command("sql --from 0").stdout.partition("CREATE VIEW ")[2].partition(";")[0]
    database.psql("DROP VIEW crons_runs")
    checked = postgres_command("check")
    assert (checked.exit_code, "! view: crons_runs, which people read, is missing" in checked.stdout) == (0, True)
    assert asyncio.run(a_run(database)) == 2
    database.psql(view)
    assert "view" not in postgres_command("check").stdout


def test_where_all_tables_were_emptied_a_start_goes_on(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.psql(_TRUNCATE_ALL)
    assert postgres_command("check").exit_code == 0
    monkeypatch.setenv("CRON_POSTGRES_MIGRATE", "false")
    assert asyncio.run(a_run(database)) == 1
    assert database.psql("SELECT count(*) FROM crons_layout") == "0"
    monkeypatch.setenv("CRON_POSTGRES_MIGRATE", "true")
    assert asyncio.run(a_run(database)) == 2
    assert database.psql("SELECT version, compatible_from FROM crons_layout") == "1|1"
    assert "the table crons_layout was emptied; by their columns, the tables have the layout 1" in caplog.text
    caplog.clear()
    assert asyncio.run(a_run(database)) == 3
    assert "crons_layout" not in caplog.text


def test_so_does_what_makes_the_tables(database: Database) -> None:
    database.psql(_TRUNCATE_ALL)
    printed = postgres_command("sql").stdout
    assert 'INSERT INTO "public".crons_layout VALUES (1, 1)' in printed
    assert "CREATE" not in printed
    assert postgres_command("migrate").stdout.endswith(": the tables are up to date (layout 1)\n")
    assert database.psql("SELECT version, compatible_from FROM crons_layout") == "1|1"
    database.psql("TRUNCATE crons_layout")
    database.psql(printed)
    assert database.psql("SELECT version, compatible_from FROM crons_layout") == "1|1"


def test_so_does_a_newer_version_and_an_older_one_leaves_its_tables_alone(
    database: Database, next_version: dict[str, str]
) -> None:
    database.psql(_TRUNCATE_ALL)
    newer = in_a_process("postgres", "migrate", **next_version)
    assert newer.stdout.endswith("the tables are brought from layout 1 to 2\n"), newer.stderr
    assert database.psql("SELECT version, compatible_from FROM crons_layout") == "2|1"
    database.psql("TRUNCATE crons_layout")
    for arguments in ("migrate", "check"):
        older = postgres_command(arguments)
        assert older.exit_code == 1
        assert (
            "is empty, and this version of fastapi-crons-postgres does not know crons_run.later; start" in older.output
        )
    assert database.psql("SELECT count(*) FROM crons_layout") == "0"
    assert in_a_process("postgres", "migrate", **next_version).stdout.endswith("up to date (layout 2)\n")
    assert database.psql("SELECT version, compatible_from FROM crons_layout") == "2|1"
    assert asyncio.run(a_run(database)) == 1
