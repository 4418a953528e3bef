"""The command that shows the next ticks: `next`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from fastapi_crons_cli.options import App, AsJson, Verbose
from fastapi_crons_cli.output import duration, json_only, print_json, say, shown, warn, with_z

if TYPE_CHECKING:
    from fastapi_crons.job import CronJob
    from fastapi_crons.locking.base import Pause
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
        asked = _asked(what, zone, app)
    for doubt in (doubt for each in asked for doubt in _doubts(each.schedule)):
        warn(f"note: {doubt}")
    now = datetime.now(timezone.utc)
    found = [(each, _ticks(each.schedule, now, count)) for each in asked]
    if as_json:
        print_json([_as_json(each, ticks) for each, ticks in found])
        return
    for number, (each, ticks) in enumerate(found):
        if number:
            say("")
        _print(each, ticks, now)


class Asked(NamedTuple):
    """What is shown: a schedule, and the job that has it, where a job was named."""

    schedule: Schedule
    job: CronJob | None = None
    pause: Pause | None = None


def _as_json(asked: Asked, ticks: list[datetime]) -> dict[str, object]:
    job, pause, schedule = asked.job, asked.pause, asked.schedule
    paused = None
    if pause is not None:
        from fastapi_crons.api.models import PauseModel

        paused = PauseModel.of(pause, details=True).model_dump(mode="json")
    return {
        "name": None if job is None else job.name,
        "expr": schedule.text,
        "timezone": _zone_of(schedule),
        "description": _described(schedule),
        "enabled": None if job is None else job.enabled,
        "paused": paused,
        "next": [with_z(tick) for tick in ticks],
    }


def _print(asked: Asked, ticks: list[datetime], now: datetime) -> None:
    job, schedule = asked.job, asked.schedule
    description = _described(schedule)
    title = f"{shown(schedule.text)} ({shown(_zone_of(schedule) or 'no zone')})"
    say(f"{'' if job is None else f'{shown(job.name)}: '}{title}{f': {description}' if description else ''}")
    if job is not None and not job.enabled:
        say("  ! disabled in code: its ticks are not run")
    elif asked.pause is not None:
        from fastapi_crons.management.plan.planned import paused_in_words

        why = paused_in_words(asked.pause, _zone_of(schedule) or "UTC", details=True)
        say(f"  ! {shown(why)}: its ticks are not run until it is resumed")
    for tick in ticks:
        local = _in_zone(tick, schedule)
        say(f"  {local.isoformat(sep=' ')}  in {duration((tick - now).total_seconds())}")
    if not ticks:
        say("  never again" if _is_clocked(schedule) else "  not known from the clock")


def _asked(what: list[str], zone: str | None, app: str | None) -> list[Asked]:
    """What was given: jobs by name, and expressions, also one that is not in quotes. Only for jobs the stores are asked."""
    from fastapi_crons.config import CronConfig
    from fastapi_crons.errors import ScheduleError, UnknownJobError
    from fastapi_crons.schedule import CronSchedule
    from fastapi_crons.schedules.texts import KINDS, schedule_of_text
    from fastapi_crons_cli.apps import NoAppError

    default_zone = zone or CronConfig().timezone
    if 5 <= len(what) <= 7:
        try:
            return [Asked(CronSchedule(" ".join(what), default_zone))]
        except ScheduleError:
            pass
    found: list[Asked] = []
    jobs: dict[str, Asked] | None = None
    for text in what:
        try:
            found.append(Asked(schedule_of_text(text, default_zone)))
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
        found.append(jobs[text])
    return found


def _jobs(app: str | None) -> dict[str, Asked]:
    """The jobs of the app, or those that the stores know, with their pauses."""
    from fastapi_crons.errors import CronsError
    from fastapi_crons_cli.apps import NoAppError
    from fastapi_crons_cli.output import said
    from fastapi_crons_cli.session import load_app, with_stores

    async def ask(session: Session) -> tuple[list[CronJob], dict[str, Pause]]:
        return session.crons.get_jobs(), await session.management.pauses()

    try:
        jobs, pauses = with_stores(ask, app=app)
    except NoAppError:
        raise
    except CronsError as error:  # the schedules of an app are known whatever there is with its stores
        try:
            jobs, pauses = load_app(app).crons.get_jobs(), {}
        except NoAppError:
            raise error from None
        warn(f"note: it is not known which jobs are paused: {said(error)}")
    return {job.name: Asked(job.schedule, job, pauses.get(job.name)) for job in jobs}


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
