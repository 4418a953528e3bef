"""The local lock store: for one process, gone with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from fastapi_crons._util.gc_pause import collector_paused
from fastapi_crons.clock import Clock, SystemClock
from fastapi_crons.locking import rule
from fastapi_crons.locking.base import (
    Beat,
    ClaimRequest,
    ClaimResult,
    Definition,
    KnownJob,
    LeaseRef,
    LeaseTerms,
    LiveInstance,
    LockBackend,
    Pause,
    PauseRequest,
    Reach,
    Registered,
    Resumed,
    ResumeRequest,
)
from fastapi_crons.locking.record import JobRecord
from fastapi_crons.locking.restoring import restore

if TYPE_CHECKING:
    from fastapi_crons.locking.instance import Instance


class LocalLockBackend(LockBackend):
    """Job records in this process's memory. A lease lasts until it is released."""

    reach: ClassVar[Reach] = "process"

    def __init__(self) -> None:
        self._clock: Clock = SystemClock()
        self._records: dict[str, JobRecord] = {}
        self._instance: Instance | None = None
        self._owner = ""
        self._term = 0.0

    async def open(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        self._instance, self._owner, self._term, self._clock = instance, instance.owner, terms.lease, clock

    async def close(self) -> None:
        """Keeps its records, for a scheduler that is started again."""

    async def leave(self) -> None:
        for record in self._records.values():
            record.leases = None

    async def register(self, definitions: Sequence[Definition]) -> list[Registered]:
        now, records = self._clock.now(), self._records
        with collector_paused():
            return [rule.register(records, each, self._owner, now, self._term, self._lives) for each in definitions]

    def _lives(self, owner: str, expires: float) -> bool:
        """Whether a scheduler of this process, which may have been started several times, is the one of now."""
        return owner == self._owner

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        now = self._clock.now()
        return [rule.claim(self._records, request, self._owner, now, self._term, _alive) for request in requests]

    async def pause(self, requests: Sequence[PauseRequest]) -> list[Pause | None]:
        now = self._clock.now()
        return [rule.pause(self._records, request, now) for request in requests]

    async def resume(self, requests: Sequence[ResumeRequest]) -> list[Resumed | None]:
        now = self._clock.now()
        return [rule.resume(self._records, request, self._owner, now, self._term) for request in requests]

    async def cancel(self, run_ids: Collection[str], actor: str | None) -> set[str]:
        return set()  # all runs are this process's own: it cancels them itself

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        now = self._clock.now()
        return [rule.release(self._records, lease, now) for lease in leases]

    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        now = self._clock.now()
        return [rule.renew(self._records, lease, now, self._term) for lease in leases]

    async def known(self, jobs: Sequence[str] | None = None) -> list[KnownJob]:
        names = self._records if jobs is None else jobs
        return [record.known(name) for name in names if (record := self._records.get(name)) is not None]

    async def restore(self, jobs: Sequence[KnownJob]) -> None:
        now = self._clock.now()
        for known in jobs:
            restore(self._records, known, now)

    async def beat(self, running: int = 0, jobs: str = "", leases: int = 0) -> Beat:
        return Beat()

    async def instances(self) -> list[LiveInstance]:
        # One instance at a time has this store.
        return [] if self._instance is None else [LiveInstance(self._instance, self._clock.now())]

    async def forget(self, seconds: float) -> list[str]:
        return []  # this process registered all that is here

    async def pauses(self) -> dict[str, Pause]:
        return {name: record.pause for name, record in self._records.items() if record.pause is not None}

    async def leased(self, run_ids: Collection[str]) -> set[str]:
        held = {run_id for record in self._records.values() for run_id in record.leases or ()}
        return held.intersection(run_ids)


def _alive(owner: str, expires: float) -> bool:
    return True
