"""Checks schedules of plugins and apps against the `Schedule` protocol, when a job is defined and at every call.

A schedule that breaks it could run a job each second, or never: for example, with a tick that is not later than the given
instant. A schedule that adds intervals on a wall clock does that in the hour that a clock change repeats. So schedules are
tried around the clock changes of a year.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from fastapi_crons._util.text import brief, one_line
from fastapi_crons.clock import utc_datetime
from fastapi_crons.errors import ScheduleError
from fastapi_crons.schedule._parser import MAX_LENGTH
from fastapi_crons.schedule.base import Schedule

_HOUR, _DAY = 3_600, 86_400
#: Zones with different rules, which together have nearly every clock change of the world; the most used first.
_ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/Los_Angeles",
    "America/Chicago",
    "Australia/Sydney",
    "America/Denver",
    "America/Halifax",
    "America/St_Johns",
    "America/Anchorage",
    "America/Adak",
    "America/Havana",
    "America/Nuuk",
    "America/Santiago",
    "Atlantic/Azores",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Jerusalem",
    "Asia/Beirut",
    "Asia/Gaza",
    "Europe/Chisinau",
    "Antarctica/Troll",
    "Australia/Adelaide",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Norfolk",
    "Pacific/Easter",
)
#: When around a clock change (seconds after it) a schedule is tried: mostly within the repeated hour.
_AROUND = (-_HOUR, -1, 0, 1, 599, 1_199, 1_800, 2_401, 3_000, _HOUR - 1, _HOUR, 2 * _HOUR)
#: How many successive ticks of `next_after` are compared with `between`.
_COMPARED = 5


class Unfit(ScheduleError):  # noqa: N818 - says what the schedule is
    """How a schedule breaks the protocol."""


def answer(schedule: Schedule, after: int) -> int | None:
    """The next tick after an instant (both in Unix seconds). Raises `Unfit`, or what the schedule raises."""
    tick = schedule.next_after(utc_datetime(after))
    return None if tick is None else _checked(tick, after, "next_after")


def _checked(tick: object, after: int, method: str) -> int:
    if not isinstance(tick, datetime):
        advice = "; it must return datetimes"
    elif tick.utcoffset() is None:
        advice = ", which has no zone; it must return aware datetimes in UTC"
    elif tick.utcoffset():
        advice = "; it must return aware datetimes in UTC: add .astimezone(timezone.utc)"
    elif tick.microsecond:
        advice = "; ticks must be whole seconds"
    else:
        seconds = int(tick.timestamp())
        if seconds > after:
            return seconds
        advice = ", which is not later: calculate in UTC, which has no clock changes"
    shown = tick.isoformat() if isinstance(tick, datetime) else ascii(tick)[:60]
    raise Unfit(f"{method} returned {shown} for {utc_datetime(after).isoformat()}{advice}")


class AskedTicks:
    """A schedule of plugins and apps in whole Unix seconds. Raises `Unfit` where it breaks the protocol."""

    __slots__ = ("_schedule",)

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def next_tick(self, after: int) -> int | None:
        return answer(self._schedule, after)

    def ticks_between(self, after: int, until: int) -> Iterator[int]:
        tick = self.next_tick(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_tick(tick)

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        return count_one_by_one(self.ticks_between(after, until), most, enough)


class ForeignTicks(AskedTicks):
    """The same; but once the schedule breaks the protocol, it has no more ticks."""

    __slots__ = ("_on_fault", "fault")

    def __init__(self, schedule: Schedule, on_fault: Callable[[str], None] | None = None) -> None:
        super().__init__(schedule)
        self._on_fault = on_fault
        #: How it broke the protocol.
        self.fault: str | None = None

    def next_tick(self, after: int) -> int | None:
        if self.fault is not None:
            return None
        try:
            return answer(self._schedule, after)
        except Unfit as fault:
            self.fault = str(fault)
        if self._on_fault is not None:
            self._on_fault(self.fault)
        return None


def count_one_by_one(ticks: Iterable[int], most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
    """How many ticks there are, and whether counting stopped early."""
    number = 0
    for _ in ticks:
        if number == most or enough():
            return number, True
        number += 1
    return number, False


class _Enough(Exception):  # noqa: N818 - a signal
    """Trying ends early."""


def fault_of(schedule: Schedule, now: int, enough: Callable[[], bool]) -> str | None:
    """How a schedule breaks the protocol; None where nothing is found until `enough`, which is asked after each answer."""
    text = schedule.text
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_LENGTH or not text.isprintable():
        return f"its text must be 1 to {MAX_LENGTH} printable characters, not {brief(text)}"
    try:
        hash(schedule)
    except Exception as error:
        return f"its hash failed with {one_line(error)}"
    zone = getattr(schedule, "timezone", None)
    changes = _all_changes(zone if isinstance(zone, str) else _ZONES[0], now // _DAY * _DAY)

    def check() -> None:
        if enough():
            raise _Enough

    method = "next_after"
    try:
        for instant, compare in _instants(now, changes):
            method = "between" if compare else "next_after"
            if compare:
                _compare(schedule, instant, check)
            else:
                answer(schedule, instant)
            check()
    except _Enough:
        return None
    except Unfit as fault:
        return str(fault)
    except Exception as error:
        return f"{method} failed with {one_line(error)}"
    return None


def _compare(schedule: Schedule, after: int, check: Callable[[], None]) -> None:
    """`between` must return the ticks that `next_after` returns one by one: all up to its end, and none after it."""
    ticks: list[int] = []
    while len(ticks) < _COMPARED and (tick := answer(schedule, ticks[-1] if ticks else after)) is not None:
        ticks.append(tick)
        check()
    until = ticks[-1] if ticks else after + _DAY
    for end, wanted in ((until, ticks), (until - 1, ticks[:-1])):
        given = schedule.between(utc_datetime(after), utc_datetime(end))
        found: list[int] = []
        for given_tick in islice(given, len(wanted) + 1):
            found.append(_checked(given_tick, found[-1] if found else after, "between"))
            check()
        if found != wanted:
            raise Unfit(
                f"between({utc_datetime(after).isoformat()}, {utc_datetime(end).isoformat()}) returned {_shown(found)}, "
                f"but next_after returned {_shown(wanted)}"
            )


def _shown(ticks: list[int]) -> str:
    return ", ".join(utc_datetime(tick).isoformat() for tick in ticks) or "nothing"


def _instants(now: int, changes: Iterable[int]) -> Iterator[tuple[int, bool]]:
    """When to try a schedule over the next year, the likeliest faults first, and whether to compare `between`."""
    yield now, False
    yield now, True
    for change in changes:
        yield from ((change + seconds, False) for seconds in _AROUND)
        yield change - 2 * _HOUR, True
    for day in range(1, 366, 2):
        # At a different time each day.
        yield now + day * _DAY + day * 3_571 % _DAY, day % 30 == 1


@lru_cache(maxsize=64)
def _all_changes(first: str, start: int) -> tuple[int, ...]:
    """The clock changes of all zones in the year after `start`, those of the first one first."""
    return tuple(dict.fromkeys(change for name in (first, *_ZONES) for change in _changes(name, start)))


@lru_cache(maxsize=256)
def _changes(name: str, start: int) -> tuple[int, ...]:
    """The clock changes of a zone in the year after `start`; none where there is no such zone."""
    try:
        zone = ZoneInfo(name)
    except Exception:
        return ()

    def offset(instant: int) -> timedelta | None:
        return datetime.fromtimestamp(instant, timezone.utc).astimezone(zone).utcoffset()

    changes = []
    for low in range(start, start + 366 * _DAY, 14 * _DAY):
        early, late = low, low + 14 * _DAY
        if offset(early) == offset(late):
            continue
        while late - early > 1:
            middle = (early + late) // 2
            early, late = (middle, late) if offset(middle) == offset(low) else (early, middle)
        changes.append(late)
    return tuple(changes)
