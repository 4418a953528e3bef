"""What became of the latest ticks of jobs, in one go, is what *why* says of each of them."""

from __future__ import annotations

import random

import pytest

from fastapi_crons import Crons, InvalidArgumentError, SkipRun, UnknownJobError, hookimpl, schedules
from fastapi_crons.management.fates.fates import TickMark
from fastapi_crons.management.management import Management
from fastapi_crons.state import MemoryStateBackend, StateBackend
from fastapi_crons.testing import VirtualClock
from fastapi_crons_sqlite.state import SQLiteStateBackend
from tests.conftest import MakeCrons
from tests.support import nothing
from tests.virtual_time.late.downtime import downtime


class SomeVetoes:
    """Vetoes some runs of one job."""

    def __init__(self, order: random.Random) -> None:
        self._order = order

    @hookimpl
    def before_run(self, job_name: str) -> None:
        if job_name == "vetoed" and self._order.random() < 0.4:
            raise SkipRun("a closed window")


def jobs_of_all_kinds(crons: Crons, clock: VirtualClock, order: random.Random) -> list[str]:
    async def slow() -> None:
        await clock.sleep(order.choice([1, 70, 200]))

    async def flaky() -> None:
        if order.random() < 0.5:
            raise ValueError("no")

    crons.cron("* * * * *", name="slow")(slow)
    crons.cron("* * * * *", name="flaky", max_retries=1, retry_delay=5)(flaky)
    crons.cron("*/2 * * * *", name="vetoed")(nothing)
    crons.cron("* * * * *", name="each", coalesce=False)(nothing)
    crons.cron("* * * * *", name="strict", misfire_grace_time=30)(nothing)
    crons.cron(schedules.Every(seconds=90, after="end"), name="after the end")(slow)
    crons.cron("* * * * *", name="disabled", enabled=False)(nothing)
    return [job.name for job in crons.get_jobs()]


async def agree(crons: Crons, names: list[str], last: int = 40) -> dict[str, list[TickMark]]:
    """The fates, compared with what *why* says."""
    management = Management(crons)
    found = await management.fates(names, last=last)
    assert list(found) == names
    for name, marks in found.items():
        assert len(marks) <= last
        assert [mark.tick for mark in marks] == sorted({mark.tick for mark in marks})
        for mark in marks:
            told = await management.explain_tick(name, mark.time)
            assert (mark.fate, name, mark.time) == (told.fate, name, mark.time)
            assert mark.run == (told.runs[-1] if told.runs else None)
            assert mark.missed == told.missed
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("memory", [True, False])
async def test_they_are_what_why_says(make_crons: MakeCrons, clock: VirtualClock, memory: bool, seed: int) -> None:
    order = random.Random(seed)
    store: StateBackend = MemoryStateBackend() if memory else SQLiteStateBackend("jobs.db")
    crons = make_crons(state_backend=store, max_catch_up=3)
    names = jobs_of_all_kinds(crons, clock, order)
    crons.plugins.register(SomeVetoes(order))
    await crons.start()
    seen: set[str] = set()
    for _ in range(6):
        await clock.advance(crons, minutes=order.randrange(2, 12), seconds=order.randrange(60))
        what = order.choice(["pause", "resume", "down", "again", "nothing"])
        if what == "pause":
            await crons.pause(order.choice(names), note="a reason")
        elif what == "resume":
            for paused in await Management(crons).pauses():
                await crons.resume(paused, catch_up=order.random() < 0.5)
        elif what == "down":
            await downtime(clock, crons, minutes=order.randrange(1, 10))
        elif what == "again":
            marks = (await Management(crons).fates(["strict"]))["strict"]
            if marks:
                await crons.run_job("strict", tick=order.choice(marks).time, force=True)
        await clock.advance(crons, seconds=0)  # until what happened is on record
        found = await agree(crons, names)
        seen |= {mark.fate for marks in found.values() for mark in marks}
    assert {"ran", "skipped", "vetoed"} <= seen


async def test_each_of_the_last_ticks_is_there(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    assert await Management(crons).fates(["job"]) == {"job": []}
    await clock.advance(crons, minutes=100)
    (marks,) = (await agree(crons, ["job"], last=60)).values()
    now = int(clock.now())
    assert [mark.tick for mark in marks] == list(range(now - now % 60 - 59 * 60, now + 1, 60))
    assert {mark.fate for mark in marks} == {"ran"}
    assert len((await Management(crons).fates(["job"], last=500))["job"]) == 100


async def test_what_is_asked_wrongly_is_refused(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    for last in (0, -1, 501):
        with pytest.raises(InvalidArgumentError, match=f"last can't be {last}"):
            await Management(crons).fates(["job"], last=last)
    with pytest.raises(UnknownJobError):
        await Management(crons).fates(["job", "other"])
    assert await Management(crons).fates([]) == {}
