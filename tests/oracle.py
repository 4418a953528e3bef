"""The rule for ticks, by brute force: walk the instants, map each to the wall clock, apply the rule.

Shares nothing with the implementation: fields are read by hand, days are checked with `datetime`, clocks by `zoneinfo`.
Handles numbers, lists, ranges, steps and `*`, which is what the laws are tested with.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

UTC = timezone.utc
_LOWEST = (0, 0, 1, 1, 0, 0)
_HIGHEST = (59, 23, 31, 12, 6, 59)


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
        fields = [*fields, "0"][:6]
        self.sets = [values(field, low, high) for field, low, high in zip(fields, _LOWEST, _HIGHEST, strict=True)]
        self.resolution = 60 if self.sets[5] == {0} else 1

    def matches(self, wall: datetime) -> bool:
        minute, hour, day, month, weekday, second = self.sets
        if wall.second not in second or wall.minute not in minute or wall.hour not in hour or wall.month not in month:
            return False
        in_month, in_week = wall.day in day, (wall.isoweekday() % 7) in weekday
        return (in_month or in_week) if self.either else (in_month and in_week)

    def wall(self, instant: datetime) -> datetime:
        return instant.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def ticks(self, after: datetime, until: datetime) -> list[datetime]:
        """All ticks in (after, until]; both whole seconds in UTC."""
        return sorted(set(self._interval(after, until) if self.interval_like else self._fixed(after, until)))

    def _interval(self, after: datetime, until: datetime) -> Iterator[datetime]:
        instant = after
        while (instant := instant + timedelta(seconds=1)) <= until:
            if self.matches(self.wall(instant)):
                yield instant

    def _fixed(self, after: datetime, until: datetime) -> Iterator[datetime]:
        # Every wall-clock time in reach of the window is looked for among the instants, in order.
        wall = self.wall(after) - timedelta(days=2)
        last = self.wall(until) + timedelta(days=2)
        while wall <= last:
            if self.matches(wall):
                tick = self._instant_of(wall)
                if after < tick <= until:
                    yield tick
            wall += timedelta(seconds=1 if self.resolution == 1 else 60 - wall.second)

    def _instant_of(self, wall: datetime) -> datetime:
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
