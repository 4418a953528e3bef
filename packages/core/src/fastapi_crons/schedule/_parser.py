"""Parses cron expressions into small tables: on which days, and at which times of the day, a wall clock matches.

croniter is the parser; the day-of-month markers `15W` and `LW` and the spelling `5L` are read here.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from calendar import month_abbr, monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from fastapi_crons.errors import ScheduleError

#: Longer expressions are refused unread.
MAX_LENGTH = 1000
#: An expression that is not due within so many years has no next tick.
SEARCH_YEARS = 50
#: 1970-01-01 as a proleptic ordinal.
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_RANGES = {
    "minute": range(60),
    "hour": range(24),
    "day of month": range(1, 32),
    "month": range(1, 13),
    "day of week": range(7),
    "second": range(60),
}
_FIELDS = tuple(_RANGES)
_FIT = re.compile(r"[0-9A-Za-z*?,/#-]+")
_LONG_NUMBER = re.compile(r"[0-9]{4,}")
_NEAREST = re.compile(r"(?:W([0-9]{1,2})|([0-9]{1,2}|L)W)", re.IGNORECASE)
_WEEKDAYS = {name: str(number) for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_LAST_WEEKDAY = re.compile(r"([0-7]|sun|mon|tue|wed|thu|fri|sat)L|L([0-7]|sun|mon|tue|wed|thu|fri|sat)", re.IGNORECASE)
_MONTHS = {name.lower(): str(number) for number, name in enumerate(month_abbr) if name}
_RANGE = re.compile(r"([0-9]+|[a-z]{3})-([0-9]+|[a-z]{3})(?:/[0-9]+)?", re.IGNORECASE)
_YEARS = re.compile(r"[*?]|[0-9,/-]{4,}")
_RANDOM = re.compile(r"(?<![A-Za-z])[HR](?![A-Za-z])", re.IGNORECASE)
#: What stands for a whole expression.
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Times(NamedTuple):
    """The times of a day that match: minutes since midnight, and seconds of the minute, both ascending."""

    minutes: tuple[int, ...]
    seconds: tuple[int, ...]

    def next_time(self, second: int) -> int | None:
        """The first matching second of the day at or after `second`; None when the day has no more."""
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
        """How many seconds of the day before `second` match."""
        minute, second_of_minute = divmod(second, 60)
        at = bisect_left(self.minutes, minute)
        number = at * len(self.seconds)
        if at < len(self.minutes) and self.minutes[at] == minute:
            number += bisect_left(self.seconds, second_of_minute)
        return number


class Days:
    """The days that match, numbered from 1970-01-01."""

    __slots__ = (
        "_by_month",
        "either",
        "every",
        "last_day",
        "month_days",
        "months",
        "nearest",
        "nth",
        "weekdays",
    )

    def __init__(
        self,
        month_days: frozenset[int],
        last_day: bool,
        nearest: frozenset[int],
        months: frozenset[int],
        weekdays: frozenset[int],
        nth: frozenset[tuple[int, int]],
        either: bool,
    ) -> None:
        #: Days of the month 1 to 31; the last one; the weekdays nearest to some (0 stands for the last day).
        self.month_days, self.last_day, self.nearest = month_days, last_day, nearest
        self.months = months
        #: Days of the week, 0 for Sunday; and pairs of (day of the week, which one in the month; 0 for the last).
        self.weekdays, self.nth = weekdays, nth
        self.either = either
        #: Whether every day matches.
        self.every = len(month_days) == 31 and len(months) == 12 and len(weekdays) == 7 and not either
        # A month's matching days as bits, by (its number, its length, its first weekday): few kinds of months exist.
        self._by_month: dict[tuple[int, int, int], int] = {}

    def next_day(self, day: int) -> int | None:
        """The first matching day at or after `day`; None when there is none in `SEARCH_YEARS` years."""
        if self.every:
            return day
        try:
            start = date.fromordinal(day + _EPOCH_ORDINAL)
        except (ValueError, OverflowError):
            return None
        year, month, first = start.year, start.month, start.day
        for _ in range(12 * SEARCH_YEARS):
            if month in self.months:
                left = self._bits(year, month) >> first
                if left:
                    found = first + (left & -left).bit_length() - 1
                    return date(year, month, found).toordinal() - _EPOCH_ORDINAL
            first = 1
            month += 1
            if month == 13:
                year, month = year + 1, 1
                if year > 9999:
                    return None
        return None

    def count(self, first: int, last: int) -> int:
        """How many days in [first, last) match."""
        if last <= first or self.every:
            return max(0, last - first)
        begin, end = date.fromordinal(first + _EPOCH_ORDINAL), date.fromordinal(last - 1 + _EPOCH_ORDINAL)
        number, (year, month) = 0, (begin.year, begin.month)
        while (year, month) <= (end.year, end.month):
            if month in self.months:
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


class Parsed(NamedTuple):
    """A cron expression, ready to be searched."""

    text: str
    times: Times
    days: Days
    interval_like: bool
    """Says how often rather than when (see `schedule`)."""


def parse(expr: str) -> Parsed:
    """Parse an expression. Raises `ScheduleError`, naming the field and the value."""
    if not isinstance(expr, str):
        raise ScheduleError(f"a cron expression must be text, not {type(expr).__name__}; e.g. '*/5 * * * *'")
    if len(expr) > MAX_LENGTH:
        raise ScheduleError(f"the cron expression has {len(expr)} characters; at most {MAX_LENGTH} are read")
    text = " ".join(expr.split())
    if text.startswith("@"):
        if text.lower() == "@reboot":
            raise ScheduleError("'@reboot' is no point in time; call the function when the app starts instead")
        if text.lower() not in ALIASES:
            raise ScheduleError(f"{_short(text)} is not known; there are {', '.join(ALIASES)}")
        fields = ALIASES[text.lower()].split()
    else:
        fields = text.split(" ")
    if len(fields) not in (5, 6):
        raise ScheduleError(
            f"cron expression {_short(text)} has {_counted(fields if text else [])}; give five (minute, hour, day of month, "
            f"month, day of week) or six, with seconds last{_hint_at_seconds(fields)}"
        )
    try:
        return _parse_fields(text, fields)
    except ScheduleError as error:
        hint = _hint_at_seconds(fields)
        if not hint:
            raise
        raise ScheduleError(f"{error}{hint}") from None


def _counted(fields: Sequence[str]) -> str:
    return "1 field" if len(fields) == 1 else f"{len(fields)} fields"


def _hint_at_seconds(fields: Sequence[str]) -> str:
    """What to do where an expression that can't be read was written as Quartz and Spring do, with seconds first."""
    if len(fields) not in (6, 7):
        return ""
    second, *others = fields[:6]
    try:
        _parse_fields("", [*others, second])
    except ScheduleError:
        readable = False
    else:
        readable = len(fields) == 6 or _YEARS.fullmatch(fields[6]) is not None
    if not readable and "?" not in fields:
        return ""
    hint = "; seconds stand last here, not first as in Quartz and Spring"
    if not readable:
        return hint
    written = [*others, second] if second != "0" else others
    hint += f"; where they were written first, write {_short(' '.join('*' if field == '?' else field for field in written))}"
    if len(fields) == 7:
        hint += ", and leave the year out"
    if any(character.isdigit() for character in others[4].partition("#")[0]):
        hint += " (Quartz counts the days of the week from 1 for Sunday, and here Sunday is 0)"
    return hint


def _parse_fields(text: str, fields: list[str]) -> Parsed:
    for field, value in zip(_FIELDS, fields, strict=False):
        _check_characters(field, value)
    minute, hour, month_day, month, weekday = fields[:5]
    plain_days, nearest = _take_nearest(month_day)
    plain_weekdays, numbered = _take_numbered(weekday)
    minutes, _ = _expand("minute", minute)
    hours, _ = _expand("hour", hour)
    days, _ = _expand("day of month", plain_days) if plain_days else ((), {})
    months, _ = _expand("month", month)
    weekdays, _ = _expand("day of week", plain_weekdays, shown=weekday) if plain_weekdays else ((), {})
    seconds, _ = _expand("second", fields[5]) if len(fields) == 6 else ((0,), {})
    last_day = "l" in days
    parsed = Parsed(
        text,
        _times(_numbers("minute", minutes), _numbers("hour", hours), _numbers("second", seconds)),
        _days(
            frozenset(_numbers("day of month", [day for day in days if day != "l"])),
            last_day,
            nearest,
            frozenset(_numbers("month", months)),
            frozenset(_numbers("day of week", weekdays)),
            numbered,
            month_day[0] not in "*?" and weekday[0] not in "*?",
        ),
        minute[0] == "*" or hour[0] == "*",
    )
    if parsed.days.next_day(0) is None:
        raise ScheduleError(
            f"cron expression {_short(text)} is never due: {_conflict(parsed.days, month_day, month, weekday)}"
        )
    return parsed


def _conflict(days: Days, month_day: str, month: str, weekday: str) -> str:
    """Which fields leave no day when they come together: those without any one of which there would be days."""
    every = {name: frozenset(values) for name, values in _RANGES.items()}

    def is_due(without: str) -> bool:
        return (
            Days(
                every["day of month"] if without == "day of month" else days.month_days,
                days.last_day,
                days.nearest,
                every["month"] if without == "month" else days.months,
                every["day of week"] if without == "day of week" else days.weekdays,
                days.nth,
                days.either,
            ).next_day(0)
            is not None
        )

    written = {"day of month": month_day, "month": month, "day of week": weekday}
    named = [f"{field} {_short(value)}" for field, value in written.items() if is_due(field)]
    return f"{', '.join(named[:-1])} and {named[-1]} never meet"


def large_steps(expr: str) -> Iterator[tuple[str, str, int]]:
    """What of an expression steps further than it reaches (`*/90` in minutes): field, item, and the one value that is left."""
    for field, value in zip(_FIELDS, expr.split(), strict=False):
        for item in value.split(","):
            span, _, step = item.partition("/")
            reach = len(_numbers(field, _expand(field, f"{span}/1")[0])) if step else 1
            if 1 < reach < int(step):
                yield field, item, _numbers(field, _expand(field, item)[0])[0]


def _check_characters(field: str, value: str) -> None:
    if not _FIT.fullmatch(value):
        raise _fault(field, value, "it has characters that no cron field has")
    if _LONG_NUMBER.search(value):
        raise _fault(field, value, "a number is too large")
    if _RANDOM.search(value):
        raise _fault(field, value, "H and R stand for other times in each process; write the time out")


def _take_numbered(weekday: str) -> tuple[str, frozenset[tuple[int, int]]]:
    """The day-of-week field without its numbered items, and what these name: (day, which one in the month; 0: the last)."""
    rest, numbered = [], set()
    for item in weekday.split(","):
        last = _LAST_WEEKDAY.fullmatch(item)
        if last is not None:
            day = (last[1] or last[2]).lower()
            numbered.add((int(_WEEKDAYS.get(day, day)) % 7, 0))
        elif "#" in item:
            _, nth = _expand("day of week", item, shown=weekday)
            numbered.update((day, int(which)) for day, whiches in nth.items() for which in whiches)
        else:
            rest.append(item)
    return ",".join(rest), frozenset(numbered)


def _take_nearest(month_day: str) -> tuple[str, frozenset[int]]:
    """The day-of-month field without its `W` items, and the days that these name (0: the last of the month)."""
    rest, nearest = [], set()
    for item in month_day.split(","):
        match = _NEAREST.fullmatch(item)
        if match is None:
            if "w" in item.lower():
                raise _fault("day of month", month_day, "W goes with one day, as in 15W or LW")
            rest.append(item)
            continue
        number = match[1] or match[2]
        day = 0 if number in ("L", "l") else int(number)
        if day > 31 or (day == 0 and number not in ("L", "l")):
            raise _fault("day of month", month_day, "days go from 1 to 31")
        nearest.add(day)
    return ",".join(rest), frozenset(nearest)


def _expand(
    field: str, value: str, *, shown: str | None = None
) -> tuple[tuple[int | str, ...], Mapping[int, frozenset[int | str]]]:
    """One field's values as croniter reads them, and the n-th weekdays."""
    try:
        return _expanded(field, ",".join(_one_for_a_range_of_one(field, item) for item in value.split(",")))
    except _UnreadableError as error:
        raise _fault(field, shown or value, _reason(field, value, str(error))) from None


def _one_for_a_range_of_one(field: str, item: str) -> str:
    """`9-9` as `9`: croniter takes a range with equal ends for everything."""
    match = _RANGE.fullmatch(item)
    if match is None:
        return item
    names = _WEEKDAYS if field == "day of week" else _MONTHS if field == "month" else {}
    first, last = (int(end) if end.isdigit() else names.get(end.lower()) for end in match.groups())
    return match[1] if first is not None and last is not None and int(first) == int(last) else item


class _UnreadableError(Exception):
    """Why croniter does not take a field, in its words."""


@lru_cache(maxsize=4096)
def _expanded(field: str, value: str) -> tuple[tuple[int | str, ...], Mapping[int, frozenset[int | str]]]:
    from croniter import croniter  # costs 40 ms, and not everybody who imports us parses

    place = _FIELDS.index(field)
    fields = ["*"] * 6
    fields[place] = value
    try:
        # Seconds only matter where they are asked for: croniter reads five fields with fewer surprises.
        values, nth = croniter.expand(" ".join(fields if field == "second" else fields[:5]))
    except Exception as error:
        raise _UnreadableError(str(error)) from None
    return tuple(values[place]), {day: frozenset(whiches) for day, whiches in nth.items()}


def _reason(field: str, value: str, found: str) -> str:
    if "out of bands" in found or "out of range" in found:
        numbers = _RANGES[field]
        return f"a number is out of range, which is {numbers[0]} to {7 if field == 'day of week' else numbers[-1]}"
    if "?" in value and not field.startswith("day"):
        return "a ? is read in the day of month and day of week fields only"
    return "it can't be read"


def _numbers(field: str, values: Iterable[int | str]) -> tuple[int, ...]:
    found = list(values)
    if "*" in found:
        return tuple(_RANGES[field])
    return tuple(sorted({int(value) for value in found}))


@lru_cache(maxsize=4096)
def _times(minutes: tuple[int, ...], hours: tuple[int, ...], seconds: tuple[int, ...]) -> Times:
    return Times(tuple(hour * 60 + minute for hour in hours for minute in minutes), seconds)


@lru_cache(maxsize=4096)
def _days(
    month_days: frozenset[int],
    last_day: bool,
    nearest: frozenset[int],
    months: frozenset[int],
    weekdays: frozenset[int],
    nth: frozenset[tuple[int, int]],
    either: bool,
) -> Days:
    return Days(month_days, last_day, nearest, months, weekdays, nth, either)


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


def _fault(field: str, value: str, reason: str) -> ScheduleError:
    return ScheduleError(f"{field} field {_short(value)} can't be used: {reason}")


def _short(value: str) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
