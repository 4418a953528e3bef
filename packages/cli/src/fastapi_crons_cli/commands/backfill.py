"""`backfill`: runs the ticks of a span again that did not run; `backfills`: shows what became of that, on any instance."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from fastapi_crons_cli.commands.history.logs import run_json, run_line
from fastapi_crons_cli.options import App, AsJson, JobName, Note, Verbose, Zone, complete_time
from fastapi_crons_cli.output import clock_time, json_only, print_json, say, shown, warn
from fastapi_crons_cli.ticks import tick_at
from fastapi_crons_cli.times import FORMS, Time

if TYPE_CHECKING:
    from fastapi_crons.engine.backfills import Backfill, BackfillPlan, Span
    from fastapi_crons.run import Run
    from fastapi_crons.state import BackfillRecord
    from fastapi_crons_cli.session import Session

_ARGUMENT = f"{FORMS}; in the job's zone. A tick at this time is included."


def backfill(
    name: JobName,
    first: Annotated[
        Time, typer.Argument(metavar="FROM", parser=Time.given, help=_ARGUMENT, autocompletion=complete_time)
    ],
    last: Annotated[
        Time,
        typer.Argument(
            metavar="TO", parser=Time.given, help="As FROM; it is included, too.", autocompletion=complete_time
        ),
    ],
    app: App = None,
    one_by_one: Annotated[
        bool, typer.Option("--one-by-one", help="Run each tick; otherwise as the job's late ticks are run.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Run those ticks, too, that ran already.")] = False,
    stop_on_failure: Annotated[
        bool, typer.Option("--stop-on-failure", help="Leave the rest when a run fails.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    note: Note = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run the ticks of a span again that did not run, or failed: here, one after another. Ctrl-C cancels.

    Given once more, it goes on where it stopped. Exits with 1 where a run did not complete.
    """
    from fastapi_crons_cli.session import actor, in_app, with_stores

    def span_of(session: Session) -> Span:
        from fastapi_crons.engine.backfills import Span

        job, now = session.management.definition(name), session.crons.clock.now()
        ends = [tick_at(time, job.schedule_zone or session.zone, now) for time in (first, last)]
        start, end = (int(moment.timestamp()) for moment in ends)
        return Span(job, start, end, one_by_one, force, stop_on_failure, actor(), note)

    async def look(session: Session) -> tuple[Span, BackfillPlan]:
        span = span_of(session)
        return span, await session.management.backfills.plan(span)

    async def act(session: Session) -> Backfill:
        return await _make_up(session, span_of(session), out if as_json else None)

    if dry_run:
        with json_only(as_json):
            span, plan = with_stores(look, app=app, job=name)
        _print_plan(span, plan, as_json=as_json)
        return
    with json_only(as_json) as out:
        ended = in_app(act, app=app, job=name)
    if ended.status != "completed" or ended.failed:
        raise typer.Exit(1)


def backfills(
    name: JobName,
    app: App = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel the one that is going on, with the run that is under way.")
    ] = False,
    zone: Zone = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show the backfills of a job, newest last, whichever instance works on them, or cancel the one that is going on."""
    from fastapi_crons_cli.session import ToBeDone, actor, with_stores

    async def ask(session: Session) -> tuple[str, list[BackfillRecord]]:
        return zone or session.zone, await session.management.backfills.of_job(name)

    async def open_one(session: Session) -> BackfillRecord:
        from fastapi_crons.errors import RunEndedError

        for each in await session.management.backfills.of_job(name):
            if each.status == "running":
                return each
        raise RunEndedError(f"no backfill of job {name!r} is going on")

    async def look(session: Session) -> tuple[str, list[BackfillRecord]]:
        await open_one(session)
        raise ToBeDone

    async def act(session: Session) -> tuple[str, list[BackfillRecord]]:
        found = await open_one(session)
        asked = await session.management.backfills.cancel(name, found.id, actor=actor())
        return zone or session.zone, [asked]

    with json_only(as_json):
        if cancel:
            shown_in, found = with_stores(look, app=app, job=name, act=act)
        else:
            shown_in, found = with_stores(ask, app=app, job=name)
    if as_json:
        from fastapi_crons.api.endpoints.backfills import BackfillModel

        print_json([BackfillModel.of(each, details=True).model_dump(mode="json", by_alias=True) for each in found])
        return
    for each in reversed(found):
        say(_line(each, shown_in))
        if cancel and each.status == "running":
            say(f"Cancelling it: instance '{shown(each.instance)}' ends it within seconds")
    if not found:
        warn(f"no backfill of '{shown(name)}' is on record")


def _line(found: BackfillRecord, zone: str) -> str:
    from fastapi_crons.clock import utc_datetime

    began, first, last = (clock_time(utc_datetime(each), zone) for each in (found.started_ts, found.first, found.last))
    line = (
        f"{began}  {found.status:11}  {found.done} of {found.runs} completed, {found.failed} failed  {first} to {last}  "
        f"{shown(found.instance)}  backfill {shown(found.id)}"
    )
    return line if found.error is None else f"{line}  {shown(found.error)}"


async def _make_up(session: Session, span: Span, json_out: TextIO | None) -> Backfill:
    number = 0

    def show(run: Run) -> None:
        nonlocal number
        number += 1
        if json_out is not None:
            print(json.dumps(run_json(run)), file=json_out, flush=True)
        else:
            session.progress.end()
            say(f"{number} of {found.total}  {_tick(run, session.zone)}  {run_line(run, session.zone)}")

    plan = await session.management.backfills.plan(span)
    if json_out is None:
        session.progress.end()
        say(_words(plan))
    found = await session.management.backfills.start(span, show)
    try:
        if found.task is not None:
            await asyncio.shield(found.task)
    except asyncio.CancelledError:
        if found.status == "running":
            await session.management.backfills.cancel(span.job.name, found.id, actor=span.actor)
        if found.task is not None:
            await asyncio.gather(found.task, return_exceptions=True)
        warn(_ending(found))
        raise
    if json_out is None:
        say(_ending(found))
    if found.error is not None:
        warn(f"Error: {shown(found.error)}")
    return found


def _print_plan(span: Span, plan: BackfillPlan, *, as_json: bool) -> None:
    from fastapi_crons.api.endpoints.backfills import BackfillModel
    from fastapi_crons.clock import local_time

    if as_json:
        model = BackfillModel.planned(span, plan, details=True)
        print_json(model.model_dump(mode="json", by_alias=True))
        return
    say(_words(plan))
    zone = span.job.schedule_zone
    for tick, others in plan.to_run:
        more = (
            "" if others is None else f", which stands for {others.number} more since {local_time(others.first, zone)}"
        )
        say(f"{local_time(tick, zone)}{more}")


def _words(plan: BackfillPlan) -> str:
    """What is done about the ticks of a span."""
    from fastapi_crons._util.text import counted

    parts = [counted(plan.ticks, "tick"), counted(len(plan.to_run), "run")]
    told = (
        (plan.ran, "ran already"),
        (plan.stood_for, "that a late run stands for: --one-by-one runs them"),
        (plan.running, "on record as running"),
        (plan.waiting, "left to the scheduler, which has yet to handle them"),
        (plan.in_doubt, "may have run: old history was deleted, and --force runs them"),
        (plan.beyond, "older than the late ticks that are run: --one-by-one runs them"),
    )
    return ", ".join(parts + [f"{number} {what}" for number, what in told if number])


def _ending(found: Backfill) -> str:
    mark = "✅" if found.status == "completed" and not found.failed else "❌"
    skipped = f", {found.skipped} run by others meanwhile" if found.skipped else ""
    left = f", {found.left} left: give the same command to go on" if found.left else ""
    name = shown(found.span.job.name)
    return f"{mark} Backfill of '{name}' {found.status}: {found.done} completed, {found.failed} failed{skipped}{left}"


def _tick(run: Run, zone: str) -> str:
    from fastapi_crons.clock import local_time

    return "" if run.tick_ts is None else local_time(run.tick_ts, zone)
