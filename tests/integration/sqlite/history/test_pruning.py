"""What a SQLite store deletes of a history, and what it leaves, whatever is in its rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastapi_crons.run import Run, RunIds, RunStatus
from fastapi_crons.state import HistoryLimits, SQLiteStateBackend
from tests.integration.sqlite.files import PATH, database

DAY, NOON = 86_400, 1_767_268_800.0


async def opened(limits: HistoryLimits, namespace: str = "default") -> SQLiteStateBackend:
    store = SQLiteStateBackend(PATH)
    await store.open(namespace, limits)
    return store


def runs_until(end: float, number: int, status: RunStatus = "completed", *, job: str = "job") -> list[Run]:
    """Runs of a minute each, oldest first."""
    now = [0.0]
    ids, runs = RunIds(lambda: now[0]), []
    for back in range(number, 0, -1):
        now[0] = end - 60 * back
        ended = None if status == "running" else now[0] + 1
        runs.append(Run(ids(), job, None, "cli", 1, "here", 1, status, now[0], ended))
    return runs


async def ids_of(store: SQLiteStateBackend, job: str = "job") -> list[str]:
    return [run.id for run in reversed(await store.runs(job, limit=10_000))]


async def test_a_run_that_was_running_at_the_cut_is_deleted_once_it_has_ended() -> None:
    store = await opened(HistoryLimits(3, 30, 5))
    (long,) = runs_until(NOON - 3_600, 1, "running")
    runs = runs_until(NOON, 10)
    await store.write([long, *runs])
    await store.prune(NOON)
    assert await ids_of(store) == [long.id, *(run.id for run in runs[-3:])]
    await store.write([replace(long, status="completed", ended_ts=NOON)])
    await store.prune(NOON)
    assert await ids_of(store) == [run.id for run in runs[-3:]]
    await store.close()


async def test_those_that_are_always_kept_may_be_more_than_those_that_are_kept_for_a_time() -> None:
    store = await opened(HistoryLimits(2, 30, 4, 6))
    runs = [*runs_until(NOON - 40 * DAY, 5, "failed"), *runs_until(NOON, 4)]
    await store.write(runs)
    for _ in range(2):
        await store.prune(NOON)
        assert await ids_of(store) == [run.id for run in runs[-6:]]
    await store.close()


async def test_what_becomes_too_old_while_the_process_runs_goes_also_where_no_run_follows() -> None:
    store = await opened(HistoryLimits(100, 30, 100, 2))
    runs = runs_until(NOON, 5)
    await store.write(runs)
    await store.prune(NOON)
    assert len(await ids_of(store)) == 5
    await store.prune(NOON + 30 * DAY - 210)
    assert await ids_of(store) == [run.id for run in runs[-3:]]
    await store.prune(NOON + 31 * DAY)
    assert await ids_of(store) == [run.id for run in runs[-2:]]
    await store.close()


async def test_after_a_clock_was_set_back_what_becomes_too_old_again_is_deleted() -> None:
    store = await opened(HistoryLimits(100, 30))
    await store.prune(NOON + 60 * DAY)
    await store.prune(NOON)
    await store.write(runs_until(NOON, 5))
    await store.prune(NOON)
    assert len(await ids_of(store)) == 5
    await store.prune(NOON + 31 * DAY)
    assert await ids_of(store) == []
    await store.close()


async def test_the_histories_of_other_namespaces_stay() -> None:
    wide = HistoryLimits(100, 3_000, 100, 100)
    stores = [await opened(wide), await opened(wide, "a"), await opened(HistoryLimits(1, 1, figures_days=1), "b")]
    for store in stores:
        await store.write([*runs_until(NOON - 40 * DAY, 3, "failed"), *runs_until(NOON, 5)])
    await stores[2].prune(NOON)
    assert [len(await ids_of(store)) for store in stores] == [8, 8, 1]
    assert [len(await store.figures(None, since=0)) for store in stores] == [2, 2, 1]
    for store in stores:
        await store.close()


@pytest.mark.parametrize(
    "value", ["'zzz'", "''", "x'00ff'", "CAST(x'30ff' AS TEXT)", "'00000000'", "CAST(x'ff' AS TEXT)"]
)
async def test_ids_that_can_not_be_read_keep_nothing_else_from_being_deleted(value: str) -> None:
    runs = [*runs_until(NOON - 40 * DAY, 3), *runs_until(NOON, 20)]
    store = await opened(HistoryLimits(5, 30, 5, 5))
    await store.write(runs)
    with database() as db:
        db.execute(f"UPDATE job_run SET id = {value} WHERE id = ?", (runs[8].id,))
    for _ in range(2):
        await store.prune(NOON)
    kept = await ids_of(store)
    assert kept == [run.id for run in runs[-len(kept) :]]
    assert 4 <= len(kept) <= 5
    await store.close()


async def test_runs_whose_status_is_unknown_go_with_those_that_did_not_complete() -> None:
    store = await opened(HistoryLimits(5, 30, 5))
    await store.write(runs_until(NOON, 30))
    with database() as db:
        db.execute("UPDATE job_run SET status = 'lost' WHERE id IN (SELECT id FROM job_run ORDER BY id LIMIT 20)")
    await store.prune(NOON)
    with database() as db:
        assert db.execute("SELECT status, count(*) FROM job_run GROUP BY status ORDER BY status").fetchall() == [
            ("completed", 5),
            ("lost", 5),
        ]
    await store.close()


async def test_a_history_that_is_kept_long_is_cut_back_when_it_has_grown_a_little() -> None:
    store = await opened(HistoryLimits(200, 30))
    await store.write(runs_until(NOON - 60, 200))
    await store.prune(NOON)
    for _ in range(12):
        await store.write(runs_until(NOON, 1))
        await store.prune(NOON)
        assert 200 <= len(await ids_of(store)) <= 210
    await store.close()
