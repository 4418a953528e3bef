"""Times and Days: the times of a day, and the days, at which a wall clock matches a cron expression."""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

#: An expression that is not due within this many years has no next tick.
SEARCH_YEARS = 50
#: 1970-01-01 as a proleptic ordinal.
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
#: The last year that `date` can express.
_LAST_YEAR = date.max.year


class Times(NamedTuple):
    """The matching times of a day: minutes since midnight, and seconds of the minute, both ascending."""

    minutes: tuple[int, ...]
    seconds: tuple[int, ...]

    def next_time(self, second: int) -> int | None:
        """The first matching second of the day at or after `second`; None where there is none."""
        minute, second_of_minute = divmod(second, 60)
        at = bisect_left(self.minutes, minute)
        if at == len(self.minutes):
            return None
        found = self.minutes[at]
        if found > minute:
            return found * 60 + self.seconds[0]
        if second_of_minute <= self.seconds[-1]:
            return found * 60 + self.seconds[bisect_left(self.seconds, second_of_minute)]
        at += 1
        return None if at == len(self.minutes) else self.minutes[at] * 60 + self.seconds[0]

    def count_before(self, second: int) -> int:
        """How many matching seconds of the day come before `second`."""
        minute, second_of_minute = divmod(second, 60)
        at = bisect_left(self.minutes, minute)
        number = at * len(self.seconds)
        if at < len(self.minutes) and self.minutes[at] == minute:
            number += bisect_left(self.seconds, second_of_minute)
        return number


@dataclass(slots=True, eq=False)
class Days:
    """The matching days, numbered from 1970-01-01."""

    #: Days of the month 1 to 31; the last day; the weekdays nearest to these days (0 for the last day).
    month_days: frozenset[int]
    last_day: bool
    nearest: frozenset[int]
    months: frozenset[int]
    #: Days of the week, 0 for Sunday; and pairs of (day of the week, which one in the month; 0 for the last).
    weekdays: frozenset[int]
    nth: frozenset[tuple[int, int]]
    #: Whether a day matches that matches either day field; else it has to match both.
    either: bool
    #: Ascending; None for all.
    years: tuple[int, ...] | None = None
    #: Whether every day matches.
    every: bool = field(init=False)
    #: The matching days of a month as bits, by (number, length, first weekday): there are few such kinds of months.
    _by_month: dict[tuple[int, int, int], int] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        whole = len(self.month_days) == 31 and len(self.months) == 12 and len(self.weekdays) == 7
        self.every = whole and not self.either and self.years is None

    def next_day(self, day: int) -> int | None:
        """The first matching day at or after `day`; None where there is none within `SEARCH_YEARS` years.

        With a year field, these begin with the first of its years.
        """
        if self.every:
            return day
        try:
            start = date.fromordinal(day + _EPOCH_ORDINAL)
        except (ValueError, OverflowError):
            return None
        year, month, first = start.year, start.month, start.day
        if self.years is not None and self._year_from(year) != year:
            year, month, first = self._year_from(year), 1, 1
        for _ in range(12 * SEARCH_YEARS):
            if year > _LAST_YEAR:
                return None
            if month in self.months:
                left = self._bits(year, month) >> first
                if left:
                    found = first + (left & -left).bit_length() - 1
                    return date(year, month, found).toordinal() - _EPOCH_ORDINAL
            first = 1
            month += 1
            if month == 13:
                year, month = self._year_from(year + 1), 1
        return None

    def _year_from(self, year: int) -> int:
        """The first matching year at or after `year`; one that is too late where there is none."""
        if self.years is None:
            return year
        at = bisect_left(self.years, year)
        return _LAST_YEAR + 1 if at == len(self.years) else self.years[at]

    def count(self, first: int, last: int) -> int:
        """How many matching days lie in [first, last)."""
        if last <= first or self.every:
            return max(0, last - first)
        begin, end = date.fromordinal(first + _EPOCH_ORDINAL), date.fromordinal(last - 1 + _EPOCH_ORDINAL)
        number, (year, month) = 0, (begin.year, begin.month)
        while (year, month) <= (end.year, end.month):
            if month in self.months and (self.years is None or year in self.years):
                bits = self._bits(year, month)
                if (year, month) == (begin.year, begin.month):
                    bits = bits >> begin.day << begin.day
                if (year, month) == (end.year, end.month):
                    bits &= (2 << end.day) - 1
                number += bits.bit_count()
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return number

    def _bits(self, year: int, month: int) -> int:
        monday_first, length = monthrange(year, month)
        first_weekday = (monday_first + 1) % 7
        kind = (month, length, first_weekday)
        bits = self._by_month.get(kind)
        if bits is None:
            bits = self._by_month[kind] = sum(
                1 << day for day in range(1, length + 1) if self._matches(day, length, first_weekday)
            )
        return bits

    def _matches(self, day: int, length: int, first_weekday: int) -> bool:
        weekday = (first_weekday + day - 1) % 7
        in_month = (
            day in self.month_days
            or (self.last_day and day == length)
            or any(day == _nearest_weekday(near or length, length, first_weekday) for near in self.nearest)
        )
        which = (day - 1) // 7 + 1
        in_week = (
            weekday in self.weekdays or (weekday, which) in self.nth or ((weekday, 0) in self.nth and day + 7 > length)
        )
        return in_month or in_week if self.either else in_month and in_week


def _nearest_weekday(day: int, length: int, first_weekday: int) -> int:
    """The day from Monday to Friday nearest to `day` in its month; 0 where the month has no such day."""
    if day > length:
        return 0
    weekday = (first_weekday + day - 1) % 7
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day
