"""Delays: what kept this instance from claiming ticks in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from fastapi_crons.clock import iso_utc

#: How many are remembered; a tick that is later than they reach is explained by the longest of them.
_REMEMBERED = 20


#: What is noted again so soon (seconds) has gone on in between.
_GOES_ON = 1.0


class Delay(NamedTuple):
    """From `since` to `until` (Unix seconds) nothing was claimed, or not for one job; and why, without the times."""

    since: float
    until: float
    why: str


class Delays:
    """The delays of one instance, of all its jobs together."""

    def __init__(self) -> None:
        self._delays: deque[Delay] = deque(maxlen=_REMEMBERED)
        #: What was last seen to block the event loop, and when.
        self._blocked: tuple[float, str] | None = None

    def note(self, since: float, until: float, why: str) -> None:
        """Remember one; what goes on from the one before is the same."""
        last = self._delays[-1] if self._delays else None
        if last is not None and last.why == why and since <= last.until + _GOES_ON:
            since, until = min(since, last.since), max(until, last.until)
            self._delays.pop()
        self._delays.append(Delay(since, until, why))

    def noted_since(self, instant: float) -> bool:
        """Whether a delay is remembered that went on then, or began later."""
        return any(delay.until > instant for delay in self._delays)

    def blame(self, when: float, what: str) -> None:
        """Something was seen to block the event loop. Safe to call from any thread."""
        self._blocked = when, what

    def blamed(self, since: float) -> str | None:
        """What was seen to block the event loop since then."""
        if self._blocked is None or self._blocked[0] < since:
            return None
        return f"the event loop was blocked by {self._blocked[1]}"

    def explain(self, tick: int, now: float, own: Iterable[Delay] = ()) -> str | None:
        """Why a tick is claimed only now: what lasted longest in between. `own` are the delays of its job alone.

        None where nothing is known.
        """
        candidates = [(min(now, each.until) - max(tick, each.since), each) for each in (*own, *self._delays)]
        lasted, delay = max(candidates, key=lambda found: found[0], default=(0.0, None))
        if delay is None or lasted <= 0:
            return None
        return f"{delay.why} until {iso_utc(int(delay.until))}"
