"""Sharing: which ticks this instance claims first, and which ones it leaves to other instances for a moment."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

from fastapi_crons._util.tasks import Background
from fastapi_crons.clock import Clock
from fastapi_crons.engine.dispatch.lateness import LATE_AFTER, NOT_CLAIMED, Delay
from fastapi_crons.engine.dispatch.queue import JobQueue
from fastapi_crons.engine.dispatch.registration import RegisteredJobs
from fastapi_crons.engine.dispatch.tracked import TrackedJob
from fastapi_crons.job import CronJob
from fastapi_crons.locking.client import LockClient

#: How long (seconds) a tick is left to the instance whose turn it is; then any other claims it.
TURN_LASTS = 0.75
#: How many last handled ticks are read at a time.
_MAX_READ = 1_000
#: 2**32 by the golden ratio: its multiples spread evenly over 2**32 (Knuth, The Art of Computer Programming, 6.4).
_GOLDEN = 2_654_435_769

#: A job, and a tick of it in Unix seconds.
Due = tuple[TrackedJob, int]


@dataclass(eq=False, repr=False)
class Sharing:
    """The share of this instance among those that have the same jobs."""

    _owner: str
    _clock: Clock
    _locks: LockClient
    _background: Background
    _jobs: RegisteredJobs
    _queue: JobQueue
    _wake: Callable[[], None]

    def __post_init__(self) -> None:
        #: The number of this instance, and how many there are.
        self._number, self._instances = 0, 1
        #: The ticks that were left to others, with the time at which their turn is over.
        self._left: deque[tuple[float, list[Due]]] = deque()
        #: Queues those that were not claimed in their turn.
        self._task: asyncio.Task[None] | None = None

    def share(self, peers: list[str]) -> None:
        """Share the ticks with these instances, which are sorted. They should include this one, or it shares nothing."""
        owner = self._owner
        self._number, self._instances = (peers.index(owner), len(peers)) if owner in peers else (0, 1)

    def is_ours(self, job: CronJob, tick: int, now: float) -> bool:
        """Whether this instance claims a tick at once. Ticks that jitter holds back are claimed by all instances."""
        if self._instances == 1 or job.jitter or now - tick >= TURN_LASTS:
            return True
        return whose_turn(job.name, tick, self._instances) == self._number

    def leave(self, ticks: list[Due], now: float) -> None:
        """Leave ticks to the instances whose turn it is."""
        if ticks:
            self._left.append((now + TURN_LASTS, ticks))

    @property
    def next_over(self) -> float | None:
        """When (Unix seconds) the next turn of another instance is over; None while `queue_unclaimed` is at work."""
        return self._left[0][0] if self._left and self._task is None else None

    def queue_unclaimed(self, now: float) -> None:
        """Queue the ticks that others did not claim in their turn. One task at a time, however slow the store is."""
        over = self.next_over
        if over is not None and over <= now:
            self._task = self._background.start(self._queue_unclaimed(self.pop_over(now)))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _queue_unclaimed(self, ticks: list[Due]) -> None:
        try:
            for start in range(0, len(ticks), _MAX_READ):
                part = ticks[start : start + _MAX_READ]
                handled = await self._locks.last_handled([tracked.job.name for tracked, _ in part])
                for (tracked, tick), last_handled in zip(part, handled, strict=True):
                    if last_handled is not None:
                        tracked.handled(last_handled)
                    left = last_handled is None or last_handled < tick
                    if left and not tracked.pending and self._jobs.get(tracked.job.name) is tracked:
                        now = self._clock.now()  # the store may have taken long to answer
                        tracked.delayed(Delay(tick, now, NOT_CLAIMED))
                        self._queue.put(tracked, late=now - tick > LATE_AFTER + tracked.job.jitter)
                await asyncio.sleep(0)
        finally:
            self._task = None
            self._wake()

    def pop_over(self, now: float) -> list[Due]:
        """Remove the ticks whose turn is over."""
        ticks: list[Due] = []
        while self._left and self._left[0][0] <= now:
            ticks += self._left.popleft()[1]
        return ticks


def whose_turn(job: str, tick: int, instances: int) -> int:
    """The number of the instance that claims a tick first. Spreads the ticks of an instant, and those of a job, evenly."""
    return ((crc32(job.encode()) + tick * _GOLDEN) % 2**32 * instances) >> 32
