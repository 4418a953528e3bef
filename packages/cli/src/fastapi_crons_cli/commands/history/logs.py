"""Commands that show what has happened: `logs`, `why`."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from fastapi_crons_cli.options import (
    App,
    AsJson,
    GivenTime,
    JobName,
    RunStatus,
    SomeJobNames,
    SomeJobs,
    SomeRun,
    Verbose,
)
from fastapi_crons_cli.output import clock_time, json_only, print_json, say, shown, shown_lines, warn
from fastapi_crons_cli.ticks import tick_at

if TYPE_CHECKING:
    from fastapi_crons.management.fates.explain import TickFate
    from fastapi_crons.run import LogLine, MissedTicks, Run
    from fastapi_crons.run import RunStatus as Status
    from fastapi_crons_cli.session import Session


def logs(
    name: SomeJobNames = None,
    app: App = None,
    job: SomeJobs = None,
    run: SomeRun = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many runs, the newest.")] = 20,
    status: Annotated[
        list[RunStatus] | None, typer.Option("--status", help="Only runs with this status; may be repeated.")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Keep printing what happens, and what the runs of named jobs log, until Ctrl-C. With --run: until it ends; "
            "the exit code is 0 where it completed, else 1.",
        ),
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show the history of runs, newest last; with --verbose what they logged and their tracebacks, too."""
    from fastapi_crons_cli.session import check_name, with_stores

    jobs = [*(name or ()), *(job or ())]
    statuses: list[Status] = [each.value for each in status or []]
    if run is not None and statuses:
        raise typer.BadParameter("--run shows one run; leave --status out")

    async def show(session: Session) -> list[Run]:
        from fastapi_crons_cli.commands.history.following import follow as follow_all
        from fastapi_crons_cli.commands.history.following import follow_run

        for each_name in jobs:
            check_name(session.crons, each_name)
        printer = RunPrinter(session, out if as_json else None, verbose=verbose or run is not None)
        if run is not None:
            found = session.management.run(jobs[0], run) if len(jobs) == 1 else session.management.find_run(run)
            runs = [await found]
            if follow:
                ended = await follow_run(session, printer, runs[0])
                return [] if ended is None else [ended]
        elif follow:
            await follow_all(session, printer, jobs, limit, statuses, lines=bool(jobs) and not statuses)
            return []
        else:
            runs = (await session.management.runs(*jobs, limit=limit, statuses=statuses))[::-1]
            if verbose:
                runs = [await session.management.run(each.job, each.id) for each in runs]
        session.progress.end()
        if not as_json:
            for each in runs:
                await printer.print(each)
        return runs

    with json_only(as_json) as out:
        runs = with_stores(show, app=app)
    if follow:
        raise typer.Exit(0 if run is None or (runs and runs[0].status == "completed") else 1)
    if as_json:
        print_json([run_json(each) for each in runs])
    elif not runs:
        warn("no runs are on record")


class RunPrinter:
    """Prints runs and missed ticks, line by line; as JSON to `json_out`, where that is given."""

    def __init__(self, session: Session, json_out: TextIO | None, *, verbose: bool) -> None:
        self._session = session
        self._json_out = json_out
        self._verbose = verbose
        #: The run of the lines that were printed last.
        self._run_id: str | None = None

    async def print(self, record: Run | MissedTicks) -> None:
        from fastapi_crons.run import Run

        if not isinstance(record, Run):
            self._print_missed(record)
            return
        run = record
        if self._verbose and run.status != "running" and not run.log:
            run = await self._session.management.run(run.job, run.id)
        self._print_run(run)
        if self._json_out is None and self._verbose:
            for line in log_lines(run, self._session.zone):
                say(f"    {line}")
            self._print_traceback(run)

    def print_head(self, run: Run) -> None:
        """Print a run as running: its lines follow."""
        self._run_id = run.id
        self._print_run(replace(run, status="running", ended_ts=None, error=None, result_json=None, log=()))

    def print_line(self, run: Run, number: int, line: LogLine) -> None:
        """Print what a run has logged, below its head."""
        if self._json_out is not None:
            from fastapi_crons.api.endpoints.run_log import LoggedModel
            from fastapi_crons.engine.log_feed import Logged

            shown_line = LoggedModel.of(Logged(number, line)).model_dump(mode="json")
            self._print_json({"run_id": run.id, "job_name": run.job, **shown_line})
            return
        self._go_on_with(run)
        for text in _line_texts(line, self._session.zone):
            say(f"    {text}")

    def print_lost(self, run: Run, number: int) -> None:
        """Print that a run has logged more than is there."""
        if self._json_out is not None:
            self._print_json({"run_id": run.id, "job_name": run.job, "dropped": number})
            return
        self._go_on_with(run)
        say(f"    … {number} records did not fit")

    def print_end(self, run: Run) -> None:
        """Print a run as it has ended, below its lines."""
        self._run_id = None
        self._print_run(replace(run, log=()))
        if self._json_out is None and self._verbose:
            self._print_traceback(run)

    def _go_on_with(self, run: Run) -> None:
        if self._run_id != run.id:
            self.print_head(run)

    def _print_run(self, run: Run) -> None:
        if self._json_out is not None:
            self._print_json(run_json(run))
        else:
            say(run_line(run, self._session.zone))

    def _print_traceback(self, run: Run) -> None:
        if run.error is not None and run.error.traceback:
            for line in shown_lines(run.error.traceback).splitlines():
                say(f"    {line}")

    def _print_json(self, value: dict[str, Any]) -> None:
        print(json.dumps(value), file=self._json_out, flush=True)

    def _print_missed(self, missed: MissedTicks) -> None:
        if self._json_out is not None:
            from fastapi_crons.api.models import MissedModel

            own_zone = self._session.management.zone_of(missed.job)
            self._print_json(MissedModel.of(missed, own_zone, details=True).model_dump(mode="json"))
            return
        when, zone = missed.last, self._session.zone
        number = f"{'at least ' if missed.more else ''}{missed.count} {'tick' if missed.count == 1 else 'ticks'}"
        reason = shown(missed.reason.replace("_", " "))
        say(f"{clock_time(when, zone)}  {'missed':11}  {'-':>8}  {shown(missed.job)}  {number}: {reason}")


def run_line(run: Run, zone: str) -> str:
    """A run as one line: start, status, duration, job, trigger, instance, id and error."""
    from fastapi_crons.run import SHORTEST_WAIT, short_id

    took = "-" if run.duration is None else f"{run.duration:.2f}s"
    trigger = shown(run.trigger) + (f" (attempt {run.attempt})" if run.attempt > 1 else "")
    if run.beside is not None:
        trigger += f" (overlaps with run {shown(run.beside)})"
    if run.waited >= SHORTEST_WAIT:
        trigger += f" (waited {run.waited:.2f}s to begin)"
    if run.arguments_json is not None:
        trigger += f" with {shown(run.arguments_json)}"
    line = (
        f"{clock_time(run.started, zone)}  {shown(run.status):11}  {took:>8}  {shown(run.job)}  {trigger}  "
        f"{shown(run.instance)}  run {shown(short_id(run.id))}"
    )
    return line if run.error is None else f"{line}  {shown(run.error.type)}: {shown(run.error.message)}"


def log_lines(run: Run, zone: str) -> list[str]:
    """What a run has logged."""
    lines = [f"… {run.log_dropped} earlier records did not fit"] if run.log_dropped else []
    return lines + [text for line in run.log for text in _line_texts(line, zone)]


def _line_texts(line: LogLine, zone: str) -> list[str]:
    from fastapi_crons.clock import utc_datetime

    when = clock_time(utc_datetime(line.ts), zone)
    first, *others = shown_lines(line.message).splitlines() or [""]
    # So that no message looks like a record of its own.
    return [f"{when} {shown(line.level)} {shown(line.logger)}: {first}", *(f"    | {other}" for other in others)]


def run_json(run: Run) -> dict[str, Any]:
    """A run as the management API shows it."""
    from fastapi_crons.api.models import RunModel

    return RunModel.of(run, details=True, whole=True).model_dump(mode="json")


def why(
    name: JobName,
    time: GivenTime,
    app: App = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Explain what happened to a job at an instant: it ran, was skipped, paused, missed, or was not due."""
    from fastapi_crons_cli.session import with_stores

    async def ask(session: Session) -> tuple[datetime, str, str, TickFate]:
        job = session.crons.get_job(name)
        assert job is not None
        instant = tick_at(time, job.schedule_zone or session.zone, session.crons.clock.now())
        fate = await session.management.explain_tick(name, instant)
        return instant, session.zone, session.management.zone_of(name), fate

    with json_only(as_json):
        instant, zone, own_zone, fate = with_stores(ask, app=app, job=name)
    if as_json:
        from fastapi_crons.api.models import TickModel

        print_json(TickModel.of(name, own_zone, instant, fate, details=True).model_dump(mode="json"))
        return
    say(shown(fate.text))
    if verbose:
        for run in fate.runs:
            say(run_line(run, zone))
