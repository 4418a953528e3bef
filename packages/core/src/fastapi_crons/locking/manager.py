"""DistributedLockManager: how a scheduler talks to its lock store.

Every call has a deadline; a store that does not answer is asked again with a growing, jittered delay, one for the whole
scheduler. Claims carry nonces, so asking again is safe.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from math import inf
from typing import TypeVar

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.text import counted, one_line, span
from fastapi_crons.clock import Clock, SystemClock
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import StoreError, StoreUnavailableError
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
    Registered,
    Resumed,
    ResumeRequest,
)
from fastapi_crons.locking.instance import Instance

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: A tick that waited for the store for so long (seconds) is late.
_LATE_AFTER = 1.0


def patient(request: ClaimRequest) -> ClaimRequest:
    """The claim of a tick that is not skipped for a run that goes on: where there is one, it is refused, and asked again."""
    return request._replace(overlap="queue") if request.overlap == "skip" else request


class DistributedLockManager:
    """The leases of one scheduler in one lock store."""

    def __init__(self, lock_backend: LockBackend, config: CronConfig | None = None) -> None:
        self.backend = lock_backend
        self.config = config or CronConfig()
        self._clock: Clock = SystemClock()
        #: Why the store does not answer at the moment; None while it does.
        self.fault: str | None = None
        #: Whether calls fail that are made again and again; one for all managers of this store.
        self.outage = Meter()
        #: How many ticks have become due in the last so many seconds, and whether there are more.
        self.count_ticks: Callable[[float], tuple[int, bool]] = lambda seconds: (0, False)
        #: When a registration or a claim was sent, on the monotonic clock, that the store has answered.
        self.lived_at = -inf
        #: Called before such a request is sent.
        self.before_claims: Callable[[], None] = lambda: None
        #: Called after each outage: from when to when (Unix seconds) the store did not answer, and why.
        self.on_outage: Callable[[float, float, str], None] = lambda since, until, why: None
        self._open = False

    async def open(self, instance: Instance, clock: Clock, *, to_read: bool = False) -> None:
        """Connect. Raises `StoreUnusableError` or `StoreUnavailableError`; nothing is tried again here.

        Whoever wants only to read makes nothing: see `LockBackend.open_to_read`.
        """
        self._clock, self._open = clock, False
        terms = LeaseTerms(self.config.lock_timeout, self.config.instance_timeout)
        connect = self.backend.open_to_read if to_read else self.backend.open
        try:
            await self._bounded(connect(instance, self.config.namespace, terms, clock))
        except BaseException:
            await self._close(None)
            raise
        self.fault, self._open = None, True

    def clone(self) -> DistributedLockManager | None:
        """A manager of the same store for another event loop, or None; see `LockBackend.clone`."""
        backend = self.backend.clone()
        if backend is None:
            return None
        second = DistributedLockManager(backend, self.config)
        second.outage, second.count_ticks = self.outage, self.count_ticks
        return second

    async def leave(self, timeout: float) -> None:
        """Take this instance off the store, within `timeout` seconds; without effect where nothing is open."""
        if self._open:
            try:
                await self._bounded(self.backend.leave(), timeout)
            except Exception as error:
                logger.warning("the lock store was not told that this instance stops: %s", one_line(error))

    async def close(self, timeout: float | None = None) -> None:
        """Disconnect, within `timeout` seconds or the store's deadline; without effect where nothing is open."""
        if not self._open:
            return
        self._open = False
        await self._close(timeout)

    async def _close(self, timeout: float | None) -> None:
        try:
            await self._bounded(self.backend.close(), timeout)
        except Exception as error:
            logger.warning("the lock store did not close cleanly: %s", one_line(error))

    async def register(self, definitions: Sequence[Definition]) -> list[Registered]:
        """Register jobs; waits while the store is down."""
        return await self._until_answered(lambda: self._as_beat(self.backend.register(definitions)))

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        """Claim ticks; waits while the store is down.

        A tick that waited for the store is late, and waits for a run that is in its way: that one may have ended long ago,
        and wait itself to be able to say so.
        """
        asked = self._clock.monotonic()

        def ask() -> Awaitable[list[ClaimResult]]:
            waited = self._clock.monotonic() - asked >= _LATE_AFTER
            return self._as_beat(self.backend.claim([patient(each) for each in requests] if waited else requests))

        return await self._until_answered(ask)

    async def claim_now(self, request: ClaimRequest) -> ClaimResult:
        """Claim for somebody who waits. Raises `StoreUnavailableError` where the store is down."""
        return (await self._bounded(self._as_beat(self.backend.claim([request]))))[0]

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        """Give leases back; waits while the store is down."""
        return await self._until_answered(lambda: self.backend.release(leases))

    async def release_now(self, leases: Sequence[LeaseRef], timeout: float) -> None:
        """Give leases back at a stop: one attempt of `timeout` seconds, a store that is down is only logged."""
        try:
            await self._bounded(self.backend.release(leases), timeout)
        except Exception as error:
            logger.warning(
                "%s could not be released, and will expire: %s", counted(len(leases), "lease"), one_line(error)
            )

    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        """Extend leases, one attempt. Raises `StoreUnavailableError` where the store is down."""
        return await self._watched("renewal", self.backend.renew(leases))

    async def pause(self, request: PauseRequest, definition: Definition) -> Pause:
        """Pause a job. One attempt. A job that no instance has registered yet is registered with its definition."""
        (pause,) = await self._bounded(self.backend.pause([request]))
        if pause is None:
            await self._bounded(self.backend.register([definition]))
            (pause,) = await self._bounded(self.backend.pause([request]))
        if pause is None:
            raise StoreUnavailableError(f"the lock store keeps no record of job {request.job!r}")
        return pause

    async def resume(self, request: ResumeRequest) -> Resumed | None:
        """End a job's pause; None where it is not paused. One attempt."""
        return (await self._bounded(self.backend.resume([request])))[0]

    async def resume_until_answered(self, request: ResumeRequest) -> Resumed | None:
        """End a job's pause; waits while the store is down. Asked again, a request gets the answer it got before."""
        return (await self._until_answered(lambda: self.backend.resume([request])))[0]

    async def pauses(self) -> dict[str, Pause]:
        """The jobs that are paused. One attempt."""
        return await self._bounded(self.backend.pauses())

    async def cancel(self, run_id: str, actor: str | None) -> bool:
        """Ask the holder of a run to cancel it; whether it has a lease on record. One attempt."""
        return run_id in await self._bounded(self.backend.cancel([run_id], actor))

    async def last_handled(self, jobs: Sequence[str]) -> list[int | None]:
        """The newest handled tick of each job; waits while the store is down."""
        return await self._until_answered(lambda: self.backend.last_handled(jobs))

    async def known(self, jobs: Sequence[str] | None = None) -> list[KnownJob]:
        """What is on record of the named jobs, or of all; jobs without a record are left out. One attempt."""
        return await self._bounded(self.backend.known(jobs))

    async def beat(self, running: int, jobs: str, leases: int) -> Beat:
        """Say that this instance lives; returns what it is to see to. One attempt."""
        return await self._watched("heartbeat", self.backend.beat(running, jobs, leases))

    async def instances(self) -> list[LiveInstance]:
        """The instances that live. One attempt."""
        return await self._bounded(self.backend.instances())

    async def forget(self, seconds: float) -> list[str]:
        """Delete the records of jobs that nobody has registered for so long; returns their names. One attempt."""
        return await self._bounded(self.backend.forget(seconds))

    async def leased(self, run_ids: Collection[str]) -> set[str]:
        """Those of the runs that have a lease on record. One attempt."""
        return await self._bounded(self.backend.leased(run_ids))

    async def _as_beat(self, call: Awaitable[T]) -> T:
        """A call by which the store learns that this instance lives."""
        self.before_claims()
        sent = self._clock.monotonic()
        answer = await call
        self.lived_at = sent
        return answer

    async def _until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        backoff, asked_ts, asked, why = Backoff(), self._clock.now(), self._clock.monotonic(), ""
        while True:
            try:
                answer = await self._bounded(call())
            except asyncio.CancelledError:
                raise
            except Exception as error:
                delay = backoff.next()
                self.fault = why = one_line(error)
                self.fails("jobs", asked, why)
                await self._clock.sleep(delay)
                continue
            if why:
                self.on_outage(asked_ts, self._clock.now(), f"the lock store did not answer ({why})")
            self.fault = None
            self._works("jobs")
            return answer

    async def _watched(self, caller: str, call: Awaitable[T]) -> T:
        """The answer to one of the calls that are made again and again; an outage is logged."""
        asked = self._clock.monotonic()
        try:
            answer = await self._bounded(call)
        except Exception as error:
            self.fails(caller, asked, one_line(error))
            if isinstance(error, StoreError):
                raise
            raise StoreUnavailableError(one_line(error)) from error
        self._works(caller)
        return answer

    def fails(self, caller: str, asked: float, cause: str) -> None:
        """Log that the store does not answer a caller that asks again and again: once, and then now and then.

        `asked` says when it was asked, on the monotonic clock.
        """
        lasting = self.outage.failed(self._clock.monotonic(), caller, asked=asked)
        if lasting is None:
            return
        if lasting.first:
            logger.error("the lock store does not answer, nothing is started until it does: %s", cause)
        else:
            number, more = self.count_ticks(lasting.seconds)
            logger.error(
                "the lock store has not answered for %s, %s %s: %s",
                span(lasting.seconds),
                counted(number, "tick", more=more),
                "waits" if number == 1 else "wait",
                cause,
            )

    def _works(self, caller: str) -> None:
        lasting = self.outage.works(self._clock.monotonic(), caller)
        if lasting is not None:
            number, more = self.count_ticks(lasting.seconds)
            waited = counted(number, "tick", more=more)
            logger.warning("the lock store answers again, after %s; %s waited", span(lasting.seconds), waited)

    async def _bounded(self, call: Awaitable[T], timeout: float | None = None) -> T:
        limit = self.config.store_timeout if timeout is None else timeout
        try:
            return await asyncio.wait_for(call, limit)
        except asyncio.TimeoutError:
            raise StoreUnavailableError(f"no answer within {limit:g} s") from None
