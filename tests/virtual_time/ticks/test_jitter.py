"""Jitter: a delay that is the same for a job and tick wherever and whenever it is asked."""

from __future__ import annotations

import pytest

from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import missed_of, nothing, runs_of


async def test_ticks_start_within_the_jitter_and_keep_their_scheduled_time(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    for number in range(20):
        crons.cron("0 * * * *", name=f"job-{number}", jitter=600)(nothing)
    await crons.start()
    await clock.advance(crons, hours=3, minutes=30)
    delays: list[list[float]] = []
    for number in range(20):
        runs = await runs_of(crons, f"job-{number}")
        assert [run.tick.hour for run in runs if run.tick] == [1, 2, 3]
        assert {run.trigger for run in runs} == {"schedule"}
        delays.append([run.started_ts - (run.tick_ts or 0) for run in runs])
        assert all(0 <= delay <= 600 for delay in delays[-1])
    assert len({delay for row in delays for delay in row}) == 60, "delays differ by job and by tick"
    assert max(map(max, delays)) > 400, "the whole width is used"

    again = make_crons()
    again.cron("0 * * * *", name="job-7", jitter=600)(nothing)
    clock.step(-3600)
    await again.start()
    await clock.advance(again, hours=1)
    (run,) = await runs_of(again, "job-7")
    assert run.tick is not None
    assert run.tick.hour == 3
    assert run.started_ts - (run.tick_ts or 0) == delays[7][2], "the same job and tick, the same delay"


async def test_a_jitter_longer_than_the_period_loses_no_tick_and_keeps_their_order(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(coalesce=False)
    crons.cron("* * * * *", name="job", jitter=300, misfire_grace_time=10, overlap="allow")(nothing)
    await crons.start()
    await clock.advance(crons, hours=1)
    runs = await runs_of(crons, "job")
    ticks = [run.tick_ts for run in runs]
    assert ticks == list(range(int(clock.now()) - 3540, int(clock.now()) - 3540 + 60 * len(ticks), 60))
    assert len(ticks) >= 55
    assert await missed_of(crons, "job") == []


async def test_a_restart_within_the_jitter_neither_loses_nor_hurries_the_tick(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="job", jitter=600)(nothing)
    await crons.start()
    await clock.advance(crons, hours=1)
    await crons.stop()
    await crons.start()
    await clock.advance(crons, minutes=30)
    (run,) = await runs_of(crons, "job")
    assert 0 < run.started_ts - (run.tick_ts or 0) <= 600


@pytest.mark.parametrize("step", [-0.5, -5, 600])
async def test_a_clock_that_is_stepped_does_not_lose_the_tick_that_jitter_holds_back(
    make_crons: MakeCrons, clock: VirtualClock, step: float
) -> None:
    clock.max_sleep = 1.0
    crons = make_crons()
    crons.cron("0 1 * * *", name="job", jitter=1200)(nothing)
    await crons.start()
    await clock.advance(crons, hours=1, seconds=5)
    assert await runs_of(crons, "job") == []
    clock.step(step)
    await clock.advance(crons, minutes=25)
    (run,) = await runs_of(crons, "job")
    assert run.started_ts - (run.tick_ts or 0) <= 1201


async def test_jobs_that_jitter_holds_back_are_in_nobodys_way(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(max_concurrent_runs=2)
    for number in range(300):
        crons.cron("* * * * *", name=f"job-{number}", jitter=5)(nothing)
    crons.cron("* * * * *", name="plain")(nothing)
    await clock.advance(seconds=50)
    await crons.start()
    await clock.advance(crons, seconds=16)
    for number in range(300):
        (run,) = await runs_of(crons, f"job-{number}")
        assert (run.trigger, run.missed_ticks) == ("schedule", 0)
        assert run.started_ts - (run.tick_ts or 0) <= 5.1
    (run,) = await runs_of(crons, "plain")
    assert run.started_ts == run.tick_ts
