"""`backfill`: runs the ticks of a span again that did not run."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from fastapi_crons_cli.commands.history import run_json, run_line
from fastapi_crons_cli.options import App, AsJson, JobName, Note, Verbose, complete_time
from fastapi_crons_cli.output import json_only, print_json, say, shown, warn
from fastapi_crons_cli.ticks import tick_at
from fastapi_crons_cli.times import FORMS, Time

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi_crons.engine.backfills import Backfill, BackfillPlan, Span
    from fastapi_crons.run import Run
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

    if as_json:
        model = BackfillModel.planned(span, plan, details=True)
        print_json(model.model_dump(mode="json", by_alias=True))
        return
    say(_words(plan))
    at: Callable[[int], str] = _in_zone(span.job.schedule_zone or "UTC")
    for tick, others in plan.to_run:
        say(
            at(tick)
            if others is None
            else f"{at(tick)}, which stands for {others.number} more since {at(others.first)}"
        )


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
    return "" if run.tick_ts is None else _in_zone(zone)(run.tick_ts)


def _in_zone(zone: str) -> Callable[[int], str]:
    from zoneinfo import ZoneInfo

    from fastapi_crons.clock import utc_datetime

    return lambda tick: utc_datetime(tick).astimezone(ZoneInfo(zone)).isoformat()
