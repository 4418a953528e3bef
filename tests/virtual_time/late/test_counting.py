"""After a long downtime, a dense schedule runs its newest tick, and its missed ticks are counted."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_crons import Crons, CronSchedule, Schedule
from fastapi_crons.clock import utc_datetime
from fastapi_crons.schedule.due import MAX_COUNT, newest_tick
from fastapi_crons.testing import VirtualClock
from tests import seam
from tests.conftest import MakeCrons
from tests.support import missed_of, nothing, runs_of
from tests.unit.schedule.test_counting import Foreign


async def _after_a_year(clock: VirtualClock, crons: Crons) -> None:
    await crons.start()
    await crons.stop()
    await clock.advance(days=400)
    await crons.start()
    await clock.settle(crons)


@pytest.mark.parametrize("expr", ["* * * 2 * *", "* * 1 1 * *", "* 9 * * * *"])
async def test_a_schedule_that_is_dense_for_a_while_runs_its_newest_tick_after_a_year(
    clock: VirtualClock, make_crons: MakeCrons, expr: str
) -> None:
    crons = make_crons()
    crons.cron(expr, name="ours")(nothing)
    theirs = Foreign(CronSchedule(expr))
    schedule: Schedule = theirs
    crons.cron(schedule, name="theirs")(nothing)
    await _after_a_year(clock, crons)
    (ours,), (others,) = await runs_of(crons, "ours"), await runs_of(crons, "theirs")
    newest = newest_tick(CronSchedule(expr), int(clock.now()) - 366 * 86_400, int(clock.now()))
    assert ours.tick_ts == others.tick_ts == newest
    assert ours.missed_ticks == MAX_COUNT
    assert 0 < others.missed_ticks <= MAX_COUNT
    assert theirs.asked < 3_000


async def test_what_was_counted_in_a_few_steps_is_said_to_be_at_least_so_many(
    clock: VirtualClock, make_crons: MakeCrons, monkeypatch: pytest.MonkeyPatch
) -> None:
    seam.MAX_STEPS.replace(monkeypatch, 0)
    crons = make_crons(misfire_grace_time=60)
    schedule: Any = Foreign(CronSchedule("* * * * *"))
    crons.cron(schedule, name="job")(nothing)
    await _after_a_year(clock, crons)
    missed, coalesced = await missed_of(crons, "job")
    assert (missed.more, coalesced.reason) == (True, "coalesced")
    assert missed.count >= 2
    assert utc_datetime(missed.last_ts) >= utc_datetime(clock.now() - 180)
