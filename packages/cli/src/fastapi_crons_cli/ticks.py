"""Ticks as they are given on the command line: an instant, or a time on the clock of the job's zone."""

from __future__ import annotations

from datetime import datetime, timezone

import typer

from fastapi_crons_cli.times import Time


def tick_at(time: Time, zone: str, now: float) -> datetime:
    """The instant of a time; without an offset it is read in the zone, and a day is its beginning.

    Raises `typer.BadParameter` for a time that a clock change repeats or skips: which of two ticks is meant has to be said.
    """
    from zoneinfo import ZoneInfo

    given = time.wall(zone, now)
    if given is None or time.is_day:
        return time.instant(zone, now)
    first, second = (given.replace(fold=fold, tzinfo=ZoneInfo(zone)) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    utc = [each.astimezone(timezone.utc) for each in (first, second)]
    if utc[0].astimezone(ZoneInfo(zone)).replace(tzinfo=None) != given:
        end = time.instant(zone, now).isoformat()
        raise typer.BadParameter(
            f"{given.isoformat(sep=' ')} does not exist in {zone}: clocks go forward over it, to {end}"
        )
    one, other = (each.astimezone(ZoneInfo(zone)).isoformat() for each in utc)
    raise typer.BadParameter(
        f"{given.isoformat(sep=' ')} is there twice in {zone}, where clocks go back; say which one, with its offset: {one} "
        f"or {other}"
    )
