"""Which ticks of a job lie in (mark, now], and what its policy makes of them.

Pure functions of (schedule, mark, now, policy): start-up, ordinary wake-ups, stalls, clock steps and catch-up all ask here.
Instants are whole Unix seconds (UTC).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

from fastapi_crons._foreign import ForeignTicks
from fastapi_crons.errors import ScheduleError
from fastapi_crons.run import MissedReason
from fastapi_crons.schedule import CronSchedule, Schedule, cron_schedule

#: Counting a row of ticks stops here: "or more".
MAX_COUNT = 10_000

_FIRST_SPAN = 64


class TickSource(Protocol):
    """A schedule in whole Unix seconds."""

    def next_tick(self, after: int) -> int | None: ...

    def ticks_between(self, after: int, until: int) -> Iterator[int]: ...


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
        (after,) = newest_ticks(source, mark, out_of_grace, 1)
        let_go = ((after, "misfire_grace_time"),)
    due = newest_ticks(source, after, newest, 1 if policy.coalesce else policy.max_catch_up)
    if not due:
        return Step(None, let_go)
    if policy.coalesce:
        return Step(due[0], let_go)
    if len(due) == policy.max_catch_up and (source.next_tick(after) or due[0]) < due[0]:
        (last,) = newest_ticks(source, after, due[0] - 1, 1)
        let_go = (*let_go, (last, "max_catch_up"))
    return Step(due[0], let_go, len(due) > 1)


def count_row(source: TickSource, after: int, until: int) -> Row | None:
    """The ticks in (after, until] as one row; None when there are none. Counting stops at `MAX_COUNT`."""
    first = source.next_tick(after)
    if first is None or first > until:
        return None
    count, last = 1, first
    for tick in islice(source.ticks_between(first, until), MAX_COUNT - 1):
        count, last = count + 1, tick
    following = source.next_tick(last) if count == MAX_COUNT else None
    if following is None or following > until:
        return Row(first, last, count)
    return Row(first, newest_ticks(source, last, until, 1)[0], count, True)


def newest_ticks(source: TickSource, after: int, until: int, count: int) -> list[int]:
    """The newest `count` ticks in (after, until], oldest first; fewer where there are fewer.

    Looks back over growing spans, so that years of ticks cost no more than the ones that are asked for.
    """
    span = _FIRST_SPAN
    while True:
        start = max(after, until - span)
        found = deque(source.ticks_between(start, until), maxlen=count)
        if len(found) == count or start == after:
            return list(found)
        span *= 4


def old_row(schedule: str, timezone: str, after: int, until: int) -> Row | None:
    """The ticks in (after, until] of a schedule of which only text and zone are known; None where it can't be read."""
    try:
        return count_row(cron_schedule(schedule, timezone or "UTC"), after, until)
    except ScheduleError:
        return None  # a kind of schedule that is not installed any more: what it had due can't be known


def tick_source(schedule: Schedule, on_fault: Callable[[str], None] | None = None) -> TickSource:
    """A schedule in whole seconds; any kind of `Schedule` will do. `on_fault` hears of one that breaks the protocol."""
    return schedule if isinstance(schedule, CronSchedule) else ForeignTicks(schedule, on_fault)
