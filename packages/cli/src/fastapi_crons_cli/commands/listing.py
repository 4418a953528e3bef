"""Commands that show the current state: `list-jobs`, `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastapi_crons_cli.options import App, AsJson, JobStatus, SomeTags, Verbose
from fastapi_crons_cli.output import (
    clock_time,
    duration,
    json_only,
    print_json,
    print_table,
    say,
    shown,
    table,
)

if TYPE_CHECKING:
    from fastapi_crons.management.views import JobFilter, JobView, SchedulerView
    from fastapi_crons_cli.session import Session

#: The statuses that `status` shows even if no job has them.
_ALWAYS_SHOWN = ("running", "completed", "failed")


def list_jobs(
    app: App = None,
    tag: SomeTags = None,
    status: Annotated[
        list[JobStatus] | None, typer.Option("--status", help="Only jobs with this status; may be repeated.")
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show all jobs with their latest run, its status and instance, and the next run."""
    from fastapi_crons_cli.session import check_tags, with_stores

    wanted: list[JobFilter] = [each.value for each in status or []]

    async def ask(session: Session) -> tuple[str, list[JobView]]:
        check_tags(session, tag)
        return session.zone, await session.management.jobs(tags=tag or (), statuses=wanted)

    with json_only(as_json):
        zone, views = with_stores(ask, app=app)
    if as_json:
        print_json([job_json(view) for view in views])
        return
    rows = [
        (
            view.job.name,
            "Never" if view.last_run is None else clock_time(view.last_run, zone),
            _status_of(view),
            view.instance or "-",
            view.job.schedule.text,
            clock_time(view.next_run, zone),
        )
        for view in views
    ]
    columns = ("Job Name", "Last Run", "Status", "Instance", "Schedule", "Next Run")
    note = f"Times in {zone}; a wider window, or --json, shows schedule and next run too"
    print_table(table(columns, rows, f"Times in {zone}"), lambda: table(columns[:4], [row[:4] for row in rows], note))


def _status_of(view: JobView) -> str:
    from fastapi_crons.run import FAILED

    status = f"{view.status}, {view.failures} in a row" if view.failures > 1 and view.status in FAILED else view.status
    if not view.job.enabled:
        return f"{status} (disabled)"
    return status if view.pause is None else f"{status} (paused)"


def job_json(view: JobView) -> dict[str, Any]:
    """A job as in the management API."""
    from fastapi_crons.api.models import JobModel

    return JobModel.of(view, details=True).model_dump(mode="json")


def status(app: App = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show the scheduler as a whole: stores, instances, and the jobs in figures."""
    from fastapi_crons_cli.session import with_stores

    async def ask(session: Session) -> tuple[str | None, float, SchedulerView]:
        return session.crons.config.given_instance_id, session.crons.clock.now(), await session.management.scheduler()

    with json_only(as_json):
        configured, now, view = with_stores(ask, app=app)
    if as_json:
        from fastapi_crons.api.scheduler_models import SchedulerModel

        print_json(SchedulerModel.of(view, details=True).model_dump(mode="json"))
        return

    names = [configured] if configured else [live.instance.id for live in view.instances]
    say("🔧 System Status")
    say(
        f"Instance ID: {', '.join(map(shown, names)) or '- (no instance is running: start the app, or start-scheduler)'}"
    )
    say(f"Backend: {shown(view.state_backend)}")
    say(f"Locking: {shown(view.locking)}")
    say("")
    say("📊 Job Statistics")
    say(f"Total Jobs: {view.jobs}")
    counts = dict.fromkeys(_ALWAYS_SHOWN, 0)
    counts.update({str(name): count for name, count in view.statuses.items()}, paused=view.paused)
    for name, count in counts.items():
        if count or name in _ALWAYS_SHOWN:
            say(f"{shown(name.replace('_', ' ').title())}: {count}")
    if view.instances:
        say("")
        say("Instances")
    for live in view.instances:
        silent = duration(max(0.0, now - live.heartbeat_ts))
        say(
            f"{shown(live.instance.id)}: host {shown(live.instance.host)}, pid {live.instance.pid}, "
            f"heartbeat {silent} ago, running {live.running}{', draining' if live.is_draining else ''}"
        )
