"""Commands that show what is known of jobs: `list-jobs`, `status`, `logs`, `next`, `why`."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from fastapi_crons_cli.options import App, AsJson, JobName, SomeJob, Verbose
from fastapi_crons_cli.output import (
    clock_time,
    duration,
    fits,
    json_only,
    print_json,
    print_table,
    say,
    shown,
    shown_lines,
    table,
    warn,
    with_z,
)

if TYPE_CHECKING:
    from fastapi_crons.job import CronJob
    from fastapi_crons.run import MissedTicks, Run
    from fastapi_crons.schedule import Schedule
    from fastapi_crons.service import JobView, SchedulerView
    from fastapi_crons.why import TickFate
    from fastapi_crons_cli.session import Session

RunStatus = Literal["running", "completed", "failed", "timed_out", "cancelled", "interrupted"]
JobStatus = Literal["running", "completed", "failed", "timed_out", "cancelled", "interrupted", "pending", "paused"]
#: What `status` shows whatever the figures are.
_ALWAYS_SHOWN = ("running", "completed", "failed")


def list_jobs(
    app: App = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only jobs that have this tag.")] = None,
    status: Annotated[JobStatus | None, typer.Option("--status", help="Only jobs with this status.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show all jobs: when each ran last, how that ended and where, and when it is due next."""
    from fastapi_crons_cli.session import with_stores

    async def ask(session: Session) -> tuple[str, list[JobView]]:
        if tag is not None and not session.has_app:
            from fastapi_crons_cli.apps import NoAppError

            raise NoAppError(
                "tags are known to the app only, and none was found here; name it with --app module:attribute"
            )
        return session.zone, await session.service.jobs(tag=tag, status=status)

    with json_only(as_json):
        zone, views = with_stores(ask, app=app)
    if as_json:
        print_json([job_json(view) for view in views])
        return
    rows = [
        (
            view.job.name,
            "Never" if view.last_run is None else clock_time(view.last_run, zone),
            _status_of(view),
            view.instance or "-",
            view.job.schedule.text,
            clock_time(view.next_run, zone),
        )
        for view in views
    ]
    columns = ("Job Name", "Last Run", "Status", "Instance", "Schedule", "Next Run")
    wide = table(columns, rows, f"Times in {zone}")
    if fits(wide):
        print_table(wide)
    else:
        note = f"Times in {zone}; a wider window, or --json, shows schedule and next run too"
        print_table(table(columns[:4], [row[:4] for row in rows], note))


def _status_of(view: JobView) -> str:
    if not view.job.enabled:
        return f"{view.status} (disabled)"
    return view.status if view.pause is None else f"{view.status} (paused)"


def job_json(view: JobView) -> dict[str, Any]:
    """A job as the management API shows it."""
    from fastapi_crons.api.models import JobModel

    return JobModel.of(view, details=True).model_dump(mode="json")


def status(app: App = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show the scheduler as a whole: stores, instances, and the jobs in figures."""
    from fastapi_crons_cli.session import with_stores

    async def ask(session: Session) -> tuple[str | None, float, SchedulerView]:
        return session.crons.config.instance_id, session.crons.clock.now(), await session.service.scheduler()

    with json_only(as_json):
        configured, now, view = with_stores(ask, app=app)
    if as_json:
        print_json(_scheduler_json(view))
        return
    names = [configured] if configured else [live.instance.id for live in view.instances]
    say("🔧 System Status")
    say(f"Instance ID: {', '.join(map(shown, names)) or '- (no instance lives: start the app, or start-scheduler)'}")
    say(f"Backend: {shown(view.state_backend)}")
    say(f"Locking: {shown(view.locking)}")
    say("")
    say("📊 Job Statistics")
    say(f"Total Jobs: {view.jobs}")
    counts = dict.fromkeys(_ALWAYS_SHOWN, 0)
    counts.update({str(name): count for name, count in view.statuses.items()}, paused=view.paused)
    for name, count in counts.items():
        if count or name in _ALWAYS_SHOWN:
            say(f"{name.replace('_', ' ').title()}: {count}")
    if view.instances:
        say("")
        say("Instances")
    for live in view.instances:
        silent = duration(max(0.0, now - live.heartbeat_ts))
        say(
            f"{shown(live.instance.id)}: host {shown(live.instance.host)}, pid {live.instance.pid}, "
            f"heartbeat {silent} ago, running {live.running}"
        )


def _scheduler_json(view: SchedulerView) -> dict[str, Any]:
    from fastapi_crons.clock import utc_datetime

    return {
        "version": view.version,
        "namespace": view.namespace,
        "timezone": view.timezone,
        "state_backend": view.state_backend,
        "lock_backend": view.lock_backend,
        "locking": view.locking,
        "jobs": view.jobs,
        "paused": view.paused,
        "statuses": view.statuses,
        "instances": [
            {
                "instance_id": live.instance.id,
                "host": live.instance.host,
                "pid": live.instance.pid,
                "version": live.instance.version,
                "started": with_z(utc_datetime(live.instance.started_ts)),
                "heartbeat": with_z(utc_datetime(live.heartbeat_ts)),
                "running": live.running,
            }
            for live in view.instances
        ],
    }


def logs(
    app: App = None,
    job: SomeJob = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many runs, the newest.")] = 20,
    status: Annotated[RunStatus | None, typer.Option("--status", help="Only runs with this status.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show the history of runs, newest last; with --verbose what they logged, too."""
    from fastapi_crons_cli.session import with_stores

    async def show(session: Session) -> list[Run]:
        printer = _RunPrinter(session, out if as_json else None, verbose=verbose)
        if not follow:
            runs = (await session.service.runs(job, limit=limit, status=status))[::-1]
            if verbose:
                runs = [await session.service.run(run.job, run.id) for run in runs]
            session.progress.end()
            if not as_json:
                for run in runs:
                    await printer.print(run)
            return runs
        await _follow(session, printer, job, limit, status)
        return []

    with json_only(as_json) as out:
        runs = with_stores(show, app=app, job=job)
    if follow:
        return
    if as_json:
        print_json([run_json(run) for run in runs])
    elif not runs:
        warn("no runs are on record")


async def _follow(session: Session, printer: _RunPrinter, job: str | None, limit: int, status: str | None) -> None:
    """The newest runs, and then what happens. Ends with Ctrl-C, or with the stores."""
    import asyncio
    from contextlib import aclosing

    async with aclosing(session.service.events(None if job is None else [job])) as events:
        # What happens from here on is heard, and what has happened before is on record.
        coming = asyncio.ensure_future(anext(events, None))
        try:
            await asyncio.sleep(0)
            runs = await session.service.runs(job, limit=limit, status=status)  # type: ignore[arg-type]
            session.progress.end()
            told = {(run.id, run.status) for run in runs}
            for run in runs[::-1]:
                await printer.print(run)
            while (record := await coming) is not None:
                coming = asyncio.ensure_future(anext(events, None))
                kind = getattr(record, "status", None)
                if status in (None, kind) and (record.id, kind) not in told:
                    await printer.print(record)
        except asyncio.CancelledError:
            pass  # that is how it is meant to end
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


class _RunPrinter:
    """Prints runs, and ticks that were let go, line by line: as JSON to `json_out`, where that is given."""

    def __init__(self, session: Session, json_out: TextIO | None, *, verbose: bool) -> None:
        self._session = session
        self._json_out = json_out
        self._verbose = verbose

    async def print(self, record: Run | MissedTicks) -> None:
        from fastapi_crons.run import Run

        if not isinstance(record, Run):
            self._print_missed(record)
            return
        run = record
        if self._verbose and run.status != "running" and not run.log:
            run = await self._session.service.run(run.job, run.id)
        if self._json_out is not None:
            print(json.dumps(run_json(run)), file=self._json_out, flush=True)
            return
        say(run_line(run, self._session.zone))
        if self._verbose:
            for line in log_lines(run, self._session.zone):
                say(f"    {line}")

    def _print_missed(self, missed: MissedTicks) -> None:
        if self._json_out is not None:
            told = {
                "job_name": missed.job,
                "first": with_z(missed.first),
                "last": with_z(missed.last),
                "missed_ticks": missed.count,
                "reason": missed.reason,
            }
            print(json.dumps(told), file=self._json_out, flush=True)
            return
        when, zone = missed.last, self._session.zone
        number = f"{'at least ' if missed.more else ''}{missed.count} {'tick' if missed.count == 1 else 'ticks'}"
        reason = missed.reason.replace("_", " ")
        say(f"{clock_time(when, zone)}  {'missed':11}  {'-':>8}  {shown(missed.job)}  {number}: {reason}")


def run_line(run: Run, zone: str) -> str:
    """A run as one line: when, which job, how it went and for how long, why it ran, where, and what it raised."""
    took = "-" if run.duration is None else f"{run.duration:.2f}s"
    trigger = run.trigger if run.attempt == 1 else f"{run.trigger} (attempt {run.attempt})"
    line = f"{clock_time(run.started, zone)}  {run.status:11}  {took:>8}  {shown(run.job)}  {trigger}  {shown(run.instance)}"
    return line if run.error is None else f"{line}  {shown(run.error.type)}: {shown(run.error.message)}"


def log_lines(run: Run, zone: str) -> list[str]:
    """What a run has logged."""
    from fastapi_crons.clock import utc_datetime

    lines = [f"… {run.log_dropped} earlier records did not fit"] if run.log_dropped else []
    for record in run.log:
        when = clock_time(utc_datetime(record.ts), zone)
        lines += f"{when} {record.level} {shown(record.logger)}: {shown_lines(record.message)}".splitlines()
    return lines


def run_json(run: Run) -> dict[str, Any]:
    """A run as the management API shows it."""
    from fastapi_crons.api.models import RunModel

    return RunModel.of(run, details=True).model_dump(mode="json")


def next_ticks(
    what: Annotated[
        list[str], typer.Argument(metavar="NAME_OR_EXPRESSION", help="Jobs, or cron expressions in quotes.")
    ],
    app: App = None,
    zone: Annotated[
        str | None,
        typer.Option("--timezone", "-z", help="Of an expression; a job has its own. Default: CRON_TIMEZONE."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1_000, help="How many ticks.")] = 5,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show when a job, or any cron expression, is due next, and say in words when that is."""
    with json_only(as_json):
        schedules = _schedules(what, zone, app)
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
            say("  never again")


def _schedules(what: list[str], zone: str | None, app: str | None) -> list[tuple[str | None, Schedule]]:
    """What is asked for: the schedules of jobs by name, and expressions, also one that is not in quotes."""
    from fastapi_crons.config import CronConfig
    from fastapi_crons.errors import ScheduleError, UnknownJobError
    from fastapi_crons.schedule import CronSchedule

    default_zone = zone or CronConfig().timezone
    if len(what) in (5, 6):
        try:
            return [(None, CronSchedule(" ".join(what), default_zone))]
        except ScheduleError:
            pass
    found: list[tuple[str | None, Schedule]] = []
    jobs: dict[str, CronJob] | None = None
    for text in what:
        try:
            found.append((None, CronSchedule(text, default_zone)))
            continue
        except ScheduleError:
            if " " in text.strip() or text.startswith("@") or zone is not None:
                raise
        jobs = _jobs(app) if jobs is None else jobs
        if text not in jobs:
            raise UnknownJobError(f"there is no job named {shown(text)!r}, and it is no cron expression either")
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
    """What an expression means, in words; None where there are none for it."""
    from fastapi_crons_cli.description import describe

    return None if _zone_of(schedule) is None else describe(schedule.text)


def why(
    name: JobName,
    time: Annotated[str, typer.Argument(help="ISO 8601; without an offset it is read in the job's zone.")],
    app: App = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Say what became of a job at an instant, and why: it ran, was skipped, paused, missed, or was not due."""
    from fastapi_crons_cli.session import with_stores

    given = _instant(time)

    async def ask(session: Session) -> tuple[datetime, str, TickFate]:
        job = session.crons.get_job(name)
        assert job is not None
        instant = given
        if instant.tzinfo is None:
            from zoneinfo import ZoneInfo

            instant = instant.replace(tzinfo=ZoneInfo(job.schedule_zone or session.zone))
        return instant, session.zone, await session.service.tick(name, instant)

    with json_only(as_json):
        instant, zone, fate = with_stores(ask, app=app, job=name)
    if as_json:
        print_json(
            {
                "job_name": name,
                "time": with_z(instant),
                "fate": fate.fate,
                "text": fate.text,
                "runs": [run_json(run) for run in fate.runs],
                "next": with_z(fate.next),
            }
        )
        return
    say(shown(fate.text))
    if verbose:
        for run in fate.runs:
            say(run_line(run, zone))


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; give one as 2026-03-01T12:00:00, with an offset or Z where it is not in the job's zone"
        ) from None
