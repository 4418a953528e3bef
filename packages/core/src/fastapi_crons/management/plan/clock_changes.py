"""Clock changes in a span of time, and what they do to the ticks of a cron expression, by the rule of `schedule.cron`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from fastapi_crons.errors import ScheduleError
from fastapi_crons.job import CronJob
from fastapi_crons.schedule._zones import zone
from fastapi_crons.schedule.base import ZonedSchedule
from fastapi_crons.schedule.cron import cron_schedule


class ClockChange(NamedTuple):
    """A change of a zone's UTC offset; `at` in Unix seconds, the offsets in seconds."""

    timezone: str
    at: int
    before: int
    after: int

    @property
    def repeats(self) -> bool:
        """Whether times on the wall come twice; otherwise they don't come."""
        return self.after < self.before

    @property
    def walls(self) -> tuple[int, int]:
        """The times on the wall, as seconds since 1970 there, that come twice or not at all: the first, and the end."""
        return self.at + min(self.before, self.after), self.at + max(self.before, self.after)

    @property
    def text(self) -> str:
        first, end = self.walls
        day = _wall(first).date().isoformat()
        comes = "comes twice" if self.repeats else "does not come"
        return f"on {day} the time from {_time(first)} to {_time(end)} {comes} in {self.timezone}"


def changes_between(timezone: str, after: int, until: int) -> list[ClockChange]:
    """The changes of a zone in (after, until]."""
    try:
        known = zone(timezone)
    except ScheduleError:  # of a schedule that plugins or apps bring
        return []
    found = []
    segment = known.segment(after)
    while segment.end <= until:
        following = known.segment(segment.end)
        if following.offset != segment.offset:
            found.append(ClockChange(timezone, segment.end, segment.offset, following.offset))
        segment = following
    return found


def effects_of_changes(job: CronJob, after: datetime, until: datetime) -> list[str]:
    """A sentence on what each clock change between two instants (aware) does to the ticks of a job."""
    schedule = job.schedule
    if not isinstance(schedule, ZonedSchedule):
        return []
    changes = changes_between(job.schedule_zone or "UTC", int(after.timestamp()), int(until.timestamp()))
    return [effect for change in changes for effect in effects_of(schedule, change)]


def effects_of(schedule: ZonedSchedule, change: ClockChange) -> Iterator[str]:
    """A sentence for each cron expression in a schedule that is due at times which come twice, or not at all."""
    first, end = change.walls
    for expression in schedule.expressions:
        on_the_wall = cron_schedule(expression)  # in UTC the wall clock shows seconds since 1970
        number, _ = on_the_wall.count_ticks(first - 1, end - 1, 86_400, lambda: False)
        wall = on_the_wall.next_tick(first - 1)
        if not number or wall is None:
            continue
        times = _time(wall) if number == 1 else f"{_time(first)} to {_time(end)}"
        comes = f"{times} comes twice" if change.repeats else f"{times} does not come"
        day = _wall(wall).date().isoformat()
        if cron_schedule(expression, change.timezone).is_interval_like:
            what = "it runs both times" if change.repeats else f"it goes on at {_time(end)}"
        else:
            tick = wall - change.before if change.repeats else change.at
            if schedule.next_tick(tick - 1) != tick:
                continue  # a limit of the schedule has cut it off
            if change.repeats:
                what = "it runs the first time only"
            else:
                what = f"it runs once instead, at {_time(change.at + change.after)}"
        yield f"on {day} {comes}: {what}"


def _wall(seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)


def _time(seconds: int) -> str:
    return _wall(seconds).strftime("%H:%M:%S" if seconds % 60 else "%H:%M")
