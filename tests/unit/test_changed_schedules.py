"""Schedules that are edited, deployed instance by instance, and rolled back."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.support import at, missed_of, runs_of


async def _nothing() -> None: ...


class Fleet:
    """Instances that share one store."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.state, self.lock = MemoryStateBackend(), _Shared()

    async def deploy(self, expr: str, **options: Any) -> Crons:
        locks = DistributedLockManager(self.lock, CronConfig())
        crons = Crons(state_backend=self.state, lock_manager=locks, clock=self.clock)
        crons.cron(expr, name="sync", **options)(_nothing)
        await crons.start()
        await self.clock.settle(crons)
        return crons


class _Shared(LocalLockBackend):
    """A local lock that several schedulers of one process share: closing one leaves the others' leases alone."""

    async def close(self) -> None: ...


@pytest.fixture
def fleet(clock: VirtualClock) -> Fleet:
    return Fleet(clock)


@pytest.mark.parametrize(
    ("before", "after", "first_new_tick"),
    [
        ("0 * * * *", "*/20 * * * *", "05:40:00"),
        ("*/20 * * * *", "0 * * * *", "06:00:00"),
        ("0 3 * * *", "0 4 * * *", "04:00:00"),
        ("0 7 * * *", "0 6 * * *", "06:00:00"),
    ],
)
async def test_an_edit_in_either_direction_fires_at_the_first_instant_after_it(
    fleet: Fleet, clock: VirtualClock, before: str, after: str, first_new_tick: str
) -> None:
    old = await fleet.deploy(before)
    await clock.advance(old, hours=5, minutes=30)
    count = len(await runs_of(old, "sync"))
    await old.stop()
    new = await fleet.deploy(after)
    assert len(await runs_of(new, "sync")) == count
    assert await missed_of(new, "sync") == []
    await clock.advance(new, days=1)
    assert at((await runs_of(new, "sync"))[count]) == first_new_tick
    await new.stop()


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
async def test_another_zone_is_another_schedule(fleet: Fleet, clock: VirtualClock, zone: str) -> None:
    old = await fleet.deploy("0 6 * * *")
    await clock.advance(old, hours=3)
    await old.stop()
    await clock.advance(hours=5)
    new = await fleet.deploy("0 6 * * *", timezone=zone)
    assert await runs_of(new, "sync") == []
    (missed,) = await missed_of(new, "sync")
    assert (missed.reason, missed.count, missed.first.hour) == ("schedule_changed", 1, 6)
    await clock.advance(new, days=1)
    assert len(await runs_of(new, "sync")) == 1
    await new.stop()


async def test_in_a_rolling_deploy_the_last_registration_wins_and_nothing_runs_twice(
    fleet: Fleet, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    old = [await fleet.deploy("*/10 * * * *") for _ in range(3)]
    await clock.advance(*old, minutes=30)
    new = [await fleet.deploy("*/15 * * * *")]
    await clock.advance(*old, *new, minutes=30)
    for crons in old:
        assert crons.health().status == "degraded"
        assert "another definition was registered since" in crons.health().findings[0]
    assert new[0].health().status == "ok"
    while old:
        await old.pop().stop()
        new.append(await fleet.deploy("*/15 * * * *"))
        await clock.advance(*old, *new, minutes=15)
    runs = await runs_of(new[0], "sync")
    assert [at(run) for run in runs[:3]] == ["00:10:00", "00:20:00", "00:30:00"]
    assert [at(run) for run in runs[3:]] == ["00:45:00", "01:00:00", "01:15:00", "01:30:00", "01:45:00"]
    assert await missed_of(new[0], "sync") == []
    assert caplog.text.count("this instance does not run it") == 3, "each says so once"

    back = await fleet.deploy("*/10 * * * *")
    await clock.advance(*new, back, minutes=30)
    ticks = [run.tick_ts for run in await runs_of(back, "sync")]
    assert [at(run) for run in (await runs_of(back, "sync"))[8:]] == ["01:50:00", "02:00:00", "02:10:00"]
    assert len(ticks) == len(set(ticks))
    for crons in [*new, back]:
        await crons.stop()
