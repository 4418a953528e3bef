"""Instants and days as people give them: wall-clock times, aware datetimes and dates, and which instants these are in a zone.

A wall-clock time that a clock change repeats is the first of the two; one that it skips is the first instant after the gap.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fastapi_crons._util.text import brief
from fastapi_crons.clock import utc_datetime
from fastapi_crons.errors import ScheduleError
from fastapi_crons.schedule._zones import FIRST, LAST, Zone

DAY = 86_400
_EPOCH = datetime(1970, 1, 1)
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(Z|[+-]\d\d:\d\d)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
#: Outside of these years, instants can't be computed in all zones.
_YEARS = range(2, 9999)

#: Instants from a first one up to, but not including, a last one.
Span = tuple[int, int]


class Moment(NamedTuple):
    """A date and a time: an instant (Unix seconds), or seconds since 1970 on the clock on the wall, in whatever zone."""

    seconds: int
    is_wall: bool

    @property
    def text(self) -> str:
        """In ISO format; an instant in UTC."""
        shown = _EPOCH + timedelta(seconds=self.seconds)
        return _iso(shown if self.is_wall else shown.replace(tzinfo=timezone.utc), "T")

    def instant(self, zone: Zone) -> int:
        """The instant in a zone."""
        return instant_of_wall(self.seconds, zone) if self.is_wall else self.seconds


def moment(value: object, what: str) -> Moment:
    """What was given as a datetime or in ISO format. Raises `ScheduleError`, which begins with `what`."""
    given = value
    if isinstance(given, str):
        match = _MOMENT.fullmatch(given.strip())
        try:
            found = match and datetime.fromisoformat(f"{match[1]}T{match[2]}{(match[3] or '').replace('Z', '+00:00')}")
        except ValueError:
            found = None
        given = found or given
    if not isinstance(given, datetime):
        raise ScheduleError(
            f"{what} can't be {brief(value)}; give a datetime, or a date and a time like '2026-12-24T17:00'"
        )
    if given.microsecond:
        raise ScheduleError(f"{what} can't be {brief(value)}; give whole seconds")
    if given.year not in _YEARS:
        raise ScheduleError(f"{what} can't be {brief(value)}; give a year from {_YEARS[0]} to {_YEARS[-1]}")
    if given.utcoffset() is not None:
        return Moment(int(given.timestamp()), is_wall=False)
    if given.fold:
        raise ScheduleError(
            f"{what} can't be {brief(value)} with fold=1; where the clock shows a time twice, a datetime without a zone is the "
            "first of the two, so give one with tzinfo"
        )
    return Moment(_wall_seconds(given), is_wall=True)


def day(value: object, what: str) -> date:
    """What was given as a date or in ISO format. Raises `ScheduleError`, which begins with `what`."""
    given = value
    if isinstance(given, str) and _DATE.fullmatch(given.strip()):
        try:
            given = date.fromisoformat(given.strip())
        except ValueError:
            given = value
    if not isinstance(given, date) or isinstance(given, datetime):
        raise ScheduleError(f"{what} can't be {brief(value)}; give a date, like '2026-12-24'")
    if given.year not in _YEARS:
        raise ScheduleError(f"{what} can't be {brief(value)}; give a year from {_YEARS[0]} to {_YEARS[-1]}")
    return given


def day_or_moment(value: object, what: str) -> date | Moment:
    """A date, or a date with a time. Raises `ScheduleError`, which begins with `what`."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return day(value, what)
    if isinstance(value, str) and _DATE.fullmatch(value.strip()):
        return day(value, what)
    return moment(value, what)


def days_of(dates: object, what: str) -> tuple[tuple[date, date], ...]:
    """Dates and ranges of dates as ranges (first, last), ascending and disjoint; both ends belong to a range."""
    if isinstance(dates, (str, date)) or not isinstance(dates, Iterable):
        raise ScheduleError(f"{what} can't be {brief(dates)}; give a list of dates, like ['2026-12-24']")
    ranges: list[tuple[date, date]] = []
    for item in dates:
        ends = item.split("/") if isinstance(item, str) else item if isinstance(item, (tuple, list)) else (item,)
        if len(ends) > 2 or not ends:
            raise ScheduleError(
                f"{what} can't have {brief(item)}; give a date, or the first and the last one of a range"
            )
        first, last = day(ends[0], f"a date in {what}"), day(ends[-1], f"a date in {what}")
        if last < first:
            raise ScheduleError(f"{what} can't have {brief(item)}: the range ends before it begins")
        ranges.append((first, last))
    if not ranges:
        raise ScheduleError(f"{what} is empty; give at least one date")
    merged: list[tuple[date, date]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + timedelta(days=1):
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def instant_of_wall(wall: int, zone: Zone) -> int:
    """The first instant at which the clock on the wall shows a time; where it shows it never, the first after the gap."""
    instant = wall - DAY
    while True:
        start, end, offset, _ = zone.segment(instant)
        if wall - offset < end:
            return max(wall - offset, start)
        instant = end


def since_day(first: date, zone: Zone) -> tuple[Span, ...]:
    """The instants that lie in a day or in a later one: several spans where a clock is set back over midnight."""
    wall = _wall_seconds(first)
    instant, spans = wall - DAY, []
    while instant < wall + DAY:
        _, end, offset, _ = zone.segment(instant)
        begin = max(instant, wall - offset)
        if begin < end:
            spans.append((begin, end))
        instant = end
    return union([*spans, (instant, LAST)])


def in_days(first: date, last: date, zone: Zone) -> tuple[Span, ...]:
    """The instants that lie in a range of days."""
    return intersection(since_day(first, zone), until_day(last, zone))


def until_day(last: date, zone: Zone) -> tuple[Span, ...]:
    """The instants that lie in a day or in an earlier one."""
    return complement(since_day(last + timedelta(days=1), zone))


def union(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same instants in ascending spans that don't touch."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def complement(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """All other instants. Spans are ascending and don't touch."""
    edges = [(FIRST, FIRST), *spans, (LAST, LAST)]
    return tuple((one[1], other[0]) for one, other in pairwise(edges) if one[1] < other[0])


def intersection(some: tuple[Span, ...], others: tuple[Span, ...]) -> tuple[Span, ...]:
    """The instants in both. Spans are ascending and don't touch."""
    return complement(union([*complement(some), *complement(others)]))


def span_at(spans: tuple[Span, ...], instant: int) -> int:
    """The number of the first span that ends after an instant."""
    found = bisect_right(spans, (instant, LAST))
    return found - 1 if found and spans[found - 1][1] > instant else found


def shown(instant: int, zone: str) -> str:
    """An instant on a zone's clock, with the distance from UTC, so that it is clear where a clock change repeats it."""
    return _iso(utc_datetime(instant).astimezone(ZoneInfo(zone)), " ")


def _iso(at: datetime, between: str) -> str:
    return at.isoformat(between, "seconds" if at.second else "minutes")


def _wall_seconds(at: date) -> int:
    wall = at if isinstance(at, datetime) else datetime(at.year, at.month, at.day)
    return int((wall - _EPOCH).total_seconds())
