"""Which ticks of a job lie in (mark, now], and what its policy makes of them.

Pure functions of (schedule, mark, now, policy): start-up, ordinary wake-ups, stalls, clock steps and catch-up all ask here.
Instants are whole Unix seconds (UTC).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from time import thread_time
from typing import NamedTuple, Protocol

from fastapi_crons.errors import ScheduleError
from fastapi_crons.run import MissedReason
from fastapi_crons.schedule.cron import CronSchedule, Schedule, cron_schedule
from fastapi_crons.schedule.foreign import ForeignTicks

#: Counting a row of ticks stops here: "or more".
MAX_COUNT = 10_000
#: For how long (seconds) ticks are counted in one go: the event loop is never held long.
MAX_COUNTING = 0.002

_FIRST_SPAN = 64


class TickSource(Protocol):
    """A schedule in whole Unix seconds."""

    def next_tick(self, after: int) -> int | None: ...

    def ticks_between(self, after: int, until: int) -> Iterator[int]: ...

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        """How many ticks lie in (after, until], and whether counting stopped before that.

        It stops where there are more than `most`, and where `enough` says that it took long.
        """


class Policy(NamedTuple):
    """How late ticks are treated. `grace` in seconds; None for no limit."""

    coalesce: bool
    grace: float | None
    max_catch_up: int


class Row(NamedTuple):
    """A row of ticks: the oldest, the newest, how many; with `more`, at least so many."""

    first: int
    last: int
    number: int
    more: bool = False


class Step(NamedTuple):
    """What is to be done next for a job: claims, one after another.

    `let_go`: up to which ticks, and why; each reaches back to the one before, the first to the job's mark. `run`: the tick
    to run, which stands for all that lie between; None when there is none. `more`: whether further ticks wait after it.
    `alone`: whether `run` is the only tick.
    """

    run: int | None
    let_go: tuple[tuple[int, MissedReason], ...] = ()
    more: bool = False
    alone: bool = False


NOTHING = Step(None)


def next_step(source: TickSource, mark: int, now: float, policy: Policy) -> Step:
    """The next thing to do about the ticks in (mark, now]."""
    first = source.next_tick(mark)
    if first is None or first > now:
        return NOTHING
    newest = int(now)
    following = source.next_tick(first)
    if policy.grace is None or now - first <= policy.grace:
        if following is None or following > now:
            return Step(first, alone=True)
        after = mark
        let_go: tuple[tuple[int, MissedReason], ...] = ()
    else:
        # The last whole second that is out of grace.
        out_of_grace = min(newest, math.ceil(now - policy.grace) - 1)
        after = newest_tick(source, mark, out_of_grace) or first
        let_go = ((after, "misfire_grace_time"),)
    last = newest_tick(source, after, newest)
    if last is None:
        return Step(None, let_go)
    if policy.coalesce:
        return Step(last, let_go)
    run = _oldest_of(source, after, last, policy.max_catch_up)
    passed_over = newest_tick(source, after, run - 1)
    if passed_over is not None:
        let_go = (*let_go, (passed_over, "max_catch_up"))
    return Step(run, let_go, run < last)


def count_row(source: TickSource, after: int, until: int) -> Row | None:
    """The ticks in (after, until] as one row; None when there are none.

    Counting stops at `MAX_COUNT`, and after a few milliseconds.
    """
    first = source.next_tick(after)
    if first is None or first > until:
        return None
    last = newest_tick(source, first, until)
    if last is None:
        return Row(first, first, 1)
    # The first and the last are counted already.
    between, more = source.count_ticks(first, last - 1, MAX_COUNT - 2, _time_is_up())
    return Row(first, last, between + 2, more)


def newest_tick(source: TickSource, after: int, until: int) -> int | None:
    """The newest tick in (after, until]; None where there is none.

    Found by halving, by the next tick alone, so that it costs the same however many ticks there are and however they lie.
    """
    found, low, high = None, after, until
    # The newest tick is not later than `high`, and where one was found, not earlier.
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


def _oldest_of(source: TickSource, after: int, last: int, most: int) -> int:
    """The oldest of the newest `most` ticks in (after, last], of which `last` is the newest; fewer where time is up."""
    enough = _time_is_up()
    # So many ticks lie in (low, last].
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


def _time_is_up() -> Callable[[], bool]:
    """Says whether `MAX_COUNTING` has passed since now: of this thread's own time, others may hold it up."""
    until = thread_time() + MAX_COUNTING
    return lambda: thread_time() > until


def old_row(schedule: str, timezone: str, after: int, until: int) -> Row | None:
    """The ticks in (after, until] of a schedule of which only text and zone are known; None where it can't be read."""
    try:
        return count_row(cron_schedule(schedule, timezone or "UTC"), after, until)
    except ScheduleError:
        return None  # a kind of schedule that is not installed any more: what it had due can't be known


def tick_source(schedule: Schedule, on_fault: Callable[[str], None] | None = None) -> TickSource:
    """A schedule in whole seconds; any kind of `Schedule` will do. `on_fault` hears of one that breaks the protocol."""
    return schedule if isinstance(schedule, CronSchedule) else ForeignTicks(schedule, on_fault)
