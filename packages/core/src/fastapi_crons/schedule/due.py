"""Which ticks of a job lie in (last handled tick, now], and which of them its policy runs, and which it records as missed.

Pure functions of (schedule, last handled tick, now, policy). Start-up, ordinary wake-ups, stalls, clock steps and late ticks
all go through them. Instants are whole Unix seconds (UTC).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple, Protocol

from fastapi_crons.run import MissedReason
from fastapi_crons.schedule._zones import FIRST, LAST
from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.schedule.checks import ForeignTicks

#: Counting the ticks of a range stops here: "or more".
MAX_COUNT = 10_000
#: Counting stops after so many steps, too, so that the event loop is never blocked for long. A step is a stretch of weeks in a
#: cron schedule, and one tick in a schedule of another kind.
MAX_STEPS = 500

_FIRST_SPAN = 64


class TickSource(Protocol):
    """A schedule in whole Unix seconds."""

    def next_tick(self, after: int) -> int | None: ...

    def ticks_between(self, after: int, until: int) -> Iterator[int]: ...

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        """How many ticks lie in (after, until], and whether counting stopped early.

        It stops when there are more than `most` ticks, and when `enough`, which is called at each step, returns True.
        """


class Policy(NamedTuple):
    """How late ticks are treated. `grace` in seconds; None for no limit."""

    coalesce: bool
    grace: float | None
    max_catch_up: int


class TickRange(NamedTuple):
    """Consecutive ticks: the oldest, the newest, and their number; with `more`, at least this number."""

    first: int
    last: int
    number: int
    more: bool = False


class Step(NamedTuple):
    """What to claim next for a job, in this order: the missed ticks, then the tick to run."""

    run: int | None
    """The tick to run, which also covers the ticks since the last missed one; None when no tick is to be run."""
    missed: tuple[tuple[int, MissedReason], ...] = ()
    """The newest tick of each range of missed ticks, with the reason. A range begins after the one before it, the first after
    the last handled tick."""
    more: bool = False
    """Whether further ticks wait after `run`."""
    alone: bool = False
    """Whether `run` covers no other tick."""


NOTHING = Step(None)


def next_step(source: TickSource, last_handled: int, now: float, policy: Policy) -> Step:
    """What to claim next of the ticks in (last_handled, now]."""
    first = source.next_tick(last_handled)
    if first is None or first > now:
        return NOTHING
    newest = int(now)
    following = source.next_tick(first)
    if policy.grace is None or now - first <= policy.grace:
        if following is None or following > now:
            return Step(first, alone=True)
        after = last_handled
        missed: tuple[tuple[int, MissedReason], ...] = ()
    else:
        # The last whole second that is past its grace time.
        past_grace = min(newest, math.ceil(now - policy.grace) - 1)
        after = newest_tick(source, last_handled, past_grace) or first
        missed = ((after, "misfire_grace_time"),)
    last = newest_tick(source, after, newest)
    if last is None:
        return Step(None, missed)
    if policy.coalesce:
        return Step(last, missed)
    run = _oldest_of(source, after, last, policy.max_catch_up)
    newest_beyond = newest_tick(source, after, run - 1)
    if newest_beyond is not None:
        missed = (*missed, (newest_beyond, "max_catch_up"))
    return Step(run, missed, run < last)


def tick_range(source: TickSource, after: int, until: int) -> TickRange | None:
    """The ticks in (after, until]; None when there are none.

    Counting stops at `MAX_COUNT`, and after `MAX_STEPS`.
    """
    first = source.next_tick(after)
    if first is None or first > until:
        return None
    last = newest_tick(source, first, until)
    if last is None:
        return TickRange(first, first, 1)
    # The first and the last are counted already.
    between, more = source.count_ticks(first, last - 1, MAX_COUNT - 2, _after_many_steps())
    return TickRange(first, last, between + 2, more)


class SharedTicks:
    """The ticks of one schedule, for all jobs that have it: what was computed for one job is kept for the next one."""

    __slots__ = ("_range", "_range_of", "_step", "_step_of", "next_tick", "source")

    def __init__(self, source: TickSource) -> None:
        self.source = source
        #: The schedule's next tick, as the timeline has placed it.
        self.next_tick: int | None = None
        self._step_of: tuple[int, int | None, Policy] | None = None
        self._step = NOTHING
        self._range_of: tuple[int, int] | None = None
        self._range: TickRange | None = None

    def step(self, last_handled: int, now: float, policy: Policy) -> Step:
        """What to claim next of the ticks in (last_handled, now]."""
        # Between two ticks of the schedule the answer stays the same, except while a grace time runs out.
        asked = (last_handled, self.next_tick, policy)
        if self._step_of == asked and policy.grace is None:
            return self._step
        step = next_step(self.source, last_handled, now, policy)
        if self.next_tick is None or self.next_tick > now:
            self._step_of, self._step = asked, step
        return step

    def range(self, after: int, until: int) -> TickRange | None:
        """The ticks in (after, until]; None when there are none."""
        # After a downtime, many jobs of one schedule ask for the same range, and counting takes long.
        if self._range_of != (after, until):
            self._range_of, self._range = (after, until), tick_range(self.source, after, until)
        return self._range


def newest_tick(source: TickSource, after: int, until: int) -> int | None:
    """The newest tick in (after, until]; None where there is none.

    Bisects the interval with `next_tick`, so that the cost does not depend on how many ticks lie in it.
    """
    found, low, high = None, after, until
    # The newest tick is not later than `high`, and not earlier than `found`.
    while low < high:
        middle = (low + high) // 2 if found is not None else low
        tick = source.next_tick(middle)
        if tick is not None and tick <= until:
            found = low = tick
        elif found is None:
            return None
        else:
            high = middle
    return found


def newest_ticks(source: TickSource, after: int, until: int, most: int) -> list[int]:
    """The newest ticks in (after, until], oldest first, at most so many; fewer of a schedule that takes too many steps."""
    last = newest_tick(source, after, until)
    if last is None:
        return []
    return list(source.ticks_between(_oldest_of(source, after, last, most) - 1, last))[-most:]


def last_tick(schedule: Schedule) -> int | None:
    """The last tick of all; None where there is none, or where it can't be known, as with schedules of plugins and apps."""
    source = tick_source(schedule)
    return newest_tick(source, FIRST, LAST) if isinstance(source, ZonedSchedule) else None


def _oldest_of(source: TickSource, after: int, last: int, most: int) -> int:
    """The oldest of the newest `most` ticks in (after, last]; of fewer, after too many steps. `last` is a tick."""
    enough = _after_many_steps()
    # `found` is the number of ticks in (low, last].
    found, low, span = 1, last - 1, _FIRST_SPAN
    while found < most and low > after:
        start = max(after, low - span)
        number, more = source.count_ticks(start, low, most - found, enough)
        if not more:
            found, low, span = found + number, start, span * 4
        elif enough():
            break
        else:
            span = max(1, span // 2)
    return source.next_tick(low) or last


def _after_many_steps() -> Callable[[], bool]:
    """Returns False for the first `MAX_STEPS` calls, then True."""
    steps = count(1)
    return lambda: next(steps) > MAX_STEPS


def tick_source(schedule: Schedule, on_fault: Callable[[str], None] | None = None) -> TickSource:
    """A schedule of any kind, in whole seconds. `on_fault` is called once when it breaks the `Schedule` protocol."""
    if isinstance(schedule, ZonedSchedule) and not schedule.foreign:
        return schedule
    return ForeignTicks(schedule, on_fault)
