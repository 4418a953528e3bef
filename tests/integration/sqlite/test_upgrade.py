"""A file of layout 6, which had no figures: its history is counted when the first process of this version opens it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fastapi_crons.run import RunIds
from fastapi_crons.state import HistoryLimits, SQLiteStateBackend
from fastapi_crons.state.figures import Figures, of_missed, of_run, total
from tests.integration.sqlite.files import PATH, database

#: Written by the version before, in two namespaces.
FORMER = Path(__file__).with_name("layout_6.sql").read_text()
OPEN_AND_CLOSE = f"""
import asyncio
from fastapi_crons.state import HistoryLimits, SQLiteStateBackend

async def main():
    store = SQLiteStateBackend({str(PATH)!r})
    await store.open("default", HistoryLimits(100, 30_000))
    await store.close()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _former_file() -> None:
    with database() as db:
        db.executescript(FORMER)


async def opened(namespace: str = "default") -> SQLiteStateBackend:
    store = SQLiteStateBackend(PATH)
    await store.open(namespace, HistoryLimits(100, 30_000))
    return store


async def figures(store: SQLiteStateBackend) -> dict[tuple[str, int], Figures]:
    return {(each.job, each.day): each for each in await store.figures(None, since=0)}


async def on_record(store: SQLiteStateBackend) -> dict[tuple[str, int], Figures]:
    """The figures of what is on record."""
    runs = [run for run in await store.runs(None, limit=100) if run.status != "running"]
    missed = await store.missed("hourly")
    assert runs
    assert missed
    return total([*map(of_run, runs), *(each for ticks in missed for each in of_missed(ticks))])


@pytest.mark.parametrize("namespace", ["default", "other"])
async def test_a_history_without_figures_is_counted_once(namespace: str) -> None:
    for _ in range(2):
        store = await opened(namespace)
        assert await figures(store) == await on_record(store)
        states = await store.states()
        assert {job: state.failures for job, state in states.items()} == {"nightly": 1, "hourly": 2, "new": 1}
        assert {job: state.last_success_took for job, state in states.items()} == {
            "nightly": 2,
            "hourly": 60,
            "new": None,
        }
        await store.close()


async def test_processes_that_open_it_at_the_same_time_count_it_once() -> None:
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-c", OPEN_AND_CLOSE) for _ in range(4)]
    assert [await process.wait() for process in processes] == [0] * 4
    store = await opened()
    assert await figures(store) == await on_record(store)
    await store.close()


async def test_rows_that_can_not_be_read_do_not_count_and_keep_nothing_from_being_opened() -> None:
    with database() as db:
        (wanted,) = db.execute("SELECT min(id) FROM job_run").fetchone()
        for number, change in enumerate(
            ["started_ts = 'soon'", "ended_ts = 1e300", "status = x'00ff'", "job = x'00ff'", "ended_ts = NULL"]
        ):
            db.execute(
                f"UPDATE job_run SET {change} WHERE id = (SELECT id FROM job_run ORDER BY id LIMIT 1 OFFSET {number})"
            )
        db.execute("UPDATE job_missed SET count = 'many' WHERE job = 'other/hourly'")
    store = await opened()
    assert all(each.day < 20_500 for each in await store.figures(None, since=0))
    assert await figures(store) == await on_record(store)
    assert await store.run(wanted) is None
    await store.close()


async def test_a_process_of_the_version_before_that_writes_beside_does_not_count_and_harms_nothing() -> None:
    store = await opened()
    before = await figures(store)
    (run,) = await store.runs("new")
    with database() as db:
        columns = "tick_ts, trigger, attempt, instance, token, started_ts, missed_ticks, log_dropped, waited"
        for status in ("running", "completed"):
            # As layout 6 writes a run.
            db.execute(
                f"""INSERT INTO job_run (id, job, status, ended_ts, {columns})
                SELECT ?, job, ?, CASE ? WHEN 'running' THEN NULL ELSE ended_ts END, {columns} FROM job_run WHERE id = ?
                ON CONFLICT (id) DO UPDATE SET status = excluded.status, ended_ts = excluded.ended_ts""",
                ("019c0000-0000-7000-8000-000000000001", status, status, run.id),
            )
    assert await figures(store) == before
    assert [each.status for each in await store.runs("new")] == ["completed", "failed"]
    await store.write([replace(run, id=RunIds()())])
    await store.prune(run.started_ts)
    assert (await figures(store)) == total([*before.values(), of_run(run)])
    await store.close()
