"""Describes cron expressions in English, and finds those that were probably meant otherwise.

The description is made from the parsed expression, not from its text, so that expressions with different ticks get different
descriptions. At clock changes, an expression that says how often ("every", "from 09:00 to 17:59") differs from one that says
when ("at 09:00", "of the hours 9 to 17"), and so do their descriptions.
"""

from __future__ import annotations

from calendar import day_name, month_name
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

from fastapi_crons.schedule._parser import ALIASES, Parsed, doubts, parse
from fastapi_crons.schedule._tables import Days

#: At most this many times, or numbers in equal steps, are listed one by one.
_LISTED = 12
_MINUTES, _HOURS = range(60), range(24)
_WITH_SECONDS = 6
_MONTHS, _WEEKDAYS = tuple(month_name), tuple(day_name)  # Monday first
_WHICH = ("last", "first", "second", "third", "fourth", "fifth")


@lru_cache(maxsize=16_384)
def in_words(expr: str) -> str:
    """When a cron expression is due, in English. Raises `ScheduleError` for one that can't be parsed."""
    parsed = parse(expr)
    text = ", ".join(filter(None, (_time(parsed), _day(parsed), _month(parsed.days.months), _year(parsed.days.years))))
    return text[0].upper() + text[1:]


def hardly_meant(expr: str) -> tuple[str, ...]:
    """A sentence for each reason to think that a cron expression was meant otherwise: `doubts`, and 60 runs in an hour."""
    fields = ALIASES.get(expr.lower(), expr).split()
    parsed = parse(expr)
    found = [f"{doubt}; {expr!r} means: {in_words(expr)}" for doubt in doubts(expr)]
    hours = sorted({minute // 60 for minute in parsed.times.minutes})
    apart = len(hours) < len(_HOURS) and all((hour + 1) % len(_HOURS) not in hours for hour in hours)
    if len(fields) < _WITH_SECONDS and fields[0] == "*" and apart:
        found.append(
            f"it runs every minute of the hour, 60 times in a row; for one run an hour, write minute 0 ({expr!r})"
        )
    return tuple(found)


def _time(parsed: Parsed) -> str:
    seconds = parsed.times.seconds
    hours = sorted({minute // 60 for minute in parsed.times.minutes})
    minutes = sorted({minute % 60 for minute in parsed.times.minutes})
    if not parsed.interval_like:
        if len(parsed.times.minutes) * len(seconds) <= _LISTED:
            return f"at {listing([_clock(minute, second) for minute in parsed.times.minutes for second in seconds])}"
        return f"{_marks(seconds, minutes)} of the {_counted('hour', hours)}"
    period = _period(minutes, _MINUTES)
    spans = "" if len(hours) == len(_HOURS) else f" {_spans(hours, as_parts=bool(period) and len(minutes) > 1)}"
    if len(minutes) == len(_MINUTES) and len(seconds) > 1 and _period(seconds, _MINUTES):
        return f"{_every(_period(seconds, _MINUTES), 'second')}{spans}"
    if period and len(minutes) > 1 and len(seconds) == 1:
        return f"{_every(period, 'minute')}{spans}{f', at second {seconds[0]}' if seconds[0] else ''}"
    if (minutes, seconds) == ([0], (0,)) and _period(hours, _HOURS) and len(hours) > 1:
        return _every(_period(hours, _HOURS), "hour")
    if len(minutes) == len(_MINUTES):
        return f"at {_counted('second', seconds)} of every minute{spans}"
    return f"{_marks(seconds, minutes)}{spans or ' of every hour'}"


def _marks(seconds: Sequence[int], minutes: Sequence[int]) -> str:
    """Seconds and minutes, whatever the hour."""
    if seconds == (0,):
        return f"at {_counted('minute', minutes)}"
    of = f"of {'' if len(minutes) == 1 else 'the '}{_counted('minute', minutes)}"
    each = "every second" if len(seconds) == len(_MINUTES) else f"at {_counted('second', seconds)}"
    return f"{each} {of}"


def _every(period: int, unit: str) -> str:
    return f"every {unit}" if period == 1 else f"every {period} {unit}s"


def _period(values: Sequence[int], everything: range) -> int:
    """The distance between all neighbours, also from the last value to the first of the next round; 0 if they differ."""
    period = len(everything) // len(values)
    return period if list(values) == list(everything[::period]) else 0


def _spans(hours: Sequence[int], *, as_parts: bool) -> str:
    """Hours as parts of the day, up to the last minute; single ones only where there is one, `as_parts`."""
    runs = list(_runs(hours))
    single = all(first == last for first, last in runs)
    if len(runs) > 2 or (single and (len(runs) > 1 or not as_parts)):
        return f"during the {_counted('hour', hours)}"
    return listing([f"from {first:02}:00 to {last:02}:59" for first, last in runs])


def _day(parsed: Parsed) -> str:
    days = parsed.days
    in_month, in_week = _month_days(days), _week_days(days)
    every_in_month, every_in_week = len(days.month_days) == 31, len(days.weekdays) == 7
    if days.either:
        return f"on {in_month}, or on {in_week}" if not every_in_month and not every_in_week else _every_day(parsed)
    if every_in_month and every_in_week:
        return _every_day(parsed)
    if every_in_month or every_in_week:
        return f"on {in_week if every_in_month else in_month}"
    return f"on {in_week}, and only on {in_month}"


def _every_day(parsed: Parsed) -> str:
    return "" if parsed.interval_like else "every day"


def _month_days(days: Days) -> str:
    parts = [_counted("day", sorted(days.month_days))] if days.month_days else []
    if days.last_day:
        parts.append("the last day")
    for near in sorted(days.nearest, key=lambda day: day or 32):
        parts.append(f"the weekday nearest to day {near}" if near else "the last weekday (Monday to Friday)")
    return f"{listing(parts)} of the month"


def _week_days(days: Days) -> str:
    names = [_name_run(run, _WEEKDAYS) for run in _named_runs({(day - 1) % 7 for day in days.weekdays}, range(7))]
    numbered = sorted((which or 6, (day - 1) % 7) for day, which in days.nth if day not in days.weekdays)
    names += [f"the {_WHICH[which % 6]} {_WEEKDAYS[day]}" for which, day in numbered]
    return f"{listing(names)}{' of the month' if numbered else ''}"


def _month(months: Collection[int]) -> str:
    if len(months) == 12:
        return ""
    return f"in {listing([_name_run(run, _MONTHS) for run in _named_runs(months, range(1, 13))])}"


def _year(years: Sequence[int] | None) -> str:
    return "" if years is None else f"in the {_counted('year', years)}"


def _name_run(run: tuple[int, int], names: Sequence[str]) -> str:
    first, last = run
    return names[first] if first == last else f"{names[first]} to {names[last]}"


def _named_runs(values: Iterable[int], cycle: range = range(0)) -> list[tuple[int, int]]:
    """Ranges of successive values, of at least three. In a `cycle`, the first value comes after the last one."""
    runs = list(_runs(sorted(values)))
    if cycle and len(runs) > 1 and (runs[0][0], runs[-1][1]) == (cycle[0], cycle[-1]):
        (_, end), (start, _) = runs[0], runs[-1]
        if end - start + len(cycle) > 1:
            runs = [*runs[1:-1], (start, end)]
    split: list[tuple[int, int]] = []
    for first, last in runs:
        split += [(first, last)] if last - first != 1 else [(first, first), (last, last)]
    return split


def _counted(unit: str, values: Sequence[int]) -> str:
    """`minute 5`, `minutes 0 and 45`, `minutes 0 to 9`, `minutes 1, 3, 5, ..., 59`."""
    if len(values) == 1:
        return f"{unit} {values[0]}"
    steps = {later - earlier for earlier, later in pairwise(values)}
    if len(values) > _LISTED and len(steps) == 1 and steps != {1}:
        return f"{unit}s {values[0]}, {values[1]}, {values[2]}, ..., {values[-1]}"
    runs = [str(first) if first == last else f"{first} to {last}" for first, last in _named_runs(values)]
    return f"{unit}s {listing(runs)}"


def _runs(values: Sequence[int]) -> Iterable[tuple[int, int]]:
    """The first and last value of each range of successive values."""
    starts = [value for value in values if value - 1 not in values]
    ends = [value for value in values if value + 1 not in values]
    return zip(starts, ends, strict=True)


def _clock(minute: int, second: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}{f':{second:02}' if second else ''}"


def listing(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
