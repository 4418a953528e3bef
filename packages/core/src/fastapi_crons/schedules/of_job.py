"""The schedule of a job, made from what the job is defined with, and checked."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi_crons._util.text import brief
from fastapi_crons.errors import JobDefinitionError, ScheduleError
from fastapi_crons.schedule._parser import doubts
from fastapi_crons.schedule.base import Schedule, ZonedSchedule, lacking
from fastapi_crons.schedule.cron import cron_schedule
from fastapi_crons.schedule.trial import tried
from fastapi_crons.schedules.texts import is_written_in_python, schedule_of_text


def schedule_of_job(name: str, expr: object, timezone: str | None) -> Schedule:
    """The schedule of the job of this name, in its zone. Raises `ScheduleError` or `JobDefinitionError`."""
    if isinstance(expr, str):
        return cron_schedule(expr) if timezone is None else cron_schedule(expr, timezone)
    if not isinstance(expr, Schedule) or isinstance(expr, type):
        raise ScheduleError(
            f"expr of job {brief(name)} must be a cron expression or a Schedule, not {brief(expr)}{lacking(expr)}"
        )
    if timezone is not None and not takes_zone(expr):
        raise JobDefinitionError(
            f"timezone of job {brief(name)} can't be set: it is for cron expressions and schedules without a zone of their "
            "own, and this job has a Schedule with one, or that needs none"
        )
    if isinstance(expr, ZonedSchedule):
        for part in expr.foreign:
            _check_foreign(name, part)
        schedule = expr.in_zone(timezone or "UTC")
        if schedule.idle is not None:
            raise ScheduleError(
                f"expr of job {brief(name)} can't be used: {brief(schedule.idle)} is never due in {schedule.timezone}: no tick "
                "of its schedule is left"
            )
        return schedule
    _check_foreign(name, expr)
    return expr


def check_options(name: str, schedule: Schedule, overlap: str, jitter: float) -> bool:
    """Refuse options that can't be had with a job's schedule; returns whether a tick has to wait for a run to end.

    Raises `JobDefinitionError`.
    """
    if not isinstance(schedule, ZonedSchedule) or schedule.is_clocked:
        return False
    if overlap == "allow" and schedule.period_from_end:
        raise JobDefinitionError(
            f"overlap of job {brief(name)} can't be 'allow' with {schedule!r}, which is never due while the job runs; leave "
            "it out"
        )
    if jitter:
        raise JobDefinitionError(
            f"jitter of job {brief(name)} can't be {brief(jitter)} with {schedule!r}, whose ticks don't come from the "
            "clock; leave it out"
        )
    return overlap == "skip"


def counts_from_end(schedule: Schedule) -> bool:
    """Whether each tick of a schedule is counted from the end of the job's last run."""
    return isinstance(schedule, ZonedSchedule) and schedule.period_from_end > 0


def takes_zone(expr: object) -> bool:
    """Whether what a job is defined with is read in the job's zone."""
    if isinstance(expr, str):
        if not is_written_in_python(expr):
            return True
        expr = schedule_of_text(expr)
    return isinstance(expr, ZonedSchedule) and not expr.has_zone


def zone_of(schedule: Schedule) -> str:
    """A schedule's time zone; empty for a `Schedule` without one."""
    zone = getattr(schedule, "timezone", "")
    return zone if isinstance(zone, str) else ""


def doubts_of(schedule: Schedule) -> Iterator[str]:
    """A sentence for each reason to think that a cron expression in a schedule was meant otherwise."""
    for expression in schedule.expressions if isinstance(schedule, ZonedSchedule) else ():
        yield from doubts(expression)


def _check_foreign(name: str, schedule: Schedule) -> None:
    """Try it over a year, so that a faulty one fails here and not in the scheduler."""
    fault = tried(schedule)
    if fault is not None:
        raise ScheduleError(f"expr of job {brief(name)}: its Schedule can't be used: {fault}")
