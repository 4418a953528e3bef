"""Backfills that one instance works on, and others ask about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from fastapi_crons import CronConfig, Crons, JobLockedError
from fastapi_crons.engine.backfills import Backfill, Span
from fastapi_crons.errors import RunEndedError
from fastapi_crons.locking import DistributedLockManager
from fastapi_crons.management.management import Management
from fastapi_crons.state import BackfillRecord, MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.fleet_lock import Fleet as Locks
from tests.fleet_lock import FleetLock
from tests.virtual_time.ticks.why import MIDNIGHT

MakeCrons = Callable[..., Crons]


class Fleet:
    """Two instances with one job, which takes a minute, on stores that they share."""

    def __init__(self, make_crons: MakeCrons, clock: VirtualClock) -> None:
        state, shared = MemoryStateBackend(), Locks()
        self.clock = clock
        self.one, self.other = (
            make_crons(state_backend=state, lock_manager=DistributedLockManager(FleetLock(shared), CronConfig()))
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

    async def seen(self) -> BackfillRecord:
        """The newest one, as the other instance sees it."""
        return (await Management(self.other).backfills.of_job("job"))[0]

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(self.one, self.other, seconds=seconds)


@pytest.fixture
def fleet(make_crons: MakeCrons, clock: VirtualClock) -> Fleet:
    return Fleet(make_crons, clock)


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
    begun = BackfillRecord("0", "job", "gone-owner", "gone", 0, 60, fleet.clock.now(), runs=3)
    assert fleet.one.engine is not None
    await fleet.one.engine.state.begin_backfill(begun)
    seen = await fleet.seen()
    assert (seen.status, seen.left) == ("interrupted", 3)
    assert seen.error is not None
    assert "instance 'gone', which worked on it, is gone" in seen.error
    on = await fleet.begin(fleet.other)
    statuses = [each.status for each in await Management(fleet.one).backfills.of_job("job")]
    assert (statuses, on.status) == (["running", "interrupted"], "running")
