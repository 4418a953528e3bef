"""Parses cron expressions into small tables of days and times.

croniter parses the fields; the day-of-month markers `15W` and `LW` and the spelling `5L` are parsed here.
"""

from __future__ import annotations

import re
from calendar import month_abbr
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from fastapi_crons._util.text import brief, counted
from fastapi_crons.errors import ScheduleError
from fastapi_crons.schedule._habits import instead_of_fields, instead_of_text
from fastapi_crons.schedule._tables import Days, Times

#: Longer expressions are refused without parsing.
MAX_LENGTH = 1000
_RANGES = {
    "minute": range(60),
    "hour": range(24),
    "day of month": range(1, 32),
    "month": range(1, 13),
    "day of week": range(7),
    "second": range(60),
    "year": range(1970, 2100),
}
_FIELDS = tuple(_RANGES)
_DAY_FIELDS = ("day of month", "month", "day of week", "year")
_FIT = re.compile(r"[0-9A-Za-z*?,/#-]+")
_LONG_NUMBER, _LONG_YEAR = re.compile(r"[0-9]{4,}"), re.compile(r"[0-9]{5,}")
_NEAREST = re.compile(r"(?:W([0-9]{1,2})|([0-9]{1,2}|L)W)", re.IGNORECASE)
_WEEKDAYS = {name: str(number) for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_LAST_WEEKDAY = re.compile(r"([0-7]|sun|mon|tue|wed|thu|fri|sat)L|L([0-7]|sun|mon|tue|wed|thu|fri|sat)", re.IGNORECASE)
_MONTHS = {name.lower(): str(number) for number, name in enumerate(month_abbr) if name}
_RANGE = re.compile(r"([0-9]+|[a-z]{3})-([0-9]+|[a-z]{3})(?:/[0-9]+)?", re.IGNORECASE)
_NAMES = re.compile(r"[A-Za-z]+")
_RANDOM = re.compile(r"(?<![A-Za-z])[HR](?![A-Za-z])", re.IGNORECASE)
#: Names for whole expressions.
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Parsed(NamedTuple):
    """A parsed cron expression."""

    text: str
    times: Times
    days: Days
    interval_like: bool
    """Whether it says how often rather than when; see `schedule.cron`."""


def parse(expr: str) -> Parsed:
    """Parse an expression. Raises `ScheduleError`, naming the field and the value."""
    if not isinstance(expr, str):
        raise ScheduleError(f"a cron expression must be text, not {type(expr).__name__}; e.g. '*/5 * * * *'")
    if len(expr) > MAX_LENGTH:
        raise ScheduleError(f"the cron expression has {len(expr)} characters; at most {MAX_LENGTH} are allowed")
    text = " ".join(expr.split())
    fields = ALIASES.get(text.lower(), text).split(" ")
    try:
        return _parse_fields(text, fields)
    except ScheduleError as error:
        known = instead_of_text(text, _can_be_parsed)
        if known:
            raise ScheduleError(f"{_shown(text)} is no cron expression here; {known}") from None
        hint = instead_of_fields(fields, _can_be_parsed)
        if not hint:
            raise
        raise ScheduleError(f"{error}{hint}") from None


def _can_be_parsed(fields: Sequence[str]) -> bool:
    try:
        _parse_fields("", fields)
    except ScheduleError:
        return False
    return True


def _parse_fields(text: str, fields: Sequence[str]) -> Parsed:
    if text.startswith("@") and fields == [text]:
        raise ScheduleError(f"{_shown(text)} is unknown; known names are {', '.join(ALIASES)}")
    if not 5 <= len(fields) <= len(_FIELDS):
        raise ScheduleError(
            f"cron expression {_shown(text)} has {counted(len(fields) if text else 0, 'field')}; give five (minute, hour, "
            "day of month, month, day of week), six with seconds last, or seven with the year after the seconds"
        )
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
    seconds, _ = _expand("second", fields[5]) if len(fields) > 5 else ((0,), {})
    years, _ = _expand("year", fields[6]) if len(fields) > 6 else (("*",), {})
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
            None if "*" in years else _numbers("year", years),
        ),
        minute[0] == "*" or hour[0] == "*",
    )
    if parsed.days.next_day(0) is None:
        raise ScheduleError(f"cron expression {_shown(text)} is never due: {_conflict(parsed.days, fields)}")
    return parsed


def _conflict(days: Days, fields: Sequence[str]) -> str:
    """The fields that conflict: without any one of them there would be matching days."""
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
                None if without == "year" else days.years,
            ).next_day(0)
            is not None
        )

    written = {field: value for field, value in zip(_FIELDS, fields, strict=False) if field in _DAY_FIELDS}
    named = [f"{field} {_shown(value)}" for field, value in written.items() if is_due(field)]
    if len(named) < 2:  # more than one of them would have to change
        named = [f"{field} {_shown(value)}" for field, value in written.items()]
    return f"{', '.join(named[:-1])} and {named[-1]} never occur together"


def _at_distances(fields: list[str], field: str) -> str:
    """What to write where a field such as `*/90` means equal distances; empty where other fields limit them."""
    place, units = (
        _FIELDS.index(field),
        {"minute": "minutes", "hour": "hours", "day of month": "days", "second": "seconds"},
    )
    larger = fields[:5] if field == "second" else fields[place + 1 : 5]
    if not fields[place].startswith("*/") or "," in fields[place] or field not in units or set(larger) != {"*"}:
        return ""
    period = f"{units[field]}={int(fields[place][2:])}"
    return f"; for equal distances, write Every({period}) of fastapi_crons.schedules"


#: Second, minute, hour and days of the week, in the order of Spring, where it can be read in ours, too.
_IN_SPRING = re.compile(r"0+ [\d*,/-]+ [\d,-]+ \* \* [1-7](?:[,-][1-7])*")


@lru_cache(maxsize=4096)
def doubts(expr: str) -> tuple[str, ...]:
    """A sentence for each step of a cron expression that exceeds its range (`*/90` in minutes), and for seconds first."""
    found = []
    fields = expr.split()
    for field, value in zip(_FIELDS, fields, strict=False):
        for item in value.split(","):
            span, _, step = item.partition("/")
            reach = len(_numbers(field, _expand(field, f"{span}/1")[0])) if step else 1
            if 1 < reach < int(step):
                only = _numbers(field, _expand(field, item)[0])[0]
                found.append(
                    f"the step of {item!r} in the {field} field is larger than its range, so only {only} matches"
                    f"{_at_distances(fields, field)}"
                )
    if len(fields) > 5 and len(parse(expr).times.seconds) == len(_RANGES["second"]) and set(fields[:5]) != {"*"}:
        hint = instead_of_fields(fields, _can_be_parsed) if fields[0][0] in "0*" else ""
        alone = f"; for one run a minute, leave them out: {' '.join(fields[:5])!r}"
        found.append(f"it runs every second of a minute, 60 times in a row{hint or alone}")
    if _IN_SPRING.fullmatch(expr) and _can_be_parsed(fields[1:]):
        found.append(
            f"it runs on {_which('day', fields[2])} of the month, at {_which('second', fields[5])} of the minute"
            f"{instead_of_fields(fields, _can_be_parsed)}"
        )
    return tuple(found)


def _which(noun: str, value: str) -> str:
    return f"{noun} {value}" if value.isdigit() else f"{noun}s {value}"


def _check_characters(field: str, value: str) -> None:
    if not _FIT.fullmatch(value):
        raise _fault(field, value, "it contains characters that no cron field allows")
    if (_LONG_YEAR if field == "year" else _LONG_NUMBER).search(value):
        raise _fault(field, value, "a number is too large")
    if _RANDOM.search(value):
        raise _fault(field, value, "H and R would mean another time in each process")


def _take_numbered(weekday: str) -> tuple[str, frozenset[tuple[int, int]]]:
    """Split off the numbered items of a day-of-week field, as pairs of (day, which one in the month; 0 for the last)."""
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
    """Split off the `W` items of a day-of-month field, as days (0 for the last one of the month)."""
    rest, nearest = [], set()
    for item in month_day.split(","):
        match = _NEAREST.fullmatch(item)
        if match is None:
            if "w" in item.lower():
                raise _fault("day of month", month_day, "W needs a single day, as in 15W or LW")
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
    """One field's values as croniter parses them, and the n-th weekdays."""
    try:
        return _expanded(field, ",".join(_one_for_a_range_of_one(field, item) for item in value.split(",")))
    except _UnreadableError as error:
        raise _fault(field, shown or value, _reason(field, value, str(error))) from None


def _one_for_a_range_of_one(field: str, item: str) -> str:
    """`9` for `9-9`: croniter would take a range with equal ends for all values."""
    match = _RANGE.fullmatch(item)
    if match is None:
        return item
    names = _WEEKDAYS if field == "day of week" else _MONTHS if field == "month" else {}
    first, last = (int(end) if end.isdigit() else names.get(end.lower()) for end in match.groups())
    return match[1] if first is not None and last is not None and int(first) == int(last) else item


class _UnreadableError(Exception):
    """Why croniter refuses a field, in its own words."""


@lru_cache(maxsize=4096)
def _expanded(field: str, value: str) -> tuple[tuple[int | str, ...], Mapping[int, frozenset[int | str]]]:
    from croniter import croniter  # costs 40 ms, and not every import of ours leads to parsing

    place = _FIELDS.index(field)
    fields = ["*"] * len(_FIELDS)
    fields[place] = value
    try:
        # With five fields croniter has fewer surprises than with six.
        values, nth = croniter.expand(" ".join(fields[: max(5, place + 1)]))
    except Exception as error:
        raise _UnreadableError(str(error)) from None
    return tuple(values[place]), {day: frozenset(whiches) for day, whiches in nth.items()}


def _reason(field: str, value: str, found: str) -> str:
    if "out of bands" in found or "out of range" in found:
        numbers = _RANGES[field]
        return f"a number is outside of the range {numbers[0]} to {7 if field == 'day of week' else numbers[-1]}"
    if "?" in value and not field.startswith("day"):
        return "? is allowed only in the day of month and day of week fields"
    items = value.upper().split(",")
    if field == "day of month" and any(item.startswith("L-") for item in items):
        return "days before the last one, as in Quartz, are not known here"
    if field == "day of week" and "L" in items:
        return "L needs a day, as in 5L for the last Friday of the month; alone, as in Quartz, write 6 for Saturday"
    if field == "day of week" and any("W" in item and "WED" not in item for item in items):
        return "W belongs to the day of month field, as in 15W; weekdays are MON-FRI"
    if any(len(name) > 3 for name in _NAMES.findall(value)):
        return "names of months and days have three letters, like jan and mon"
    return "it can't be parsed"


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
    years: tuple[int, ...] | None,
) -> Days:
    return Days(month_days, last_day, nearest, months, weekdays, nth, either, years)


def _fault(field: str, value: str, reason: str) -> ScheduleError:
    return ScheduleError(f"{field} field {_shown(value)} can't be used: {reason}")


def _shown(value: str) -> str:
    return brief(value, 40)
