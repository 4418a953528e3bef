"""Schedules of somebody else's, held to the `Schedule` protocol: when a job is defined, and whenever they are asked.

What breaks it would run a job each second, or never: a tick that is not later than asked, for one. Anchors in a zone with
clock changes, added up on the wall clock, do that in the hour that a change repeats. So they are tried around the changes of
a year.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import islice
from time import perf_counter, thread_time
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

from fastapi_crons._util.text import one_line
from fastapi_crons.clock import utc_datetime
from fastapi_crons.schedule.cron import Schedule

_HOUR, _DAY = 3_600, 86_400
#: Zones whose rules differ, so that nearly every clock change of the world is one of theirs; the most used first.
_ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/Los_Angeles",
    "America/Chicago",
    "Australia/Sydney",
    "America/Denver",
    "America/Halifax",
    "America/St_Johns",
    "America/Anchorage",
    "America/Adak",
    "America/Havana",
    "America/Nuuk",
    "America/Santiago",
    "Atlantic/Azores",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Jerusalem",
    "Asia/Beirut",
    "Asia/Gaza",
    "Europe/Chisinau",
    "Antarctica/Troll",
    "Australia/Adelaide",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Norfolk",
    "Pacific/Easter",
)
#: Where around a clock change (seconds after it) a schedule is asked: mostly within what the change repeats.
_AROUND = (-_HOUR, -1, 0, 1, 599, 1_199, 1_800, 2_401, 3_000, _HOUR - 1, _HOUR, 2 * _HOUR)
#: After how many ticks the time is looked at while they are counted.
_LOOKS = 8
#: How many ticks in a row `between` is compared with.
_ROW = 5
#: How long (seconds) a schedule is tried: of this thread's time, and of any, which passes where the machine is busy, too.
_PATIENCE, _PATIENCE_AT_ALL = 0.02, 0.2
#: How long (seconds) all schedules of one class are tried, together.
_PATIENCE_WITH_A_KIND = 1.0
_spent: WeakKeyDictionary[type, float] = WeakKeyDictionary()


class Unfit(Exception):  # noqa: N818 - never leaves this module
    """What a schedule said, and the protocol does not allow."""


def answer(schedule: Schedule, after: int) -> int | None:
    """The next tick (both in Unix seconds). Raises `Unfit`, or what the schedule raises."""
    tick = schedule.next_after(utc_datetime(after))
    return None if tick is None else _checked(tick, after, "next_after")


def _checked(tick: object, after: int, method: str) -> int:
    if not isinstance(tick, datetime):
        advice = "; it must give datetimes"
    elif tick.utcoffset() is None:
        advice = ", which has no zone; it must give aware datetimes in UTC"
    elif tick.utcoffset():
        advice = "; it must give aware datetimes in UTC: add .astimezone(timezone.utc)"
    elif tick.microsecond:
        advice = "; ticks are whole seconds"
    else:
        seconds = int(tick.timestamp())
        if seconds > after:
            return seconds
        advice = ", which is not later: reckon in UTC, where no clock changes"
    shown = tick.isoformat() if isinstance(tick, datetime) else ascii(tick)[:60]
    raise Unfit(f"{method} gave {shown} for {utc_datetime(after).isoformat()}{advice}")


class ForeignTicks:
    """A schedule as whole Unix seconds. Once it breaks the protocol it has no ticks any more."""

    __slots__ = ("_on_fault", "_schedule", "fault")

    def __init__(self, schedule: Schedule, on_fault: Callable[[str], None] | None = None) -> None:
        self._schedule = schedule
        self._on_fault = on_fault
        #: How it broke the protocol.
        self.fault: str | None = None

    def next_tick(self, after: int) -> int | None:
        if self.fault is not None:
            return None
        try:
            return answer(self._schedule, after)
        except Unfit as fault:
            self.fault = str(fault)
        if self._on_fault is not None:
            self._on_fault(self.fault)
        return None

    def ticks_between(self, after: int, until: int) -> Iterator[int]:
        tick = self.next_tick(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_tick(tick)

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        number = 0
        for _ in self.ticks_between(after, until):
            if number == most or (number % _LOOKS == 0 and enough()):
                return number, True
            number += 1
        return number, False


class _Enough(Exception):  # noqa: N818 - a signal
    """The time for trying is over."""


class _Patience:
    """How long one schedule is tried. Very many of one kind are not all tried to the end."""

    def __init__(self, kind: type) -> None:
        self._kind, self._began, self._began_at_all = kind, thread_time(), perf_counter()
        self._patience = _PATIENCE if _spent.get(kind, 0.0) < _PATIENCE_WITH_A_KIND else 0.0
        self._patience_at_all = _PATIENCE_AT_ALL if self._patience else 0.0

    def look(self) -> None:
        """Raises `_Enough` when it is used up."""
        if thread_time() - self._began > self._patience or perf_counter() - self._began_at_all > self._patience_at_all:
            raise _Enough

    def over(self) -> None:
        _spent[self._kind] = _spent.get(self._kind, 0.0) + perf_counter() - self._began_at_all


def fault_of(schedule: Schedule, now: int) -> str | None:
    """What is wrong with a schedule, as far as it can be found within about 0.02 s of work; None where nothing is."""
    zone = getattr(schedule, "timezone", None)
    changes = _all_changes(zone if isinstance(zone, str) else _ZONES[0], now // _DAY * _DAY)
    patience = _Patience(type(schedule))
    asking = "next_after"
    try:
        for instant, is_row in _instants(now, changes):
            asking = "between" if is_row else "next_after"
            if is_row:
                _compare_row(schedule, instant, patience)
            else:
                answer(schedule, instant)
            patience.look()
    except _Enough:
        return None
    except Unfit as fault:
        return str(fault)
    except Exception as error:
        return f"{asking} failed with {one_line(error)}"
    finally:
        patience.over()
    return None


def _compare_row(schedule: Schedule, after: int, patience: _Patience) -> None:
    """`between` must give what `next_after` gives one by one: all up to its end, and nothing behind it."""
    row: list[int] = []
    while len(row) < _ROW and (tick := answer(schedule, row[-1] if row else after)) is not None:
        row.append(tick)
        patience.look()
    until = row[-1] if row else after + _DAY
    for end, wanted in ((until, row), (until - 1, row[:-1] if row else [])):
        given = schedule.between(utc_datetime(after), utc_datetime(end))
        found: list[int] = []
        for given_tick in islice(given, len(wanted) + 1):
            found.append(_checked(given_tick, found[-1] if found else after, "between"))
            patience.look()
        if found != wanted:
            raise Unfit(
                f"between({utc_datetime(after).isoformat()}, {utc_datetime(end).isoformat()}) gave {_shown(found)}, "
                f"but next_after gave {_shown(wanted)}"
            )


def _shown(ticks: list[int]) -> str:
    return ", ".join(utc_datetime(tick).isoformat() for tick in ticks) or "nothing"


def _instants(now: int, changes: Iterable[int]) -> Iterator[tuple[int, bool]]:
    """Where to try a schedule over the next year, the likeliest first, and whether with a row of ticks."""
    yield now, False
    yield now, True
    for change in changes:
        yield from ((change + seconds, False) for seconds in _AROUND)
        yield change - 2 * _HOUR, True
    for day in range(1, 366, 2):
        # At another time of each day.
        yield now + day * _DAY + day * 3_571 % _DAY, day % 30 == 1


@lru_cache(maxsize=64)
def _all_changes(first: str, start: int) -> tuple[int, ...]:
    """The clock changes of all zones in the year after `start`, those of the first one first."""
    return tuple(dict.fromkeys(change for name in (first, *_ZONES) for change in _changes(name, start)))


@lru_cache(maxsize=256)
def _changes(name: str, start: int) -> tuple[int, ...]:
    """The clock changes of a zone in the year after `start`; none where there is no such zone."""
    try:
        zone = ZoneInfo(name)
    except Exception:
        return ()

    def offset(instant: int) -> timedelta | None:
        return datetime.fromtimestamp(instant, timezone.utc).astimezone(zone).utcoffset()

    changes = []
    for low in range(start, start + 366 * _DAY, 14 * _DAY):
        early, late = low, low + 14 * _DAY
        if offset(early) == offset(late):
            continue
        while late - early > 1:
            middle = (early + late) // 2
            early, late = (middle, late) if offset(middle) == offset(low) else (early, middle)
        changes.append(late)
    return tuple(changes)
