"""Backfills that one instance works on, and others ask about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar

import pytest

from fastapi_crons import CronConfig, Crons, JobLockedError
from fastapi_crons.engine.backfills import Backfill, Span
from fastapi_crons.errors import RunEndedError
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend, LockBackend, Reach
from fastapi_crons.management.management import Management
from fastapi_crons.state import BackfillRecord, MemoryStateBackend, StateBackend
from fastapi_crons.testing import VirtualClock
from tests.fleet_lock import Fleet as Locks
from tests.fleet_lock import FleetLock
from tests.support import state_of
from tests.virtual_time.why.asking import MIDNIGHT

MakeCrons = Callable[..., Crons]


class Fleet:
    """Two instances with one job, which takes a minute, on stores that they share."""

    def __init__(
        self, make_crons: MakeCrons, clock: VirtualClock, state: StateBackend, locks: Callable[[], LockBackend]
    ) -> None:
        self.clock = clock
        self.one, self.other = (
            make_crons(state_backend=state, lock_manager=DistributedLockManager(locks(), CronConfig()))
            for _ in range(2)
        )
        for crons in (self.one, self.other):
            crons.cron("0 * * * *", name="job")(lambda: clock.sleep(60))

    async def start(self) -> Backfill:
        await self.one.start()
        await self.other.start()
        return await self.begin(self.one)

    async def begin(self, crons: Crons) -> Backfill:
        management = Management(crons)
        first, last = ((MIDNIGHT - timedelta(hours=hours)).timestamp() for hours in (4, 1))
        return await management.backfills.start(
            Span(management.definition("job"), int(first), int(last), one_by_one=True)
        )

    async def left_by(self, instance: str) -> BackfillRecord:
        """What an instance that is not there has left on record."""
        begun = BackfillRecord("0", "job", f"{instance}~1", instance, 0, 60, self.clock.now(), runs=3)
        assert await state_of(self.one).begin_backfill(begun) is None
        return begun

    async def seen(self) -> BackfillRecord:
        """The newest one, as the other instance sees it."""
        return (await Management(self.other).backfills.of_job("job"))[0]

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(self.one, self.other, seconds=seconds)


@pytest.fixture
def fleet(make_crons: MakeCrons, clock: VirtualClock) -> Fleet:
    shared = Locks()
    return Fleet(make_crons, clock, MemoryStateBackend(), lambda: FleetLock(shared))


async def test_every_instance_sees_how_far_it_is(fleet: Fleet) -> None:
    begun = await fleet.start()
    await fleet.advance(90)
    seen = await fleet.seen()
    assert (seen.id, seen.status, seen.done, seen.left) == (begun.id, "running", 1, 3)
    assert begun.current is not None
    assert seen.current_run == begun.current.id
    await fleet.advance(300)
    seen = await fleet.seen()
    assert (seen.status, seen.done, seen.left, seen.current_run) == ("completed", 4, 0, None)
    assert seen.ended_ts is not None


async def test_another_instance_cancels_it(fleet: Fleet) -> None:
    begun = await fleet.start()
    await fleet.advance(90)
    asked = await Management(fleet.other).backfills.cancel("job", begun.id, actor="ops")
    assert (asked.status, asked.cancel_asked) == ("running", True)
    await fleet.advance(5)
    seen = await fleet.seen()
    assert (seen.status, seen.done, seen.failed, seen.left, seen.cancelled_by) == ("cancelled", 1, 1, 2, "ops")
    newest, *_ = await fleet.one.runs("job")
    assert newest.error is not None
    assert newest.error.message == "was cancelled by ops"
    with pytest.raises(RunEndedError):
        await Management(fleet.other).backfills.cancel("job", begun.id)


async def test_a_job_has_one_over_all_instances(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.advance(30)
    with pytest.raises(JobLockedError, match="is going on, with 4 runs left"):
        await fleet.begin(fleet.other)


async def test_two_that_begin_at_once_do_not_both_run(fleet: Fleet) -> None:
    await fleet.one.start()
    await fleet.other.start()
    both = await asyncio.gather(fleet.begin(fleet.one), fleet.begin(fleet.other), return_exceptions=True)
    assert sorted(type(each).__name__ for each in both) == ["Backfill", "JobLockedError"]
    await fleet.advance(300)
    assert len(await Management(fleet.other).backfills.of_job("job")) == 1


async def test_the_end_of_its_instance_is_on_record(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.advance(5)
    stopping = asyncio.create_task(fleet.one.stop())
    while not stopping.done():
        await fleet.advance(1)
    await stopping
    seen = await fleet.seen()
    assert (seen.status, seen.error) == (
        "cancelled",
        "its instance stopped, or drains; begin the same one again to run what is left",
    )
    assert (await fleet.begin(fleet.other)).on_record.status == "running"


async def test_one_whose_instance_is_gone_was_interrupted_and_another_may_begin(fleet: Fleet) -> None:
    await fleet.one.start()
    await fleet.other.start()
    await fleet.left_by("gone")
    seen = await fleet.seen()
    assert (seen.status, seen.left) == ("interrupted", 3)
    assert seen.error is not None
    assert "instance 'gone', which worked on it, is gone" in seen.error
    on = await fleet.begin(fleet.other)
    statuses = [each.status for each in await Management(fleet.one).backfills.of_job("job")]
    assert (statuses, on.status) == (["running", "interrupted"], "running")


class AskedTwice(MemoryStateBackend):
    """A store whose client asks again after each answer that it did not get, which is each."""

    async def begin_backfill(self, record: BackfillRecord) -> BackfillRecord | None:
        await super().begin_backfill(record)
        return await super().begin_backfill(record)

    async def change_backfill(self, record: BackfillRecord) -> bool:
        await super().change_backfill(record)
        return await super().change_backfill(record)


async def test_answers_that_are_lost_change_nothing(make_crons: MakeCrons, clock: VirtualClock) -> None:
    shared = Locks()
    fleet = Fleet(make_crons, clock, AskedTwice(), lambda: FleetLock(shared))
    begun = await fleet.start()
    await fleet.advance(90)
    assert (await fleet.seen()).done == 1
    await Management(fleet.other).backfills.cancel("job", begun.id, actor="ops")
    await fleet.advance(5)
    seen = await fleet.seen()
    assert (seen.status, seen.done, seen.failed, seen.cancelled_by) == ("cancelled", 1, 1, "ops")


async def test_one_that_the_store_has_lost_is_put_on_record_again(fleet: Fleet) -> None:
    begun = await fleet.start()
    await state_of(fleet.one).forget(["job"])
    assert await Management(fleet.other).backfills.of_job("job") == []
    await fleet.advance(90)
    seen = await fleet.seen()
    assert (seen.id, seen.status, seen.done) == (begun.id, "running", 1)


class SeenByAll(MemoryStateBackend):
    """A history that is shared by more than the locks are: each instance knows itself alone."""

    reach: ClassVar[Reach] = "fleet"


@pytest.fixture
def strangers(make_crons: MakeCrons, clock: VirtualClock) -> Fleet:
    return Fleet(make_crons, clock, SeenByAll(), LocalLockBackend)


async def test_instances_that_do_not_see_each_other_take_none_for_dead(strangers: Fleet) -> None:
    begun = await strangers.start()
    await strangers.advance(90)
    assert (await strangers.seen()).status == "running"
    with pytest.raises(JobLockedError, match="is going on, with 3 runs left"):
        await strangers.begin(strangers.other)
    asked = await Management(strangers.other).backfills.cancel("job", begun.id, actor="ops")
    assert (asked.status, asked.cancelled_by) == ("cancelled", "ops")
    await strangers.advance(5)
    newest, *_ = await strangers.one.runs("job")
    assert newest.error is not None
    assert newest.error.message == "was cancelled by ops"
    assert (begun.status, begun.left) == ("cancelled", 2)


async def test_one_whose_instance_can_not_be_seen_is_cancelled_on_record(strangers: Fleet) -> None:
    await strangers.one.start()
    await strangers.other.start()
    left = await strangers.left_by("gone")
    assert (await strangers.seen()).status == "running"
    cancelled = await Management(strangers.other).backfills.cancel("job", left.id)
    assert (cancelled.status, cancelled.ended_ts) == ("cancelled", strangers.clock.now())
    assert (await strangers.begin(strangers.other)).status == "running"
