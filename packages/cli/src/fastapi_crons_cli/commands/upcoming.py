"""The command that shows the next ticks: `next`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer

from fastapi_crons_cli.options import App, AsJson, Verbose
from fastapi_crons_cli.output import duration, json_only, print_json, say, shown, warn, with_z

if TYPE_CHECKING:
    from fastapi_crons.job import CronJob
    from fastapi_crons.schedule import Schedule
    from fastapi_crons_cli.session import Session


def next_ticks(
    what: Annotated[
        list[str],
        typer.Argument(metavar="NAME_OR_EXPRESSION", help="Jobs, or cron expressions and schedules in quotes."),
    ],
    app: App = None,
    zone: Annotated[
        str | None,
        typer.Option("--timezone", "-z", help="Of what is in quotes; a job has its own. Default: CRON_TIMEZONE."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1_000, help="How many ticks.")] = 5,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show when a job, a cron expression, or a schedule like 'Every(minutes=90)', is due next, with a description in words."""
    with json_only(as_json):
        schedules = _schedules(what, zone, app)
    for doubt in (doubt for _, schedule in schedules for doubt in _doubts(schedule)):
        warn(f"note: {doubt}")
    now = datetime.now(timezone.utc)
    found = [(name, schedule, _ticks(schedule, now, count)) for name, schedule in schedules]
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "expr": schedule.text,
                    "timezone": _zone_of(schedule),
                    "description": _described(schedule),
                    "next": [with_z(tick) for tick in ticks],
                }
                for name, schedule, ticks in found
            ]
        )
        return
    for number, (name, schedule, ticks) in enumerate(found):
        if number:
            say("")
        description = _described(schedule)
        title = f"{shown(schedule.text)} ({shown(_zone_of(schedule) or 'no zone')})"
        say(f"{f'{shown(name)}: ' if name else ''}{title}{f': {description}' if description else ''}")
        for tick in ticks:
            local = _in_zone(tick, schedule)
            say(f"  {local.isoformat(sep=' ')}  in {duration((tick - now).total_seconds())}")
        if not ticks:
            say("  never again" if _is_clocked(schedule) else "  not known from the clock")


def _schedules(what: list[str], zone: str | None, app: str | None) -> list[tuple[str | None, Schedule]]:
    """The given schedules: of jobs by name, and expressions, also one that is not in quotes."""
    from fastapi_crons.config import CronConfig
    from fastapi_crons.errors import ScheduleError, UnknownJobError
    from fastapi_crons.schedule import CronSchedule
    from fastapi_crons.schedules.texts import KINDS, schedule_of_text
    from fastapi_crons_cli.apps import NoAppError

    default_zone = zone or CronConfig().timezone
    if 5 <= len(what) <= 7:
        try:
            return [(None, CronSchedule(" ".join(what), default_zone))]
        except ScheduleError:
            pass
    found: list[tuple[str | None, Schedule]] = []
    jobs: dict[str, CronJob] | None = None
    for text in what:
        try:
            found.append((None, schedule_of_text(text, default_zone)))
            continue
        except ScheduleError as error:
            is_written = text.partition("(")[0].strip() in KINDS
            if " " in text.strip() or text.startswith("@") or zone is not None or is_written:
                raise
            unreadable = error if "(" in text else None
        try:
            jobs = _jobs(app) if jobs is None else jobs
        except NoAppError:
            if unreadable is None:
                raise
            raise unreadable from None
        if text not in jobs:
            raise unreadable or UnknownJobError(f"{text!r} is neither a job nor a cron expression or schedule")
        found.append((text, jobs[text].schedule))
    return found


def _jobs(app: str | None) -> dict[str, CronJob]:
    """The jobs of the app, or those that the stores know."""
    from fastapi_crons_cli.apps import NoAppError
    from fastapi_crons_cli.session import load_app, with_stores

    async def ask(session: Session) -> list[CronJob]:
        return session.crons.get_jobs()

    try:
        jobs = load_app(app).crons.get_jobs()
    except NoAppError:
        jobs = with_stores(ask, app=app)
    return {job.name: job for job in jobs}


def _ticks(schedule: Schedule, now: datetime, count: int) -> list[datetime]:
    ticks: list[datetime] = []
    tick = schedule.next_after(now)
    while tick is not None and len(ticks) < count:
        ticks.append(tick)
        tick = schedule.next_after(tick)
    return ticks


def _zone_of(schedule: Schedule) -> str | None:
    zone = getattr(schedule, "timezone", None)
    return zone if isinstance(zone, str) else None


def _in_zone(instant: datetime, schedule: Schedule) -> datetime:
    from zoneinfo import ZoneInfo

    return instant.astimezone(ZoneInfo(_zone_of(schedule) or "UTC"))


def _described(schedule: Schedule) -> str | None:
    """The description of a schedule; None for a kind that plugins or apps bring."""
    from fastapi_crons.schedule.base import ZonedSchedule

    return schedule.words if isinstance(schedule, ZonedSchedule) else None


def _doubts(schedule: Schedule) -> Iterator[str]:
    from fastapi_crons.schedules.of_job import doubts_of

    return doubts_of(schedule)


def _is_clocked(schedule: Schedule) -> bool:
    from fastapi_crons.schedule.base import ZonedSchedule

    return not isinstance(schedule, ZonedSchedule) or schedule.is_clocked
