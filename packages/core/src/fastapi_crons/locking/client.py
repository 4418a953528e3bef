"""LockClient: how a started scheduler calls its lock store.

Every call has a deadline; a store that does not answer is called again with a growing, jittered delay, one for the whole
scheduler. Claims carry nonces, so calling again is safe. What the store answers about leases is noted in the LeaseBook.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.exceptions import is_a
from fastapi_crons._util.hiding import as_cause
from fastapi_crons._util.tasks import is_cancellation
from fastapi_crons._util.text import counted, one_line, span
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import CronsError, StoreUnavailableError, StoreUnusableError
from fastapi_crons.locking.base import (
    Beat,
    ClaimRequest,
    ClaimResult,
    Definition,
    KnownJob,
    LeaseRef,
    LiveInstance,
    LockBackend,
    Pause,
    PauseRequest,
    Registered,
    Resumed,
    ResumeRequest,
)
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.leases import LeaseBook

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: A tick whose claim has waited this long (seconds) for the store is late.
_LATE_AFTER = 1.0


class SupersededError(Exception):
    """Claims that waited for the store are to be made anew, since their jobs have changed meanwhile."""


def patient(request: ClaimRequest) -> ClaimRequest:
    """The claim of a tick that is not skipped for a running run. It is refused instead, and made again later."""
    return request._replace(overlap="queue") if request.overlap == "skip" else request


class LockClient:
    """The calls of one instance to one lock store."""

    def __init__(
        self,
        backend: LockBackend,
        config: CronConfig,
        clock: Clock,
        leases: LeaseBook,
        *,
        count_ticks: Callable[[float], tuple[int, bool]],
        on_outage: Callable[[float, float, str], None],
        outage: Meter | None = None,
    ) -> None:
        """`count_ticks` is given seconds; it returns how many ticks became due in these, and whether there are more.

        `on_outage` is called after each outage: from when to when (Unix seconds) the store did not answer, and why.
        """
        self.backend = backend
        self.config = config
        self._clock = clock
        self._leases = leases
        self._count_ticks = count_ticks
        self._on_outage = on_outage
        #: Why the store does not answer at the moment; None while it answers.
        self.fault: str | None = None
        #: Decides when an outage is logged; one for this client and its clones.
        self._outage = outage or Meter()
        self._open = False

    async def open(self, instance: Instance, *, to_read: bool = False) -> None:
        """Connect, in one attempt. Raises `StoreUnusableError` or `StoreUnavailableError`.

        With `to_read` nothing is created in the store: see `LockBackend.open_to_read`.
        """
        self._open = False
        connect = self.backend.open_to_read if to_read else self.backend.open
        try:
            await self._bounded(connect(instance, self.config.namespace, self._leases.terms, self._clock))
        except BaseException:
            await self._close(None)
            raise
        self.fault, self._open = None, True

    def clone(self) -> LockClient | None:
        """A client of the same store for another event loop, or None; see `LockBackend.clone`."""
        backend = self.backend.clone()
        if backend is None:
            return None
        return LockClient(
            backend,
            self.config,
            self._clock,
            self._leases,
            count_ticks=self._count_ticks,
            on_outage=self._on_outage,
            outage=self._outage,
        )

    async def leave(self, timeout: float) -> None:
        """Take this instance off the store, within `timeout` seconds. Does nothing while the client is not open."""
        if self._open:
            try:
                await self._bounded(self.backend.leave(), timeout)
            except CronsError as error:
                logger.warning(
                    "can't take this instance off the lock store, where it will time out: %s", one_line(error)
                )

    async def close(self, timeout: float | None = None) -> None:
        """Disconnect, within `timeout` seconds or the store's deadline. Does nothing while the client is not open."""
        if not self._open:
            return
        self._open = False
        await self._close(timeout)

    async def _close(self, timeout: float | None) -> None:
        try:
            await self._bounded(self.backend.close(), timeout)
        except CronsError as error:
            logger.warning("the lock store did not close cleanly: %s", one_line(error))

    async def register(self, definitions: Sequence[Definition], *, at_start: bool = False) -> list[Registered]:
        """Register jobs; waits while the store is down. With `at_start` it raises `StoreUnusableError`."""
        return await self._until_answered(
            lambda: self._alive(lambda: self.backend.register(definitions)), fails_if_unusable=at_start
        )

    async def claim(
        self, requests: Sequence[ClaimRequest], is_superseded: Callable[[], bool] = lambda: False
    ) -> list[ClaimResult]:
        """Claim ticks; waits while the store is down. Raises `SupersededError` where `is_superseded` then says so.

        A claim that waited for the store is not skipped for a running run: that run may have ended long ago, and may itself be
        waiting for the store to release its lease.
        """
        asked = self._clock.monotonic()

        def ask() -> Awaitable[list[ClaimResult]]:
            if self.fault is not None and is_superseded():
                raise SupersededError
            waited = self._clock.monotonic() - asked >= _LATE_AFTER
            return self._claim([patient(each) for each in requests] if waited else requests)

        return await self._noting_claims(requests, self._until_answered(ask))

    async def claim_now(self, request: ClaimRequest) -> ClaimResult:
        """Claim for a caller that waits. Raises `StoreUnavailableError` where the store is down."""
        return (await self._noting_claims([request], self._bounded(self._claim([request]))))[0]

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        """Release leases; waits while the store is down."""
        released = await self._until_answered(lambda: self.backend.release(leases))
        self._leases.released(leases)
        return released

    async def release_now(self, leases: Sequence[LeaseRef], timeout: float) -> None:
        """Release leases at a stop, in one attempt of `timeout` seconds. A failure is only logged."""
        try:
            await self._bounded(self.backend.release(leases), timeout)
        except CronsError as error:
            logger.warning("can't release %s, which will expire: %s", counted(len(leases), "lease"), one_line(error))
        else:
            self._leases.released(leases)

    async def renew(self, leases: Sequence[LeaseRef]) -> list[LeaseRef]:
        """Renew leases; returns those that we hold, but that the store does not know as ours. One attempt.

        Raises `StoreUnavailableError` where the store is down.
        """
        sent = self._clock.monotonic()
        return self._leases.confirm(sent, leases, await self._watched("renewal", self.backend.renew(leases)))

    async def renew_held(self) -> list[LeaseRef]:
        """Renew all leases that we hold, as `renew` does."""
        sent, leases = self._clock.monotonic(), self._leases.held()
        refused = await self.renew(leases) if leases else []
        self._leases.renewed(sent)
        return refused

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
        """End a job's pause; waits while the store is down. A repeated request gets the same answer."""
        return (await self._until_answered(lambda: self.backend.resume([request])))[0]

    async def pauses(self) -> dict[str, Pause]:
        """The jobs that are paused. One attempt."""
        return await self._bounded(self.backend.pauses())

    async def cancel(self, run_id: str, actor: str | None) -> bool:
        """Ask the holder of a run to cancel it; returns whether the run has a lease on record. One attempt."""
        return run_id in await self._bounded(self.backend.cancel([run_id], actor))

    async def last_handled(self, jobs: Sequence[str]) -> list[int | None]:
        """The newest handled tick of each job; waits while the store is down."""
        return await self._until_answered(lambda: self.backend.last_handled(jobs))

    async def known(self, jobs: Sequence[str] | None = None) -> list[KnownJob]:
        """What is on record of the named jobs, or of all; jobs without a record are left out. One attempt."""
        return await self._bounded(self.backend.known(jobs))

    async def beat(self, jobs: str) -> Beat:
        """Send a heartbeat with a digest of our jobs; returns what this instance is to see to. One attempt."""

        def call() -> Awaitable[Beat]:
            return self.backend.beat(len(self._leases.held()), jobs, len(self._leases))

        return await self._watched("heartbeat", self._alive(call))

    async def drain(self, owner: str) -> bool:
        """Ask an instance to claim nothing more; returns whether it is on record. One attempt."""
        return owner in await self._bounded(self.backend.drain([owner]))

    async def instances(self) -> list[LiveInstance]:
        """The instances that are alive. One attempt."""
        return await self._bounded(self.backend.instances())

    async def forget(self, seconds: float) -> list[str]:
        """Delete the records of jobs that no instance has registered for so long; returns their names. One attempt."""
        return await self._bounded(self.backend.forget(seconds))

    async def leased(self, run_ids: Collection[str]) -> set[str]:
        """Those of the runs that have a lease on record. One attempt."""
        return await self._bounded(self.backend.leased(run_ids))

    async def _alive(self, call: Callable[[], Awaitable[T]]) -> T:
        """The answer to a call by which the store learns that this instance lives."""
        sent = self._clock.monotonic()
        answer = await call()
        self._leases.lived(sent)
        return answer

    async def _claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        sent = self._clock.monotonic()
        results = await self.backend.claim(requests)
        self._leases.lived(sent)
        self._leases.answered(sent, requests, results)
        return results

    async def _noting_claims(self, requests: Sequence[ClaimRequest], answer: Awaitable[T]) -> T:
        run_ids = [request.run_id for request in requests]
        self._leases.claiming(run_ids)
        try:
            return await answer
        except BaseException:
            self._leases.unanswered(run_ids)
            raise

    async def _until_answered(self, call: Callable[[], Awaitable[T]], *, fails_if_unusable: bool = False) -> T:
        backoff, asked_ts, asked, why = Backoff(), self._clock.now(), self._clock.monotonic(), ""
        while True:
            try:
                answer = await self._bounded(call())
            except CronsError as error:
                if fails_if_unusable and isinstance(error, StoreUnusableError):
                    raise
                delay = backoff.next()
                self.fault = why = one_line(error)
                self.fails("jobs", asked, why)
                await self._clock.sleep(delay)
                continue
            except SupersededError:
                self._on_outage(asked_ts, self._clock.now(), f"the lock store did not answer ({self.fault})")
                raise
            if why:
                self._on_outage(asked_ts, self._clock.now(), f"the lock store did not answer ({why})")
            self.fault = None
            self._works("jobs")
            return answer

    async def _watched(self, caller: str, call: Awaitable[T]) -> T:
        """The answer to a call that its caller repeats for ever; an outage is logged."""
        asked = self._clock.monotonic()
        try:
            answer = await self._bounded(call)
        except CronsError as error:
            self.fails(caller, asked, one_line(error))
            raise
        self._works(caller)
        return answer

    def fails(self, caller: str, asked: float, cause: str) -> None:
        """Log that the store does not answer a caller that repeats its call: at once, and then now and then.

        `asked` is when the store was called, on the monotonic clock.
        """
        lasting = self._outage.failed(self._clock.monotonic(), caller, asked=asked)
        if lasting is None:
            return
        if lasting.first:
            logger.error("the lock store does not answer, nothing is started until it does: %s", cause)
        else:
            number, more = self._count_ticks(lasting.seconds)
            logger.error(
                "the lock store has not answered for %s, %s %s: %s",
                span(lasting.seconds),
                counted(number, "tick", more=more),
                "waits" if number == 1 else "wait",
                cause,
            )

    def _works(self, caller: str) -> None:
        lasting = self._outage.works(self._clock.monotonic(), caller)
        if lasting is not None:
            number, more = self._count_ticks(lasting.seconds)
            waited = counted(number, "tick", more=more)
            logger.warning("the lock store answers again, after %s; %s waited", span(lasting.seconds), waited)

    async def _bounded(self, call: Awaitable[T], timeout: float | None = None) -> T:
        """The answer to a call, within so many seconds. Whatever a store raises besides errors of ours counts as none."""
        limit = self.config.store_timeout if timeout is None else timeout
        try:
            return await asyncio.wait_for(call, limit)
        except CronsError:
            raise
        except asyncio.TimeoutError:
            raise StoreUnavailableError(f"no answer within {limit:g} s") from None
        except BaseException as error:
            if is_cancellation(error) or is_a(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise StoreUnavailableError(one_line(error)) from as_cause(error)
