"""Commands that act: `run-job`, `pause`, `resume`, `cancel`, `start-scheduler`."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from fastapi_crons_cli.commands.history.logs import log_lines, run_json
from fastapi_crons_cli.options import App, AsJson, JobName, Note, Verbose, complete_run, complete_time
from fastapi_crons_cli.output import Progress, clock_time, json_only, print_json, say, shown, shown_lines, warn
from fastapi_crons_cli.ticks import tick_at
from fastapi_crons_cli.times import FORMS, Time

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi_crons.management.views import JobView
    from fastapi_crons.run import Run
    from fastapi_crons_cli.session import Session

_WORDS = {
    "failed": "failed in",
    "timed_out": "timed out after",
    "cancelled": "was cancelled after",
    "interrupted": "was interrupted after",
}


def run_job(
    name: JobName,
    app: App = None,
    force: Annotated[bool, typer.Option("--force", help="Force execution even if job is locked.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.001, help="Set execution timeout in seconds; else the job's own.")
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Argument of this run, in place of the job's own. Repeatable."
        ),
    ] = None,
    note: Note = None,
    tick: Annotated[
        Time | None,
        typer.Option(
            "--tick",
            metavar="TIME",
            parser=Time.given,
            help=f"Run this tick again, which failed or was missed: {FORMS}; without an offset in the job's zone.",
            autocompletion=complete_time,
        ),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run a job now, here, inside the app's lifespan, and wait for its end. Ctrl-C cancels the run."""
    from fastapi_crons_cli.session import in_app

    given = _named(arguments or [])

    async def run(session: Session) -> Run:
        def say_started() -> None:
            _say_if_read(f"🚀 Running job '{shown(name)}' manually...", wanted=not as_json)

        try:
            ended = await _run(session, name, given, say_started, force=force, timeout=timeout, note=note, tick=tick)
        except asyncio.CancelledError:
            warn(
                f"❌ Cancelled job '{shown(name)}'; see how it ended with: fastapi-crons logs --job {shown(quote(name))}"
            )
            raise
        # Before the app's lifespan ends, which may fail.
        session.progress.end()
        if as_json:
            print(json.dumps(run_json(ended), indent=2), file=out, flush=True)
        else:
            _print_end(ended, session.zone, verbose=verbose)
        session.progress.begin(f"the thread of job {shown(name)!r} is still running; Ctrl-C leaves it behind")
        await session.management.wait_for_thread(ended.id)
        return ended

    with json_only(as_json) as out:
        ended = in_app(run, app=app, job=name)
    if ended.status != "completed":
        raise typer.Exit(1)


def _say_if_read(text: str, *, wanted: bool) -> None:
    """Print a line, if the output is still read."""
    if wanted:
        with suppress(BrokenPipeError):
            say(text)


def _named(arguments: list[str]) -> dict[str, str]:
    """The texts `NAME=VALUE`, by name."""
    pairs = [argument.partition("=") for argument in arguments]
    for name, equals, value in pairs:
        if not name or not equals:
            raise typer.BadParameter(f"write {name + value!r} as NAME=VALUE", param_hint="--set")
    return {name: value for name, _, value in pairs}


async def _run(
    session: Session,
    name: str,
    given: dict[str, str],
    on_start: Callable[[], None],
    *,
    force: bool,
    timeout: float | None,
    note: str | None,
    tick: Time | None,
) -> Run:
    from fastapi_crons.errors import JobLockedError, TickRefusedError
    from fastapi_crons.job import ManualRun
    from fastapi_crons_cli.session import actor

    job = session.management.definition(name)
    again = (
        None
        if tick is None
        else int(tick_at(tick, job.schedule_zone or session.zone, session.crons.clock.now()).timestamp())
    )
    wanted = ManualRun(job, force, timeout, actor(), note, "cli", given, again, texts=True)
    session.progress.begin(f"job {shown(name)!r} is running")
    try:
        return await session.management.run_job(wanted, owned=True, on_start=on_start)
    except (JobLockedError, TickRefusedError) as error:
        raise type(error)(str(error).replace("force=True", "--force")) from error


def _print_end(run: Run, zone: str, *, verbose: bool) -> None:
    from fastapi_crons.run import short_id

    if verbose:
        say(f"Run {shown(run.id)} on instance {shown(run.instance)}")
        for line in log_lines(run, zone):
            say(line)
    if run.beside is not None:
        warn(f"It was forced, and overlapped with run {shown(run.beside)}")
    took = f"{run.duration or 0.0:.2f}s"
    if run.status == "completed":
        if verbose and run.result_json is not None:
            say(f"Result: {shown(run.result_json)}")
        say(f"📊 Job '{shown(run.job)}' completed successfully in {took}")
        say("✅ Manual execution completed")
        return
    if run.status == "running":
        warn(
            f"❌ Job '{shown(run.job)}' does not end although it was cancelled, and was left running "
            f"(run {shown(short_id(run.id))})"
        )
        return
    text = (
        f"❌ Job '{shown(run.job)}' {_WORDS.get(run.status, shown(run.status))} {took} (run {shown(short_id(run.id))})"
    )
    if run.error is None:
        warn(text)
        return
    warn(f"{text}: {shown(run.error.type)}: {shown(run.error.message)}")
    if verbose and run.error.traceback:
        warn(shown_lines(run.error.traceback))


def pause(name: JobName, app: App = None, note: Note = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Run no tick of a job, on any instance, until it is resumed. Current runs are left alone."""
    from fastapi_crons_cli.session import ToBeDone, actor, with_stores

    async def look(session: Session) -> JobView:
        raise ToBeDone

    async def ask(session: Session) -> JobView:
        return await session.management.pause(name, actor=actor(), note=note or None)

    with json_only(as_json):
        view = with_stores(look, app=app, job=name, act=ask)
    said = f"Paused '{shown(name)}' on all instances. Resume it with: fastapi-crons resume {shown(quote(name))}"
    _print_job(view, said, as_json=as_json)


def resume(
    name: JobName,
    app: App = None,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="Treat the ticks of the pause as late ticks; else they are missed.")
    ] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Resume a paused job with its next tick."""
    from fastapi_crons_cli.session import ToBeDone, with_stores

    not_paused = f"Job '{shown(name)}' is not paused"

    async def look(session: Session) -> tuple[JobView, str]:
        view = await session.management.job(name)
        if view.pause is None:
            return view, not_paused
        raise ToBeDone

    async def ask(session: Session) -> tuple[JobView, str]:
        resumed = await session.management.resume(name, catch_up=catch_up)
        view = await session.management.job(name)
        return view, f"Resumed '{shown(name)}'; {_what_follows(view, session.zone)}" if resumed else not_paused

    # This process records the missed ticks of the pause, and calls the hooks for them.
    with json_only(as_json):
        view, said = with_stores(look, app=app, job=name, act=ask, hooks=("tick_missed",))
    _print_job(view, said, as_json=as_json)


def _what_follows(view: JobView, zone: str) -> str:
    from fastapi_crons.management.made_ticks import next_in_words

    if view.next_run is not None:
        return f"next run at {clock_time(view.next_run, zone)} {zone}"
    follows = next_in_words(view.job.schedule)
    if view.job.enabled and follows is not None:
        return follows
    return f"no run follows: {'its schedule has no more ticks' if view.job.enabled else 'it is disabled in code'}"


def _print_job(view: JobView, said: str, *, as_json: bool) -> None:
    if as_json:
        from fastapi_crons.api.models import JobModel

        print_json(JobModel.of(view, details=True).model_dump(mode="json"))
    else:
        say(said)


def cancel(
    name: JobName,
    run_id: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="Its id, or the end of it; else all that are running.", autocompletion=complete_run
        ),
    ] = None,
    app: App = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Cancel a run of a job, on whatever instance it is running, or all its runs."""
    from fastapi_crons.errors import RunEndedError
    from fastapi_crons_cli.session import ToBeDone, actor, with_stores

    async def running(session: Session) -> list[str]:
        if run_id is not None:
            return [(await session.management.run(name, run_id)).id]
        found = [run.id for run in await session.management.runs(name, statuses=["running"])]
        if not found:
            raise RunEndedError(f"job {name!r} is not running")
        return found

    async def look(session: Session) -> list[str]:
        await running(session)
        raise ToBeDone

    async def ask(session: Session) -> list[str]:
        found = await running(session)
        for running_id in found:
            await session.management.cancel_run(name, running_id, actor=actor())
        return found

    with json_only(as_json):
        found = with_stores(look, app=app, job=name, act=ask)
    if as_json:
        from fastapi_crons.api.models import CancelAnswer

        print_json([CancelAnswer.of(name, cancelled).model_dump(mode="json") for cancelled in found])
        return
    for cancelled in found:
        say(f"Cancelling run {shown(cancelled)} of '{shown(name)}': its instance ends it within seconds")


def start_scheduler(
    app: App = None,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Show jobs and runs live, on a terminal.")] = True,
    verbose: Verbose = False,
) -> None:
    """Start the app's scheduler in this process, inside the app's lifespan, without a web server, until SIGTERM or Ctrl-C."""
    from fastapi_crons_cli.apps import find_app
    from fastapi_crons_cli.commands.standalone import serve

    with Progress() as progress:
        progress.begin("importing the app")
        found = find_app(app)
    serve(found, live=live and sys.stdout.isatty() and sys.stderr.isatty())
