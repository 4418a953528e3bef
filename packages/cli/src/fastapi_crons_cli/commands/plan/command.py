"""The command `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastapi_crons_cli.options import App, AsJson, SomeJobs, SomeTags, Verbose, Zone
from fastapi_crons_cli.output import json_only, print_json, warn
from fastapi_crons_cli.times import Time

if TYPE_CHECKING:
    from fastapi_crons.management.plan.plan import Plan
    from fastapi_crons_cli.session import Session

_HOURS, _MAX_HOURS = 6.0, 744.0


def plan(
    app: App = None,
    hours: Annotated[
        float | None,
        typer.Option("--hours", max=_MAX_HOURS, help=f"What is due in so many hours. Default: {_HOURS:g}."),
    ] = None,
    until: Annotated[
        Time | None,
        typer.Option("--until", metavar="TIME", parser=Time.given, help="Instead: what is due up to then, in 31 days."),
    ] = None,
    job: SomeJobs = None,
    tag: SomeTags = None,
    zone: Zone = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the lines as CSV.")] = False,
    verbose: Verbose = False,
) -> None:
    """Show what is due in the next hours, over all jobs, and what stands against it.

    That is: pauses, late ticks and what becomes of them, runs that usually take longer than the interval, more jobs at one
    instant than can run, crowded hours, clock changes. A job that is due very often is one line.
    """
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv can't both be printed")
    if hours is not None and until is not None:
        raise typer.BadParameter("give --hours or --until")
    from fastapi_crons_cli.session import check_names, with_stores

    async def ask(session: Session) -> tuple[str, bool, Plan]:
        check_names(session, job, tag)
        shown_in = zone or session.zone
        end = None if until is None else until.instant(shown_in, session.crons.clock.now())
        asked = session.management.plan(
            hours=_HOURS if hours is None else hours, until=end, jobs=job or (), tags=tag or ()
        )
        return shown_in, session.has_app, await asked

    with json_only(as_json or as_csv):
        shown_in, has_app, found = with_stores(ask, app=app)
    if not has_app:
        warn("note: no app was found here, so the options of jobs (coalesce, overlap, …) are taken to be the defaults")
    if as_json:
        from fastapi_crons.api.endpoints.plan_models import PlanModel

        print_json(PlanModel.of(found, details=True).model_dump(mode="json"))
        return
    from fastapi_crons_cli.commands.plan.lines import print_csv, print_lines

    (print_csv if as_csv else print_lines)(found, shown_in)
