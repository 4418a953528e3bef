"""FleetLock: a lock store of a fleet, in memory and on a virtual clock, that a test can take away and give back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from fastapi_crons.clock import Clock
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.locking import LeaseTerms, LiveInstance, LockTransaction, Reach, TransactionalLockBackend
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.rule import JobRecord

T = TypeVar("T")


class Fleet(LockTransaction):
    """What the locks of a fleet share; every transaction is on it."""

    def __init__(self) -> None:
        self.records: dict[str, JobRecord] = {}
        self.living: dict[str, LiveInstance] = {}
        #: Why nothing is answered; None while it is.
        self.down: str | None = None
        self.clock: Clock | None = None

    async def now(self) -> float:
        assert self.clock is not None
        return self.clock.now()

    async def load(self, jobs: Collection[str] | None) -> dict[str, JobRecord]:
        wanted = self.records.keys() if jobs is None else self.records.keys() & set(jobs)
        return {job: self.records[job] for job in wanted}

    async def save(self, records: Mapping[str, JobRecord]) -> None:
        self.records.update(records)

    async def delete(self, jobs: Collection[str]) -> None:
        for job in jobs:
            del self.records[job]

    async def instances(self) -> list[LiveInstance]:
        return list(self.living.values())

    async def save_instance(self, instance: LiveInstance) -> None:
        self.living[instance.instance.owner] = instance

    async def delete_instances(self, owners: Collection[str]) -> None:
        for owner in owners:
            self.living.pop(owner, None)


class FleetLock(TransactionalLockBackend):
    """One instance's way to the store: instances are judged by their heartbeats alone."""

    reach: ClassVar[Reach] = "fleet"

    def __init__(self, fleet: Fleet) -> None:
        super().__init__("lock store in memory")
        self._fleet = fleet

    async def open(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        self._fleet.clock = clock
        await super().open(replace(instance, boot=""), namespace, terms, clock)

    async def connect(self, *, to_read: bool) -> None: ...

    async def close(self) -> None: ...

    async def transact(self, work: Callable[[LockTransaction], Coroutine[Any, Any, T]], *, to_read: bool = False) -> T:
        if self._fleet.down is not None and not to_read:
            raise StoreUnavailableError(self._fleet.down)
        return await work(self._fleet)
