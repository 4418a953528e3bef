"""Coming from fastapi-crons 2.x with its SQLAlchemy backend on PostgreSQL: the last run of each job is taken over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from uuid import uuid4

import pytest

from fastapi_crons import Crons, MovedNameError
from fastapi_crons.management.management import Management
from fastapi_crons.management.views import JobView
from fastapi_crons_postgres import PostgresStateBackend
from tests.faults.postgres_server import PostgresServer
from tests.support import runs_of

#: The tables as 2.5.0 makes them, with what a job that succeeded, one that failed and one that was cut off leave.
VERSION_2 = """
    CREATE TABLE cron_job_state (name VARCHAR(255) NOT NULL, last_run VARCHAR(50), created_at VARCHAR(50),
        updated_at VARCHAR(50), PRIMARY KEY (name));
    CREATE TABLE cron_job_status (name VARCHAR(255) NOT NULL, status VARCHAR(50), instance_id VARCHAR(100),
        started_at VARCHAR(50), updated_at VARCHAR(50), PRIMARY KEY (name));
    CREATE TABLE cron_job_execution_log (id SERIAL NOT NULL, job_name VARCHAR(255), instance_id VARCHAR(100),
        status VARCHAR(50), started_at VARCHAR(50), completed_at VARCHAR(50), duration FLOAT, error_message TEXT,
        created_at VARCHAR(50), PRIMARY KEY (id));
    CREATE TABLE cron_locks (key VARCHAR(255) NOT NULL, lock_id VARCHAR(36) NOT NULL, acquired_by VARCHAR(100),
        acquired_at VARCHAR(50) NOT NULL, expires_at VARCHAR(50) NOT NULL, PRIMARY KEY (key));
    INSERT INTO cron_job_state (name, last_run, updated_at) VALUES
        ('fine', '2026-01-09T02:00:01.500000+00:00', '2026-01-09T02:00:01.600000+00:00');
    INSERT INTO cron_job_status (name, status, instance_id, started_at) VALUES
        ('fine', 'completed', 'c47fca94', '2026-01-09T02:00:00.250000+00:00'),
        ('broken', 'failed', 'c47fca94', '2026-01-09T03:00:00+00:00'),
        ('cut off', 'running', 'c47fca94', '2026-01-09T04:00:00+00:00');
    INSERT INTO cron_job_execution_log (job_name, instance_id, status, started_at, duration) VALUES
        ('fine', 'c47fca94', 'completed', '2026-01-09T02:00:00.250000+00:00', 1.2);
"""


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """A database with the tables of 2.x."""
    database = f"former_{uuid4().hex}"
    postgres.psql(f"CREATE DATABASE {database}")
    # Where the server stands must not matter.
    postgres.psql(f"ALTER DATABASE {database} SET timezone = 'America/New_York'")
    postgres.psql(VERSION_2, database)
    return postgres.url_of(database)


@asynccontextmanager
async def scheduler(url: str) -> AsyncIterator[Crons]:
    crons = Crons(state_backend=PostgresStateBackend(url))
    for name in ("fine", "broken", "cut off"):
        crons.cron("0 0 29 2 *", name=name)(lambda: None)
    await crons.start()
    try:
        yield crons
    finally:
        await crons.stop()


async def seen(crons: Crons) -> dict[str, JobView]:
    return {view.job.name: view for view in await Management(crons).jobs()}


async def test_a_database_of_version_2_is_taken_over_with_the_last_run_of_each_job(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with scheduler(url) as crons:
        views = await seen(crons)
        assert {name: view.status for name, view in views.items()} == {
            "fine": "completed",
            "broken": "failed",
            "cut off": "interrupted",
        }
        assert str(views["fine"].last_run)[:22] == "2026-01-09 02:00:00.25"
        assert str(views["fine"].last_success)[:21] == "2026-01-09 02:00:01.5"
        await crons.run_job("cut off")
        assert (await seen(crons))["cut off"].status == "completed"
        assert len(await runs_of(crons, "cut off")) == 1
    async with scheduler(url) as crons:
        assert (await seen(crons))["broken"].status == "failed"
    assert caplog.text.count("the last runs of 3 jobs of fastapi-crons 2.x are taken over") == 1


async def test_the_tables_of_version_2_stay_as_they_were(url: str, postgres: PostgresServer) -> None:
    database = url.rpartition("/")[2]
    queries = ("TABLE cron_job_state", "TABLE cron_job_status", "TABLE cron_job_execution_log", "TABLE cron_locks")
    before = [postgres.psql(query, database) for query in queries]
    async with scheduler(url) as crons:
        await crons.run_job("fine")
    assert [postgres.psql(query, database) for query in queries] == before


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        ("UPDATE cron_job_status SET started_at = 'no time' WHERE name = 'fine'", {"broken", "cut off"}),
        ("UPDATE cron_job_status SET started_at = NULL WHERE name = 'broken'", {"fine", "cut off"}),
        ("UPDATE cron_job_status SET status = 'unheard of' WHERE name = 'broken'", {"fine", "cut off"}),
        ("UPDATE cron_job_state SET last_run = 'no time'", {"broken", "cut off"}),
        ("ALTER TABLE cron_job_status DROP COLUMN instance_id", set()),
        ("DROP TABLE cron_job_state", set()),
        ("DROP TABLE cron_job_state; CREATE VIEW cron_job_state AS SELECT 1/0 AS name, '' AS last_run", set()),
    ],
)
async def test_what_can_not_be_read_keeps_nothing_from_starting(
    url: str, postgres: PostgresServer, damage: str, left: set[str]
) -> None:
    postgres.psql(damage, url.rpartition("/")[2])
    async with scheduler(url) as crons:
        assert {name for name, view in (await seen(crons)).items() if view.last_run} == left
        assert crons.health().status == "ok"


@pytest.mark.parametrize("package", ["state", "locking"])
def test_whoever_imports_the_sqlalchemy_backend_is_told_of_postgresql(package: str) -> None:
    with pytest.raises(MovedNameError, match=r"use PostgreSQL \(fastapi-crons\[postgres\] and CRON_POSTGRES_URL\)"):
        import_module(f"fastapi_crons.{package}.sqlalchemy")
