"""Commands that show what has happened: `logs`, `why`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from fastapi_crons_cli.options import App, AsJson, GivenTime, JobName, RunStatus, SomeJobs, SomeRun, Verbose
from fastapi_crons_cli.output import clock_time, json_only, print_json, say, shown, shown_lines, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi_crons.management.explain import TickFate
    from fastapi_crons.run import MissedTicks, Run
    from fastapi_crons.run import RunStatus as Status
    from fastapi_crons_cli.session import Session


def logs(
    app: App = None,
    job: SomeJobs = None,
    run: SomeRun = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many runs, the newest.")] = 20,
    status: Annotated[
        list[RunStatus] | None, typer.Option("--status", help="Only runs with this status; may be repeated.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing what happens, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show the history of runs, newest last; with --verbose what they logged and their tracebacks, too."""
    from fastapi_crons_cli.session import check_name, with_stores

    jobs = job or []
    statuses: list[Status] = [each.value for each in status or []]
    if run is not None and (follow or statuses):
        raise typer.BadParameter("--run shows one run; leave --follow and --status out")

    async def show(session: Session) -> list[Run]:
        for name in jobs:
            check_name(session.crons, name)
        printer = _RunPrinter(session, out if as_json else None, verbose=verbose or run is not None)
        if not follow:
            if run is not None:
                found = session.management.run(jobs[0], run) if len(jobs) == 1 else session.management.find_run(run)
                runs = [await found]
            else:
                runs = (await session.management.runs(*jobs, limit=limit, statuses=statuses))[::-1]
            if verbose and run is None:
                runs = [await session.management.run(each.job, each.id) for each in runs]
            session.progress.end()
            if not as_json:
                for each in runs:
                    await printer.print(each)
            return runs
        await _follow(session, printer, jobs, limit, statuses)
        return []

    with json_only(as_json) as out:
        runs = with_stores(show, app=app)
    if follow:
        return
    if as_json:
        print_json([run_json(each) for each in runs])
    elif not runs:
        warn("no runs are on record")


async def _follow(
    session: Session, printer: _RunPrinter, jobs: Sequence[str], limit: int, statuses: Sequence[Status]
) -> None:
    """Print the newest runs, and then what happens. Ends with Ctrl-C, or with the events."""
    import asyncio
    from contextlib import aclosing

    async with aclosing(session.management.events(jobs or None)) as events:
        # Subscribe before reading the history, so that nothing is missed in between.
        coming = asyncio.ensure_future(anext(events, None))
        try:
            await asyncio.sleep(0)
            runs = await session.management.runs(*jobs, limit=limit, statuses=statuses)
            session.progress.end()
            printed = {(run.id, run.status) for run in runs}
            for run in runs[::-1]:
                await printer.print(run)
            while (record := await coming) is not None:
                coming = asyncio.ensure_future(anext(events, None))
                kind = getattr(record, "status", None)
                if (not statuses or kind in statuses) and (record.id, kind) not in printed:
                    await printer.print(record)
        except asyncio.CancelledError:
            pass  # the usual end
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


class _RunPrinter:
    """Prints runs and missed ticks, line by line; as JSON to `json_out`, where that is given."""

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
            run = await self._session.management.run(run.job, run.id)
        if self._json_out is not None:
            print(json.dumps(run_json(run)), file=self._json_out, flush=True)
            return
        say(run_line(run, self._session.zone))
        if self._verbose:
            for line in log_lines(run, self._session.zone):
                say(f"    {line}")
            if run.error is not None and run.error.traceback:
                for line in shown_lines(run.error.traceback).splitlines():
                    say(f"    {line}")

    def _print_missed(self, missed: MissedTicks) -> None:
        if self._json_out is not None:
            from fastapi_crons.api.models import MissedModel

            print(
                json.dumps(MissedModel.of(missed, details=True).model_dump(mode="json")),
                file=self._json_out,
                flush=True,
            )
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
    from fastapi_crons.clock import utc_datetime

    lines = [f"… {run.log_dropped} earlier records did not fit"] if run.log_dropped else []
    for record in run.log:
        when = clock_time(utc_datetime(record.ts), zone)
        first, *others = shown_lines(record.message).splitlines() or [""]
        lines.append(f"{when} {shown(record.level)} {shown(record.logger)}: {first}")
        # So that no message looks like a record of its own.
        lines += [f"    | {line}" for line in others]
    return lines


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

    async def ask(session: Session) -> tuple[datetime, str, TickFate]:
        job = session.crons.get_job(name)
        assert job is not None
        instant = time.instant(job.schedule_zone or session.zone, session.crons.clock.now())
        return instant, session.zone, await session.management.explain_tick(name, instant)

    with json_only(as_json):
        instant, zone, fate = with_stores(ask, app=app, job=name)
    if as_json:
        from fastapi_crons.api.models import TickModel

        print_json(TickModel.of(name, instant, fate, details=True).model_dump(mode="json"))
        return
    say(shown(fate.text))
    if verbose:
        for run in fate.runs:
            say(run_line(run, zone))
