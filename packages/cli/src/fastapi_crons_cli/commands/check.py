"""The command `check`: whether the app, its jobs, its settings and its stores are sound."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

import typer

from fastapi_crons._util.text import counted
from fastapi_crons_cli.options import App, AsJson, Verbose
from fastapi_crons_cli.output import clock_time, json_only, print_json, said, say, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi_crons.scheduler import Crons
    from fastapi_crons_cli.apps import FoundApp

_MARKS = {"ok": "✓", "warning": "!", "failed": "✗"}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was checked."""

    name: str
    outcome: Literal["ok", "warning", "failed"]
    text: str


def check(app: App = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Check that the app can be imported, its jobs and settings are valid, and its stores can be reached.

    A fault (✗) ends it with exit code 1; a warning (!) does not.
    """
    with json_only(as_json):
        steps = []
        for step in _steps(app):
            steps.append(step)
            if not as_json:
                say(f"{_MARKS[step.outcome]} {shown(step.name)}: {shown(step.text)}")
    sound = all(step.outcome != "failed" for step in steps)
    if as_json:
        listed = [{"name": step.name, "outcome": step.outcome, "text": step.text} for step in steps]
        print_json({"ok": sound, "steps": listed})
    if not sound:
        raise typer.Exit(1)


def _steps(app: str | None) -> Iterator[Step]:
    from fastapi_crons.errors import CronsError
    from fastapi_crons_cli.session import load_app

    try:
        found = load_app(app)
    except CronsError as error:
        yield Step("app", "failed", said(error))
        return
    crons = found.crons
    yield Step("app", "ok" if len(crons.jobs) else "warning", f"{found.name}, {counted(len(crons.jobs), 'job')}")
    yield from _scheduler_steps(found)
    yield from _job_steps(crons)
    yield from _settings_steps(crons)
    strangers = sorted(crons.jobs_missing_for_hooks())
    if strangers:
        unknown = ", ".join(map(repr, strangers))
        yield Step(
            "hooks", "failed", f"added for jobs that do not exist: {unknown}; check job_name, or register the job"
        )
        return  # a scheduler with these does not start, so the stores are not opened
    yield from _store_steps(crons)


def _scheduler_steps(found: FoundApp) -> Iterator[Step]:
    """Schedulers whose jobs will not run, as far as that can be seen."""
    from fastapi_crons.scheduler import Crons

    crons = found.crons
    if not len(crons.jobs):
        yield Step("scheduler", "warning", "it has no jobs: import the modules that define them where the app is made")
    if found.app is not None and Crons.of_app(found.app) is not crons:
        yield Step(
            "scheduler",
            "warning",
            f"{found.name} does not hold the one made at {crons.made_at[0]}, whose jobs run only where a lifespan starts it: "
            "attach it with Crons(app)",
        )
    elif crons.app is None:
        yield Step(
            "scheduler",
            "warning",
            f"no app holds the one made at {crons.made_at[0]}: its jobs run under start-scheduler, or where code starts it; "
            "attach it with Crons(app)",
        )
    for other in Crons.unattached():
        if other is not crons:
            jobs = counted(len(other.jobs), "job")
            text = f"another one, made at {other.made_at[0]}, holds {jobs} and is attached to nothing"
            yield Step("scheduler", "warning", text)


def _job_steps(crons: Crons) -> Iterator[Step]:
    from fastapi_crons._util.text import one_line
    from fastapi_crons.schedule.base import ZonedSchedule
    from fastapi_crons.schedule.english import hardly_meant

    now = datetime.now(timezone.utc)
    for job in crons.jobs:
        name, rule = f"job {job.name}", f"{job.schedule.text} ({job.schedule_zone or 'no zone'})"
        try:
            tick = job.schedule.next_after(now)
        except Exception as error:  # a foreign schedule
            yield Step(name, "failed", f"{rule}: its schedule failed with {one_line(error)}")
            continue
        ours = job.schedule if isinstance(job.schedule, ZonedSchedule) else None
        if not job.enabled:
            yield Step(name, "warning", f"{rule} is disabled in code")
        elif tick is None and (ours is None or ours.is_clocked):
            yield Step(name, "warning", f"{rule} is never due again")
        else:
            zone = job.schedule_zone or crons.config.timezone
            when = "when that is, is not known from the clock" if tick is None else f"next at {clock_time(tick, zone)}"
            words = "" if ours is None else f": {ours.words}"
            yield Step(name, "ok", f"{rule}, {when}{words}")
            for expression in () if ours is None else ours.expressions:
                for doubt in hardly_meant(expression):
                    yield Step(name, "warning", doubt)


def _settings_steps(crons: Crons) -> Iterator[Step]:
    from fastapi_crons.errors import CronsError
    from fastapi_crons.scheduler.variables import former_variables, unread_variables
    from fastapi_crons_cli.configuration.all_settings import describe_settings

    try:
        brought = crons.plugins.list()
        yield Step("plugins", "ok", ", ".join(sorted(plugin.name for plugin in brought)) or "none")
        settings = describe_settings(crons.plugins, crons.config)
    except CronsError as error:
        yield Step("settings", "failed", said(error))
        return
    given = [setting.variable for setting in settings if setting.source != "default"]
    yield Step("settings", "ok", f"set: {', '.join(given)}" if given else "all as by default")
    advice = crons.config.token_advice()
    if advice is not None:
        yield Step("settings", "warning", advice)
    former = former_variables()
    if former:
        yield Step("settings", "warning", f"variables of fastapi-crons 2.x are set, and not read: {', '.join(former)}")
    for unread in unread_variables(crons.plugins):
        yield Step("settings", "warning", unread)


def _store_steps(crons: Crons) -> Iterator[Step]:
    from fastapi_crons.errors import CronsError
    from fastapi_crons_cli.session import run

    try:
        yield from run(_ask_stores(crons))
    except CronsError as error:
        yield Step("stores", "failed", said(error))


async def _ask_stores(crons: Crons) -> list[Step]:
    """Open both stores to read, and query each."""
    from fastapi_crons.management.management import Management
    from fastapi_crons_cli.output import Progress

    with Progress() as progress:
        progress.begin("asking the stores")
        await crons.start("observer")
        try:
            management = Management(crons)
            view = await management.scheduler()
            damaged, obstacles = management.damaged(), management.obstacles()
        finally:
            await crons.stop()
    if obstacles:
        return [Step("stores", "failed", obstacle) for obstacle in obstacles]
    return [
        Step("state store", "ok", view.state_backend),
        Step("lock store", "ok", f"{view.lock_backend}, {counted(len(view.instances), 'live instance')}"),
        *(Step("on record", "warning", f"damaged, and ignored: {what}") for what in damaged),
    ]
