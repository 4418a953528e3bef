"""The ticks of a job before and after an instant, by its schedule alone: none where runs and starts make them."""

from __future__ import annotations

from datetime import datetime

from fastapi_crons.clock import utc_datetime
from fastapi_crons.job import CronJob
from fastapi_crons.management.made_ticks import is_made
from fastapi_crons.schedule.due import newest_tick, tick_source

#: How far back (seconds) the tick before is looked for: from one leap day to the next there can be eight years.
_LOOK_BACK = 9 * 366 * 86_400


def tick_up_to(job: CronJob, instant: datetime) -> datetime | None:
    """The newest tick of a job that is not after an instant (aware); None where there is none."""
    return _newest(job, int(instant.timestamp()))


def ticks_after(job: CronJob, instant: datetime, *, most: int) -> list[datetime]:
    """The first ticks of a job after an instant (aware), at most so many."""
    found: list[datetime] = []
    while len(found) < most and (following := _following(job, found[-1] if found else instant)) is not None:
        found.append(following)
    return found


def ticks_around(job: CronJob, instant: datetime) -> tuple[datetime | None, datetime | None]:
    """The ticks before and after an instant (aware); None where there is none."""
    return _newest(job, int(instant.timestamp()) - 1), _following(job, instant)


def _following(job: CronJob, instant: datetime) -> datetime | None:
    if is_made(job.schedule):
        return None
    try:
        tick = tick_source(job.schedule).next_tick(int(instant.timestamp()))
    except Exception:  # a faulty schedule of a plugin or app, which health reports
        return None
    return None if tick is None else utc_datetime(tick)


def _newest(job: CronJob, until: int) -> datetime | None:
    if is_made(job.schedule):
        return None
    try:
        tick = newest_tick(tick_source(job.schedule), until - _LOOK_BACK, until)
    except Exception:  # as above
        return None
    return None if tick is None else utc_datetime(tick)
