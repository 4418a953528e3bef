"""Schedules limited to some spans of time: Within and Except."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, tzinfo

from fastapi_crons._util.text import brief
from fastapi_crons.errors import ScheduleError
from fastapi_crons.schedule._zones import FIRST, LAST, zone
from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.schedule.checks import AskedTicks
from fastapi_crons.schedule.english import listing
from fastapi_crons.schedules._instants import (
    Moment,
    Span,
    complement,
    day_or_moment,
    days_of,
    in_days,
    intersection,
    shown,
    since_day,
    span_at,
    union,
    until_day,
)
from fastapi_crons.schedules.combined import Combined, text_of, words_of

#: At most this many dates, or ranges of dates, are listed in words.
_LISTED = 12


class _Limited(Combined):
    """The ticks of one schedule that lie in some spans of time."""

    __slots__ = ("_spans",)

    _spans: tuple[Span, ...]

    @property
    def idle(self) -> str | None:
        """The text of what is never due in it, in its zone."""
        if self._foreign:
            return None
        return super().idle or (self.text if self.next_tick(FIRST - 1) is None else None)

    @property
    def _source(self) -> ZonedSchedule | AskedTicks:
        return self._sources[0]

    def next_tick(self, after: int) -> int | None:
        """The first tick strictly later than `after`, both in Unix seconds."""
        instant = after + 1
        number = span_at(self._spans, instant)
        while number < len(self._spans):
            tick = self._source.next_tick(max(instant, self._spans[number][0]) - 1)
            if tick is None:
                return None
            number = span_at(self._spans, tick)
            if number < len(self._spans) and self._spans[number][0] <= tick:
                return tick
            instant = tick
        return None

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        """How many ticks lie in (after, until], both in Unix seconds, and whether counting stopped early."""
        number = 0
        for start, end in self._spans[span_at(self._spans, after + 1) :]:
            if start > until:
                break
            found, more = self._source.count_ticks(max(after, start - 1), min(until, end - 1), most - number, enough)
            number += found
            if more or enough():
                return number, more or end <= until
        return number, False


class Within(_Limited):
    """The ticks of a schedule from `start` to `end`: `Within("0 9 * * *", start="2026-05-01", end="2026-09-30")`.

    Each is a date or a datetime, or a text of one in ISO format, and belongs to the time between them: the whole day of a date,
    in the schedule's zone, and the very second of a datetime. One of the two may be left out. A datetime without a zone is a
    time on the wall in the schedule's zone; see `Once`.

    Raises `ScheduleError` (a `ValueError`). One without a tick in between is refused when a job is defined with it.
    """

    __slots__ = ("_end", "_start")

    _start: date | Moment | None
    _end: date | Moment | None

    def __init__(
        self,
        schedule: str | Schedule,
        *,
        start: date | datetime | str | None = None,
        end: date | datetime | str | None = None,
        timezone: str | tzinfo | None = None,
    ) -> None:
        if start is None and end is None:
            raise ScheduleError("Within needs start=, end= or both")
        put = object.__setattr__
        put(self, "_start", None if start is None else day_or_moment(start, "start of Within"))
        put(self, "_end", None if end is None else day_or_moment(end, "end of Within"))
        self._combine([schedule], timezone)
        if _is_before(self._end, self._start):
            raise ScheduleError(f"end of Within can't be {brief(end)}: that is before its start, {brief(start)}")
        self._identify()
        put(self, "_spans", intersection(*self._ends()))

    def _ends(self) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
        """The instants from the start on, and those up to the end."""
        in_zone = zone(self.timezone)
        since: tuple[Span, ...] = ((FIRST, LAST),)
        until = since
        if isinstance(self._start, Moment):
            since = ((self._start.instant(in_zone), LAST),)
        elif self._start is not None:
            since = since_day(self._start, in_zone)
        if isinstance(self._end, Moment):
            until = ((FIRST, self._end.instant(in_zone) + 1),)
        elif self._end is not None:
            until = until_day(self._end, in_zone)
        return since, until

    def _written(self) -> str:
        start = "" if self._start is None else f", start={_edge(self._start)!r}"
        end = "" if self._end is None else f", end={_edge(self._end)!r}"
        return f"Within({text_of(self._parts[0])}{start}{end})"

    @property
    def words(self) -> str:
        """When it is due, in English."""
        start, end = (None if edge is None else self._edge_in_words(edge) for edge in (self._start, self._end))
        limits = [
            "only",
            *([] if start is None else [f"from {start}"]),
            *(["on"] if end is None else [f"through {end}"]),
        ]
        return f"{words_of(self._parts[0], self.timezone)}; {' '.join(limits)}"

    def _edge_in_words(self, edge: date | Moment) -> str:
        if isinstance(edge, Moment):
            return shown(edge.instant(zone(self.timezone)), self.timezone)
        return edge.isoformat()

    def in_zone(self, timezone: str) -> Within:
        """This schedule in a zone, where it has none of its own; else itself."""
        return self if self._has_zone else _within(self._parts[0], self._start, self._end, timezone)

    def __reduce__(self) -> tuple[object, ...]:
        return _within, (self._parts[0], self._start, self._end, self._own_zone)


def _within(
    schedule: str | Schedule, start: date | Moment | None, end: date | Moment | None, zone: str | None
) -> Within:
    first, last = (None if edge is None else _edge(edge) for edge in (start, end))
    return Within(schedule, start=first, end=last, timezone=zone)


class Except(_Limited):
    """The ticks of a schedule that don't fall on some days: `Except("0 9 * * 1-5", dates=["2026-12-24"])`.

    `dates` are days in the schedule's zone: dates, or texts in ISO format. A pair of two, or `2026-12-24/2027-01-06`, is a
    range, of which both ends are left out as well.

    Raises `ScheduleError` (a `ValueError`). One without a tick that is left is refused when a job is defined with it.
    """

    __slots__ = ("_days",)

    _days: tuple[tuple[date, date], ...]

    def __init__(
        self,
        schedule: str | Schedule,
        *,
        dates: Iterable[date | str | tuple[date | str, date | str]],
        timezone: str | tzinfo | None = None,
    ) -> None:
        object.__setattr__(self, "_days", days_of(dates, "dates of Except"))
        self._combine([schedule], timezone)
        self._identify()
        in_zone = zone(self.timezone)
        left_out = union(span for days in self._days for span in in_days(*days, in_zone))
        object.__setattr__(self, "_spans", complement(left_out))

    def _written(self) -> str:
        return f"Except({text_of(self._parts[0])}, dates=[{', '.join(map(repr, map(_range, self._days)))}])"

    @property
    def words(self) -> str:
        """When it is due, in English."""
        ranges = [first.isoformat() if first == last else f"{first} through {last}" for first, last in self._days]
        if len(ranges) > _LISTED:
            left = sum((last - first).days + 1 for first, last in self._days[_LISTED - 1 :])
            ranges = [*ranges[: _LISTED - 1], f"{left} other days"]
        return f"{words_of(self._parts[0], self.timezone)}; but not on {listing(ranges)}"

    def in_zone(self, timezone: str) -> Except:
        """This schedule in a zone, where it has none of its own; else itself."""
        return self if self._has_zone else Except(self._parts[0], dates=self._days, timezone=timezone)

    def __reduce__(self) -> tuple[object, ...]:
        return _except, (self._parts[0], self._days, self._own_zone)


def _except(schedule: str | Schedule, days: tuple[tuple[date, date], ...], timezone: str | None) -> Except:
    return Except(schedule, dates=days, timezone=timezone)


def _is_before(one: date | Moment | None, other: date | Moment | None) -> bool:
    """Whether that is certain in any zone."""
    if isinstance(one, Moment) and isinstance(other, Moment):
        return one.is_wall is other.is_wall and one.seconds < other.seconds
    return isinstance(one, date) and isinstance(other, date) and one < other


def _edge(edge: date | Moment) -> str:
    return edge.text if isinstance(edge, Moment) else edge.isoformat()


def _range(days: tuple[date, date]) -> str:
    first, last = days
    return first.isoformat() if first == last else f"{first}/{last}"
