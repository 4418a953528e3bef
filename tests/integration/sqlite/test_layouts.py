"""The tables of a SQLite store: what they hold, and how older and newer ones are treated."""

from __future__ import annotations

import pytest

from fastapi_crons import StoreUnusableError
from tests.integration.sqlite.files import database
from tests.integration.sqlite.schedulers import runs_beyond, scheduler
from tests.support import runs_of


async def test_the_documented_tables_hold_the_documented_columns() -> None:
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
    with database() as db:
        columns = {
            table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            for table in ("job_state", "job_status")
        }
        assert columns == {
            "job_state": ["name", "last_run", "created_at", "updated_at"],
            "job_status": ["name", "status", "instance_id", "started_at"],
        }
        (state,) = db.execute("SELECT * FROM job_state").fetchall()
        (status,) = db.execute("SELECT * FROM job_status").fetchall()
    assert state[0] == "tick"
    assert state[1].endswith("+00:00")
    assert status[:2] == ("tick", "completed")


async def test_history_is_restored_after_a_restart() -> None:
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
        before = await runs_of(crons, "tick")
    async with scheduler() as crons:
        assert (await runs_of(crons, "tick"))[: len(before)] == before


async def test_a_database_of_version_2_is_taken_over_with_its_rows() -> None:
    with database() as db:
        db.execute("CREATE TABLE job_state (name TEXT PRIMARY KEY, last_run TEXT, created_at TEXT, updated_at TEXT)")
        db.execute("CREATE TABLE job_status (name TEXT PRIMARY KEY, status TEXT, instance_id TEXT, started_at TEXT)")
        db.execute("INSERT INTO job_state VALUES ('old', '2025-01-09T02:00:00', NULL, NULL)")
        db.execute("INSERT INTO job_status VALUES ('old', 'completed', 'worker-001', '2025-01-09T02:00:00')")
    async with scheduler() as crons:
        assert crons.engine is not None
        states = await crons.engine.state.states()
        assert (states["old"].status, states["old"].instance) == ("completed", "worker-001")
        await runs_beyond(crons, 0)


async def test_a_newer_layout_works_as_long_as_it_lets_us() -> None:
    async with scheduler() as crons:
        await runs_beyond(crons, 0)
    with database() as db:
        db.execute("UPDATE crons_layout SET version = 99")
        db.execute("PRAGMA user_version = 99")
        db.execute("ALTER TABLE job_run ADD COLUMN later TEXT")
    async with scheduler() as crons:
        await runs_beyond(crons, 1)
    with database() as db:
        assert db.execute("SELECT version FROM crons_layout").fetchone() == (99,)
        db.execute("UPDATE crons_layout SET compatible_from = 99")
    with pytest.raises(StoreUnusableError, match="newer version"):
        async with scheduler():
            pass
