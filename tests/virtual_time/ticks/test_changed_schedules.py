"""Schedules that are edited, deployed instance by instance, and rolled back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.locking import Definition, DistributedLockManager, LeaseTerms, LocalLockBackend
from fastapi_crons.locking.instance import Instance
from fastapi_crons.run import RunIds
from fastapi_crons.state import MemoryStateBackend, SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from fastapi_crons_sqlite import SQLiteLockBackend
from tests.support import at, missed_of, nothing, runs_of


class Fleet:
    """Instances that share one store."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.state, self.lock = MemoryStateBackend(), _Shared()

    async def deploy(self, expr: str, **options: Any) -> Crons:
        locks = DistributedLockManager(self.lock, CronConfig())
        crons = Crons(state_backend=self.state, lock_manager=locks, clock=self.clock)
        crons.cron(expr, name="sync", **options)(nothing)
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
        assert "another instance has registered a newer definition" in crons.health().findings[0]
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


async def _deployed(clock: VirtualClock, folder: Path, expr: str) -> Crons:
    """An instance with this schedule, on the file in the folder."""
    crons = Crons(state_backend=SQLiteStateBackend(folder / "jobs.db"), clock=clock)
    crons.cron(expr, name="sync")(nothing)
    await crons.start()
    return crons


async def test_an_instance_that_lived_through_a_rollback_goes_on(
    clock: VirtualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = await _deployed(clock, tmp_path, "*/10 * * * *")
    await clock.advance(old, minutes=20)
    new = await _deployed(clock, tmp_path, "*/15 * * * *")
    await clock.advance(old, new, minutes=12)
    assert old.health().status == "degraded"
    await new.stop()
    await clock.advance(old, minutes=28)
    assert "are gone; registering" in caplog.text
    assert old.health().status == "ok"
    assert [at(run) for run in await runs_of(old, "sync")] == [
        "00:10:00",
        "00:20:00",
        "00:30:00",
        "00:40:00",
        "00:50:00",
        "01:00:00",
    ]
    assert [(row.reason, row.count) for row in await missed_of(old, "sync")] == []
    await old.stop()


async def test_what_an_edit_let_go_is_on_record_though_the_process_died_before_it_said_so(
    clock: VirtualClock, tmp_path: Path
) -> None:
    lock = SQLiteLockBackend(tmp_path / "jobs.db")
    here = Instance.of_this_process()
    here.lives_here(alive=True)
    await lock.open(here, "default", LeaseTerms(300, 30), clock)
    await lock.register([Definition("sync", "0 * * * *", "UTC", "m:f", nonce="n1")])
    await clock.advance(hours=3)
    await lock.register([Definition("sync", "*/15 * * * *", "UTC", "m:f", nonce=RunIds(clock.now)())])
    here.lives_here(alive=False)  # as if it had been killed here
    crons = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), clock=clock)
    crons.cron("*/15 * * * *", name="sync")(nothing)
    await crons.start()
    await clock.settle(crons)
    (row,) = await missed_of(crons, "sync")
    assert (row.reason, row.count) == ("schedule_changed", 3)
    await crons.stop()
    await lock.close()


async def test_what_is_found_out_twice_is_registered_once(clock: VirtualClock, tmp_path: Path) -> None:
    old = await _deployed(clock, tmp_path, "*/10 * * * *")
    new = await _deployed(clock, tmp_path, "*/15 * * * *")
    await clock.advance(old, new, minutes=12)
    assert old.engine is not None
    jobs = old.engine.dispatcher.jobs
    entry = jobs.get("sync")
    assert entry is not None
    await new.stop()
    # The heartbeat that misses the other instance, and a claim that was on its way, both say so.
    await jobs.register_orphaned()
    jobs.refused(entry, orphaned=True)
    await clock.advance(old, minutes=19)
    assert (await old.run_job("sync")).status == "completed"
    assert [at(run) for run in await runs_of(old, "sync") if run.tick] == ["00:20:00", "00:30:00"]
    await old.stop()
