"""What a plan says is what then happens."""

from __future__ import annotations

import asyncio
from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_crons import CronConfig, Crons
from fastapi_crons.management.management import Management
from fastapi_crons.schedules import AnyOf, Every, Except
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock, reset
from tests.support import examples, nothing

ZONES = ("UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Kolkata")
#: Ordinary days, and days whose clock changes in one of the zones.
STARTS = [
    datetime.fromisoformat(f"{start}+00:00")
    for start in (
        "2026-01-15T22:30:11",
        "2026-03-08T04:59:59",
        "2026-03-28T23:59:59",
        "2026-03-29T00:59:59",
        "2026-10-24T23:00:00",
    )
]
schedules = st.one_of(
    st.builds(
        "{} {} * * *".format, st.sampled_from(["0", "30", "*/20", "7,59"]), st.sampled_from(["*", "0-3", "2", "*/2"])
    ),
    st.builds(lambda minutes: Every(minutes=minutes), st.integers(7, 90)),
    st.just(AnyOf("0 2 * * *", "30 2 * * *", "*/45 * * * *")),
    st.just(Except("15 * * * *", dates=["2026-03-29"])),
)


@settings(max_examples=examples(30), deadline=None)
@given(
    jobs=st.lists(
        st.tuples(schedules, st.sampled_from(ZONES), st.sampled_from(["run", "run", "pause", "off"])),
        min_size=1,
        max_size=4,
    ),
    start=st.sampled_from(STARTS),
    hours=st.sampled_from([0.5, 3, 7]),
)
def test_the_ticks_of_a_plan_are_those_that_run(
    jobs: list[tuple[object, str, str]], start: datetime, hours: float
) -> None:
    async def check() -> None:
        clock = VirtualClock(start)
        crons = Crons(state_backend=MemoryStateBackend(), config=CronConfig(), clock=clock)
        for number, (schedule, zone, what) in enumerate(jobs):
            crons.cron(schedule, name=f"job{number}", timezone=zone, enabled=what != "off")(nothing)  # type: ignore[arg-type]
        await crons.start()
        try:
            for number, (_, _, what) in enumerate(jobs):
                if what == "pause":
                    await crons.pause(f"job{number}")
            plan = await Management(crons).plan(hours=hours)
            await clock.advance(crons, hours=hours)
            ran = {job.name: [run.tick_ts for run in await crons.runs(job.name, limit=500)][::-1] for job in crons.jobs}
        finally:
            await crons.stop()
            reset()
        said = {each.job.name: each for each in plan.jobs}
        for name, ticks in ran.items():
            planned = said.get(name)
            if planned is None or planned.standing != "runs":
                assert ticks == []
                continue
            assert planned.ticks.number == len(ticks)
            assert list(planned.ticks.single) == ticks[: len(planned.ticks.single)]
            assert planned.ticks.last == ticks[-1]
            assert not planned.ticks.more
        assert plan.idle == sum(name not in said for name in ran)

    asyncio.run(check())
