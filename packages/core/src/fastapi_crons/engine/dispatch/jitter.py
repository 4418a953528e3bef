"""Jitter: the jobs whose next tick it holds back."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from fastapi_crons.engine.dispatch.timeline import Entry


class HeldBack:
    """Jobs by when (Unix seconds) the tick that jitter holds back becomes due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Entry]] = []
        self._sequence = count()

    @property
    def next_due(self) -> float | None:
        """When the first becomes due."""
        return self._heap[0][0] if self._heap else None

    def add(self, entry: Entry, now: float) -> None:
        """Hold a job back until its oldest tick up to now is due; without effect where all of them are."""
        due = entry.due_later(now)
        if due is not None and due != entry.wakes_at:
            entry.wakes_at = due
            heapq.heappush(self._heap, (due, next(self._sequence), entry))

    def pop_due(self, now: float) -> Iterator[tuple[float, Entry]]:
        """The jobs whose tick has become due, and when it did."""
        while self._heap and self._heap[0][0] <= now:
            due, _, entry = heapq.heappop(self._heap)
            entry.wakes_at = None
            yield due, entry
