"""The rule for ticks, by brute force: walk the instants, map each to the wall clock, apply the rule.

Shares nothing with the implementation: fields are read by hand, days are checked with `datetime`, clocks by `zoneinfo`.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from math import gcd
from zoneinfo import ZoneInfo

UTC = timezone.utc


_NAMES = {
    **{name.lower(): number for number, name in enumerate(calendar.month_abbr) if name},
    **{name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))},
}


def _numbered(field: str) -> str:
    """The field with names as numbers."""
    for name, number in _NAMES.items():
        field = field.lower().replace(name, str(number))
    return field.upper()


def day_of_month_matches(field: str, day: date) -> bool:
    """Whether a day matches the third field."""
    length = calendar.monthrange(day.year, day.month)[1]
    for item in field.upper().split(","):
        if item == "L":
            if day.day == length:
                return True
        elif item.endswith("W") or item.startswith("W"):
            wanted = item.replace("W", "")
            target = length if wanted == "L" else int(wanted)
            if target <= length and day == nearest_weekday(day.replace(day=target)):
                return True
        elif day.day in values(item, 1, 31):
            return True
    return False


def nearest_weekday(day: date) -> date:
    """The day from Monday to Friday nearest to a day, in its month."""
    candidates = [day + timedelta(days=distance) for distance in (0, -1, 1, -2, 2)]
    return next(near for near in candidates if near.month == day.month and near.isoweekday() < 6)


def day_of_week_matches(field: str, day: date) -> bool:
    """Whether a day matches the fifth field."""
    length = calendar.monthrange(day.year, day.month)[1]
    weekday = day.isoweekday() % 7
    for item in _numbered(field).split(","):
        if "#" in item:
            number, which = item.split("#")
            if weekday == int(number) % 7 and (day.day - 1) // 7 + 1 == int(which):
                return True
        elif item.endswith("L"):
            if weekday == int(item[:-1]) % 7 and day.day > length - 7:
                return True
        elif weekday in {number % 7 for number in values(item, 0, 6)}:
            return True
    return False


def values(field: str, lowest: int, highest: int) -> set[int]:
    """The numbers that a field stands for."""
    found: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        low, _, high = span.partition("-")
        if span == "*":
            first, last = lowest, highest
        else:
            first = int(low)
            last = int(high) if high else (highest if step else first)
        found.update(range(first, last + 1, int(step or 1)))
    return found


class Oracle:
    """Ticks of one expression in one zone."""

    def __init__(self, expr: str, zone: str) -> None:
        fields = expr.split()
        self.zone = ZoneInfo(zone)
        self.interval_like = fields[0].startswith("*") or fields[1].startswith("*")
        self.either = not fields[2].startswith("*") and not fields[4].startswith("*")
        fields += ["0", "*"][len(fields) - 5 :]
        self.days, self.weekdays = fields[2], fields[4]
        minute, hour, _, month, _, second, year = fields
        self.years = values(year, 1970, 2099) if year != "*" else None
        self.minutes, self.hours, self.seconds = values(minute, 0, 59), values(hour, 0, 23), values(second, 0, 59)
        self.months = values(_numbered(month), 1, 12)
        #: Nothing is due but at seconds that this divides.
        self.resolution = gcd(60, *self.seconds)

    def matches(self, wall: datetime) -> bool:
        if wall.second not in self.seconds or wall.minute not in self.minutes:
            return False
        if wall.hour not in self.hours or wall.month not in self.months:
            return False
        if self.years is not None and wall.year not in self.years:
            return False
        in_month, in_week = (
            day_of_month_matches(self.days, wall.date()),
            day_of_week_matches(self.weekdays, wall.date()),
        )
        return (in_month or in_week) if self.either else (in_month and in_week)

    def wall(self, instant: datetime) -> datetime:
        return instant.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def ticks(self, after: datetime, until: datetime) -> list[datetime]:
        """All ticks in (after, until]; both whole seconds in UTC."""
        return sorted(set(self._interval(after, until) if self.interval_like else self._fixed(after, until)))

    def _interval(self, after: datetime, until: datetime) -> Iterator[datetime]:
        step = self._step(after, until)
        instant = after - timedelta(seconds=after.timestamp() % step)
        while (instant := instant + timedelta(seconds=step)) <= until:
            if self.matches(self.wall(instant)):
                yield instant

    def _step(self, after: datetime, until: datetime) -> int:
        """How many seconds can be taken at a time: those of the wall clock are those of UTC where offsets are whole minutes."""
        offsets = (self.wall(instant) - instant.replace(tzinfo=None) for instant in (after, until))
        return 1 if any(offset.seconds % 60 for offset in offsets) else self.resolution

    def _fixed(self, after: datetime, until: datetime) -> Iterator[datetime]:
        # Every wall-clock time in reach of the window is looked for among the instants, in order.
        wall = self.wall(after) - timedelta(days=2)
        last = self.wall(until) + timedelta(days=2)
        while wall <= last:
            if self.matches(wall):
                tick = self.instant_of(wall)
                if after < tick <= until:
                    yield tick
            wall += timedelta(seconds=self.resolution - wall.second % self.resolution)

    def instant_of(self, wall: datetime) -> datetime:
        """The first instant with this wall clock; where there is none, the first instant whose wall clock is later."""
        first, second = (wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        for candidate in sorted({first, second}):
            if self.wall(candidate) == wall:
                return candidate
        low, high = sorted((first, second))
        while high - low > timedelta(seconds=1):
            middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
            if self.wall(middle) < wall:
                low = middle
            else:
                high = middle
        return high
