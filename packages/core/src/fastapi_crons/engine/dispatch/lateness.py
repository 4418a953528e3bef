"""Delays: what kept this instance from claiming ticks in time."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import NamedTuple

from fastapi_crons.clock import iso_utc

#: A tick that is noticed later than this (seconds) is a late one.
LATE_AFTER = 5.0
NOT_CLAIMED = "the instance whose turn it was did not claim it"
PAUSED = "the job was paused"
_NOT_RUNNING = "no instance ran the job"
_BLOCKED = "the event loop was blocked"
_STEPPED = "the clock was behind, or the machine was suspended"
_SLOW_STORE = "the lock store took long to answer"
_NO_ROOM = "this instance had no room for more runs"
#: Shorter delays (seconds) are not remembered.
_SHORTEST = 1.0
#: How many delays are remembered.
_REMEMBERED = 20
#: A delay that begins this soon (seconds) after one for the same reason is part of that one.
_SAME = 1.0


class Delay(NamedTuple):
    """From `since` to `until` (Unix seconds) nothing was claimed, at all or for one job, for this reason."""

    since: float
    until: float
    why: str


class Delays:
    """The delays of one instance, for all its jobs together. Instants in Unix seconds."""

    def __init__(self) -> None:
        self._delays: deque[Delay] = deque(maxlen=_REMEMBERED)
        #: What was last seen to block the event loop, and when.
        self._blocked: tuple[float, str] | None = None
        #: Since when the stores were waited for at the start.
        self._waited_since: float | None = None
        #: Since when jobs are due for which there is no room.
        self._no_room_since: float | None = None

    def note(self, since: float, until: float, why: str) -> None:
        """Remember a delay, or extend the last one if it is for the same reason and has not been over for long."""
        last = self._delays[-1] if self._delays else None
        if last is not None and last.why == why and since <= last.until + _SAME:
            since, until = min(since, last.since), max(until, last.until)
            self._delays.pop()
        self._delays.append(Delay(since, until, why))

    def began(self, now: float, peers_since: float) -> None:
        """The scheduler begins now. The oldest of the instances that have the same jobs has run since `peers_since`."""
        nobody_until = peers_since if self._waited_since is None else min(peers_since, self._waited_since)
        self.note(-inf, nobody_until, _NOT_RUNNING)
        if peers_since < now:
            self.note(peers_since, now, NOT_CLAIMED)

    def waited_for_stores(self, since: float, now: float, why: str) -> None:
        """The stores could not be opened since then."""
        self._waited_since = since
        self.note(since, now, f"the stores could not be opened ({why})")

    def waits_for_room(self, now: float, *, waits: bool) -> None:
        """Whether jobs are due for which there is no room."""
        if waits and self._no_room_since is None:
            self._no_room_since = now
        elif not waits and self._no_room_since is not None:
            self.note(self._no_room_since, now, _NO_ROOM)
            self._no_room_since = None

    def event_loop_late(self, now: float, late: float) -> None:
        """The event loop has its turn now, this many seconds late."""
        if late > _SHORTEST:
            self.note(now - late, now, self._what_blocked(now - late) or _BLOCKED)

    def clock_went_on(self, expected: float, now: float) -> None:
        """The clock shows `now`, and should have shown `expected`."""
        if now > expected + _SHORTEST:
            self.note(expected, now, _STEPPED)

    def store_answered(self, asked: float, now: float) -> None:
        """The lock store, which was asked then, has answered. If that was an outage, it is noted already."""
        if now - asked > _SHORTEST and not any(delay.until > asked for delay in self._delays):
            self.note(asked, now, self._what_blocked(asked) or _SLOW_STORE)

    def blame(self, when: float, what: str) -> None:
        """The event loop was seen to be blocked by something. Safe to call from any thread."""
        self._blocked = when, what

    def explain(self, tick: int, now: float, own: Delay | None) -> str | None:
        """Why a tick is claimed only now: the longest delay since the tick, and when it was over; None where none is known.

        `own` is the last delay of its job alone.
        """
        known = [*self._delays] if own is None else [own, *self._delays]
        if self._no_room_since is not None:
            known.append(Delay(self._no_room_since, now, _NO_ROOM))
        lasted, delay = max(
            ((min(now, each.until) - max(tick, each.since), each) for each in known),
            key=lambda found: found[0],
            default=(0.0, None),
        )
        if delay is None or lasted <= 0:
            return None
        return f"{delay.why} until {iso_utc(int(delay.until))}"

    def _what_blocked(self, since: float) -> str | None:
        """What was seen to block the event loop since then."""
        if self._blocked is None or self._blocked[0] < since:
            return None
        return f"{_BLOCKED} by {self._blocked[1]}"
