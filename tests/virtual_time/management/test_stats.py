"""Stats, and what a listing says of successes: how often jobs ran, failed and were missed, and how long they took."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_crons import UnknownJobError
from fastapi_crons.management.management import Management
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons


async def test_stats_count_runs_failures_and_missed_ticks_by_day(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    @crons.cron("0 */6 * * *", name="report")
    async def report() -> None:
        await clock.sleep(90)

    @crons.cron("30 12 * * *", name="broken", misfire_grace_time=60)
    async def broken() -> None:
        raise ValueError("no such table")

    crons.cron("0 0 1 1 *", name="rare")(report)
    management = Management(crons)
    await crons.start()
    await clock.advance(crons, days=2)
    await crons.pause("report")
    await clock.advance(crons, days=1)
    await crons.resume("report")
    await clock.advance(crons, hours=1)

    found = {each.job: each for each in await management.stats(days=4)}
    assert list(found) == ["report", "broken", "rare"]
    whole = found["report"].whole
    assert (whole.runs, whole.failed, whole.missed, whole.longest) == (8, 0, 4, 90)
    assert whole.p50 == pytest.approx(90, rel=0.05)
    assert [(figures.runs, figures.missed) for _, figures in found["report"].days] == [(3, 0), (4, 0), (1, 3), (0, 1)]
    assert [day for day, _ in found["report"].days] == management.last_days(4)
    assert found["broken"].whole[:4] == (3, 3, 0, None)
    assert found["rare"].whole == (0, 0, 0, None, None, None)
    (one,) = await management.stats(["broken"], days=1)
    assert one.whole.runs == 0
    with pytest.raises(UnknownJobError):
        await management.stats(["no such job"])


async def test_the_event_loop_is_not_held_while_stats_of_many_jobs_are_made(make_crons: MakeCrons) -> None:
    crons = make_crons()

    async def job() -> None: ...

    names = [f"job-{number}" for number in range(2_000)]
    for name in names:
        crons.cron("0 0 1 1 *", name=name)(job)
    await crons.start()

    async def turns_of(jobs: list[str]) -> int:
        """How often another task is called while the stats of these jobs are made, by day."""
        asked, turns = asyncio.ensure_future(Management(crons).stats(jobs, days=366)), 0
        while not asked.done():
            await asyncio.sleep(0)
            turns += 1
        assert [(len(each.days), each.whole.runs) for each in asked.result()] == [(366, 0)] * len(jobs)
        return turns

    assert await turns_of(names) > await turns_of(names[:1]) + 3
    (one,) = await Management(crons).stats(names[:1], days=366, by_day=False)
    assert one.days == ()


async def test_a_listing_says_when_a_job_succeeded_last_and_how_often_it_has_failed_since(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons, down = make_crons(), [False]

    @crons.cron("*/10 * * * *", name="sync")
    async def sync() -> None:
        await clock.sleep(3)
        if down[0]:
            raise ConnectionError("the other side is down")

    await crons.start()
    management = Management(crons)
    (new,) = await management.jobs()
    assert (new.last_success, new.last_success_run, new.last_success_took, new.failures) == (None, None, None, 0)
    await clock.advance(crons, minutes=21)
    (good,) = await management.jobs()
    assert (good.failures, good.last_success_took) == (0, 3)
    down[0] = True
    await clock.advance(crons, minutes=30)
    failing = await management.job("sync")
    assert (failing.status, failing.failures) == ("failed", 3)
    assert failing[6:9] == good[6:9]
    down[0] = False
    await clock.advance(crons, minutes=10)
    assert (await management.job("sync")).failures == 0
