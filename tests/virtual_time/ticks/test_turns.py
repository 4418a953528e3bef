"""A tick whose turn is another instance's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi_crons import Crons
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons.testing.clock import VirtualTimer
from fastapi_crons_sqlite import SQLiteStateBackend


async def test_a_job_that_runs_elsewhere_is_tried_again_no_more_often_the_longer_that_takes(tmp_path: Path) -> None:
    class Counting(VirtualClock):
        timers = 0

        def call_later(self, delay: float, callback: Callable[[], object]) -> VirtualTimer:
            self.timers += 1
            # As real ones, none is exact: what piles up does not fall on one instant.
            return super().call_later(delay + self.timers % 7 * 0.003, callback)

    clock = Counting("2026-03-01T00:00:00Z")

    async def started() -> Crons:
        reset()
        crons = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), clock=clock)

        @crons.cron("* * * * * *", name="job", overlap="queue")
        async def job() -> None:
            await clock.sleep(60)

        await crons.start()
        return crons

    first = await started()
    await clock.advance(first, seconds=2, finish_runs=False)
    second = await started()
    timers = []
    for _ in range(3):
        clock.timers = 0
        await clock.advance(first, second, seconds=10, finish_runs=False)
        timers.append(clock.timers)
    assert timers[2] <= 1.3 * timers[0]
    await clock.advance(first, second, seconds=60)
    await first.stop()
    await second.stop()
