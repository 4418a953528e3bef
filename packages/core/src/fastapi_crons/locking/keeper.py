"""LeaseKeeper: says that an instance lives, and renews its leases, in a thread that no job can block.

An instance that can't reach its store counts on its own monotonic clock, from before a request was sent, when others may
take it for dead; a little earlier it gives its leases up.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Protocol

from fastapi_crons.backoff import Backoff
from fastapi_crons.clock import Clock, SystemClock
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import StoreError
from fastapi_crons.instance import Instance
from fastapi_crons.locking.base import Beat, LeaseRef
from fastapi_crons.locking.manager import DistributedLockManager
from fastapi_crons.metering import Meter
from fastapi_crons.outcome import one_line
from fastapi_crons.wording import counted

logger = logging.getLogger(__name__)

#: How long (seconds) before others may take us for dead leases are given up; a tenth of the timeout where that is less.
_MARGIN = 1.0
#: A loop that has not turned for so long (seconds) is blocked.
_BLOCKED_AFTER = 2.0
#: How often (seconds), at most, it is looked whether leases are to be given up.
_SHORTEST_WATCH = 0.05


class Holder(Protocol):
    """Whose leases are kept. What returns something is called from the keeper's thread, the others on the holder's loop."""

    def leases(self) -> Sequence[LeaseRef]:
        """The leases of all runs that go on."""

    def lease_count(self) -> int:
        """How many leases it has, those that are to be given back among them."""

    def jobs_digest(self) -> str:
        """A digest of the jobs that it runs."""

    def heard(self, beat: Beat) -> None:
        """The store has answered a heartbeat."""

    def refused(self, leases: Sequence[LeaseRef]) -> None:
        """The store does not know these leases as ours."""

    def gave_up(self) -> None:
        """Leases are not ours any more: see `LeaseKeeper.holds`."""

    def blocked(self, seconds: float) -> None:
        """The holder's loop has not turned for so long. Called from the keeper's thread."""


class LeaseKeeper:
    """Heartbeats and renewals of one instance. Made, started and stopped on the holder's event loop."""

    def __init__(
        self, locks: DistributedLockManager, config: CronConfig, clock: Clock, instance: Instance, holder: Holder
    ) -> None:
        self._locks = locks
        self._config = config
        self._clock = clock
        self._instance = instance
        self._holder = holder
        self._loop = asyncio.get_running_loop()
        # On one host, or in one process, the process is the evidence: it keeps its leases while it lives.
        self._bounded = locks.backend.reach == "fleet"
        self._margin = min(_MARGIN, config.instance_timeout / 10, config.lock_timeout / 10)
        #: All on the monotonic clock: when the last heartbeat, and the last renewal, that succeeded was sent; which
        #: leases were given up: those from before.
        self._beaten = self._renewed = clock.monotonic()
        self._given_up = -inf
        #: Whether the store has been out of reach for so long that leases were given up.
        self._out_of_reach = False
        self._stopping = False
        self._failures = Meter()
        self._wake = asyncio.Event()
        locks.before_claims = self._give_up_in_time
        self._tasks: list[asyncio.Task[None]] = []
        self._thread: threading.Thread | None = None
        self._thread_loop: asyncio.AbstractEventLoop | None = None
        self._thread_ended = asyncio.Event()
        #: When the holder was told something that it has not heard yet.
        self._told_at: float | None = None

    def holds(self, since: float) -> bool:
        """Whether a lease that was granted `since` (on the monotonic clock) is still ours, as far as we can know."""
        return since > self._given_up and self._clock.monotonic() < self._good_until

    @property
    def silent_for(self) -> float:
        """Seconds since the last heartbeat that the store answered; 0 where none is due by this clock."""
        return 0.0 if self._thread is None else self._clock.monotonic() - self._beaten

    async def beat_now(self) -> Beat:
        """Say that the instance lives, on the holder's loop. Raises `StoreError`."""
        return await self._beat(self._locks)

    def start(self) -> None:
        """Go on from now, in a thread where the store can be had a second time, else on this loop."""
        beside = self._locks.beside() if isinstance(self._clock, SystemClock) else None
        if beside is None:
            work = [self._beat_forever(self._locks), self._watch()]
            self._tasks = [self._loop.create_task(each, name="fastapi-crons leases") for each in work]
        else:
            self._thread = threading.Thread(target=self._live, args=(beside,), name="fastapi-crons-leases", daemon=True)
            self._thread.start()

    def beat_soon(self) -> None:
        """Ask the store now whether there is something to see to. Safe to call from any thread."""
        self._wake_up()

    async def stop(self, timeout: float) -> None:
        """End, within so many seconds."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        if self._thread is not None:
            self._wake_up()
            try:
                await asyncio.wait_for(self._thread_ended.wait(), timeout)
            except asyncio.TimeoutError:
                logger.warning("the thread that keeps the leases did not end within %g s, and is left behind", timeout)

    @property
    def _good_until(self) -> float:
        if not self._bounded:
            return inf
        lived = max(self._beaten, self._locks.lived_at)
        return min(lived + self._config.instance_timeout, self._renewed + self._config.lock_timeout) - self._margin

    def _wake_up(self) -> None:
        loop = self._loop if self._thread is None else self._thread_loop
        if loop is not None:
            with suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(self._wake.set)

    # What follows runs in the keeper's thread, where there is one.

    def _live(self, locks: DistributedLockManager) -> None:
        backoff = Backoff()
        while not self._stopping:
            try:
                asyncio.run(self._keep(locks))
            except BaseException:
                lasting = self._failures.failed(self._clock.monotonic())
                if lasting is not None:
                    failed = counted(lasting.times, "time")
                    logger.exception("the thread that keeps the leases failed (%s so far), and starts again", failed)
                time.sleep(backoff.next())
        self._on_holders_loop(self._thread_ended.set)

    async def _keep(self, locks: DistributedLockManager) -> None:
        self._wake, self._thread_loop = asyncio.Event(), asyncio.get_running_loop()
        watch = asyncio.create_task(self._watch())
        backoff = Backoff()
        try:
            while not self._stopping:
                try:
                    await locks.open(self._instance, self._clock)
                    break
                except StoreError as error:
                    locks.fails("heartbeat", self._clock.monotonic(), one_line(error))
                    await self._pause(backoff.next())
            await self._beat_forever(locks)
        finally:
            self._thread_loop = None
            watch.cancel()
            await locks.close()

    async def _beat_forever(self, locks: DistributedLockManager) -> None:
        while not self._stopping:
            await self._pause(self._config.heartbeat_interval)
            if self._stopping:
                return
            self._look_at_holder()
            before = self._beaten
            try:
                self._tell(partial(self._holder.heard, await self._beat(locks)))
                # After a long silence others may have taken over what is not to be seen from where they are.
                silent = self._beaten - before >= self._config.instance_timeout
                if silent or self._clock.monotonic() - self._renewed >= self._config.lock_renewal_interval:
                    await self._renew(locks)
            except StoreError as error:
                logger.debug("no heartbeat: %s", one_line(error))  # the manager has logged the outage
            except Exception:  # of whatever kind: beating must go on
                lasting = self._failures.failed(self._clock.monotonic())
                if lasting is not None:
                    logger.exception(
                        "no heartbeat could be left in the lock store, %s so far", counted(lasting.times, "time")
                    )

    async def _beat(self, locks: DistributedLockManager) -> Beat:
        self._give_up_in_time()
        sent = self._clock.monotonic()
        holder = self._holder
        beat = await locks.beat(len(holder.leases()), holder.jobs_digest(), holder.lease_count())
        self._beaten = sent
        return beat

    async def _renew(self, locks: DistributedLockManager) -> None:
        leases, sent = self._holder.leases(), self._clock.monotonic()
        renewed = await locks.renew(leases) if leases else []
        self._renewed = sent
        refused = [lease for lease, ours in zip(leases, renewed, strict=True) if not ours]
        if refused:
            self._tell(partial(self._holder.refused, refused))

    async def _watch(self) -> None:
        while self._bounded:
            await self._clock.sleep(max(_SHORTEST_WATCH, self._good_until - self._clock.monotonic()))
            self._give_up_in_time()

    def _give_up_in_time(self) -> None:
        now = self._clock.monotonic()
        if now < self._good_until:
            self._out_of_reach = False
        elif not self._out_of_reach:
            # What is granted from now on shows that the store is within reach again. There is nothing left to renew.
            self._out_of_reach, self._given_up, self._renewed = True, now, now
            self._tell(self._holder.gave_up)

    async def _pause(self, seconds: float) -> None:
        timer = self._clock.call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            self._wake.clear()

    def _look_at_holder(self) -> None:
        since, now = self._told_at, self._clock.monotonic()
        if since is not None and now - since >= _BLOCKED_AFTER and self._thread is not None:
            self._holder.blocked(now - since)

    def _tell(self, message: Callable[[], object]) -> None:
        """Have the holder hear something on its own loop."""
        if self._told_at is None:
            self._told_at = self._clock.monotonic()

        def deliver() -> None:
            self._told_at = None
            if not self._stopping:
                message()

        self._on_holders_loop(deliver)

    def _on_holders_loop(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # it was closed without a stop
            self._stopping = True
