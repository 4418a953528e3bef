"""Commands about runs, over all jobs: `runs`, `runs show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastapi_crons_cli.commands.history.logs import log_lines, run_json, run_line
from fastapi_crons_cli.options import (
    FOUND,
    App,
    AsJson,
    Before,
    ExitCode,
    RunId,
    RunsSince,
    RunStatus,
    RunsUntil,
    SomeJobs,
    SomeTags,
    Verbose,
    Zone,
)
from fastapi_crons_cli.output import clock_time, json_only, print_json, say, shown, shown_lines, warn
from fastapi_crons_cli.times import seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi_crons.run import Run
    from fastapi_crons_cli.session import Session

app = typer.Typer()


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    app: App = None,
    failed: Annotated[
        bool,
        typer.Option("--failed", help="Only runs that failed, exceeded their time limit, or were interrupted."),
    ] = False,
    status: Annotated[
        list[RunStatus] | None, typer.Option("--status", help="Only runs with this status; may be repeated.")
    ] = None,
    since: RunsSince = None,
    until: RunsUntil = None,
    job: SomeJobs = None,
    tag: SomeTags = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many runs, the newest.")] = 50,
    before: Before = None,
    zone: Zone = None,
    as_json: AsJson = False,
    exit_code: ExitCode = False,
    verbose: Verbose = False,
) -> None:
    """Show the runs of all jobs, newest last; with JSON as GET /runs does, newest first. `runs show ID` shows one of them.

    With --since and --until those that were under way in between; those that began more than a day before --since are left out.
    """
    if context.invoked_subcommand is not None:
        return
    from fastapi_crons.run import FAILED
    from fastapi_crons.state.base import RunQuery
    from fastapi_crons_cli.session import check_names, with_stores

    statuses = [*(each.value for each in status or ()), *(FAILED if failed else ())]

    async def ask(session: Session) -> tuple[str, list[Run]]:
        jobs = check_names(session, job, tag)
        shown_in, now = zone or session.zone, session.crons.clock.now()
        oldest = None if before is None else (await session.management.find_run(before)).id
        begin, end = seconds_of(since, shown_in, now), seconds_of(until, shown_in, now)
        query = RunQuery(jobs, statuses, until=end, before=oldest, limit=limit + 1, under_way_since=begin)
        return shown_in, await session.management.find_runs(query)

    with json_only(as_json):
        shown_in, found = with_stores(ask, app=app)
    if as_json:
        from fastapi_crons.api.models import RunPage

        print_json(RunPage.of(found, limit, details=True).model_dump(mode="json"))
    else:
        _print_page(found, limit, shown_in)
    if found and exit_code:
        raise typer.Exit(FOUND)


def _print_page(found: list[Run], limit: int, zone: str) -> None:
    from fastapi_crons.run import short_id

    page = found[:limit]
    for run in page[::-1]:
        say(run_line(run, zone))
    if not page:
        warn("no such runs are on record")
        return
    number = f"{len(page)} {'run' if len(page) == 1 else 'runs'}, times in {zone}"
    older = f"; those before: --before {shown(short_id(page[-1].id))}" if len(found) > limit else ""
    say(f"{number}{older}; one with its log: fastapi-crons runs show {shown(short_id(page[0].id))}")


@app.command("show")
def show_run(run: RunId, app: App = None, zone: Zone = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show one run of any job with all that is on record of it: error, traceback and log among it."""
    from fastapi_crons_cli.session import with_stores

    async def ask(session: Session) -> tuple[str, Run]:
        return zone or session.zone, await session.management.find_run(run)

    with json_only(as_json):
        shown_in, found = with_stores(ask, app=app)
    if as_json:
        print_json(run_json(found))
        return
    say(f"Run {shown(found.id)} of job {shown(found.job)}, times in {shown_in}")
    for name, value in _facts(found, shown_in):
        say(f"{name + ':':13}{value}")
    if found.error is not None and found.error.traceback:
        say(shown_lines(found.error.traceback))
    say("Log:" if found.log else "It logged nothing.")
    for line in log_lines(found, shown_in):
        say(f"  {line}")


def _facts(run: Run, zone: str) -> Iterator[tuple[str, str]]:
    """What is on record of a run, each with its name."""
    from fastapi_crons.clock import in_local_time, utc_datetime
    from fastapi_crons.run import INTERRUPTED, SHORTEST_WAIT

    yield "Status", shown(run.status.replace("_", " "))
    yield "Tick", clock_time(run.tick, zone)
    yield "Started by", shown(run.trigger.replace("_", " ")) + (f", for {shown(run.actor)}" if run.actor else "")
    if run.note:
        yield "Note", shown(run.note)
    yield "Started", clock_time(run.started, zone)
    yield "Ended", clock_time(run.ended, zone)
    if run.duration is not None:
        yield "Duration", f"{run.duration:.2f} s"
    yield "Instance", shown(run.instance)
    if run.attempt > 1:
        yield "Attempt", str(run.attempt)
    if run.delay:
        yield "Late", shown(in_local_time(run.delay, zone))
    if run.waited >= SHORTEST_WAIT:
        yield "Waited", f"{run.waited:.2f} s for a free thread or process"
    if run.missed_ticks and run.missed_since_ts is not None:
        since = clock_time(utc_datetime(run.missed_since_ts), zone)
        yield "Stands for", f"{run.missed_ticks} earlier {'tick' if run.missed_ticks == 1 else 'ticks'}, since {since}"
    if run.beside is not None:
        yield "Overlaps", f"with run {shown(run.beside)}"
    if run.arguments_json is not None:
        yield "Arguments", shown(run.arguments_json)
    if run.result_json is not None:
        yield "Result", shown(run.result_json)
    if run.error is not None:
        of_ours = run.error.type == INTERRUPTED
        message = in_local_time(run.error.message, zone) if of_ours else run.error.message
        yield "Error", f"{shown(run.error.type)}: {shown(message)}"
