"""Schedule, when a job is due, and CronSchedule, a cron expression in a time zone.

The rule for clock changes is that of Debian cron (`man 8 cron` there). An expression is *interval-like* when its minute
or hour field begins with `*`: it is due at every instant whose wall clock matches. Otherwise it is *fixed-time*: every
matching wall-clock time is due exactly once; at the first of two where a change repeats it, and at the first instant
after the gap where a change skips it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime, tzinfo
from datetime import timezone as datetime_timezone
from functools import lru_cache
from typing import Protocol, runtime_checkable

from fastapi_crons._util.text import brief
from fastapi_crons.clock import utc_datetime
from fastapi_crons.errors import ScheduleError
from fastapi_crons.schedule._parser import ALIASES, Parsed, parse
from fastapi_crons.schedule._tables import Days, Times
from fastapi_crons.schedule._zones import FIRST, LAST, Zone, zone

__all__ = ["ALIASES", "CronSchedule", "Schedule", "check_timezone", "cron_schedule", "zone_name"]

_DAY = 86_400


@runtime_checkable
class Schedule(Protocol):
    """When a job is due. We ship `CronSchedule`; plugins and apps can bring other kinds.

    A schedule must be hashable; jobs with equal schedules share one place in the timeline. Its instants are whole seconds,
    and the same in every process. When a job is defined, its schedule is tried over a year, for a few hundredths of a second.
    It must answer quickly, because it is called on the event loop. Where it breaks these rules later, its jobs are stopped.
    """

    @property
    def text(self) -> str:
        """Identifies the schedule: a changed schedule must have another text."""

    def next_after(self, instant: datetime) -> datetime | None:
        """The first due instant strictly later than `instant` (aware), aware and in UTC; None where there is none."""

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The due instants in (after, until], ascending, aware and in UTC: the same that `next_after` returns one by one."""


class CronSchedule:
    """A cron expression in a time zone. Immutable; equal where expression and zone are equal.

    Five fields (minute, hour, day of month, month, day of week), or six with seconds last; names, lists, ranges, steps,
    `L`, `15W`, `LW`, `5#2`, `5L`, and `@hourly` and its kin. When both day fields are restricted, a day matches when
    either does; when one begins with `*` (`*/2`, too), both must match.

    Raises `ScheduleError` (a `ValueError`) for an expression that can't be parsed or is never due, naming the field, and for
    an unknown zone.
    """

    __slots__ = ("_days", "_hash", "_interval_like", "_times", "_zone", "text", "timezone")

    text: str
    timezone: str
    _times: Times
    _days: Days
    _zone: Zone
    _interval_like: bool
    _hash: int

    def __init__(self, expr: str, timezone: str | tzinfo = "UTC") -> None:
        # Only a short text is worth a place in the cache.
        parsed = _parse(expr) if isinstance(expr, str) and len(expr) < 200 else parse(expr)
        timezone = zone_name(timezone)
        put = object.__setattr__
        put(self, "_zone", zone(timezone))
        put(self, "_hash", hash((parsed.text, timezone)))
        put(self, "text", parsed.text)
        put(self, "timezone", timezone)
        put(self, "_times", parsed.times)
        put(self, "_days", parsed.days)
        put(self, "_interval_like", parsed.interval_like)

    def next_after(self, instant: datetime) -> datetime | None:
        """The first tick strictly later than `instant` (aware), in UTC; None where there is none within 50 years."""
        tick = self.next_tick(math.floor(_seconds(instant, "instant")))
        return None if tick is None else utc_datetime(tick)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The ticks in (after, until], ascending, in UTC. Both ends must be aware."""
        first, last = math.floor(_seconds(after, "after")), math.floor(_seconds(until, "until"))
        return (utc_datetime(tick) for tick in self.ticks_between(first, last))

    def ticks_between(self, after: int, until: int) -> Iterator[int]:
        """The ticks in (after, until], ascending, in Unix seconds."""
        tick = self.next_tick(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_tick(tick)

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        """How many ticks lie in (after, until], both in Unix seconds, and whether counting stopped early.

        It stops at more than `most` ticks, and when `enough` returns true. Ticks are counted without computing each of them.
        """
        number, instant, stop = 0, max(after + 1, FIRST), min(until + 1, LAST)
        while instant < stop:
            _, end, offset, seen_until = self._zone.segment(instant)
            wall, last = instant + offset, min(end, stop) + offset
            if not self._interval_like:
                wall = max(wall, seen_until)
            number += self._count_walls(wall, last)
            instant = end
            if not self._interval_like and end < stop:
                # All wall-clock times in a gap that begins here are one tick.
                gap = self._next_wall(max(wall, last))
                if gap is not None and gap < end + self._zone.segment(end).offset:
                    number, instant = number + 1, end + 1
            if number > most:
                return most, True
            if instant < stop and enough():
                return number, True
        return number, False

    def _count_walls(self, wall: int, last: int) -> int:
        """How many wall-clock times in [wall, last) match, both as seconds since 1970 on that clock."""
        if wall >= last:
            return 0
        (day, second), (last_day, last_second) = divmod(wall, _DAY), divmod(last, _DAY)
        days, times = self._days, self._times
        number = days.count(day, last_day) * len(times.minutes) * len(times.seconds)
        if second and days.count(day, day + 1):
            number -= times.count_before(second)
        if last_second and days.count(last_day, last_day + 1):
            number += times.count_before(last_second)
        return number

    def next_tick(self, after: int) -> int | None:
        """The first tick strictly later than `after`, both in Unix seconds."""
        instant = after + 1
        instant = max(instant, FIRST)
        while instant < LAST:
            _, end, offset, seen_until = self._zone.segment(instant)
            wall = instant + offset
            if wall < seen_until and not self._interval_like:
                wall = seen_until
            wall_tick = self._next_wall(wall)
            if wall_tick is None:
                return None
            tick = wall_tick - offset
            if tick < end:
                return tick
            # Not in this segment.
            next_wall = end + self._zone.segment(end).offset
            if not self._interval_like and wall_tick < next_wall:
                return end  # the wall-clock time lies in the gap that begins here
            # No wall-clock time between these two matches, so whole segments can be skipped; but where the clock goes back
            # before the first of them, the repeated times have to be searched.
            instant = end if next_wall < wall else max(end, wall_tick - 2 * _DAY)
        return None

    def _next_wall(self, wall: int) -> int | None:
        """The first matching wall-clock time at or after `wall`, both as seconds since 1970 on that clock."""
        day, second = divmod(wall, _DAY)
        days = self._days
        found = day if days.every else days.next_day(day)
        if found == day:
            time = self._times.next_time(second)
            if time is not None:
                return day * _DAY + time
            found = days.next_day(day + 1)
        if found is None:
            return None
        return found * _DAY + self._times.minutes[0] * 60 + self._times.seconds[0]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a CronSchedule is immutable; make a new one instead of setting {name}")

    def __reduce__(self) -> tuple[type[CronSchedule], tuple[str, str]]:
        return CronSchedule, (self.text, self.timezone)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CronSchedule):
            return NotImplemented
        return self is other or (self.text == other.text and self.timezone == other.timezone)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"CronSchedule({self.text!r}, {self.timezone!r})"


@lru_cache(maxsize=16_384)
def cron_schedule(expr: str, timezone: str = "UTC") -> CronSchedule:
    """A `CronSchedule`; the same object for the same expression and zone."""
    return CronSchedule(expr, timezone)


@lru_cache(maxsize=16_384)
def _parse(expr: str) -> Parsed:
    return parse(expr)


def check_timezone(name: str) -> None:
    """Raises `ScheduleError` where the tz database has no zone of this name."""
    zone(zone_name(name))


def zone_name(timezone: object) -> str:
    """The name of a zone that is given as a name, a `ZoneInfo` or `datetime.timezone.utc`.

    Raises `ScheduleError` for an object without such a name. `CronSchedule` checks whether the zone exists.
    """
    if isinstance(timezone, str):
        return timezone
    if timezone is datetime_timezone.utc:
        return "UTC"
    # The attribute is `key` in ZoneInfo, `zone` in pytz.
    name = getattr(timezone, "key", None) or getattr(timezone, "zone", None)
    if isinstance(timezone, tzinfo) and isinstance(name, str):
        return name
    raise ScheduleError(
        f"timezone must be the name of a zone or a ZoneInfo, not {brief(timezone)}; e.g. 'Europe/Berlin'"
    )


def _seconds(instant: datetime, what: str) -> float:
    if instant.tzinfo is None:
        raise ScheduleError(f"{what} must be an aware datetime, not {instant.isoformat()}; add tzinfo")
    return instant.timestamp()
