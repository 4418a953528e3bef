"""Starts whose jobs the database does not register, though it answers."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.errors import StoreUnusableError
from fastapi_crons.state import HistoryLimits
from fastapi_crons_postgres import PostgresStateBackend
from tests.faults.postgres_server import PostgresServer
from tests.support import nothing, until
from tests.system.servers.server import Server

_APP = """
from fastapi import FastAPI
from fastapi_crons import Crons

app = FastAPI()
crons = Crons(app)


@crons.cron("0 0 1 1 *", name="job")
async def job(): ...
"""


@pytest.fixture
async def database(postgres: PostgresServer) -> str:
    """The name of a database with the tables."""
    name = f"starts_{uuid4().hex}"
    postgres.psql(f"CREATE DATABASE {name}")
    state = PostgresStateBackend(postgres.url_of(name))
    await state.open("default", HistoryLimits(100, 30))
    await state.close()
    return name


def refuse_jobs(server: PostgresServer, database: str, code: str) -> None:
    server.psql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE 'refused on purpose' USING ERRCODE = '{code}'; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON crons_job FOR EACH ROW EXECUTE FUNCTION refuse()",
        database,
    )


async def test_one_that_can_not_register_its_jobs_as_things_are_fails(postgres: PostgresServer, database: str) -> None:
    refuse_jobs(postgres, database, "42501")
    crons = Crons(state_backend=PostgresStateBackend(postgres.url_of(database)), config=CronConfig(store_timeout=20))
    crons.cron("0 0 1 1 *", name="job")(nothing)
    with pytest.raises(StoreUnusableError, match="refused on purpose; as a role that may"):
        await crons.start()
    assert crons.engine is None


@pytest.mark.slow
def test_a_server_that_waits_for_the_database_ends_at_a_signal(
    postgres: PostgresServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_jobs(postgres, database, "53100")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRON_POSTGRES_URL", postgres.url_of(database))
    Path("app.py").write_text(_APP)
    server = Server()
    try:
        until(lambda: "make room on its disk" in server.output())
        server.end()
    finally:
        server.kill()
    assert (
        "the start was given up, since the process was told to end; the lock store: StoreUnavailable" in server.output()
    )
    assert server.output().rstrip().endswith("Application startup failed. Exiting.")
