"""Backoff: growing, jittered delays between attempts."""

from __future__ import annotations

import random

FIRST_DELAY, MAX_DELAY = 0.1, 5.0


class Backoff:
    """Delays in seconds between attempts, from 0.1 to 5."""

    __slots__ = ("_delay",)

    def __init__(self) -> None:
        self._delay = 0.0

    def next(self) -> float:
        self._delay = min(MAX_DELAY, self._delay * 2 or FIRST_DELAY)
        return self._delay * random.uniform(0.5, 1.0)
