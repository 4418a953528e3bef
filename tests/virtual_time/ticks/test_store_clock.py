"""A lock store whose clock is behind that of an instance: each tick runs by the store's clock."""

from __future__ import annotations

import pytest

from fastapi_crons import JobContext
from fastapi_crons.clock import Clock
from fastapi_crons.locking import DistributedLockManager, LeaseTerms, LocalLockBackend
from fastapi_crons.locking.instance import Instance
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import missed_of


class Behind(VirtualClock):
    """Shows the time of another clock, less so many seconds."""

    def __init__(self, of: Clock, by: float) -> None:
        super().__init__()
        self._of, self.by = of, by

    def now(self) -> float:
        return self._of.now() - self.by


class Locks(LocalLockBackend):
    """A lock store with a clock of its own."""

    def __init__(self, behind: float) -> None:
        super().__init__()
        self._behind = behind

    async def open(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        self.clock = Behind(clock, self._behind)
        await super().open(instance, namespace, terms, self.clock)


@pytest.mark.parametrize("grace", [None, 1, 2, 5])
@pytest.mark.parametrize("behind", [2, 3, 5, 45, 7_300])
async def test_every_tick_runs_once_by_the_clock_of_the_store(
    behind: int, grace: int | None, make_crons: MakeCrons, clock: VirtualClock
) -> None:
    store, lateness = Locks(behind), list[float]()
    crons = make_crons(lock_manager=DistributedLockManager(store))

    @crons.cron("* * * * * *", name="job", misfire_grace_time=grace)
    async def job(context: JobContext) -> None:
        assert context.tick is not None
        lateness.append(store.clock.now() - context.tick.timestamp())

    async def seconds(number: int) -> None:
        for _ in range(number * 10):
            await clock.advance(crons, seconds=0.1)

    await crons.start()
    await seconds(3)  # by then it is known
    before = sum(ticks.count for ticks in await missed_of(crons, "job"))
    lateness.clear()
    await seconds(60)
    assert 59 <= len(lateness) <= 61
    assert min(lateness) >= -1
    assert max(lateness) < 0.5
    assert sum(ticks.count for ticks in await missed_of(crons, "job")) == before
    store.clock.by = 0
    await seconds(10)
    lateness.clear()
    await seconds(10)
    assert 9 <= len(lateness) <= 11
    assert min(lateness) >= 0
    assert max(lateness) < 0.5
