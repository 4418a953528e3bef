"""LeaseKeeper: says that an instance lives, and renews its leases, in a thread that no job can block.

How far a lease can be trusted is counted on the holder's own monotonic clock, from before a request was sent:

    trusted ──(the store was silent for too long, or this process was suspended)──> in doubt ──> the store is asked
       ^                                                                                │
       └────── it is still ours: renewed <──────────────────────────────────────────────┤
                                                     no answer within a second: trust lost; asked again until it answers
                                                                another holder has it: lost
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

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.text import counted, one_line
from fastapi_crons.clock import Clock, SystemClock
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import StoreError
from fastapi_crons.locking.base import Beat, LeaseRef
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.manager import DistributedLockManager

logger = logging.getLogger(__name__)

#: Trust ends this long (seconds) before another instance may take over; a tenth of the timeout where that is less.
_MARGIN = 1.0
#: How long (seconds) an answer is waited for about leases that are in doubt. Where nobody was suspended, the question is
#: asked so much earlier; a quarter of the timeout where that is less.
_ANSWER_WITHIN = 1.0
#: How long (seconds) until that question is asked again when it came back with an error.
_ASK_AGAIN_AFTER = 0.1
#: A loop that has not turned for so long (seconds) is blocked.
_BLOCKED_AFTER = 2.0
#: How often (seconds), at most, it is checked whether leases are in doubt.
_SHORTEST_WATCH = 0.05


class Holder(Protocol):
    """Whose leases are kept. What returns something is called from the keeper's thread, the others on the holder's loop."""

    def leases(self) -> Sequence[LeaseRef]:
        """The leases of all its runs."""

    def lease_count(self) -> int:
        """How many leases it has, those that are to be released among them."""

    def jobs_digest(self) -> str:
        """A digest of the jobs that it runs."""

    def heard(self, beat: Beat) -> None:
        """The store has answered a heartbeat."""

    def renewed(self, asked: float, ours: Sequence[LeaseRef], refused: Sequence[LeaseRef]) -> None:
        """Asked then (on the monotonic clock), the store knew some leases as the holder's, and others not."""

    def trust_lost(self) -> None:
        """The store did not say in time whose the leases in doubt are: see `LeaseKeeper.trusts`."""

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
        shorter = min(config.instance_timeout, config.lock_timeout)
        self._ask_for = min(_ANSWER_WITHIN, shorter / 4)
        self._early = min(_MARGIN, shorter / 10) + self._ask_for
        #: On the monotonic clock: when the last heartbeat, and the last renewal, that the store answered was sent.
        self._beaten = self._renewed = clock.monotonic()
        #: When the store answered last after it had not for as long as instances may be silent, or we were suspended.
        self._back_at = -inf
        #: When trust ran out last: leases of which the store has said nothing since are in doubt.
        self._doubted_at = -inf
        #: Whether the store is still to be asked about them, and whether its answer has been waited for.
        self._in_doubt = self._asked = False
        self._renew_soon = False
        self._stopping = False
        self._failures = Meter()
        self._wake = asyncio.Event()
        locks.before_claims = self._look_for_doubt
        self._tasks: list[asyncio.Task[None]] = []
        self._thread: threading.Thread | None = None
        self._thread_loop: asyncio.AbstractEventLoop | None = None
        self._thread_ended = asyncio.Event()
        #: When the holder was told something that it has not heard yet.
        self._told_at: float | None = None

    def trusts(self, held_since: float) -> bool:
        """Whether a lease is still ours, as far as we can know, which we had by an answer to what was sent at that time.

        `held_since` is a time on the monotonic clock.
        """
        if not self._bounded:
            return True
        return held_since >= self._doubted_at and self._clock.monotonic() < self._trusted_until

    @property
    def silent_for(self) -> float:
        """Seconds since the last heartbeat that the store answered; 0 where none is due by this clock."""
        return 0.0 if self._thread is None else self._clock.monotonic() - self._beaten

    @property
    def is_just_back(self) -> bool:
        """Whether others may have been kept from their heartbeats as this instance was, and have yet to make up for it."""
        return self._clock.monotonic() - self._back_at < self._config.heartbeat_interval

    async def beat_now(self) -> Beat:
        """Say that the instance lives, on the holder's loop. Raises `StoreError`."""
        return await self._beat(self._locks)

    def start(self) -> None:
        """Go on from now, in a thread where the store can be had a second time, else on this loop."""
        beside = self._locks.clone() if isinstance(self._clock, SystemClock) else None
        if beside is None:
            work = [self._beat_forever(self._locks), self._watch(self._locks)]
            self._tasks = [self._loop.create_task(each, name="fastapi-crons leases") for each in work]
        else:
            self._thread = threading.Thread(target=self._live, args=(beside,), name="fastapi-crons-leases", daemon=True)
            self._thread.start()

    def beat_soon(self) -> None:
        """Ask the store now whether there is something to see to. Safe to call from any thread."""
        self._wake_up()

    def renew_soon(self) -> None:
        """Ask the store now whose the leases are. Safe to call from any thread."""
        self._renew_soon = True
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
    def _trusted_until(self) -> float:
        if not self._bounded:
            return inf
        lived = max(self._beaten, self._locks.lived_at)
        return min(lived + self._config.instance_timeout, self._renewed + self._config.lock_timeout) - self._early

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
        watch = asyncio.create_task(self._watch(locks))
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
        interval, renewal_interval = self._config.heartbeat_interval, self._config.lock_renewal_interval
        backoff: Backoff | None = None
        beat_at = self._clock.monotonic() + interval
        while not self._stopping:
            renew_at = self._renewed + renewal_interval
            due = beat_at if backoff is not None else min(beat_at, renew_at)
            woken = await self._pause(max(0.0, due - self._clock.monotonic()))
            if self._stopping:
                return
            self._look_at_holder()
            before = self._beaten
            try:
                if woken or due == beat_at:
                    self._tell(partial(self._holder.heard, await self._beat(locks)))
                # After a long silence others may have taken over what is not to be seen from where they are.
                silent = self._beaten - before >= self._config.instance_timeout
                renewal_is_due = self._clock.monotonic() >= renew_at or (due == renew_at and not woken)
                if silent or renewal_is_due or self._renew_soon or self._in_doubt:
                    await self._renew(locks)
            except Exception as error:  # of whatever kind: beating must go on
                self._log_failure(error)
                backoff = backoff or Backoff()
                beat_at = self._clock.monotonic() + min(interval, backoff.next())
            else:
                backoff, beat_at = None, self._beaten + interval

    def _log_failure(self, error: Exception) -> None:
        if isinstance(error, StoreError):
            logger.debug("no heartbeat: %s", one_line(error))  # the manager has logged the outage
        elif (lasting := self._failures.failed(self._clock.monotonic())) is not None:
            logger.error(
                "no heartbeat could be left in the lock store, %s so far",
                counted(lasting.times, "time"),
                exc_info=error,
            )

    async def _beat(self, locks: DistributedLockManager) -> Beat:
        self._look_for_doubt()
        sent = self._clock.monotonic()
        holder = self._holder
        beat = await locks.beat(len(holder.leases()), holder.jobs_digest(), holder.lease_count())
        if sent - max(self._beaten, self._locks.lived_at) >= self._config.instance_timeout:
            self._back_at = sent
        self._beaten = sent
        return beat

    async def _renew(self, locks: DistributedLockManager) -> None:
        leases, sent = self._holder.leases(), self._clock.monotonic()
        renewed = await locks.renew(leases) if leases else []
        self._renewed, self._renew_soon = sent, False
        if self._doubted_at <= sent:
            self._in_doubt = self._asked = False
        answers = list(zip(leases, renewed, strict=True))
        ours, refused = [lease for lease, held in answers if held], [lease for lease, held in answers if not held]
        if answers:
            self._tell(partial(self._holder.renewed, sent, ours, refused))

    async def _watch(self, locks: DistributedLockManager) -> None:
        while self._bounded and not self._stopping:
            await self._clock.sleep(max(_SHORTEST_WATCH, self._trusted_until - self._clock.monotonic()))
            late = self._clock.monotonic() - self._trusted_until > self._ask_for
            self._look_for_doubt()
            if self._in_doubt and not self._asked and self._holder.leases():
                self._asked = True
                # A process that was suspended comes too late anyway, and may take a moment to reach the store again.
                await self._ask(locks, _ANSWER_WITHIN if late else self._ask_for)

    async def _ask(self, locks: DistributedLockManager, seconds: float) -> None:
        """Ask the store whose the leases in doubt are, for so long."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0 and not self._stopping:
            try:
                # A heartbeat first: once the store has it, nobody takes over what a renewal finds to be ours.
                self._tell(partial(self._holder.heard, await asyncio.wait_for(self._beat(locks), left)))
                await asyncio.wait_for(self._renew(locks), max(0.0, until - self._clock.monotonic()))
                return
            except Exception as error:  # also: no answer in time
                logger.debug("leases in doubt: the lock store was asked in vain: %s", one_line(error))
                await self._clock.sleep(min(_ASK_AGAIN_AFTER, max(0.0, until - self._clock.monotonic())))
        self._tell(self._holder.trust_lost)

    def _look_for_doubt(self) -> None:
        """Doubt the leases where the store may have taken this instance for dead. Safe to call from any thread."""
        until = self._trusted_until
        if self._doubted_at < until <= self._clock.monotonic():
            self._doubted_at, self._in_doubt = until, True

    async def _pause(self, seconds: float) -> bool:
        """Wait so many seconds, or until woken; whether it was the latter."""
        over = False

        def end() -> None:
            nonlocal over
            over = True
            self._wake.set()

        timer = self._clock.call_later(seconds, end)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            self._wake.clear()
        return not over

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
