"""Instants as people give them: a time on a zone's wall clock, or one with an offset."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import Query

from fastapi_crons.clock import UTC, utc_datetime
from fastapi_crons.errors import InvalidArgumentError
from fastapi_crons_dashboard.words.times import zone

#: The zone that a time in an address is on the clock of.
ZoneName = Annotated[str, Query(max_length=60)]
_FIRST, _LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class Given(NamedTuple):
    """An instant that was given, in whole seconds (aware)."""

    instant: datetime
    again: datetime | None = None
    """Where its wall-clock time comes twice: the second one."""
    skipped: bool = False
    """Whether its wall-clock time does not come: `instant` is when the clock was put forward over it."""


def read_instant(text: str, zone: tzinfo) -> Given:
    """The instant that a text means; without an offset, on the wall clock of a zone. Raises `InvalidArgumentError`."""
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00")).replace(microsecond=0)
    except ValueError:
        found = None
    # Near the year 1 and the year 9999, some zones have no time.
    if found is None or not _FIRST <= found.replace(tzinfo=found.tzinfo or UTC) <= _LAST:
        shown = ascii(text[:60])
        raise InvalidArgumentError(
            f"the time can't be {shown}: give a date and a time, such as 2026-03-01 02:00, or 2026-03-01T02:00Z"
        )
    return Given(found) if found.tzinfo is not None else _on_the_wall(found, zone)


def zone_asked(name: str, own: str) -> str:
    """The name of the zone that a time was given in: its own by default. Raises `InvalidArgumentError`."""
    with suppress(ValueError, OSError, KeyError):
        return ZoneInfo(name).key if name else own
    raise InvalidArgumentError(
        f"the time zone can't be {name[:60]!a}: give the name of a time zone, such as Europe/Berlin"
    )


def _on_the_wall(wall: datetime, zone: tzinfo) -> Given:
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return Given(first)
    if first < second:
        return Given(first, second)
    # By the offset before the gap it lies behind it, by the one after it before it.
    low, high = second, first
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        behind = middle.astimezone(zone).replace(tzinfo=None) > wall
        low, high = (low, middle) if behind else (middle, high)
    return Given(high, skipped=True)


def instant_text(seconds: float) -> str:
    """An instant (Unix seconds) for an address: `2026-03-01T02:00:00Z`."""
    return f"{utc_datetime(int(seconds)):%Y-%m-%dT%H:%M:%SZ}"


def wall(instant: datetime, zone_name: str) -> str:
    """An instant as a field for dates and times has it, on the wall clock of a zone."""
    return f"{instant.astimezone(zone(zone_name)):%Y-%m-%dT%H:%M:%S}"


def on_the_wall(seconds: float, zone_name: str) -> str:
    """An instant (Unix seconds) for people, on the wall clock of a zone: `Sun 29 Nov 09:00`."""
    return f"{utc_datetime(seconds).astimezone(zone(zone_name)):%a %d %b %H:%M}"
