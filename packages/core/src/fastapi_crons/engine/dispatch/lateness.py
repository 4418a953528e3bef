"""Delays: what kept this instance from claiming ticks in time."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import NamedTuple

from fastapi_crons.clock import iso_utc

NOT_TAKEN = "the instance whose turn it was did not take it"
PAUSED = "the job was paused"
_ALONE = "no instance ran the job"
_HELD_UP = "the process was stopped, or something blocked its event loop"
_STEPPED = "the clock was behind, or the machine was suspended"
_SLOW_STORE = "the lock store took long to answer"
_CROWDED = "as many runs went on as this instance may have at a time, or as many late ones, or as many in threads"
#: What is shorter (seconds) is not remembered.
_SHORTEST = 1.0
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
    """The delays of one instance, of all its jobs together. Instants in Unix seconds."""

    def __init__(self) -> None:
        self._delays: deque[Delay] = deque(maxlen=_REMEMBERED)
        #: What was last seen to block the event loop, and when.
        self._blocked: tuple[float, str] | None = None
        #: Since when the stores were waited for at the start, and somebody waits for room.
        self._waited_since: float | None = None
        self._crowded_since: float | None = None

    def note(self, since: float, until: float, why: str) -> None:
        """Remember one; what goes on from the one before is the same."""
        last = self._delays[-1] if self._delays else None
        if last is not None and last.why == why and since <= last.until + _GOES_ON:
            since, until = min(since, last.since), max(until, last.until)
            self._delays.pop()
        self._delays.append(Delay(since, until, why))

    def began(self, now: float, peers_since: float) -> None:
        """Ticks are looked for from now on; the first of the instances that share them has lived since then."""
        alone_until = peers_since if self._waited_since is None else min(peers_since, self._waited_since)
        self.note(-inf, alone_until, _ALONE)
        if peers_since < now:
            self.note(peers_since, now, NOT_TAKEN)

    def waited_for_stores(self, since: float, now: float, why: str) -> None:
        """The stores could not be had since then."""
        self._waited_since = since
        self.note(since, now, f"the stores could not be had ({why})")

    def waits_for_room(self, now: float, *, somebody: bool) -> None:
        """Whether somebody is due, and waits for room."""
        if somebody and self._crowded_since is None:
            self._crowded_since = now
        elif not somebody and self._crowded_since is not None:
            self.note(self._crowded_since, now, _CROWDED)
            self._crowded_since = None

    def held_up(self, now: float, late: float) -> None:
        """The event loop turns now, so many seconds late."""
        if late > _SHORTEST:
            self.note(now - late, now, self._culprit(now - late) or _HELD_UP)

    def clock_went_on(self, expected: float, now: float) -> None:
        """The clock shows now where it should have shown `expected`."""
        if now > expected + _SHORTEST:
            self.note(expected, now, _STEPPED)

    def store_answered(self, asked: float, now: float) -> None:
        """The lock store was asked then, and answers now. Where it did not for long, that was noted as an outage before."""
        if now - asked > _SHORTEST and not any(delay.until > asked for delay in self._delays):
            self.note(asked, now, self._culprit(asked) or _SLOW_STORE)

    def blame(self, when: float, what: str) -> None:
        """Something was seen to block the event loop. Safe to call from any thread."""
        self._blocked = when, what

    def explain(self, tick: int, now: float, own: Delay | None) -> str | None:
        """Why a tick is claimed only now: what lasted longest in between. `own` is what was last in the way of its job alone.

        None where nothing is known.
        """
        known = [] if own is None else [own]
        if self._crowded_since is not None:
            known.append(Delay(self._crowded_since, now, _CROWDED))
        candidates = [(min(now, each.until) - max(tick, each.since), each) for each in (*known, *self._delays)]
        lasted, delay = max(candidates, key=lambda found: found[0], default=(0.0, None))
        if delay is None or lasted <= 0:
            return None
        return f"{delay.why} until {iso_utc(int(delay.until))}"

    def _culprit(self, since: float) -> str | None:
        """What was seen to block the event loop since then."""
        if self._blocked is None or self._blocked[0] < since:
            return None
        return f"the event loop was blocked by {self._blocked[1]}"
