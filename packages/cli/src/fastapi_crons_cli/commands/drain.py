"""`drain`: has instances claim nothing more, and waits for what runs there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fastapi_crons_cli.options import App, AsJson, Verbose
from fastapi_crons_cli.output import clock_time, json_only, print_json, say, shown, warn

if TYPE_CHECKING:
    from fastapi_crons.engine.drain import RunLeft
    from fastapi_crons.management.drains import DrainView
    from fastapi_crons_cli.session import Session

#: The exit code where runs are left.
_LEFT = 3


def drain(
    instance: Annotated[
        str | None,
        typer.Argument(metavar="INSTANCE", help="Its name; else CRON_INSTANCE_ID, else all instances of this host."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until nothing runs there.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, help="With --wait: for so many seconds at most; else without a limit."),
    ] = None,
    app: App = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Have an instance claim nothing more, until its process ends, and show what still runs there. There is no way back.

    Its ticks go to the other instances at once. With --wait, exits with 3 where runs are left.
    """
    from fastapi_crons_cli.session import ToBeDone, with_stores

    if timeout is not None and not wait:
        raise typer.BadParameter("it needs --wait", param_hint="--timeout")

    async def look(session: Session) -> list[DrainView]:
        await session.management.drains.instances(_name(session, instance))
        raise ToBeDone

    async def act(session: Session) -> list[DrainView]:
        drains = session.management.drains
        asked = await drains.instances(_name(session, instance))
        session.progress.begin("waiting for the instances to hear of it")
        views = _as_known_here(session, await drains.until_heard(await drains.ask(asked)))
        if not as_json:
            session.progress.end()
            _say(session, views, asked=len(asked))
        if not any(each.runs_ticks for each in await session.management.instances()):
            warn("note: no other instance runs jobs, so what is due waits until one starts")
        return await _until_done(session, views, timeout, quiet=as_json) if wait else views

    with json_only(as_json):
        views = with_stores(look, app=app, act=act)
    if as_json:
        from fastapi_crons.api.endpoints.drains import DrainModel

        print_json([DrainModel.of(view).model_dump(mode="json") for view in views])
    if wait and any(view.left for view in views):
        raise typer.Exit(_LEFT)


def _name(session: Session, given: str | None) -> str | None:
    return given or session.crons.config.given_instance_id


async def _until_done(
    session: Session, views: list[DrainView], timeout: float | None, *, quiet: bool
) -> list[DrainView]:
    """The same once nothing runs there, or the time is over."""
    from fastapi_crons.management.drains import LOOK_AGAIN

    clock = session.crons.clock
    over = None if timeout is None else clock.monotonic() + timeout
    before = _ids(views)
    while any(view.left for view in views) and (over is None or clock.monotonic() < over):
        await clock.sleep(LOOK_AGAIN if over is None else max(0.0, min(LOOK_AGAIN, over - clock.monotonic())))
        views = await _look(session, views)
        if not quiet and before != _ids(views) and any(view.left for view in views):
            before = _ids(views)
            _say_runs(session, views)
    if not quiet and any(view.left for view in views):
        warn("❌ Runs are left; they go on until their process ends")
    elif not quiet:
        say("✅ Nothing runs there any more")
    return views


async def _look(session: Session, views: list[DrainView]) -> list[DrainView]:
    owners = [view.instance.instance.owner for view in views]
    return _as_known_here(session, await session.management.drains.look(owners))


def _as_known_here(session: Session, views: list[DrainView]) -> list[DrainView]:
    """The same; without an app no time limit is known: the jobs that stand in for its own have none."""
    if session.has_app:
        return views
    return [view._replace(runs=tuple(run._replace(ends=None, limit="unknown") for run in view.runs)) for view in views]


def _ids(views: list[DrainView]) -> set[str]:
    return {run.id for view in views for run in view.runs}


def _say(session: Session, views: list[DrainView], *, asked: int) -> None:
    for view in views:
        say(
            f"Instance '{shown(view.instance.instance.id)}' is draining: it claims nothing more, until its process ends"
        )
    if len(views) < asked:
        say(f"{asked - len(views)} of the instances ended meanwhile")
    _say_runs(session, views)


def _say_runs(session: Session, views: list[DrainView]) -> None:
    for view in views:
        for run in view.runs:
            say(f"Still running: {_line(session, run)}")
        if view.left > len(view.runs):
            say(f"Still running on '{shown(view.instance.instance.id)}': {view.left - len(view.runs)} more")


def _line(session: Session, run: RunLeft) -> str:
    from fastapi_crons.run import short_id

    zone = session.zone
    if run.ends is not None:
        until = f"until {clock_time(run.ends, zone)} at the latest"
    elif run.limit == "unknown":
        until = "until its time limit, which only its app knows"
    else:
        until = "without limit"
    return f"'{shown(run.job)}' (run {shown(short_id(run.id))}) since {clock_time(run.started, zone)}, {until}"
