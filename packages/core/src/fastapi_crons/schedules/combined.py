"""Schedules made of others: AnyOf, Within and Except."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, tzinfo
from heapq import merge

from fastapi_crons._util.text import brief
from fastapi_crons.errors import ScheduleError
from fastapi_crons.schedule._zones import FIRST, LAST, zone
from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.schedule.checks import AskedTicks, count_one_by_one
from fastapi_crons.schedule.cron import CronSchedule, cron_schedule, zone_name
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

#: The longest text of a schedule: stores keep it with each job.
MAX_TEXT = 4_000
_MAX_DEPTH = 20
#: At most this many dates, or ranges of dates, are listed in words.
_LISTED = 12


class _Combined(ZonedSchedule):
    """A schedule made of others: parts without a zone of their own take its zone."""

    __slots__ = ("_depth", "_foreign", "_has_zone", "_parts", "_sources")

    _parts: tuple[str | Schedule, ...]
    _sources: tuple[ZonedSchedule | AskedTicks, ...]
    _has_zone: bool
    _foreign: tuple[Schedule, ...]
    _depth: int

    def _combine(self, parts: Iterable[object], timezone: str | tzinfo | None) -> None:
        put, what = object.__setattr__, type(self).__name__
        name = "UTC" if timezone is None else zone_name(timezone)
        zone(name)  # it exists
        checked = tuple(_part(part, name, what) for part in parts)
        put(self, "timezone", name)
        put(self, "_has_zone", timezone is not None)
        put(self, "_parts", checked)
        put(self, "_sources", tuple(_source(part, name) for part in checked))
        ours = [part for part in checked if isinstance(part, ZonedSchedule)]
        foreign = [part for part in checked if not isinstance(part, (str, ZonedSchedule))]
        put(self, "_foreign", (*(each for part in ours for each in part.foreign), *foreign))
        put(self, "_depth", 1 + max((part.depth for part in ours), default=1))
        if self._depth > _MAX_DEPTH:
            raise ScheduleError(f"{what} can't hold so many schedules in each other; at most {_MAX_DEPTH} are allowed")

    def _identify(self) -> None:
        text = self._written()
        if len(text) > MAX_TEXT:
            raise ScheduleError(
                f"the text of {type(self).__name__} has {len(text)} characters; at most {MAX_TEXT} are allowed: give fewer "
                "dates, or ranges of them"
            )
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "_hash", hash((text, self.timezone)))

    @abstractmethod
    def _written(self) -> str:
        """The text, without the zone."""

    @property
    def has_zone(self) -> bool:
        """Whether the zone is its own. Otherwise it takes its job's."""
        return self._has_zone

    @property
    def foreign(self) -> tuple[Schedule, ...]:
        """The schedules of plugins and apps in it."""
        return self._foreign

    @property
    def expressions(self) -> tuple[str, ...]:
        """The cron expressions in it."""
        ours = (source for source in self._sources if isinstance(source, ZonedSchedule))
        return tuple(expression for source in ours for expression in source.expressions)

    @property
    def depth(self) -> int:
        """How many schedules lie in each other."""
        return self._depth

    @property
    def _own_zone(self) -> str | None:
        return self.timezone if self._has_zone else None

    def nested_text(self) -> str:
        """How it is written in Python."""
        return f"{self.text[:-1]}, timezone={self.timezone!r})" if self._has_zone else self.text


class AnyOf(_Combined):
    """Due whenever at least one of several schedules is: `AnyOf("0 9 * * 1-5", "0 12 * * 6")`.

    Cron expressions and schedules. Those without a zone of their own are read in `timezone`, else in the job's zone. What two
    of them have in common is one tick.

    Raises `ScheduleError` (a `ValueError`) for what is no schedule.
    """

    __slots__ = ()

    def __init__(self, *schedules: str | Schedule, timezone: str | tzinfo | None = None) -> None:
        if not schedules:
            raise ScheduleError('AnyOf needs at least one schedule; e.g. AnyOf("0 9 * * 1-5", "0 12 * * 6")')
        self._combine(schedules, timezone)
        self._identify()

    def _written(self) -> str:
        return f"AnyOf({', '.join(map(_text_of, self._parts))})"

    @property
    def words(self) -> str:
        """When it is due, in English."""
        first, *others = (_words_of(part, self.timezone) for part in self._parts)
        return "; or ".join([first, *map(_small, others)])

    def in_zone(self, timezone: str) -> AnyOf:
        """This schedule in a zone, where it has none of its own; else itself."""
        return self if self._has_zone else AnyOf(*self._parts, timezone=timezone)

    def next_tick(self, after: int) -> int | None:
        """The first tick strictly later than `after`, both in Unix seconds."""
        ticks = (source.next_tick(after) for source in self._sources)
        return min((tick for tick in ticks if tick is not None), default=None)

    def ticks_between(self, after: int, until: int) -> Iterator[int]:
        """The ticks in (after, until], ascending, in Unix seconds."""
        last = None
        for tick in merge(*(source.ticks_between(after, until) for source in self._sources)):
            if tick != last:
                yield tick
            last = tick

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        """How many ticks lie in (after, until], both in Unix seconds, and whether counting stopped early."""
        if len(self._sources) == 1:
            return self._sources[0].count_ticks(after, until, most, enough)
        return count_one_by_one(self.ticks_between(after, until), most, enough)

    def __reduce__(self) -> tuple[object, ...]:
        return _any_of, (self._parts, self._own_zone)


def _any_of(parts: tuple[str | Schedule, ...], timezone: str | None) -> AnyOf:
    return AnyOf(*parts, timezone=timezone)


class _Limited(_Combined):
    """The ticks of one schedule that lie in some spans of time."""

    __slots__ = ("_spans",)

    _spans: tuple[Span, ...]

    def _limit(self, spans: tuple[Span, ...]) -> None:
        object.__setattr__(self, "_spans", spans)
        if not self._foreign and self.next_tick(FIRST - 1) is None:
            raise ScheduleError(f"{brief(self.text)} is never due: no tick of its schedule is left")

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

    Raises `ScheduleError` (a `ValueError`), also where no tick lies in between.
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
        since, until = self._ends()
        spans = intersection(since, until)
        if not spans:
            raise ScheduleError(f"Within has no time from its start, {brief(start)}, to its end, {brief(end)}")
        self._identify()
        self._limit(spans)

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
        return f"Within({_text_of(self._parts[0])}{start}{end})"

    @property
    def words(self) -> str:
        """When it is due, in English."""
        start, end = (None if edge is None else self._edge_in_words(edge) for edge in (self._start, self._end))
        limits = [
            "only",
            *([] if start is None else [f"from {start}"]),
            *(["on"] if end is None else [f"through {end}"]),
        ]
        return f"{_words_of(self._parts[0], self.timezone)}; {' '.join(limits)}"

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

    Raises `ScheduleError` (a `ValueError`), also where no tick is left.
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
        self._limit(complement(union(span for days in self._days for span in in_days(*days, in_zone))))

    def _written(self) -> str:
        return f"Except({_text_of(self._parts[0])}, dates=[{', '.join(map(repr, map(_range, self._days)))}])"

    @property
    def words(self) -> str:
        """When it is due, in English."""
        ranges = [first.isoformat() if first == last else f"{first} through {last}" for first, last in self._days]
        if len(ranges) > _LISTED:
            left = sum((last - first).days + 1 for first, last in self._days[_LISTED - 1 :])
            ranges = [*ranges[: _LISTED - 1], f"{left} other days"]
        return f"{_words_of(self._parts[0], self.timezone)}; but not on {listing(ranges)}"

    def in_zone(self, timezone: str) -> Except:
        """This schedule in a zone, where it has none of its own; else itself."""
        return self if self._has_zone else Except(self._parts[0], dates=self._days, timezone=timezone)

    def __reduce__(self) -> tuple[object, ...]:
        return _except, (self._parts[0], self._days, self._own_zone)


def _except(schedule: str | Schedule, days: tuple[tuple[date, date], ...], timezone: str | None) -> Except:
    return Except(schedule, dates=days, timezone=timezone)


def _part(part: object, timezone: str, what: str) -> str | Schedule:
    """What was given as a part: a cron expression in its canonical text, or a schedule."""
    if isinstance(part, str):
        return cron_schedule(part, timezone).text
    if isinstance(part, type):
        raise ScheduleError(f"{what} can't hold the class {part.__name__}; give an object of it")
    if not isinstance(part, Schedule):
        several = isinstance(part, Iterable) and what == AnyOf.__name__
        advice = "give them one by one, like AnyOf(*schedules)" if several else "give a cron expression or a schedule"
        raise ScheduleError(f"{what} can't hold {brief(part)}; {advice}")
    if isinstance(part, ZonedSchedule) and not part.is_clocked:
        raise ScheduleError(f"{what} can't hold {part!r}, which is not known from the clock; give it a job of its own")
    return part


def _source(part: str | Schedule, timezone: str) -> ZonedSchedule | AskedTicks:
    if isinstance(part, str):
        return cron_schedule(part, timezone)
    return part.in_zone(timezone) if isinstance(part, ZonedSchedule) else AskedTicks(part)


def _text_of(part: str | Schedule) -> str:
    if isinstance(part, str):
        return repr(part)
    # The brackets keep it from being read back: only the app knows such a schedule.
    return part.nested_text() if isinstance(part, ZonedSchedule) else f"<{part.text}>"


def _words_of(part: str | Schedule, timezone: str) -> str:
    if not isinstance(part, (str, ZonedSchedule)):
        return f"as {part.text!r} says"
    source = _source(part, timezone)
    assert isinstance(source, ZonedSchedule)
    # The words of the other kinds say how far their times are from UTC.
    elsewhere = source.timezone != timezone and isinstance(source, (CronSchedule, _Combined))
    if isinstance(source, _Combined):
        return f"({_small(source.words)}{f'; in {source.timezone}' if elsewhere else ''})"
    return f"{source.words} ({source.timezone})" if elsewhere else source.words


def _small(words: str) -> str:
    """With a small letter at the beginning, inside of a sentence."""
    return words[:1].lower() + words[1:]


def _edge(edge: date | Moment) -> str:
    return edge.text if isinstance(edge, Moment) else edge.isoformat()


def _range(days: tuple[date, date]) -> str:
    first, last = days
    return first.isoformat() if first == last else f"{first}/{last}"
