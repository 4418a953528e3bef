"""Schedules of one rule without a cron expression: Every, Once and AtStart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Literal

from fastapi_crons._util.text import brief
from fastapi_crons.errors import ScheduleError
from fastapi_crons.schedule._zones import FIRST, LAST, zone
from fastapi_crons.schedule.base import ZonedSchedule
from fastapi_crons.schedule.cron import zone_name
from fastapi_crons.schedules._instants import DAY, Moment, moment, shown

_UNITS = {"days": DAY, "hours": 3_600, "minutes": 60, "seconds": 1}
#: The longest period (seconds): a longer one is taken for a mistake.
_LONGEST = 50 * 366 * DAY
#: How many characters a version can have.
_LONGEST_VERSION = 200


class _Single(ZonedSchedule):
    """A schedule that may have a zone of its own."""

    __slots__ = ("_has_zone",)

    _has_zone: bool

    def _identify(self, text: str, timezone: str | tzinfo | None) -> None:
        put = object.__setattr__
        name = "UTC" if timezone is None else zone_name(timezone)
        zone(name)  # it exists
        put(self, "text", text)
        put(self, "timezone", name)
        put(self, "_hash", hash((text, name)))
        put(self, "_has_zone", timezone is not None)

    @property
    def has_zone(self) -> bool:
        """Whether the zone is its own. Otherwise it takes its job's."""
        return self._has_zone

    def nested_text(self) -> str:
        """How it is written in Python."""
        if not self._has_zone:
            return self.text
        return f"{self.text[:-1]}{'' if self.text.endswith('()') else ', '}timezone={self.timezone!r})"


class Every(_Single):
    """Due at equal distances, in all processes and after every restart at the same instants: `Every(minutes=90)`.

    The period is given by `seconds`, `minutes`, `hours` and `days`, which add up, or as a timedelta, in whole seconds. It is
    real time: a day is 24 hours, whatever the clock on the wall does, so that a time of day moves where clocks change; for
    every day at nine, write `0 9 * * *`.

    One tick is at `anchor`, all others are whole periods before and after it: a datetime or a text in ISO format, by default
    1970-01-01 00:00 UTC. One without a zone is a time on the wall in the schedule's zone. The anchor does not say from when
    on the schedule is due: see `Within`.

    With `after="end"`, the period is counted from the end of the job's last run instead, wherever in the fleet that ran, by the
    lock store's record; for a job that never ran, from its first registration. So no two runs overlap, and ticks that a
    downtime delays are one. A run by hand counts, too.

    Raises `ScheduleError` (a `ValueError`), naming the parameter.
    """

    __slots__ = ("_after", "_anchor", "_first", "period")

    period: int
    """In seconds."""
    _anchor: Moment | None
    _after: Literal["end"] | None
    _first: int

    def __init__(
        self,
        period: timedelta | None = None,
        /,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        anchor: datetime | str | None = None,
        after: Literal["end"] | None = None,
        timezone: str | tzinfo | None = None,
    ) -> None:
        put = object.__setattr__
        put(
            self,
            "period",
            _whole_seconds(period, {"seconds": seconds, "minutes": minutes, "hours": hours, "days": days}),
        )
        if after not in (None, "end"):
            raise ScheduleError(f"after of Every can't be {brief(after)}; give 'end', or leave it out")
        if after is not None and anchor is not None:
            raise ScheduleError(
                "anchor of Every can't be given with after='end', which counts from the end of each run"
            )
        put(self, "_after", after)
        put(self, "_anchor", None if anchor is None else moment(anchor, "anchor of Every"))
        self._identify(self._written(), timezone)
        put(self, "_first", 0 if self._anchor is None else self._anchor.instant(zone(self.timezone)))

    def _written(self) -> str:
        number, unit = self._counted()
        anchor = "" if self._anchor is None else f", anchor={self._anchor.text!r}"
        return f"Every({unit}={number}{anchor}{'' if self._after is None else ', after=' + repr(self._after)})"

    def _counted(self) -> tuple[int, str]:
        """The period in the largest unit that fits."""
        unit = next(unit for unit, length in _UNITS.items() if self.period % length == 0)
        return self.period // _UNITS[unit], unit

    @property
    def after(self) -> Literal["end"] | None:
        """What the period is counted from: the end of the last run, or, where it is None, the anchor."""
        return self._after

    @property
    def is_clocked(self) -> bool:
        """Whether its ticks are known from the clock alone."""
        return self._after is None

    @property
    def words(self) -> str:
        """When it is due, in English."""
        number, unit = self._counted()
        every = f"{number} {unit}" if number > 1 else unit[:-1]
        if unit == "days":
            every = "24 hours" if number == 1 else f"{number} days of 24 hours"
        if self._after is not None:
            return f"{every if number > 1 or unit == 'days' else f'one {every}'} after the end of the last run".capitalize()
        since = "1970-01-01 00:00 UTC" if self._anchor is None else shown(self._first, self.timezone)
        return f"Every {every}, counted from {since}"

    @property
    def period_from_end(self) -> int:
        """How many seconds after the end of the job's last run it is due; 0 where it is counted from the anchor."""
        return 0 if self._after is None else self.period

    def in_zone(self, timezone: str) -> Every:
        """This schedule in a zone, where it has none of its own; else itself."""
        if self._has_zone:
            return self
        return _every(self.period, None if self._anchor is None else self._anchor.text, self._after, timezone)

    def next_tick(self, after: int) -> int | None:
        """The first tick strictly later than `after`, both in Unix seconds."""
        if self._after is not None:
            return None
        after = max(after, FIRST - 1)
        tick = after + self.period - (after - self._first) % self.period
        return tick if tick < LAST else None

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        """How many ticks lie in (after, until], both in Unix seconds, and whether there are more than `most`."""
        after, until = max(after, FIRST - 1), min(until, LAST - 1)
        if self._after is not None or until <= after:
            return 0, False
        number = (until - self._first) // self.period - (after - self._first) // self.period
        return min(number, most), number > most

    def __reduce__(self) -> tuple[object, ...]:
        anchor = None if self._anchor is None else self._anchor.text
        return _every, (self.period, anchor, self._after, self.timezone if self._has_zone else None)


def _every(period: int, anchor: str | None, after: Literal["end"] | None, timezone: str | None) -> Every:
    return Every(seconds=period, anchor=anchor, after=after, timezone=timezone)


def _whole_seconds(period: object, units: dict[str, float]) -> int:
    if period is not None and any(units.values()):
        raise ScheduleError("Every takes a timedelta or units, not both; e.g. Every(minutes=90)")
    if isinstance(period, timedelta):
        total: float = period / timedelta(seconds=1)
    elif period is not None:
        raise ScheduleError(f"Every can't be {brief(period)} without a unit; write it like Every(seconds=90)")
    else:
        total = 0
        for unit, value in units.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= _LONGEST:
                raise ScheduleError(
                    f"{unit} of Every can't be {brief(value)}; give a number, 0 or more, for at most 50 years"
                )
            total += value * _UNITS[unit]
    if total > _LONGEST:
        raise ScheduleError(f"the period of Every can't be {total:g} s; give at most 50 years")
    if total <= 0:
        raise ScheduleError(
            f"the period of Every can't be {total:g} s; give at least one second, like Every(minutes=90)"
        )
    if total != int(total):
        raise ScheduleError(f"the period of Every can't be {total!r} s; ticks are whole seconds")
    return int(total)


class Once(_Single):
    """Due once, and never again: `Once("2026-12-24T17:00", timezone="Europe/Berlin")`.

    `at` is a datetime or a text in ISO format, in whole seconds. Without a zone it is a time on the wall in the schedule's
    zone: where a clock change repeats it, the first of the two; where one skips it, the first instant after the gap.

    It runs late where the app was down at that time, unless the job's `misfire_grace_time` is over. One that had come before
    the job was registered, or came in that very second, does not run, and is warned of.

    Raises `ScheduleError` (a `ValueError`), naming the parameter.
    """

    __slots__ = ("_at", "_tick")

    _at: Moment
    _tick: int

    def __init__(self, at: datetime | str, *, timezone: str | tzinfo | None = None) -> None:
        put = object.__setattr__
        put(self, "_at", moment(at, "the time of Once"))
        self._identify(f"Once({self._at.text!r})", timezone)
        put(self, "_tick", self._at.instant(zone(self.timezone)))

    @property
    def words(self) -> str:
        """When it is due, in English."""
        return f"Once, at {shown(self._tick, self.timezone)}"

    def in_zone(self, timezone: str) -> Once:
        """This schedule in a zone, where it has none of its own; else itself."""
        return self if self._has_zone else Once(self._at.text, timezone=timezone)

    def next_tick(self, after: int) -> int | None:
        """Its tick, if that is later than `after`; both in Unix seconds."""
        return self._tick if after < self._tick else None

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        """How many ticks lie in (after, until], both in Unix seconds: 0 or 1."""
        number = int(after < self._tick <= until)
        return min(number, most), number > most

    def __reduce__(self) -> tuple[object, ...]:
        return _once, (self._at.text, self.timezone if self._has_zone else None)


def _once(at: str, timezone: str | None) -> Once:
    return Once(at, timezone=timezone)


class AtStart(_Single):
    """Due when the app starts: once for all its workers and hosts, and not once in each.

    `AtStart()` is due at each start of the fleet: when an instance starts while no other one is alive that has the job. An
    instance that joins others, as in a rolling deploy, is no such start. One that died without a word counts as alive until
    its `CRON_INSTANCE_TIMEOUT` is over, unless it ran on this host.

    `AtStart(version="1.4.2")` is due at the first start of each deploy: when its text differs from the one on record. Restarts
    of the same version are none.

    The tick is the second after the start. It runs late where nothing could run it then, and never again.

    Raises `ScheduleError` (a `ValueError`) for a version that is no text, or an empty or a long one.
    """

    __slots__ = ("version",)

    version: str | None
    """What is deployed; None where it is due at each start of the fleet."""

    def __init__(self, *, version: str | None = None) -> None:
        if version is not None and not (isinstance(version, str) and 0 < len(version) <= _LONGEST_VERSION):
            raise ScheduleError(
                f"version of AtStart can't be {brief(version)}; give a text of at most {_LONGEST_VERSION} characters, or leave "
                "it out"
            )
        object.__setattr__(self, "version", version)
        self._identify("AtStart()" if version is None else f"AtStart(version={version!r})", None)

    @property
    def is_clocked(self) -> bool:
        """False: its ticks are made by starts."""
        return False

    @property
    def words(self) -> str:
        """When it is due, in English."""
        return "At the start of the fleet" if self.version is None else f"At the first start of version {self.version}"

    @property
    def at_start(self) -> Literal["", "fleet", "deploy"]:
        """Which starts it is due at: each one of the fleet, or only the first one of each deploy."""
        return "fleet" if self.version is None else "deploy"

    def in_zone(self, timezone: str) -> AtStart:
        """Itself: a start has no zone."""
        return self

    def next_tick(self, after: int) -> int | None:
        """None: a start is not known from the clock."""
        return None

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        """No ticks are known from the clock."""
        return 0, False

    def __reduce__(self) -> tuple[object, ...]:
        return _at_start, (self.version,)


def _at_start(version: str | None) -> AtStart:
    return AtStart(version=version)
