"""Runs that take long or hang while other ticks are late. Virtual time throughout."""

from __future__ import annotations

from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import missed_of, runs_of
from tests.virtual_time.late.downtime import downtime


async def test_a_stall_in_a_long_run_does_not_undo_that_its_ticks_overlap(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons(coalesce=False)
    first = True

    @crons.cron("* * * * *", name="job")
    async def job() -> None:
        nonlocal first
        if first:
            first = False
            await clock.sleep(3600)

    await crons.start()
    await clock.advance(crons, minutes=2)
    await _stall(clock, 70)
    await clock.advance(crons, minutes=62)
    runs, missed = await runs_of(crons, "job"), await missed_of(crons, "job")
    assert {row.reason for row in missed} == {"overlap"}
    assert sum(row.count for row in missed) >= 50
    ticks = [run.tick_ts or 0 for run in runs]
    assert len(ticks) + sum(row.count for row in missed) == (int(clock.now()) - ticks[0]) // 60 + 1


async def test_a_hung_run_does_not_hold_up_the_late_ticks_of_a_job_that_allows_overlap(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons, calls = make_crons(coalesce=False), _HangsAtItsSecondCall(clock)
    crons.cron("* * * * *", name="job", overlap="allow")(calls.job)
    await crons.start()
    await clock.advance(crons, minutes=3)
    await _stall(clock, 150)
    await clock.advance(crons, minutes=10)
    assert calls.number == (int(clock.now()) - int((await runs_of(crons, "job"))[0].tick_ts or 0)) // 60 + 1


class _HangsAtItsSecondCall:
    """A job that counts its calls."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.number = clock, 0

    async def job(self) -> None:
        self.number += 1
        if self.number == 2:
            await self.clock.sleep(10**6)


async def _stall(clock: VirtualClock, seconds: float) -> None:
    """The event loop is held: time passes, and nothing of the scheduler's happens."""
    clock._elapsed += seconds


async def test_a_late_run_that_hangs_holds_up_nothing_of_a_job_that_allows_overlap(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons, calls = make_crons(coalesce=False), _HangsAtItsSecondCall(clock)
    crons.cron("* * * * *", name="job", overlap="allow")(calls.job)
    await crons.start()
    await clock.advance(crons, minutes=1)
    await downtime(clock, crons, minutes=5)
    await clock.advance(crons, minutes=10)
    assert calls.number == 16
