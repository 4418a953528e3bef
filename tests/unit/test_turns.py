"""Turns: every tick is the turn of one instance, and everybody gets as many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons import Crons
from fastapi_crons.engine.dispatch.sharing import whose_turn
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons.testing.clock import VirtualTimer
from fastapi_crons_sqlite import SQLiteStateBackend


@given(st.text(max_size=50), st.integers(0, 2**33), st.integers(1, 100))
def test_a_tick_is_the_turn_of_one_of_the_instances_whoever_asks(job: str, tick: int, instances: int) -> None:
    assert whose_turn(job, tick, instances) == whose_turn(job, tick, instances)
    assert 0 <= whose_turn(job, tick, instances) < instances


@given(st.integers(0, 2**32), st.integers(2, 8))
def test_the_ticks_of_an_instant_are_spread_evenly_over_the_instances(tick: int, instances: int) -> None:
    turns = Counter(whose_turn(f"job-{number}", tick, instances) for number in range(2_000))
    assert all(abs(turns[each] / 2_000 - 1 / instances) < 0.06 for each in range(instances))


@given(st.text(max_size=50), st.integers(0, 2**32), st.sampled_from([1, 60, 300, 3_600, 86_400]), st.integers(2, 8))
def test_the_ticks_of_a_job_are_spread_evenly_over_the_instances(
    job: str, first: int, period: int, instances: int
) -> None:
    turns = Counter(whose_turn(job, first + period * number, instances) for number in range(2_000))
    assert all(abs(turns[each] / 2_000 - 1 / instances) < 0.06 for each in range(instances))


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
