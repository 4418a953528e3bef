"""What fails again and again: growing delays between attempts, and a log that names it now and then, not each time.

The first failure is logged at once; what keeps failing is logged after 1, 5 and 15 minutes and then every 15 minutes, with how
long it has lasted; and one line says that it is over.
"""

from __future__ import annotations

import random
from math import inf
from threading import Lock
from typing import NamedTuple

FIRST_DELAY, MAX_DELAY = 0.1, 5.0
#: How long (seconds) after its beginning a failure that lasts is logged again; the last interval repeats.
REMINDERS = (60.0, 300.0, 900.0)
#: A failure that comes back so soon (seconds) after it worked is the same failure.
SETTLED_AFTER = 60.0


class Backoff:
    """Delays in seconds between attempts, from 0.1 to 5."""

    __slots__ = ("_delay",)

    def __init__(self) -> None:
        self._delay = 0.0

    def next(self) -> float:
        self._delay = min(MAX_DELAY, self._delay * 2 or FIRST_DELAY)
        return self._delay * random.uniform(0.5, 1.0)


class Lasting(NamedTuple):
    """What to log about a failure. Durations in seconds."""

    first: bool
    """Whether it is logged for the first time."""
    seconds: float
    """How long it has failed without a success in between."""
    times: int
    """How often it has failed since it began, also where it worked for a moment in between."""
    since: float
    """How long ago it began."""


class Meter:
    """Decides when a failure that repeats is logged. Safe to use from any thread; `now` is on a monotonic clock.

    Several callers may share one failure, each under its own name: it is over when it works for all of them.
    """

    __slots__ = ("_began", "_due", "_failing", "_lock", "_logged", "_since", "_times", "_worked_at")

    def __init__(self) -> None:
        self._lock = Lock()
        self._failing: set[str] = set()
        self._began = self._since = self._worked_at = self._due = -inf
        self._times = 0
        #: Whether it was logged since it last worked.
        self._logged = False

    def failed(self, now: float, caller: str = "", *, asked: float | None = None) -> Lasting | None:
        """Note a failure; returns what to log about it now, or None where it is too early.

        `asked` is when the call began, where it took long to fail.
        """
        with self._lock:
            if not self._failing:
                self._since = now if asked is None else asked
                if now - self._worked_at > SETTLED_AFTER:
                    self._began, self._due, self._times = now, now, 0
            self._failing.add(caller)
            self._times += 1
            if now < self._due:
                return None
            first = self._due == self._began
            lasted, last = now - self._began, REMINDERS[-1]
            self._due = self._began + next((each for each in REMINDERS if lasted < each), (lasted // last + 1) * last)
            self._logged = True
            return self._lasting(now, first=first)

    def works(self, now: float, caller: str = "") -> Lasting | None:
        """Note that it works; returns what to log where the failure was logged."""
        if not self._failing:
            return None
        with self._lock:
            self._failing.discard(caller)
            if self._failing:
                return None
            self._worked_at = now
            logged, self._logged = self._logged, False
            return self._lasting(now, first=False) if logged else None

    def _lasting(self, now: float, *, first: bool) -> Lasting:
        return Lasting(first, now - self._since, self._times, now - self._began)
