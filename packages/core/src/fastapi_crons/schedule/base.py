"""ZonedSchedule, the base of our own schedules: a text and a time zone, and ticks in whole Unix seconds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from fastapi_crons.clock import utc_datetime
from fastapi_crons.errors import ScheduleError

#: How the texts of schedules end whose ticks are counted from the end of the job's last run.
FROM_END = ", after='end')"


@runtime_checkable
class Schedule(Protocol):
    """When a job is due. Ours are `CronSchedule` and those of `fastapi_crons.schedules`; plugins and apps can bring others.

    A schedule must be hashable; jobs with equal schedules share one place in the timeline. Its instants are whole seconds,
    and the same in every process. When a job is defined, its schedule is tried over a year, for a few hundredths of a second.
    It must answer quickly, because it is called on the event loop. Where it breaks these rules later, its jobs are stopped.
    """

    @property
    def text(self) -> str:
        """Identifies the schedule: a changed schedule must have another text."""

    def next_after(self, instant: datetime) -> datetime | None:
        """The first due instant strictly later than `instant` (aware), aware and in UTC; None where there is none."""

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The due instants in (after, until], ascending, aware and in UTC: the same that `next_after` returns one by one."""


def lacking(other: object) -> str:
    """What something that is no `Schedule` lacks, to be added to the error; empty where it has nothing of one."""
    parts = ("text", "next_after", "between")
    missing = [part for part in parts if not hasattr(other, part)]
    return f", which lacks {' and '.join(map(repr, missing))}" if 0 < len(missing) < len(parts) else ""


class ZonedSchedule(ABC):
    """A schedule that is known by its text and its zone. Immutable; equal where both are equal.

    Subclasses set `text`, `timezone` and `_hash` when they are made.
    """

    __slots__ = ("_hash", "text", "timezone")

    text: str
    timezone: str
    _hash: int

    @property
    @abstractmethod
    def words(self) -> str:
        """When it is due, in English."""

    @property
    def has_zone(self) -> bool:
        """Whether the zone is its own. Otherwise it takes its job's, and is read in UTC until then."""
        return True

    def in_zone(self, timezone: str) -> ZonedSchedule:
        """This schedule in a zone, where it has none of its own; else itself."""
        return self

    @property
    def is_clocked(self) -> bool:
        """Whether its ticks are known from the clock alone; otherwise it has none until runs or starts make them."""
        return True

    @property
    def period_from_end(self) -> int:
        """How many seconds after the end of the job's last run it is due; 0 where it is counted from nothing of the kind."""
        return 0

    @property
    def at_start(self) -> Literal["", "fleet", "deploy"]:
        """Which starts it is due at: each one of the fleet, or only the first one of each deploy; empty for neither."""
        return ""

    @property
    def foreign(self) -> tuple[Schedule, ...]:
        """The schedules of plugins and apps in it, which may break the `Schedule` protocol."""
        return ()

    @property
    def expressions(self) -> tuple[str, ...]:
        """The cron expressions in it."""
        return ()

    @property
    def idle(self) -> str | None:
        """The text of what is never due in it, in its zone; None where there is no such thing."""
        return None

    @property
    def depth(self) -> int:
        """How many schedules lie in each other."""
        return 1

    @abstractmethod
    def nested_text(self) -> str:
        """The text as a part of another schedule, with a zone of its own in it."""

    @abstractmethod
    def next_tick(self, after: int) -> int | None:
        """The first tick strictly later than `after`, both in Unix seconds; None where there is none."""

    @abstractmethod
    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        """How many ticks lie in (after, until], both in Unix seconds, and whether counting stopped early.

        It stops at more than `most` ticks, and when `enough` returns true.
        """

    def ticks_between(self, after: int, until: int) -> Iterator[int]:
        """The ticks in (after, until], ascending, in Unix seconds."""
        tick = self.next_tick(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_tick(tick)

    def next_after(self, instant: datetime) -> datetime | None:
        """The first tick strictly later than `instant` (aware), in UTC; None where there is none."""
        tick = self.next_tick(math.floor(_seconds(instant, "instant")))
        return None if tick is None else utc_datetime(tick)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The ticks in (after, until], ascending, in UTC. Both ends must be aware."""
        first, last = math.floor(_seconds(after, "after")), math.floor(_seconds(until, "until"))
        return (utc_datetime(tick) for tick in self.ticks_between(first, last))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} is immutable; make a new one instead of setting {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} is immutable; {name} can't be deleted")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ZonedSchedule):
            return NotImplemented
        return self is other or (self.text == other.text and self.timezone == other.timezone)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return self.nested_text()


def _seconds(instant: datetime, what: str) -> float:
    if instant.tzinfo is None:
        raise ScheduleError(f"{what} must be an aware datetime, not {instant.isoformat()}; add tzinfo")
    return instant.timestamp()
