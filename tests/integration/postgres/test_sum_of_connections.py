"""How many connections an instance has, as the guide counts them."""

from __future__ import annotations

from uuid import uuid4

from fastapi_crons import Crons
from fastapi_crons.management.management import Management
from fastapi_crons_postgres import PostgresStateBackend
from tests.faults.postgres_server import PostgresServer
from tests.support import runs_of, until_async


async def test_an_instance_has_three_connections_while_people_ask(postgres: PostgresServer) -> None:
    database = f"sum_{uuid4().hex}"
    postgres.psql(f"CREATE DATABASE {database}")

    def connections() -> int:
        return int(postgres.psql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"))

    crons = Crons(state_backend=PostgresStateBackend(postgres.url_of(database)))
    crons.cron("* * * * * *", name="job")(lambda: None)
    await crons.start()
    try:
        # The runs are on record, and the heartbeat has a connection of its own.
        await until_async(lambda: runs_of(crons, "job"))
        await until_async(lambda: connections() == 3)
        for _ in range(5):
            await Management(crons).jobs()
        assert connections() == 3
    finally:
        await crons.stop()
    await until_async(lambda: connections() == 0)
