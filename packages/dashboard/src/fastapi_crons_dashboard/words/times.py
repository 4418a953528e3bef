"""Instants and durations in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fastapi_crons.clock import UTC

_INSTANT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?\+00:00")
_ABSOLUTE = re.compile(r"\b(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) ([A-Z]{2,5}|[+-]\d\d(?:\d\d)?)\b")
_RUN = re.compile(r"(?:(?<=[Rr]un )|(?<=[Rr]un, ))([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b")
_PIECE = re.compile(f"{_ABSOLUTE.pattern}|{_RUN.pattern}")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def duration(seconds: float | None) -> str:
    """So many seconds: `4 ms`, `0.12 s`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`; a dash for None."""
    if seconds is None:
        return "–"
    if not seconds:
        return "0 s"
    if 0 < seconds < 0.01:
        return f"{seconds * 1000:.{2 if seconds < 0.0001 else 1 if seconds < 0.001 else 0}f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    for index, (size, unit) in enumerate(_UNITS):
        if whole >= size:
            smaller, name = _UNITS[index + 1] if index + 1 < len(_UNITS) else (1, "s")
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{whole} s"


def counted(number: int, noun: str) -> str:
    """`1 job`, `3 jobs`, `12,000 jobs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def zone(name: str) -> tzinfo:
    """A time zone by its name; UTC where there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # of a schedule that plugins or apps bring
        return UTC


def relative(instant: datetime, now: datetime) -> str:
    """How far an instant is from now: `in 5 min`, `3 h 2 min ago`."""
    away = (instant - now).total_seconds()
    if abs(away) < 1:
        return "now"
    shown = duration(max(1, round(abs(away))) if abs(away) < 10 else abs(away)).replace(".0 s", " s")
    return f"in {shown}" if away > 0 else f"{shown} ago"


def absolute(instant: datetime, zone: tzinfo | None = None) -> str:
    """An instant in a zone, UTC by default: `2026-03-01 02:00:00 UTC`."""
    return f"{instant.astimezone(zone or UTC):%Y-%m-%d %H:%M:%S %Z}"


def localised(text: str, zone: tzinfo | None = None) -> str:
    """A text of core's, with its instants in a zone: `2026-03-01T02:00:00+00:00` becomes `2026-03-01 02:00:00 UTC`."""
    return _INSTANT.sub(lambda found: absolute(datetime.fromisoformat(found[0]), zone), text)


class RunId(NamedTuple):
    """A run that a sentence names."""

    id: str


def pieces(text: str, zone: tzinfo) -> Iterator[str | datetime | RunId]:
    """A sentence, cut where it has instants as `absolute` writes them in this zone, and ids of runs; these are given as what
    they are."""
    end = 0
    for found in _PIECE.finditer(text):
        piece = RunId(found[3]) if found[3] else _instant(found[1], found[2], zone)
        if piece is not None:
            yield text[end : found.start()]
            yield piece
            end = found.end()
    yield text[end:]


def _instant(wall: str, name: str, zone: tzinfo) -> datetime | None:
    """The instant of a wall clock, by the name that its zone has then: UTC or this one; None where it has another."""
    local = datetime.fromisoformat(wall)
    folds = (local.replace(tzinfo=UTC if name == "UTC" else zone, fold=fold) for fold in (0, 1))
    found = next((each for each in folds if each.tzname() == name), None)
    return None if found is None else found.astimezone(UTC)


def clock(instant: datetime, zone: tzinfo) -> str:
    """The time of day in a zone, to the millisecond."""
    return f"{instant.astimezone(zone):%H:%M:%S}.{instant.microsecond // 1000:03}"


def iso(instant: datetime) -> str:
    """An instant as machines read it."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
