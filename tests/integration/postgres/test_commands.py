"""`fastapi-crons postgres migrate | sql | check`, on real servers and with roles that may do little."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import typer
from typer.testing import CliRunner, Result

from fastapi_crons import CronConfig, Crons
from fastapi_crons.errors import StoreUnusableError
from fastapi_crons_cli.main import Commands
from fastapi_crons_postgres import PostgresStateBackend
from fastapi_crons_postgres.plugin import cli_commands
from tests.faults.pgbouncer import PgBouncer, needs_pgbouncer
from tests.faults.postgres_server import PostgresServer
from tests.integration.postgres.test_restore import GUIDE, URL
from tests.support import nothing, runs_of, until

Postgres = Callable[..., Result]


@pytest.fixture
def server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A database `commands`, and a role `few_rights` that may log in, and no more."""
    postgres.psql("CREATE DATABASE commands")
    postgres.psql("CREATE ROLE few_rights LOGIN")
    postgres.psql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", "commands")
    yield postgres
    postgres.psql("DROP DATABASE commands WITH (FORCE)")
    postgres.psql("DROP ROLE few_rights")


@pytest.fixture
def command(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """Runs `fastapi-crons postgres …` as a role, on the database of the test."""
    cli = typer.Typer(cls=Commands)
    cli_commands(cli)

    def call(*arguments: str, role: str = "crons", url: str | None = None) -> Result:
        monkeypatch.setenv("CRON_POSTGRES_URL", url or server.url_of("commands", role))
        return CliRunner().invoke(cli, ["postgres", *arguments])

    return call


def tables_in(server: PostgresServer, schema: str = "public") -> list[str]:
    return server.psql(
        f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' ORDER BY tablename", "commands"
    ).split()


async def a_run_of(url: str) -> None:
    """Have a scheduler do what an instance does with each table."""
    crons = Crons(state_backend=PostgresStateBackend(url), config=CronConfig(store_timeout=20))
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    try:
        assert (await crons.run_job("job")).status == "completed"
        await crons.pause("job", note="for a while")
        await crons.resume("job")
        assert [run.status for run in await runs_of(crons, "job")] == ["completed"]
        engine = crons.engine
        assert engine is not None
        await engine.state.prune(2_000_000_000)
    finally:
        await crons.stop()


def test_tables_are_made_once(server: PostgresServer, command: Postgres) -> None:
    assert command("migrate").stdout.endswith('schema "public": the tables are made (layout 1)\n')
    made = tables_in(server)
    assert "crons_run" in made
    again = command("migrate")
    assert (again.exit_code, again.stdout.endswith("the tables are up to date (layout 1)\n")) == (0, True)
    assert tables_in(server) == made


def test_a_role_without_rights_is_told_what_to_run(server: PostgresServer, command: Postgres) -> None:
    refused = command("migrate", role="few_rights")
    assert refused.exit_code == 1
    assert "as a role that may make tables, run: fastapi-crons postgres migrate --grant few_rights" in refused.stderr
    checked = command("check", role="few_rights")
    assert checked.exit_code == 1
    assert "✗ tables: none in the schema" in checked.stdout
    assert "fastapi-crons postgres migrate --grant few_rights" in checked.stdout
    assert tables_in(server) == []


def test_a_role_that_may_only_change_rows_is_enough(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_POSTGRES_MIGRATE", "false")
    url = server.url_of("commands", "few_rights")
    with pytest.raises(StoreUnusableError, match="run: fastapi-crons postgres migrate"):
        asyncio.run(a_run_of(url))
    by_owner = subprocess.run(
        [sys.executable, "-m", "fastapi_crons", "postgres", "migrate", "--grant", "few_rights"],
        env={**os.environ, "CRON_POSTGRES_URL": server.url_of("commands")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert by_owner.stdout.endswith("the tables are made (layout 1); the role 'few_rights' may use them\n")
    asyncio.run(a_run_of(url))


def test_what_sql_prints_makes_the_tables(
    server: PostgresServer, command: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.psql("CREATE SCHEMA jobs", "commands")
    monkeypatch.setenv("CRON_POSTGRES_SCHEMA", "jobs")
    printed = command("sql", "--from", "0", "--grant", "few_rights", url="postgresql://nowhere.invalid/commands")
    assert printed.exit_code == 0, printed.output
    assert command("sql", "--grant", "few_rights").stdout == printed.stdout  # as the database says itself
    server.psql(printed.stdout, "commands")
    assert tables_in(server) == []
    assert "crons_run" in tables_in(server, "jobs")
    assert command("sql").stdout == '-- The tables in the schema "jobs" have the layout 1: nothing is to be done.\n'
    assert command("check", role="few_rights").exit_code == 0
    monkeypatch.setenv("CRON_POSTGRES_MIGRATE", "false")
    asyncio.run(a_run_of(server.url_of("commands", "few_rights")))


def test_check_names_each_right_that_is_missing(server: PostgresServer, command: Postgres) -> None:
    command("migrate", "--grant", "few_rights")
    assert "✓ rights: " in command("check", role="few_rights").stdout
    server.psql("REVOKE INSERT, DELETE ON crons_run FROM few_rights", "commands")
    server.psql("REVOKE USAGE ON SEQUENCE crons_event_seq_seq FROM few_rights", "commands")
    checked = command("check", role="few_rights")
    assert checked.exit_code == 1
    assert "✗ rights: the role lacks USAGE on crons_event_seq_seq; " in checked.stdout
    assert "DELETE" in checked.stdout
    assert "on crons_run; as a role that may, run: fastapi-crons postgres migrate --grant few_rights" in checked.stdout


def test_a_role_that_is_not_there_is_not_let_in(server: PostgresServer, command: Postgres) -> None:
    refused = command("migrate", "--grant", 'no"body')
    assert refused.exit_code == 1
    assert "has no role 'no\"body'; make it, or check its name" in refused.stderr
    assert tables_in(server) == []


def test_that_role_may_do_what_the_guide_says_of_backups(server: PostgresServer, command: Postgres) -> None:
    command("migrate", "--grant", "few_rights")
    url = server.url_of("commands", "few_rights")
    (dump,) = re.findall("^pg_dump .*", GUIDE, re.MULTILINE)
    program, *arguments = shlex.split(dump.replace(URL, url))
    subprocess.run([server.programs / program, *arguments], check=True, capture_output=True)
    assert b"crons_event_seq_seq" in Path("crons.dump").read_bytes()
    (forget,) = re.findall("`(DELETE FROM .*?)`", GUIDE)
    server.psql("INSERT INTO crons_lease (namespace, run_id) VALUES ('default', 'r')", "commands")
    server.psql(f"SET ROLE few_rights; {forget}", "commands")
    assert server.psql("SELECT count(*) FROM crons_lease", "commands") == "0"


def test_check_says_what_it_found(server: PostgresServer, command: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        '! tables: none in the schema "public"; the next scheduler that starts sees to that' in command("check").stdout
    )
    command("migrate")
    found = json.loads(command("check", "--json").stdout)
    assert found["ok"] is True
    texts = {step["name"]: step["text"] for step in found["steps"]}
    assert texts["server"].startswith("PostgreSQL at ")
    assert texts["tables"] == 'layout 1 in the schema "public"'
    assert texts["notifications"] == "LISTEN works"
    assert " of 100 are in use" in texts["connections"]
    monkeypatch.setenv("CRON_POSTGRES_SCHEMA", "elsewhere")
    missing = command("check")
    assert missing.exit_code == 1
    assert "✗ tables: there is no schema 'elsewhere'; create it, or set CRON_POSTGRES_SCHEMA" in missing.stdout


def test_check_counts_the_connections_of_others(server: PostgresServer, command: Postgres) -> None:
    async def in_use() -> str:
        others = [await asyncpg.connect(server.url) for _ in range(8)]
        try:
            checked = await asyncio.to_thread(command, "check", "--json", role="few_rights")
        finally:
            await asyncio.gather(*(other.close() for other in others))
        texts = {step["name"]: step["text"] for step in json.loads(checked.stdout)["steps"]}
        return str(texts["connections"])

    command("migrate", "--grant", "few_rights")
    assert int(asyncio.run(in_use()).split()[0]) >= 9


@pytest.mark.parametrize("limited", ["ROLE few_rights", "DATABASE commands"])
def test_check_counts_by_the_limit_that_is_reached_first(
    server: PostgresServer, command: Postgres, limited: str
) -> None:
    kind = limited.split(maxsplit=1)[0].lower()

    def checked(limit: int, role: str = "few_rights") -> dict[str, tuple[str, str]]:
        until(lambda: server.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'commands'") == "0")
        server.psql(f"ALTER {limited} CONNECTION LIMIT {limit}")
        done = command("check", "--json", role=role)
        assert done.exit_code == 0, done.stdout
        return {step["name"]: (step["outcome"], step["text"]) for step in json.loads(done.stdout)["steps"]}

    command("migrate", "--grant", "few_rights")
    full = checked(1)
    outcome, text = full["connections"]
    assert (outcome, f" of 1 are in use, by the CONNECTION LIMIT of the {kind}; " in text) == ("warning", True)
    outcome, text = full["notifications"]
    assert outcome == "warning"
    assert text.startswith("whether LISTEN works could not be found out: PostgreSQL at ")
    assert f"too many connections for {kind}" in text
    small = checked(2)
    assert (small["connections"][0], small["notifications"]) == ("warning", ("ok", "LISTEN works"))
    outcome, text = checked(20)["connections"]
    assert (outcome, " of 20 are in use, by" in text) == ("ok", True)
    for none in (checked(-1), checked(1, role="crons")):  # it does not hold for a superuser
        assert " of 100 are in use; " in none["connections"][1]


def test_without_a_url_no_database_is_taken(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq's variables name one, too."""
    monkeypatch.setenv("PGPORT", str(server.port))
    monkeypatch.setenv("PGUSER", "crons")
    monkeypatch.delenv("CRON_POSTGRES_URL", raising=False)
    cli = typer.Typer(cls=Commands)
    cli_commands(cli)
    for action in ("migrate", "check", "sql"):
        refused = CliRunner().invoke(cli, ["postgres", action])
        assert refused.exit_code == 1
        assert "CRON_POSTGRES_URL is not set: name the database, by postgresql:// and behind it " in refused.stderr
        assert "user:password@host:5432/database" in refused.stderr


def test_check_names_an_encoding(server: PostgresServer, command: Postgres) -> None:
    server.psql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    checked = command("check", url=server.url_of("latin"))
    server.psql("DROP DATABASE latin")
    assert checked.exit_code == 1
    assert "✗ server: " in checked.stdout
    assert "keeps texts as LATIN1" in checked.stdout


def test_check_of_a_server_that_can_not_be_used(server: PostgresServer, command: Postgres) -> None:
    away = command("check", url="postgresql://crons:hidden-secret@127.0.0.1:1/app")
    assert away.exit_code == 1
    assert away.stdout.startswith("✗ server: PostgreSQL at 127.0.0.1:1, database 'app', user 'crons': ")
    assert "hidden-secret" not in away.output
    server.psql("ALTER DATABASE commands SET default_transaction_read_only = on")
    closed = command("check")
    assert closed.exit_code == 1
    assert "takes no writes: it is a replica, or was set to read only" in closed.stdout


@needs_pgbouncer
def test_check_finds_a_pooler(pooler: PgBouncer, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = typer.Typer(cls=Commands)
    cli_commands(cli)
    monkeypatch.setenv("CRON_POSTGRES_URL", pooler.url)
    checked = CliRunner().invoke(cli, ["postgres", "check"])
    assert checked.exit_code == 0
    assert "! notifications: LISTEN hears nothing, as behind a pooler" in checked.stdout
