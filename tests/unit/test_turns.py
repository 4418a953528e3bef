"""Turns: every tick is the turn of one instance, and everybody gets as many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import ClaimRequest, ClaimResult, DistributedLockManager
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons.turns import whose_turn
from fastapi_crons_sqlite import SQLiteLockBackend, SQLiteStateBackend


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


async def test_a_job_that_runs_elsewhere_for_long_is_asked_for_no_more_often_than_at_first(
    clock: VirtualClock, tmp_path: Path
) -> None:
    asked = 0

    class Counting(SQLiteLockBackend):
        async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
            nonlocal asked
            asked += 1
            return await super().claim(requests)

    async def started(lock: SQLiteLockBackend) -> Crons:
        config = CronConfig()
        crons = Crons(
            state_backend=SQLiteStateBackend(tmp_path / "jobs.db"),
            lock_manager=DistributedLockManager(lock, config),
            config=config,
            clock=clock,
        )

        @crons.cron("* * * * * *", name="job", overlap="queue")
        async def job() -> None:
            await clock.sleep(60)

        await crons.start()
        return crons

    first = await started(SQLiteLockBackend(tmp_path / "jobs.db"))
    await clock.advance(first, seconds=2, finish_runs=False)
    reset()
    second = await started(Counting(tmp_path / "jobs.db"))
    await clock.advance(first, second, seconds=10, finish_runs=False)
    at_first, asked = asked, 0
    await clock.advance(first, second, seconds=10, finish_runs=False)
    assert asked <= at_first + 5
    await clock.advance(first, second, seconds=60)
    await first.stop()
    await second.stop()
