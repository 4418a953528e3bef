"""Jitter: how long it holds ticks back, and the queue of what is held back."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from hashlib import blake2b
from itertools import count
from typing import Generic, TypeVar

from fastapi_crons.job import CronJob
from fastapi_crons.schedule.due import TickSource

T = TypeVar("T")


def due_time(job: CronJob, tick: int) -> float:
    """When (Unix seconds) a tick of a job is due: its time plus a delay that every instance computes alike."""
    digest = blake2b(f"{job.name}\0{tick}".encode(), digest_size=8).digest()
    return tick + job.jitter * int.from_bytes(digest, "big") / 2**64


def oldest_held_back(job: CronJob, source: TickSource, last_handled: int, now: float) -> int | None:
    """The oldest tick in (last_handled, now] that is not due yet. Younger ones wait for it: ticks keep their order."""
    since = max(last_handled, int(now - job.jitter) - 1)
    return next((tick for tick in source.ticks_between(since, int(now)) if due_time(job, tick) > now), None)


class HeldBack(Generic[T]):
    """A queue ordered by when (Unix seconds) its items are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._due: dict[T, float] = {}
        self._sequence = count()

    @property
    def next_due(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def add(self, item: T, due: float) -> None:
        """Hold an item back until it is due. Adding it again with the same time has no effect."""
        if self._due.get(item) != due:
            self._due[item] = due
            heapq.heappush(self._heap, (due, next(self._sequence), item))

    def pop_due(self, now: float) -> Iterator[tuple[float, T]]:
        """Remove the items that are due; each with when it was due."""
        while self._heap and self._heap[0][0] <= now:
            due, _, item = heapq.heappop(self._heap)
            self._due.pop(item, None)
            yield due, item
