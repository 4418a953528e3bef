"""Sharing: which ticks this instance claims first, and which ones it leaves to other instances for a moment."""

from __future__ import annotations

from collections import deque
from zlib import crc32

from fastapi_crons.engine.dispatch.tracked import TrackedJob
from fastapi_crons.job import CronJob

#: How long (seconds) a tick is left to the instance whose turn it is; then any other claims it.
TURN_LASTS = 0.75
#: 2**32 by the golden ratio: its multiples spread evenly over 2**32 (Knuth, The Art of Computer Programming, 6.4).
_GOLDEN = 2_654_435_769

#: A job, and a tick of it in Unix seconds.
Due = tuple[TrackedJob, int]


class Sharing:
    """The share of this instance among those that have the same jobs."""

    def __init__(self) -> None:
        #: Which of how many instances this is.
        self._number, self._instances = 0, 1
        #: The ticks that were left to others, with the time at which their turn is over.
        self._left: deque[tuple[float, list[Due]]] = deque()

    def share(self, owner: str, peers: list[str]) -> None:
        """Share the ticks with these instances, which are sorted; `owner` is this one, where it is among them."""
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
        """When (Unix seconds) the next turn of another instance is over."""
        return self._left[0][0] if self._left else None

    def pop_over(self, now: float) -> list[Due]:
        """Remove the ticks whose turn is over."""
        ticks: list[Due] = []
        while self._left and self._left[0][0] <= now:
            ticks += self._left.popleft()[1]
        return ticks


def whose_turn(job: str, tick: int, instances: int) -> int:
    """The number of the instance that claims a tick first. Spreads the ticks of an instant, and those of a job, evenly."""
    return ((crc32(job.encode()) + tick * _GOLDEN) % 2**32 * instances) >> 32
