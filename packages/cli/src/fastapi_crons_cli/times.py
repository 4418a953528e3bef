"""Times as they are given on the command line: `30m`, `yesterday`, `2026-03-01 02:00`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone

import typer

#: What can be given, for help texts and errors.
FORMS = (
    "30m, 2h, 3d (so long ago), now, today, yesterday (their midnight), 'yesterday 02:30', 2026-03-01, '2026-03-01 02:00', "
    "or any ISO 8601"
)
#: What a shell may offer.
EXAMPLES = {
    "30m": "30 minutes ago",
    "1h": "an hour ago",
    "1d": "a day ago",
    "7d": "seven days ago",
    "now": "this moment",
    "today": "last midnight",
    "yesterday": "midnight before",
    "yesterday 02:30": "that time of yesterday",
}
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(?:[0-9]{1,9}[smhdw])+")
_PART = re.compile(r"([0-9]{1,9})([smhdw])")
_FRACTION = re.compile(r"(?<=:[0-9]{2})[.,][0-9]+")
_DAYS_AGO = {"today": 0, "yesterday": 1}
_DAY = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}")
_OF_A_DAY = re.compile(r"(today|yesterday)(?:[ t]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?))?")
_EPOCH = datetime(1970, 1, 1)
#: Outside of these years, instants can't be computed in all zones.
_YEARS = range(2, 9999)


@dataclass(frozen=True, slots=True)
class Time:
    """A time, which becomes an instant in a zone."""

    text: str
    """As it was given."""
    ago: int | None = None
    """So many seconds before now."""
    days_ago: int | None = None
    """On the day so many days before today."""
    of_day: time | None = None
    """And at this time of it; None for its beginning."""
    moment: datetime | None = None
    """An instant where it has an offset, else the clock on the wall."""

    @classmethod
    def given(cls, text: str) -> Time:
        """Read a time. Raises `typer.BadParameter`, which says what can be given."""
        # Fractions of a second don't count, and Python 3.10 reads only some of them.
        wanted, iso = text.strip().lower(), _FRACTION.sub("", text.strip())
        if wanted == "now":
            return cls(text, ago=0)
        if _AGO.fullmatch(wanted):
            return cls(text, ago=sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(wanted)))
        try:
            if (day := _OF_A_DAY.fullmatch(wanted)) is not None:
                return cls(text, days_ago=_DAYS_AGO[day[1]], of_day=time.fromisoformat(day[2]) if day[2] else None)
            moment = datetime.fromisoformat(f"{iso[:-1]}+00:00" if wanted.endswith("z") else iso)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not a time; give {FORMS}") from None
        if moment.year not in _YEARS:
            raise typer.BadParameter(f"{text!r} can't be used; give a year from {_YEARS[0]} to {_YEARS[-1]}")
        return cls(text, moment=moment)

    @property
    def is_day(self) -> bool:
        """Whether it is a day, without a time of it."""
        return self.of_day is None if self.moment is None else _DAY.fullmatch(self.text.strip()) is not None

    def instant(self, zone: str, now: float) -> datetime:
        """The instant (aware), in whole seconds.

        A time that a clock change repeats is the first of the two; one that it skips is the first instant after the gap.
        """
        wall = self.wall(zone, now)
        if wall is not None:
            return _on_the_wall(wall, zone)
        if self.moment is not None:
            return self.moment.replace(microsecond=0)
        assert self.ago is not None
        try:
            return _shown(int(now) - self.ago, zone)
        except (ValueError, OverflowError, OSError):
            raise typer.BadParameter(f"{self.text!r} is too long ago") from None

    def wall(self, zone: str, now: float) -> datetime | None:
        """What the clock on the wall shows then (naive); None where no clock was meant."""
        if self.days_ago is not None:
            today = datetime.combine(_shown(int(now), zone).date(), self.of_day or time())
            return today - timedelta(days=self.days_ago)
        if self.moment is not None and self.moment.tzinfo is None:
            return self.moment.replace(microsecond=0)
        return None


def seconds_of(time: Time | None, zone: str, now: float) -> float | None:
    """The instant of a time in Unix seconds; None where none was given."""
    return None if time is None else time.instant(zone, now).timestamp()


def _shown(instant: int, zone: str) -> datetime:
    from zoneinfo import ZoneInfo

    return datetime.fromtimestamp(instant, timezone.utc).astimezone(ZoneInfo(zone))


def _on_the_wall(wall: datetime, zone: str) -> datetime:
    from fastapi_crons.schedule._zones import zone as zone_named
    from fastapi_crons.schedules._instants import instant_of_wall

    return _shown(instant_of_wall(int((wall - _EPOCH).total_seconds()), zone_named(zone)), zone)
