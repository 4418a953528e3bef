"""OwnTicks: the ticks of a job that its runs or its starts make, and not the clock. There is one at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator

from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.schedule.due import NOTHING, Policy, SharedTicks, Step, TickRange

#: How soon (seconds) a job that is due at a start asks again where it is paused, or its definition is not in force.
_ASK_AGAIN = 15


class ListedTicks:
    """A source of ticks that are known one by one."""

    def __init__(self, ticks: Iterable[int]) -> None:
        self._ticks = sorted(set(ticks))

    def next_tick(self, after: int) -> int | None:
        place = bisect_right(self._ticks, after)
        return self._ticks[place] if place < len(self._ticks) else None

    def ticks_between(self, after: int, until: int) -> Iterator[int]:
        return (tick for tick in self._ticks if after < tick <= until)

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        number = sum(1 for _ in self.ticks_between(after, until))
        return min(number, most), number > most


class _OneTick:
    """A source of ticks that has at most one: the tick after the last handled one."""

    __slots__ = ("_period", "_start")

    def __init__(self, period: int, start: int) -> None:
        self._period, self._start = period, start

    def next_tick(self, after: int) -> int | None:
        if self._period:
            return after + self._period
        return self._start if after < self._start else None

    def ticks_between(self, after: int, until: int) -> Iterator[int]:
        tick = self.next_tick(after)
        if tick is not None and tick <= until:
            yield tick

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        number = sum(1 for _ in self.ticks_between(after, until))
        return min(number, most), number > most


class OwnTicks(SharedTicks):
    """The ticks of one job: the only one after its last handled tick, however long ago that was."""

    __slots__ = ("_one", "ask_again", "start")

    def __init__(self, period: int, start: int) -> None:
        """`period` is counted from the end of the last run (seconds); 0 for a job that is due once, at `start`."""
        self._one = _OneTick(period, start)
        super().__init__(self._one)
        #: The tick of the last start; 0 where that is not known, or does not matter.
        self.start = start
        #: How soon (seconds) a claim that was refused is worth being made again. No run can end, or pause be over, before now.
        self.ask_again = period or _ASK_AGAIN

    def step(self, last_handled: int, now: float, policy: Policy) -> Step:
        tick = self._one.next_tick(last_handled)
        if tick is None or tick > now:
            return NOTHING
        if policy.grace is not None and now - tick > policy.grace:
            # The next one is counted from now: what lies in between was never due.
            return Step(None, ((int(now), "misfire_grace_time"),))
        return Step(tick, alone=True)

    def range(self, after: int, until: int) -> TickRange | None:
        tick = self._one.next_tick(after)
        return None if tick is None or tick > until else TickRange(tick, tick, 1)


def own_ticks(schedule: Schedule, start: int) -> OwnTicks | None:
    """The ticks of a job with this schedule; None where the clock makes them. `start` is that of the fleet or the deploy."""
    if not isinstance(schedule, ZonedSchedule) or schedule.is_clocked:
        return None
    return OwnTicks(schedule.period_from_end, start)
