"""CronSchedule: a cron expression in a time zone.

The rule for clock changes is that of Debian cron (`man 8 cron` there). An expression is *interval-like* when its minute
or hour field begins with `*`: it is due at every instant whose wall clock matches. Otherwise it is *fixed-time*: every
matching wall-clock time is due exactly once; at the first of two where a change repeats it, and at the first instant
after the gap where a change skips it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timezone as datetime_timezone
from datetime import tzinfo
from functools import lru_cache

from fastapi_crons._util.text import brief
from fastapi_crons.errors import ScheduleError
from fastapi_crons.schedule._parser import ALIASES, Parsed, parse
from fastapi_crons.schedule._tables import Days, Times
from fastapi_crons.schedule._zones import FIRST, LAST, Zone, zone
from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.schedule.english import in_words

__all__ = ["ALIASES", "CronSchedule", "Schedule", "check_timezone", "cron_schedule", "zone_name"]

_DAY = 86_400


class CronSchedule(ZonedSchedule):
    """A cron expression in a time zone. Immutable; equal where expression and zone are equal.

    Five fields (minute, hour, day of month, month, day of week), six with seconds last, or seven with the year (1970 to
    2099) after the seconds; names, lists, ranges, steps, `L`, `15W`, `LW`, `5#2`, `5L`, and `@hourly` and its kin. When
    both day fields are restricted, a day matches when either does; when one begins with `*` (`*/2`, too), both must match.

    Raises `ScheduleError` (a `ValueError`) for an expression that can't be parsed or is never due, naming the field, and for
    an unknown zone.
    """

    __slots__ = ("_days", "_interval_like", "_times", "_zone")

    _times: Times
    _days: Days
    _zone: Zone
    _interval_like: bool

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

    @property
    def words(self) -> str:
        """When it is due, in English."""
        return in_words(self.text)

    @property
    def is_interval_like(self) -> bool:
        """Whether it follows the wall clock through clock changes; otherwise each time on the wall is due exactly once."""
        return self._interval_like

    @property
    def expressions(self) -> tuple[str, ...]:
        """Its text."""
        return (self.text,)

    def nested_text(self) -> str:
        """How it is written in Python."""
        return f"CronSchedule({self.text!r}, {self.timezone!r})"

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        """How many ticks lie in (after, until], both in Unix seconds, and whether counting stopped early.

        It stops at more than `most` ticks, and when `enough` returns true. Ticks are counted without computing each of them.
        """
        number, instant, stop = 0, max(after + 1, FIRST), min(until + 1, LAST)
        if instant < stop and self._ends_gap(instant):
            number, instant = 1, instant + 1
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
        instant = max(after + 1, FIRST)
        if instant < LAST and self._ends_gap(instant):
            return instant
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

    def _ends_gap(self, instant: int) -> bool:
        """Whether this is the first instant after a gap that holds a fixed time: due then, although the clock shows another."""
        if self._interval_like:
            return False
        start, _, offset, _ = self._zone.segment(instant)
        if start != instant:
            return False
        before = self._zone.segment(instant - 1)
        first = max(instant + before.offset, before.seen_until)
        skipped = self._next_wall(first) if first < instant + offset else None
        return skipped is not None and skipped < instant + offset

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

    def __reduce__(self) -> tuple[type[CronSchedule], tuple[str, str]]:
        return CronSchedule, (self.text, self.timezone)


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
