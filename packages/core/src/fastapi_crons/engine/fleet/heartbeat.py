"""Heartbeat: tells the lock store that this instance lives, and renews its leases, in a thread that no job can block."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.tasks import Supervisor
from fastapi_crons._util.text import counted, one_line
from fastapi_crons.clock import Clock, SystemClock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.fleet.lost import LostLeases
from fastapi_crons.engine.fleet.waker import HeartbeatWaker
from fastapi_crons.errors import StoreError
from fastapi_crons.locking.base import Beat
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.leases import ANSWER_WITHIN, LeaseBook

logger = logging.getLogger(__name__)

#: Seconds until the store is asked again about leases in doubt, after a call that failed.
_ASK_AGAIN_AFTER = 0.1
#: An event loop that has not turned for so many seconds is blocked.
_BLOCKED_AFTER = 2.0
#: Seconds, at least, between two checks whether leases are in doubt.
_SHORTEST_WATCH = 0.05


class Listener(Protocol):
    """Is called with what the store answers."""

    def jobs_digest(self) -> str:
        """A digest of the jobs that run here. Called from the heartbeat's thread."""

    def beaten(self, beat: Beat) -> None:
        """The store has answered a heartbeat. Called on the scheduler's loop."""

    def blocked(self, seconds: float) -> None:
        """The scheduler's loop has not turned for so long. Called from the heartbeat's thread."""


@dataclass(eq=False, repr=False)
class Heartbeat:
    """Heartbeats and renewals of one instance. Made, started and stopped on its listener's event loop."""

    _config: CronConfig
    _clock: Clock
    _instance: Instance
    _supervisor: Supervisor
    _locks: LockClient
    _leases: LeaseBook
    _waker: HeartbeatWaker
    _lost: LostLeases
    _listener: Listener

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: When the last heartbeat was sent that the store has answered, on the monotonic clock.
        self._beaten_at = self._clock.monotonic()
        self._stopping = False
        self._failures = Meter()
        self._thread: threading.Thread | None = None
        self._thread_ended = asyncio.Event()
        #: When the oldest call that the listener's loop has not made yet was handed to it.
        self._owed_since: float | None = None

    @property
    def silent_for(self) -> float:
        """Seconds since the last heartbeat that the store answered; 0 where there is no thread for heartbeats."""
        return 0.0 if self._thread is None else self._clock.monotonic() - self._beaten_at

    async def beat_now(self) -> Beat:
        """Send one heartbeat from the listener's loop. Raises `StoreError`."""
        return await self._beat(self._locks)

    def start(self) -> None:
        """Begin: in a thread of its own where the store can be cloned for it, else on this loop."""
        clone = self._locks.clone() if isinstance(self._clock, SystemClock) else None
        if clone is None:
            self._waker.listen(self._loop)
            self._supervisor.start("heartbeat", partial(self._beat_forever, self._locks))
            self._supervisor.start("watch", partial(self._watch, self._locks))
        else:
            self._thread = threading.Thread(target=self._live, args=(clone,), name="fastapi-crons-leases", daemon=True)
            self._thread.start()

    async def stop(self, timeout: float) -> None:
        """End, within so many seconds."""
        self._stopping = True
        await self._supervisor.cancel("heartbeat", timeout)
        await self._supervisor.cancel("watch", timeout)
        if self._thread is not None:
            self._waker.beat()
            try:
                await asyncio.wait_for(self._thread_ended.wait(), timeout)
            except asyncio.TimeoutError:
                logger.warning("the heartbeat's thread did not end within %g s, and is abandoned", timeout)

    # What follows runs in the heartbeat's thread, where there is one.

    def _live(self, locks: LockClient) -> None:
        backoff = Backoff()
        while not self._stopping:
            try:
                asyncio.run(self._keep(locks))
            except BaseException:
                lasting = self._failures.failed(self._clock.monotonic())
                if lasting is not None:
                    failed = counted(lasting.times, "time")
                    logger.exception("the heartbeat's thread failed (%s so far), and starts again", failed)
                time.sleep(backoff.next())
        self._on_listeners_loop(self._thread_ended.set)

    async def _keep(self, locks: LockClient) -> None:
        self._waker.listen(asyncio.get_running_loop())
        watch = asyncio.create_task(self._watch(locks))
        backoff = Backoff()
        try:
            while not self._stopping:
                try:
                    await locks.open(self._instance)
                    break
                except StoreError as error:
                    locks.fails("heartbeat", self._clock.monotonic(), one_line(error))
                    await self._waker.wait(self._clock, backoff.next())
            await self._beat_forever(locks)
        finally:
            self._waker.listen(None)
            watch.cancel()
            await locks.close()

    async def _beat_forever(self, locks: LockClient) -> None:
        interval, renewal_interval = self._config.heartbeat_interval, self._config.lock_renewal_interval
        backoff: Backoff | None = None
        beat_at = self._clock.monotonic() + interval
        while not self._stopping:
            renew_at = self._leases.renewed_at + renewal_interval
            due = beat_at if backoff is not None else min(beat_at, renew_at)
            prompted = await self._waker.wait(self._clock, max(0.0, due - self._clock.monotonic()))
            if self._stopping:
                return
            self._look_at_loop()
            before = self._beaten_at
            try:
                if prompted or due == beat_at:
                    self._call(partial(self._listener.beaten, await self._beat(locks)))
                # After a long silence other instances may have recovered runs of ours.
                silent = self._beaten_at - before >= self._config.instance_timeout
                renewal_is_due = self._clock.monotonic() >= renew_at or (due == renew_at and not prompted)
                if silent or renewal_is_due or self._waker.renewal_wanted or self._leases.is_in_doubt:
                    await self._renew(locks)
            except Exception as error:  # whatever it is, the heartbeat must continue
                self._log_failure(error)
                backoff = backoff or Backoff()
                beat_at = self._clock.monotonic() + min(interval, backoff.next())
            else:
                backoff, beat_at = None, self._beaten_at + interval

    def _log_failure(self, error: Exception) -> None:
        if isinstance(error, StoreError):
            logger.debug("no heartbeat: %s", one_line(error))  # the client has logged the outage
        elif (lasting := self._failures.failed(self._clock.monotonic())) is not None:
            logger.error(
                "can't send a heartbeat to the lock store (%s so far)", counted(lasting.times, "time"), exc_info=error
            )

    async def _beat(self, locks: LockClient) -> Beat:
        sent = self._clock.monotonic()
        beat = await locks.beat(self._listener.jobs_digest())
        self._beaten_at = sent
        return beat

    async def _renew(self, locks: LockClient) -> None:
        self._waker.renewing()
        try:
            refused = await locks.renew_held()
        except BaseException:
            self._waker.renew_later()
            raise
        if refused:
            self._call(partial(self._lost.refused, refused))

    async def _watch(self, locks: LockClient) -> None:
        leases = self._leases
        while leases.can_end and not self._stopping:
            await self._clock.sleep(max(_SHORTEST_WATCH, leases.trusted_until - self._clock.monotonic()))
            late = self._clock.monotonic() - leases.trusted_until > leases.asked_before
            leases.doubt()
            if leases.ask():
                # A process that was suspended comes too late anyway, and may take a moment to reach the store again.
                await self._ask(locks, ANSWER_WITHIN if late else leases.asked_before)

    async def _ask(self, locks: LockClient, seconds: float) -> None:
        """Ask the store whose the leases in doubt are, for so many seconds."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0 and not self._stopping:
            try:
                # The heartbeat goes first: once the store has it, no other instance recovers what a renewal finds to be ours.
                self._call(partial(self._listener.beaten, await asyncio.wait_for(self._beat(locks), left)))
                await asyncio.wait_for(self._renew(locks), max(0.0, until - self._clock.monotonic()))
                return
            except Exception as error:  # also: no answer in time
                logger.debug("leases in doubt: the lock store does not say whose they are: %s", one_line(error))
                await self._clock.sleep(min(_ASK_AGAIN_AFTER, max(0.0, until - self._clock.monotonic())))
        self._call(self._lost.trust_lost)

    def _look_at_loop(self) -> None:
        since, now = self._owed_since, self._clock.monotonic()
        if since is not None and now - since >= _BLOCKED_AFTER and self._thread is not None:
            self._listener.blocked(now - since)

    def _call(self, listener: Callable[[], object]) -> None:
        """Call the listener on its own loop."""
        if self._owed_since is None:
            self._owed_since = self._clock.monotonic()

        def deliver() -> None:
            self._owed_since = None
            if not self._stopping:
                listener()

        self._on_listeners_loop(deliver)

    def _on_listeners_loop(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # it was closed without a stop
            self._stopping = True
