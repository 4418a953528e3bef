"""A scheduler whose dispatch task does not run: tests hand its answers over one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi_crons import CronConfig, Crons
from fastapi_crons.engine.dispatch.claim_results import ClaimResults
from fastapi_crons.engine.dispatch.claims import Wanted
from fastapi_crons.engine.dispatch.lateness import Delays
from fastapi_crons.engine.dispatch.queue import JobQueue, Room
from fastapi_crons.engine.dispatch.store_clock import StoreClock
from fastapi_crons.engine.dispatch.tracked import Phase, TrackedJob
from fastapi_crons.engine.runs.journal import Journal
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.runner import Runs
from fastapi_crons.locking import ClaimRequest, ClaimResult, DistributedLockManager, LeaseRef, LocalLockBackend
from fastapi_crons.run import RunIds
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock

#: Three hours after the job was registered: the tick that is claimed unless told otherwise.
TICK = 1_772_334_000
HOUR = 3_600
HOURLY = ("0 * * * *", "UTC")
GRANTED = ClaimResult("granted", TICK - HOUR, 9)
SKIPPED = ClaimResult("busy", TICK - HOUR, 9, "other", skipped=True)
ROOM = Room(9, 9, {"loop": 9, "thread": 9, "process": 9})


class Locks(LocalLockBackend):
    """Notes which leases it is asked to release, and of how many jobs for the last handled ticks: it says what is set here."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._virtual = clock
        self.released: list[LeaseRef] = []
        self.asked: list[int] = []
        self.handled: int | None = TICK - HOUR
        #: How long (seconds) it takes to say so.
        self.slow = 0.0

    async def last_handled(self, jobs: Sequence[str]) -> list[int | None]:
        self.asked.append(len(jobs))
        await asyncio.sleep(0)
        self._virtual.step(self.slow)
        return [self.handled for _ in jobs]

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        self.released += leases
        return await super().release(leases)


class Fixture:
    """The answers of one job, with a queue that nobody takes anything from."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.locks = Locks(clock)
        config = CronConfig()
        self.crons = Crons(None, MemoryStateBackend(), DistributedLockManager(self.locks, config), config, clock=clock)
        self.delays = Delays()
        self.ended: list[ActiveRun] = []
        self.calls: list[str] = []
        self.finish = asyncio.Event()

    async def start(self, **options: Any) -> None:
        async def job() -> None:
            await self.finish.wait()

        self.crons.cron("0 * * * *", name="job", **options)(job)
        await self.crons.start()
        engine = self.crons.engine
        assert engine is not None
        self.engine = engine
        await engine.dispatcher.shutdown(1)
        self.clock.step(TICK - self.clock.now())
        tracked = engine.dispatcher.jobs.get("job")
        assert tracked is not None
        self.tracked: TrackedJob = tracked
        self.jobs, self.runner = engine.dispatcher.jobs, engine.runner
        self.store_clock = StoreClock(self.clock)
        self.queue = JobQueue(lambda: False, self.clock.now)
        journal = Journal(self.clock, engine.hooks, engine.recorder, engine.background, "us")
        self.results = ClaimResults(
            self.clock,
            "us",
            Runs(engine.recorder, journal, engine.runner),
            self.store_clock,
            self.jobs,
            self.queue,
            self.delays,
            RunIds(self.clock.now),
            self.ended.append,
            lambda: self.calls.append("early"),
            lambda tracked: None,
            lambda: self.calls.append("wake"),
        )
        tracked.reset_last_handled(TICK - HOUR)

    def want(self, tick: int | None = TICK, **changes: Any) -> Wanted:
        requested = {name: changes.pop(name) for name in list(changes) if name in ClaimRequest._fields}
        return Wanted(self.tracked, ClaimRequest("job", "r1", tick, *HOURLY)._replace(**requested))._replace(**changes)

    async def take(self, want: Wanted, result: ClaimResult, *, at: float = TICK, claims: int = 1) -> None:
        """The answer to a claim comes at this time."""
        self.clock.step(at - self.clock.now())
        if want.interrupted is None and self.tracked.phase is Phase.IDLE:
            self.tracked.queue()
            self.tracked.claim(claims)
        self.results.take(want, result, at)
        await self.settle()

    async def settle(self, seconds: float = 0) -> None:
        await self.clock.advance(seconds=seconds)
        for _ in range(100):
            await asyncio.sleep(0)

    def queued(self) -> list[tuple[str, bool | None]]:
        """What was put in the queue, and whether it is late."""
        return [(tracked.job.name, late) for tracked, late in self.queue.take(ROOM)]
