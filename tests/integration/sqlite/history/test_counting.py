"""Figures by job and day in a SQLite store, against a count by hand: each run and each missed tick once."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from fastapi_crons import MissedTicks, Run
from fastapi_crons.errors import StoreError
from fastapi_crons.run import RunIds, RunStatus
from fastapi_crons.state import HistoryLimits, SQLiteStateBackend
from fastapi_crons.state.base import Record
from fastapi_crons.state.figures import day_of, of_missed, of_run, total
from tests.integration.sqlite.files import PATH, database
from tests.support import until_async

DAY, NOON = 86_400, 1_767_268_800.0
ENDS: tuple[RunStatus, ...] = ("completed", "completed", "completed", "failed", "cancelled", "interrupted", "timed_out")
LIMITS = HistoryLimits(100_000, 30_000)


async def opened(limits: HistoryLimits = LIMITS) -> SQLiteStateBackend:
    store = SQLiteStateBackend(PATH)
    await store.open("default", limits)
    return store


def some_runs(order: random.Random, number: int, jobs: int) -> list[Run]:
    """Runs that ended, of several days."""
    ids, runs = RunIds(), []
    for _ in range(number):
        started = NOON + order.choice([0, 0, -DAY, -300 * DAY, DAY]) + order.uniform(0, 3_600)
        took = order.choice([0.0001, 0.3, 0.31, 12, 5_000, order.uniform(0, 60)])
        job = f"job-{order.randrange(jobs)}"
        runs.append(Run(ids(), job, None, "cli", 1, "here", 1, order.choice(ENDS), started, started + took))
    return runs


async def check(store: SQLiteStateBackend, runs: list[Run], missed: list[MissedTicks]) -> None:
    """Compare the figures on record with those of these runs and missed ticks, each of which counts once."""
    expected = total([*map(of_run, runs), *(each for ticks in missed for each in of_missed(ticks))])
    found = {(each.job, each.day): each for each in await store.figures(None, since=0)}
    assert found.keys() == expected.keys()
    for key, each in found.items():
        assert each._replace(durations={}, longest=0) == expected[key]._replace(durations={}, longest=0)
        assert each.longest == pytest.approx(expected[key].longest)
        assert {**each.durations} == {**expected[key].durations}


@pytest.mark.parametrize("seed", range(6))
async def test_figures_are_exact_whatever_two_writers_write_again_and_in_which_order(seed: int) -> None:
    order, new_id = random.Random(seed), RunIds()
    stores = [await opened(), await opened()]
    runs = some_runs(order, 600, jobs=order.choice([1, 3, 200]))
    grown = [
        MissedTicks(new_id(), f"job-{number % 3}", int(NOON) - 2 * DAY, int(NOON) + number, 7, "paused", NOON, "here")
        for number in range(20)
    ]
    records: list[Record] = [
        *(replace(run, status="running", ended_ts=None) for run in runs if order.random() < 0.7),
        *runs,
        *order.choices(runs, k=200),
        *(replace(ticks, last_ts=ticks.last_ts - DAY, count=3) for ticks in grown if order.random() < 0.7),
    ]
    order.shuffle(records)
    batches = []
    while records:
        size = order.choice([1, 2, 30, 300])
        batches.append(records[:size])
        records = records[size:]
    batches += order.choices(batches, k=5)  # whose answers were lost
    await asyncio.gather(*(order.choice(stores).write(batch) for batch in batches))
    await asyncio.gather(*(order.choice(stores).write([ticks, ticks]) for ticks in grown))
    await check(stores[0], runs, grown)
    for store in stores:
        await store.close()


async def test_what_a_batch_counted_goes_with_the_batch() -> None:
    store = await opened()
    runs = some_runs(random.Random(1), 50, jobs=5)
    with database() as db:
        db.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON job_status WHEN new.status = 'failed' BEGIN SELECT raise(ABORT, 'no'); END"
        )
    kept = []
    for run in runs:
        begun = replace(run, status="running", ended_ts=None)
        await store.write([begun])
        try:
            await store.write([run])
        except StoreError:
            assert run.status == "failed"
        else:
            kept.append(run)
    assert 0 < len(kept) < len(runs)
    await check(store, kept, [])
    await store.close()


async def test_the_durations_of_a_day_stay_short_however_many_runs_it_has() -> None:
    store = await opened()
    runs = [replace(run, status="completed", job="job") for run in some_runs(random.Random(2), 400, jobs=1)]
    for start in range(0, len(runs), 4):
        await store.write(runs[start : start + 4])
    await check(store, runs, [])
    with database() as db:
        ((longest,),) = db.execute("SELECT max(length(durations)) FROM job_figures").fetchall()
    assert longest < 100 * len("224:100 ")
    await store.close()


async def test_durations_that_can_not_be_read_are_written_anew_from_what_can() -> None:
    store = await opened()
    run = replace(some_runs(random.Random(3), 1, jobs=1)[0], status="completed", started_ts=NOON, ended_ts=NOON + 1)
    ids = RunIds()
    await store.write([run])
    with database() as db:
        db.execute("UPDATE job_figures SET durations = durations || 'rubbish 5:-3 '")
    assert await store.figures(None, since=0) == []

    async def is_readable() -> bool:
        await store.write([replace(run, id=ids())])
        return bool(await store.figures(None, since=0))

    await until_async(is_readable)
    (found,) = await store.figures([run.job], since=day_of(NOON))
    assert sum(found.durations.values()) == found.runs
    await store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "runs = 'many'",
        "runs = -5",
        "failed = 9223372036854775807",
        "missed = 0.5",
        "longest = 'long'",
        "durations = x'ff00'",
        "durations = 'rubbish'",
        "durations = 7",
    ],
)
async def test_a_damaged_row_costs_a_sum_no_more_than_itself(damage: str) -> None:
    store = await opened()
    day = replace(some_runs(random.Random(3), 1, jobs=1)[0], job="job", status="completed", started_ts=NOON)
    ids = RunIds()
    runs = [
        replace(day, id=ids(), job=job, started_ts=NOON + number * DAY, ended_ts=NOON + number * DAY + 1 + number)
        for job in ("job", "other")
        for number in range(3)
    ]
    await store.write(runs)
    with database() as db:
        db.execute(f"UPDATE job_figures SET {damage} WHERE job = 'job' AND day = ?", [day_of(NOON) + 2])
    found = await store.sums(None, since=day_of(NOON), until=day_of(NOON) + 5)
    assert {job: (figures.runs, figures.longest) for job, figures in found.items()} == {
        "job": (2, 2.0),
        "other": (3, 3.0),
    }
    await store.close()


async def test_missed_ticks_that_another_version_did_not_count_take_no_day_below_nothing() -> None:
    store = await opened()
    ticks = MissedTicks(RunIds()(), "job", int(NOON) - 60, int(NOON), 2, "paused", NOON, "here")
    await store.write([ticks])
    with database() as db:
        db.execute("UPDATE job_missed SET count = 500")
    await store.write([ticks])
    assert [each for each in await store.figures(None, since=0) if each.missed < 0] == []
    with database() as db:
        assert db.execute("SELECT missed FROM job_figures").fetchall() == [(0,)]
    await store.close()


async def test_two_processes_that_prune_and_count_leave_what_the_limits_allow() -> None:
    limits = HistoryLimits(10, 30, 10, 5)
    stores = [await opened(limits), await opened(limits)]
    runs = some_runs(random.Random(4), 900, jobs=4)
    batches = [runs[start : start + 30] for start in range(0, len(runs), 30)]
    await asyncio.gather(
        *(stores[number % 2].write(batch) for number, batch in enumerate(batches)),
        *(stores[number % 2].prune(NOON) for number in range(10)),
    )
    for store in stores:
        await store.prune(NOON)
    await check(stores[0], runs, [])
    for name in {run.job for run in runs}:
        kept = await stores[0].runs(name, limit=1_000)
        assert [run.id for run in kept[:10]] == [run.id for run in reversed(runs) if run.job == name][:10]
        assert sum(run.status == "completed" for run in kept) <= 10
        assert len(kept) <= 20
    for store in stores:
        await store.close()
