"""The command `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastapi_crons_cli.options import FOUND, App, AsJson, SomeJobs, SomeTags, Verbose, Zone, complete_time
from fastapi_crons_cli.output import json_only, print_json, said, warn
from fastapi_crons_cli.times import Time

if TYPE_CHECKING:
    from fastapi_crons.management.plan.deploy import Deploy
    from fastapi_crons.management.plan.plan import Plan
    from fastapi_crons_cli.session import Session

_HOURS, _DEPLOY_HOURS, _MAX_HOURS = 6.0, 24.0, 744.0


def plan(
    app: App = None,
    hours: Annotated[
        float | None,
        typer.Option("--hours", max=_MAX_HOURS, help=f"What is due in so many hours. Default: {_HOURS:g}."),
    ] = None,
    until: Annotated[
        Time | None,
        typer.Option(
            "--until",
            metavar="TIME",
            parser=Time.given,
            help="Instead: what is due up to then, in 31 days.",
            autocompletion=complete_time,
        ),
    ] = None,
    job: SomeJobs = None,
    tag: SomeTags = None,
    zone: Zone = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the lines as CSV.")] = False,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Show what a deploy of this app would do to the jobs that the stores know.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="STORE",
            help="The same with other stores than those of the settings: sqlite:FILE, a file that is there, redis://… or "
            "postgresql://….",
        ),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Show what is due in the next hours, over all jobs, and what stands against it.

    That is: pauses, late ticks and what becomes of them, runs that usually take longer than the interval, more jobs at one
    instant than can run, crowded hours, clock changes. A job that is due very often is one line.

    With --deploy or --against it shows what a deploy of the app would do instead, and writes nothing: jobs that are new, gone,
    changed or perhaps renamed, what would be caught up with, and ticks of the next 24 hours (or --hours) that come or go. It
    exits with 0 where nothing is lost or in doubt, and with 3 where a job goes or was perhaps renamed, where a changed schedule
    loses late ticks, or where more than 10 late runs are caught up with.
    """
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv can't both be printed")
    if hours is not None and until is not None:
        raise typer.BadParameter("give --hours or --until")
    if deploy or against is not None:
        if until is not None or job or tag or as_csv:
            raise typer.BadParameter("a deploy is of all jobs: leave --until, --job, --tag and --csv out")
        _show_deploy(app, against, _DEPLOY_HOURS if hours is None else hours, zone, as_json=as_json)
        return
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


def _show_deploy(app: str | None, store: str | None, hours: float, zone: str | None, *, as_json: bool) -> None:
    from fastapi_crons_cli.commands.plan.deploy import deploy_json, print_deploy
    from fastapi_crons_cli.commands.plan.stores import on_other_stores
    from fastapi_crons_cli.session import load_app, with_stores_of

    async def ask(session: Session) -> tuple[str, Deploy]:
        return zone or session.zone, await session.management.deploy(hours=hours)

    with json_only(as_json):
        found = load_app(app)
        crons = found.crons if store is None else on_other_stores(found.crons, store)
        shown_in, planned = with_stores_of(crons, ask)
    if as_json:
        print_json(deploy_json(planned))
    else:
        print_deploy(planned, shown_in, "the stores of the settings" if store is None else said(store))
    if not planned.is_safe:
        raise typer.Exit(FOUND)
