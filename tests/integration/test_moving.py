"""Coming from earlier versions: the database files that they have left, and the variables that they read."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

import fastapi_crons
from fastapi_crons import Crons, JobContext, MovedNameError, StoreUnusableError
from fastapi_crons.management.management import Management
from fastapi_crons.management.views import JobView
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.support import runs_of

PATH = Path("cron_state.db")

#: The tables as 1.0 to 2.5 make them, with what a job that succeeded, one that failed and one that was cut off leave.
VERSION_2 = """
    CREATE TABLE job_state (name TEXT PRIMARY KEY, last_run TEXT, created_at TEXT DEFAULT CURRENT_TIMESTAMP,
        updated_at TEXT DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE job_status (name TEXT PRIMARY KEY, status TEXT, instance_id TEXT, started_at TEXT,
        updated_at TEXT DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE job_execution_log (id INTEGER PRIMARY KEY AUTOINCREMENT, job_name TEXT, instance_id TEXT, status TEXT,
        started_at TEXT, completed_at TEXT, duration REAL, error_message TEXT, created_at TEXT DEFAULT CURRENT_TIMESTAMP);
    INSERT INTO job_state (name, last_run) VALUES ('fine', '2026-01-09T02:00:01.500000+00:00');
    INSERT INTO job_status (name, status, instance_id, started_at) VALUES
        ('fine', 'completed', 'c47fca94', '2026-01-09T02:00:00.250000+00:00'),
        ('broken', 'failed', 'c47fca94', '2026-01-09T03:00:00.000000+00:00'),
        ('cut off', 'running', 'c47fca94', '2026-01-09T04:00:00.000000+00:00');
    INSERT INTO job_execution_log (job_name, instance_id, status, started_at, completed_at, duration, error_message) VALUES
        ('fine', 'c47fca94', 'completed', '2026-01-09T02:00:00.300000+00:00', '2026-01-09T02:00:01.500000+00:00', 1.2, NULL),
        ('broken', 'c47fca94', 'failed', '2026-01-09T03:00:00.000000+00:00', '2026-01-09T03:00:00.100000+00:00', 0.1, 'boom');
"""
VERSION_0 = """
    CREATE TABLE job_state (name TEXT PRIMARY KEY, last_run TEXT);
    INSERT INTO job_state VALUES ('fine', '2024-01-09T02:00:00');
"""


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(PATH)) as connection, connection:
        yield connection


@asynccontextmanager
async def scheduler() -> AsyncIterator[Crons]:
    crons = Crons(state_backend=SQLiteStateBackend(PATH))
    for name in ("fine", "broken", "cut off"):

        @crons.cron("0 0 29 2 *", name=name)
        async def job() -> None: ...

    await crons.start()
    try:
        yield crons
    finally:
        await crons.stop()


async def seen(crons: Crons) -> dict[str, JobView]:
    return {view.job.name: view for view in await Management(crons).jobs()}


async def test_a_file_of_version_2_is_taken_over_with_the_last_run_of_each_job(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    with database() as db:
        db.executescript(VERSION_2)
    async with scheduler() as crons:
        views = await seen(crons)
        assert {name: view.status for name, view in views.items()} == {
            "fine": "completed",
            "broken": "failed",
            "cut off": "interrupted",
        }
        assert str(views["fine"].last_run)[:21] == "2026-01-09 02:00:00.2"
        await crons.run_job("cut off")
        assert (await seen(crons))["cut off"].status == "completed"
    assert caplog.text.count("converted from an earlier version") == 1
    async with scheduler() as crons:
        assert (await seen(crons))["broken"].status == "failed"
    assert caplog.text.count("converted from an earlier version") == 1


async def test_a_file_that_was_taken_over_still_serves_version_2_with_all_that_it_had() -> None:
    with database() as db:
        db.executescript(VERSION_2)
    async with scheduler() as crons:
        await crons.run_job("fine")
    with database() as db:
        assert db.execute("SELECT count(*) FROM job_execution_log").fetchall() == [(2,)]
        db.execute(
            "INSERT OR REPLACE INTO job_status (name, status, instance_id, started_at, updated_at) VALUES "
            "('fine', 'failed', 'old', '2099-01-09T02:00:00+00:00', '2099-01-09T02:00:00+00:00')"
        )
        db.execute("INSERT OR REPLACE INTO job_state (name, last_run, updated_at) VALUES ('broken', '2099', '2099')")
    async with scheduler() as crons:
        assert (await seen(crons))["fine"].status == "failed"


async def test_a_file_of_version_0_is_completed() -> None:
    with database() as db:
        db.executescript(VERSION_0)
    async with scheduler() as crons:
        view = (await seen(crons))["fine"]
        assert (view.status, str(view.last_run)[:19]) == ("completed", "2024-01-09 02:00:00")
        await crons.run_job("fine")
        assert len(await runs_of(crons, "fine")) == 1


@pytest.mark.parametrize("table", ["job_state", "job_status"])
async def test_a_table_of_the_same_name_that_is_somebody_elses_is_left_as_it_is(table: str) -> None:
    with database() as db:
        db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT, owner TEXT)")
    with pytest.raises(StoreUnusableError, match=f"has a table {table} of another program; set CRON_SQLITE_PATH"):
        async with scheduler():
            pass
    with database() as db:
        assert db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [(table,)]
        assert len(db.execute(f"PRAGMA table_info({table})").fetchall()) == 3


async def test_variables_of_version_2_that_are_not_read_are_named_with_what_took_their_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CRON_SQLITE_DB_PATH", "old.db")
    monkeypatch.setenv("CRON_RETRY_BACKOFF_MULTIPLIER", "2")
    monkeypatch.setenv("CRON_LOCK_TTL", "300")
    monkeypatch.setenv("CRON_LOCK_TIMEOUT", "300")
    async with scheduler():
        pass
    (line,) = [record.getMessage() for record in caplog.records if "2.x" in record.getMessage()]
    assert line == (
        "variables of fastapi-crons 2.x are set, but no longer read: CRON_SQLITE_DB_PATH (CRON_SQLITE_PATH), "
        "CRON_RETRY_BACKOFF_MULTIPLIER (the delay doubles)"
    )
    caplog.clear()
    monkeypatch.delenv("CRON_RETRY_BACKOFF_MULTIPLIER")
    monkeypatch.setenv("CRON_SQLITE_PATH", "new.db")
    async with scheduler():
        pass
    assert "2.x" not in caplog.text


@pytest.mark.parametrize(("catch_up", "ran"), [(False, ["03:00"]), (True, ["02:40", "03:00"])])
async def test_jobs_paused_before_their_first_start_run_nothing_beside_the_old_scheduler(
    clock: VirtualClock, catch_up: bool, ran: list[str]
) -> None:
    ticks: list[str] = []

    def new_crons() -> Crons:
        crons = Crons(state_backend=SQLiteStateBackend(PATH), clock=clock)

        @crons.cron("*/20 * * * *", name="report")
        async def report(context: JobContext) -> None:
            assert context.tick is not None
            ticks.append(context.tick.strftime("%H:%M"))

        return crons

    operator = new_crons()
    await operator.start("operator")
    await operator.pause("report", note="the old scheduler still runs it")
    await operator.stop()

    beside_the_old = new_crons()
    await beside_the_old.start()
    await clock.advance(beside_the_old, minutes=80)
    await beside_the_old.stop()

    alone = new_crons()
    await alone.start()
    await clock.advance(alone, minutes=85)
    assert ticks == []
    await alone.resume("report", catch_up=catch_up)
    await clock.advance(alone, minutes=20)
    await alone.stop()
    assert ticks == ran


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("SQLiteStateBackend", "from fastapi_crons.state import SQLiteStateBackend"),
        ("RedisStateBackend", "from fastapi_crons.state import RedisStateBackend"),
        ("DistributedLockManager", "from fastapi_crons.locking import DistributedLockManager"),
        ("LocalLockBackend", "from fastapi_crons.locking import LocalLockBackend"),
        ("RedisLockBackend", "from fastapi_crons.locking import RedisLockBackend"),
    ],
)
def test_a_name_that_moved_says_where_it_is_and_is_there(name: str, instead: str) -> None:
    with pytest.raises(MovedNameError) as refused:
        exec(f"from fastapi_crons import {name}")
    assert str(refused.value) == f"fastapi_crons.{name} of fastapi-crons 2.x is not there any more: write {instead}"
    exec(instead)


@pytest.mark.parametrize(
    "name",
    [
        "JobTimeoutError",
        "OpenTelemetryHooks",
        "RetryConfig",
        "alert_on_failure",
        "alert_on_long_duration",
        "cron_job",
        "execute_with_retry",
        "is_otel_available",
        "log_job_error",
        "log_job_start",
        "log_job_success",
        "metrics_collector",
        "retry_on_failure",
        "webhook_notification",
    ],
)
def test_a_name_of_version_2_that_is_gone_says_what_to_do_instead(name: str) -> None:
    with pytest.raises(MovedNameError, match="is not there any more: "):
        getattr(fastapi_crons, name)


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        ("job", "cron_job", "write @crons.cron(…), or @Crons().cron(…), with the same arguments"),
        ("scheduler", "get_crons", "write Crons()"),
    ],
)
def test_a_name_that_a_module_of_version_2_had_says_what_to_do_instead(module: str, name: str, instead: str) -> None:
    with pytest.raises(MovedNameError) as refused:
        exec(f"from fastapi_crons.{module} import {name}")
    assert str(refused.value) == f"fastapi_crons.{module}.{name} of fastapi-crons 2.x is not there any more: {instead}"
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        exec(f"from fastapi_crons.{module} import nonsense")


@pytest.mark.parametrize(
    "module",
    ["dashboard", "endpoints", "hooks", "retry", "runner", "telemetry", "state.sqlalchemy", "locking.sqlalchemy"],
)
def test_a_module_of_version_2_that_is_gone_says_what_to_do_instead(module: str) -> None:
    with pytest.raises(MovedNameError, match="is not there any more: "):
        importlib.import_module(f"fastapi_crons.{module}")


def test_a_name_that_never_was_is_no_name() -> None:
    assert not hasattr(fastapi_crons, "never_was")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("fastapi_crons.never_was")
