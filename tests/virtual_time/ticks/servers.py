"""Servers: several schedulers in virtual time, on one lock store and one history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Literal

from fastapi_crons import CronConfig, CronJob, Crons
from fastapi_crons.locking import DistributedLockManager, LockBackend
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from fastapi_crons_sqlite.lock import SQLiteLockBackend
from tests.fleet_lock import Fleet, FleetLock


class Servers:
    """Schedulers on one lock store and one history."""

    def __init__(self, clock: VirtualClock, kind: str) -> None:
        self.clock, self.fleet, self.state = clock, Fleet(), MemoryStateBackend()
        self.kind, self.rerun_interrupted = kind, True
        self.started: list[Crons] = []

    def locks(self) -> LockBackend:
        return FleetLock(self.fleet) if self.kind == "memory" else SQLiteLockBackend(Path("jobs.db"))

    async def start(
        self,
        expr: object,
        work: Callable[..., object],
        role: Literal["scheduler", "operator"] = "scheduler",
        **options: object,
    ) -> Crons:
        config = CronConfig(
            lock_timeout=60, heartbeat_interval=1, instance_timeout=4, rerun_interrupted=self.rerun_interrupted
        )
        locks = DistributedLockManager(self.locks(), config)
        crons = Crons(state_backend=self.state, lock_manager=locks, config=config, clock=self.clock)
        crons.jobs.append(CronJob(work, expr, "job", **options))  # type: ignore[arg-type]
        await crons.start(role)
        self.started.append(crons)
        return crons

    async def stop(self, crons: Crons) -> None:
        self.started.remove(crons)
        await crons.stop()

    async def advance(self, **time: float) -> None:
        await self.clock.advance(*self.started, seconds=timedelta(**time).total_seconds())
