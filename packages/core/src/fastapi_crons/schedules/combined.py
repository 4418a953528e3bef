"""Schedules made of others, and AnyOf."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import tzinfo
from heapq import merge

from fastapi_crons._util.text import brief
from fastapi_crons.errors import ScheduleError
from fastapi_crons.schedule._zones import zone
from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.schedule.checks import AskedTicks, count_one_by_one
from fastapi_crons.schedule.cron import CronSchedule, cron_schedule, zone_name

#: The longest text of a schedule: stores keep it with each job.
MAX_TEXT = 4_000
_MAX_DEPTH = 20


class Combined(ZonedSchedule):
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
    def idle(self) -> str | None:
        """The text of what is never due in it, in its zone."""
        found = (source.idle for source in self._sources if isinstance(source, ZonedSchedule))
        return next(filter(None, found), None)

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


class AnyOf(Combined):
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
        return f"AnyOf({', '.join(map(text_of, self._parts))})"

    @property
    def words(self) -> str:
        """When it is due, in English."""
        first, *others = dict.fromkeys(words_of(part, self.timezone) for part in self._parts)
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


def text_of(part: str | Schedule) -> str:
    if isinstance(part, str):
        return repr(part)
    # The brackets keep it from being read back: only the app knows such a schedule.
    return part.nested_text() if isinstance(part, ZonedSchedule) else f"<{part.text}>"


def words_of(part: str | Schedule, timezone: str) -> str:
    if not isinstance(part, (str, ZonedSchedule)):
        return f"as {part.text!r} says"
    source = _source(part, timezone)
    assert isinstance(source, ZonedSchedule)
    # The words of the other kinds say how far their times are from UTC.
    elsewhere = source.timezone != timezone and isinstance(source, (CronSchedule, Combined))
    if isinstance(source, Combined):
        return f"({_small(source.words)}{f'; in {source.timezone}' if elsewhere else ''})"
    return f"{source.words} ({source.timezone})" if elsewhere else source.words


def _small(words: str) -> str:
    """With a small letter at the beginning, inside of a sentence."""
    return words[:1].lower() + words[1:]
