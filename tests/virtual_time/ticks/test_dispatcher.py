"""Dispatcher: what becomes of ticks while others are late, running, refused, or claimed without an answer."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.locking import ClaimRequest, ClaimResult, DistributedLockManager, LocalLockBackend
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import at, missed_of, nothing, runs_of


async def test_a_tick_that_falls_due_while_late_ones_wait_for_room_runs_with_them(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons(catch_up_concurrency=1)

    @crons.cron("30 * * * *", name="in front")
    async def in_front() -> None:
        await clock.sleep(600)

    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=40)
    await crons.stop()
    await clock.advance(hours=1, minutes=19)
    await crons.start()
    await clock.advance(crons, minutes=15)
    runs = [(at(run), run.missed_ticks) for run in await runs_of(crons, "job")]
    assert runs == [("02:00:00", 1)], (
        "the tick of 02:00 fell due while that of 01:00 waited; it is not left until 03:00"
    )


class _Refusing(LocalLockBackend):
    """A lock store that does something else at its next claims."""

    def __init__(self) -> None:
        super().__init__()
        self.next: list[str] = []
        self.claims = 0

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        self.claims += 1
        what = self.next.pop(0) if self.next else ""
        if what == "bug":
            raise KeyError("a store of which nobody expected this")
        if what == "too few answers":
            return []
        if what == "busy":
            return [ClaimResult("busy", holder="elsewhere") for _ in requests]
        return await super().claim(requests)


def _on(lock: LocalLockBackend, clock: VirtualClock) -> Crons:
    return Crons(
        state_backend=MemoryStateBackend(), lock_manager=DistributedLockManager(lock, CronConfig()), clock=clock
    )


@pytest.mark.parametrize("what", ["busy", "bug", "too few answers"])
async def test_a_tick_whose_claim_fails_once_is_claimed_again_long_before_the_next_one(
    what: str, clock: VirtualClock
) -> None:
    lock = _Refusing()
    crons = _on(lock, clock)
    crons.cron("0 * * * *", name="job")(nothing)
    await crons.start()
    lock.next = [what]
    await clock.advance(crons, hours=1, minutes=1)
    assert [at(run) for run in await runs_of(crons, "job")] == ["01:00:00"]
    assert await missed_of(crons, "job") == []
    await crons.stop()


async def test_a_job_that_is_refused_again_and_again_has_one_timer(clock: VirtualClock) -> None:
    lock = _Refusing()
    crons = _on(lock, clock)
    crons.cron("* * * * * *", name="job", overlap="queue")(nothing)
    await crons.start()
    lock.next = ["busy"] * 1_000
    claims = []
    for _ in range(3):
        lock.claims = 0
        await clock.advance(crons, seconds=20)
        claims.append(lock.claims)
    assert max(claims) <= 2 * 20, "each tick asks once, and a refused one again after half a second"
    await crons.stop()


async def test_late_ticks_of_a_job_that_allows_overlap_run_beside_each_other(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons(coalesce=False)
    together = most = 0

    @crons.cron("*/10 * * * *", name="job", overlap="allow")
    async def job() -> None:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await clock.sleep(60)
        together -= 1

    await crons.start()
    await crons.stop()
    await clock.advance(minutes=35)
    await crons.start()
    await clock.advance(crons, minutes=4)
    assert (most, len(await runs_of(crons, "job"))) == (3, 3)


async def test_runs_that_have_ended_are_freed_without_the_garbage_collector(
    clock: VirtualClock, make_crons: MakeCrons
) -> None:
    crons = make_crons()
    crons.cron("* * * * * *", name="on the loop")(nothing)
    crons.cron("* * * * * *", name="in a thread")(lambda: None)
    await crons.start()
    gc.collect()
    before = sum(isinstance(each, ActiveRun) for each in gc.get_objects())
    gc.disable()
    try:
        await clock.advance(crons, seconds=20)
        left = sum(isinstance(each, ActiveRun) for each in gc.get_objects()) - before
    finally:
        gc.enable()
    assert len(await runs_of(crons, "on the loop")) == 20
    assert left <= 2, "none but the last of each job, which a worker thread may hold"
