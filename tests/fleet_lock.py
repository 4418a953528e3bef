"""FleetLock: a lock store of a fleet, in memory and on a virtual clock, that a test can take away and give back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from fastapi_crons.clock import Clock
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.locking import (
    Beat,
    ClaimRequest,
    ClaimResult,
    Definition,
    LeaseRef,
    LeaseTerms,
    LiveInstance,
    LocalLockBackend,
    Reach,
    Registered,
    rule,
)
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.rule import JobRecord


class Fleet:
    """What the locks of a fleet share."""

    def __init__(self) -> None:
        self.records: dict[str, JobRecord] = {}
        self.living: dict[str, LiveInstance] = {}
        #: Why writes are refused; None while they are not.
        self.down: str | None = None


class FleetLock(LocalLockBackend):
    """One instance's way to the store: an instance counts as alive while its heartbeat and its lease are young."""

    reach: ClassVar[Reach] = "fleet"

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self._fleet = fleet
        self._records = fleet.records

    async def open(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        await super().open(instance, namespace, terms, clock)
        self._terms = terms

    async def leave(self) -> None:
        self._fleet.living.pop(self._owner, None)

    async def register(self, definitions: Sequence[Definition]) -> list[Registered]:
        now = self._write()
        return [rule.register(self._records, each, self._owner, now, self._terms.lease) for each in definitions]

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        now = self._write()
        return [
            rule.claim(self._records, request, self._owner, now, self._terms.lease, self._alive) for request in requests
        ]

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        self._write(alive=False)
        return await super().release(leases)

    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        self._write(alive=False)
        return await super().renew(leases)

    async def beat(self, running: int = 0, jobs: str = "", leases: int = 0) -> Beat:
        unknown = self._owner not in self._fleet.living
        now = self._write(running, jobs)
        held = [lease for record in self._records.values() for lease in (record.leases or {}).values()]
        own = [lease for lease in held if lease.instance == self._owner]
        dead = [lease for lease in held if not self._alive(lease.instance, lease.expires)]
        living = [found for found in self._fleet.living.values() if now - found.heartbeat_ts < self._terms.instance]
        return Beat(dead, (), living, own if len(own) != leases else (), unknown)

    async def instances(self) -> list[LiveInstance]:
        return list(self._fleet.living.values())

    def _write(self, running: int = 0, jobs: str | None = None, *, alive: bool = True) -> float:
        if self._fleet.down is not None:
            raise StoreUnavailableError(self._fleet.down)
        now = self._clock.now()
        if alive:
            assert self._instance is not None
            known = self._fleet.living.get(self._owner)
            digest = jobs if jobs is not None else "" if known is None else known.jobs
            self._fleet.living[self._owner] = LiveInstance(self._instance, now, running, digest)
        return now

    def _alive(self, owner: str, expires: float) -> bool:
        if owner == self._owner:
            return True
        found, now = self._fleet.living.get(owner), self._clock.now()
        return found is not None and now < expires and now - found.heartbeat_ts < self._terms.instance
