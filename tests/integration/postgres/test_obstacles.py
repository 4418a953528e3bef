"""What keeps an instance from working in a database is seen by one that only reads: `fastapi-crons check` fails then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from fastapi_crons import CronConfig, Crons
from fastapi_crons.management import Management
from fastapi_crons_postgres import PostgresStateBackend
from fastapi_crons_postgres.settings import PostgresSettings
from tests.faults.postgres_server import PostgresServer, needs_postgres

ROLE = "observed"


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """The name of a database without tables, and a role that may log in, and no more."""
    name = f"obstacles_{uuid4().hex}"
    postgres.psql(f"CREATE DATABASE {name}")
    postgres.psql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)
    postgres.psql(f"CREATE ROLE {ROLE} LOGIN")
    yield name
    postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")
    postgres.psql(f"DROP ROLE {ROLE}")


async def obstacles(url: str, **settings: str | bool) -> list[str]:
    store = PostgresStateBackend.by_settings(PostgresSettings(url=SecretStr(url), **settings), 20)
    crons = Crons(state_backend=store, config=CronConfig(store_timeout=20))
    await crons.start("observer")
    try:
        return Management(crons).obstacles()
    finally:
        await crons.stop()


async def the_obstacle(url: str, **settings: str | bool) -> str:
    (said,) = await obstacles(url, **settings)
    assert said.startswith("PostgreSQL at ")
    return said


async def made(url: str) -> None:
    crons = Crons(state_backend=PostgresStateBackend(url), config=CronConfig(store_timeout=20))
    await crons.start()
    await crons.stop()


async def test_tables_that_are_missing_are_none_where_the_start_makes_them(
    postgres: PostgresServer, database: str
) -> None:
    url = postgres.url_of(database)
    assert await obstacles(url) == []
    await made(url)
    assert await obstacles(url) == []


async def test_a_schema_that_is_missing(postgres: PostgresServer, database: str) -> None:
    said = await the_obstacle(postgres.url_of(database), db_schema="elsewhere")
    assert said.endswith("there is no schema 'elsewhere'; create it, or set CRON_POSTGRES_SCHEMA to one that is there")


async def test_tables_that_are_missing_and_will_not_be_made(postgres: PostgresServer, database: str) -> None:
    advice = f"as a role that may, run: fastapi-crons postgres migrate --grant {ROLE}"
    url = postgres.url_of(database, ROLE)
    assert (await the_obstacle(url)).endswith(f'tables: none in the schema "public"; {advice}')
    assert (await the_obstacle(url, migrate=False)).endswith(advice)
    assert "tables: none" in await the_obstacle(postgres.url_of(database), migrate=False)


async def test_rights_that_are_missing(postgres: PostgresServer, database: str) -> None:
    await made(postgres.url_of(database))
    postgres.psql(
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}; REVOKE INSERT ON crons_job FROM {ROLE}", database
    )
    assert "rights: the role lacks USAGE on crons_event_seq_seq; INSERT on crons_job; as a role that may, run: " in (
        await the_obstacle(postgres.url_of(database, ROLE))
    )


@needs_postgres
async def test_a_server_that_takes_no_writes() -> None:
    with PostgresServer() as server:
        server.psql("CREATE DATABASE closed")
        await made(server.url_of("closed"))
        server.psql("ALTER DATABASE closed SET default_transaction_read_only = on")
        assert "takes no writes: it is a replica" in await the_obstacle(server.url_of("closed"))
        server.psql("ALTER DATABASE closed RESET default_transaction_read_only")
        server.stop()
        (server.folder / "data" / "standby.signal").touch()  # a replica from now on
        server.start()
        assert "takes no writes: it is a replica" in await the_obstacle(server.url_of("closed"))


def test_the_command_fails(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "from fastapi import FastAPI\nfrom fastapi_crons import Crons\napp = FastAPI()\ncrons = Crons(app)\n"
        "@crons.cron('* * * * *', name='job')\nasync def job(): ...\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "fastapi_crons", "check", "--json"],
        env={**os.environ, "CRON_POSTGRES_URL": postgres.url_of(database, ROLE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 1
    (failed,) = (step for step in json.loads(checked.stdout)["steps"] if step["outcome"] == "failed")
    assert failed["name"] == "stores"
    assert "tables: none in the schema" in failed["text"]
