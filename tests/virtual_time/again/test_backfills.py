"""Backfills: which ticks of a span are run again, in which order, and what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fastapi_crons import BackfillError, Crons, JobContext, JobLockedError
from fastapi_crons.engine.backfills import Backfill, Span
from fastapi_crons.management.management import Management
from fastapi_crons.testing import VirtualClock
from tests.support import nothing
from tests.virtual_time.why.asking import MIDNIGHT, why

MakeCrons = Callable[..., Crons]


def at(hours: float) -> int:
    return int((MIDNIGHT + timedelta(hours=hours)).timestamp())


async def begin(crons: Crons, first: int, last: int, name: str = "job", **options: Any) -> Backfill:
    management = Management(crons)
    return await management.backfills.start(
        Span(management.definition(name), first, last, actor="ops", note="why", **options)
    )


class Job:
    """An hourly job that writes down its ticks, fails as often as it is told, and takes a while."""

    def __init__(self, crons: Crons, clock: VirtualClock, *, takes: float = 0.0, **options: Any) -> None:
        self.ran: list[tuple[float, str]] = []
        self.fails = False
        self.clock, self.takes = clock, takes
        crons.cron("0 * * * *", name="job", **options)(self.run)

    async def run(self, context: JobContext) -> None:
        assert context.tick is not None
        self.ran.append(((context.tick - MIDNIGHT) / timedelta(hours=1), context["triggered_by"]))
        await self.clock.sleep(self.takes)
        if self.fails:
            raise ConnectionError


async def with_missed_ticks(crons: Crons, clock: VirtualClock) -> None:
    """The ticks from two to five are missed; those at one and six ran."""
    await crons.start()
    await clock.advance(crons, hours=1, minutes=30)
    await crons.pause("job")
    await clock.advance(crons, hours=4)
    await crons.resume("job")
    await clock.advance(crons, hours=1)


async def test_each_tick_that_did_not_run_is_run_oldest_first(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    job = Job(crons, clock)
    await with_missed_ticks(crons, clock)
    backfill = await begin(crons, at(0), at(9), one_by_one=True)
    plan = backfill.plan
    assert [tick for tick, _ in plan.to_run] == [at(0), at(2), at(3), at(4), at(5)], "nothing was there at midnight"
    assert (plan.ticks, plan.ran, plan.waiting, plan.in_doubt) == (7, 2, 0, 0)
    await clock.advance(crons, seconds=10)
    assert job.ran[-5:] == [(hour, "again") for hour in (0, 2, 3, 4, 5)]
    assert (backfill.status, backfill.done, backfill.failed, backfill.left) == ("completed", 5, 0, 0)
    assert "the job was paused" in (await why(crons, "03:00:00")).text
    assert "asked for by ops (why)" in (await why(crons, "03:00:00")).text
    again = await begin(crons, at(0), at(9), one_by_one=True)
    assert (again.total, again.plan.ran) == (0, 7), "the same span again leaves out what ran"


async def test_one_run_stands_for_all_where_late_ticks_coalesce(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    job = Job(crons, clock)
    await with_missed_ticks(crons, clock)
    await begin(crons, at(1), at(5))
    await clock.advance(crons, seconds=10)
    assert job.ran[-1] == (5, "again")
    newest, *_ = await crons.runs("job")
    assert (newest.trigger, newest.missed_ticks, newest.missed_since_ts) == ("again", 3, at(2))
    fate = await why(crons, "03:00:00")
    assert fate.fate == "covered"
    assert "It was not run: the job was paused" in fate.text
    assert "It was made up for at 2026-03-01 06:30:00 UTC, asked for by ops (why), by " in fate.text
    assert f"(run {newest.id} of 2026-03-01 05:00:00 UTC, which stands for 3 earlier ticks), and completed" in fate.text
    plan = (await begin(crons, at(1), at(5))).plan
    assert (plan.to_run, plan.ran, plan.stood_for) == ((), 2, 3)
    assert (await begin(crons, at(1), at(5), one_by_one=True)).total == 3


async def test_late_ticks_that_are_run_one_by_one_are_so_up_to_their_limit(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(max_catch_up=3)
    job = Job(crons, clock, coalesce=False)
    await with_missed_ticks(crons, clock)
    backfill = await begin(crons, at(1), at(5))
    await clock.advance(crons, seconds=10)
    assert (job.ran[-3:], backfill.plan.beyond) == ([(hour, "again") for hour in (3, 4, 5)], 1)


async def test_a_failure_stops_the_rest_only_where_that_is_wanted(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    job = Job(crons, clock)
    await with_missed_ticks(crons, clock)
    job.fails = True
    stopped = await begin(crons, at(2), at(5), one_by_one=True, stop_on_failure=True)
    await clock.advance(crons, seconds=10)
    assert (stopped.status, stopped.failed, stopped.left) == ("stopped", 1, 3)
    on = await begin(crons, at(2), at(5), one_by_one=True)
    await clock.advance(crons, seconds=10)
    assert (on.status, on.failed, on.left) == ("completed", 4, 0)


async def test_it_is_cancelled_with_its_current_run(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    job = Job(crons, clock, takes=60)
    await with_missed_ticks(crons, clock)
    backfill = await begin(crons, at(2), at(5), one_by_one=True)
    await clock.advance(crons, seconds=90)
    with pytest.raises(JobLockedError, match="is going on, with 3 runs left"):
        await begin(crons, at(2), at(5))
    await Management(crons).backfills.cancel("job", backfill.id, actor="ops")
    await clock.advance(crons, seconds=90)
    assert (backfill.status, backfill.done, backfill.failed, backfill.left) == ("cancelled", 1, 1, 2)
    newest, *_ = await crons.runs("job")
    assert (newest.status, newest.error and newest.error.message) == ("cancelled", "was cancelled by ops")
    assert [tick for tick, trigger in job.ran if trigger == "again"] == [2, 3]


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
async def test_ticks_that_are_due_go_first_and_none_is_skipped(
    make_crons: MakeCrons, clock: VirtualClock, overlap: Any
) -> None:
    crons = make_crons()
    job = Job(crons, clock, takes=1_500, overlap=overlap)
    await with_missed_ticks(crons, clock)
    await clock.advance(crons, minutes=15)
    backfill = await begin(crons, at(2), at(5), one_by_one=True)
    await clock.advance(crons, hours=6)
    assert (backfill.status, backfill.done) == ("completed", 4)
    assert [tick for tick, trigger in job.ran if trigger == "schedule"] == [1, 6, 7, 8, 9, 10, 11, 12]
    assert await Management(crons).missed("job", limit=50) == [
        each for each in await Management(crons).missed("job") if each.reason == "paused"
    ]


async def test_it_takes_the_places_of_late_ticks(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons, running, most = make_crons(catch_up_concurrency=2), [0], [0]

    async def job() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await clock.sleep(10)
        running[0] -= 1

    for number in range(5):
        crons.cron("0 * * * *", name=f"job-{number}")(job)
    await crons.start()
    for number in range(5):
        await begin(crons, at(-4), at(-1), f"job-{number}", one_by_one=True)
    await clock.advance(crons, minutes=10)
    assert most == [2]
    for number in range(5):
        assert [each.done for each in await Management(crons).backfills.of_job(f"job-{number}")] == [4]


async def test_both_passes_of_an_hour_that_is_there_twice_are_run(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="job", timezone="Europe/Berlin", kwargs={"size": 1})(lambda size: size)
    await crons.start()
    day = datetime(2025, 10, 26, tzinfo=ZoneInfo("Europe/Berlin"))
    backfill = await begin(crons, int(day.timestamp()), int((day + timedelta(days=1)).timestamp()) - 1, one_by_one=True)
    await clock.advance(crons, minutes=1)
    assert backfill.done == 25
    assert {run.result for run in await crons.runs("job")} == {1}


async def test_spans_that_can_not_be_used_are_refused(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    for first, last, why_not in (
        (at(2), at(1), "ends before it begins"),
        (at(2), at(3), "lies in the future"),
        (at(-24 * 14), at(0), "it has 20161 ticks, and 10000 is the most"),
    ):
        with pytest.raises(BackfillError, match=why_not):
            await begin(crons, first, last)


async def test_a_stop_lets_the_current_run_end_and_begins_no_other(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    job = Job(crons, clock, takes=20)
    await with_missed_ticks(crons, clock)
    backfill = await begin(crons, at(2), at(5), one_by_one=True)
    await clock.advance(crons, seconds=5)
    stopping = asyncio.create_task(crons.stop())
    while not stopping.done():
        await clock.advance(crons, seconds=1)
    await stopping
    assert (backfill.status, backfill.done, backfill.left) == ("cancelled", 1, 3)
    assert [tick for tick, trigger in job.ran if trigger == "again"] == [2]
