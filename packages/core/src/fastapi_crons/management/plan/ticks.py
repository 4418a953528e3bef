"""The ticks of a schedule in a span of time: few of them one by one, many as a number, and never longer than is allowed."""

from __future__ import annotations

import asyncio
import time
from itertools import count, islice, pairwise
from typing import NamedTuple

from fastapi_crons._util.text import one_line
from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.schedule.checks import AskedTicks
from fastapi_crons.schedule.due import MAX_STEPS, TickSource, newest_tick

#: Up to so many ticks are shown one by one.
MAX_SINGLE = 12
#: Ticks of our own schedules are counted up to one a second for 31 days, and for so many steps.
MAX_TICKS, _STEPS = 31 * 86_400, 5_000
#: How long (seconds) the schedules of plugins and apps may take, all together.
_PATIENCE = 1.0
#: How long (seconds) the event loop may be kept from other work.
_TURN = 0.005


class Ticks(NamedTuple):
    """Ticks in Unix seconds."""

    single: tuple[int, ...] = ()
    """The first ones, at most `MAX_SINGLE`."""
    number: int = 0
    last: int | None = None
    """The last one; where there are more than could be counted, of a schedule that plugins or apps bring, the last counted."""
    more: bool = False
    """Whether there are more than were counted."""
    every: int | None = None
    """The seconds from each one to the next, where they are the same."""
    following: int | None = None
    """The next one after the span, where that is known."""
    fault: str | None = None
    """Why the schedule could not be asked any further."""

    @property
    def first(self) -> int | None:
        return self.single[0] if self.single else None


class Patience:
    """How long schedules that plugins and apps bring may be asked, and how long the event loop is kept from other work."""

    def __init__(self) -> None:
        self._left = _PATIENCE
        self._turn_ends = time.perf_counter() + _TURN

    async def give_turn(self) -> None:
        """Let the event loop do other work, where it has waited for a few milliseconds."""
        if time.perf_counter() > self._turn_ends:
            await asyncio.sleep(0)
            self._turn_ends = time.perf_counter() + _TURN

    def first_of(self, schedule: Schedule, after: int, until: int, most: int) -> tuple[int, ...] | None:
        """The first ticks in (after, until], at most so many; None where they can't be counted quickly: see `ticks_of`."""
        if is_ours(schedule) and isinstance(schedule, ZonedSchedule):
            return tuple(islice(schedule.ticks_between(after, until), most))
        return None

    def number_of(self, schedule: Schedule, after: int, until: int) -> int:
        """How many ticks are in (after, until], of a schedule whose ticks can be counted quickly."""
        assert isinstance(schedule, ZonedSchedule)
        return schedule.count_ticks(after, until, MAX_TICKS, lambda: False)[0] if after < until else 0

    def ticks_of(self, schedule: Schedule, after: int, until: int) -> Ticks:
        """The ticks in (after, until]."""
        if is_ours(schedule):
            return _counted(schedule, after, until)
        return self._asked(AskedTicks(schedule), after, until)

    def _asked(self, source: AskedTicks, after: int, until: int) -> Ticks:
        if self._left <= 0:
            return Ticks(more=True, fault="it was not asked: the schedules of plugins and apps took too long")
        began, single, number, last, fault, following = time.perf_counter(), list[int](), 0, after, None, None
        try:
            while number < MAX_STEPS and time.perf_counter() - began < self._left:
                tick = source.next_tick(last)
                if tick is None or tick > until:
                    following = tick
                    break
                number, last = number + 1, tick
                if number <= MAX_SINGLE:
                    single.append(tick)
            else:
                following = -1
        except Exception as error:  # a faulty schedule, which health reports
            fault = one_line(error)
        self._left -= time.perf_counter() - began
        more, following = following == -1 or fault is not None, None if following == -1 else following
        return Ticks(
            tuple(single), number, last if number else None, more, _every(single, number, last), following, fault
        )


def is_ours(schedule: Schedule | None) -> bool:
    """Whether a schedule is of a kind whose ticks can be counted quickly, and don't fail."""
    return isinstance(schedule, ZonedSchedule) and not schedule.foreign


def _counted(source: Schedule, after: int, until: int) -> Ticks:
    assert isinstance(source, ZonedSchedule)
    single = list(islice(source.ticks_between(after, until), MAX_SINGLE + 1))
    if not single:
        return Ticks(following=source.next_tick(until))
    if len(single) <= MAX_SINGLE:
        number, last, more = len(single), single[-1], False
    else:
        last = newest_tick(source, single[-1] - 1, until) or single[-1]
        number, more = _number(source, single[0], last)
    every = _every(single, number, last) if not more else None
    return Ticks(tuple(single[:MAX_SINGLE]), number, last, more, every, source.next_tick(last))


def _number(source: TickSource, first: int, last: int) -> tuple[int, bool]:
    """How many ticks lie in [first, last], and whether there are more. Both are ticks."""
    steps = count(1)
    between, more = source.count_ticks(first, last - 1, MAX_TICKS, lambda: next(steps) > _STEPS)
    return between + 2, more


def _every(single: list[int], number: int, last: int) -> int | None:
    distances = {later - earlier for earlier, later in pairwise(single)}
    if len(distances) != 1:
        return None
    every = distances.pop()
    return every if last - single[0] == every * (number - 1) else None
