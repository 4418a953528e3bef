"""The endpoints of the management API."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Response
from fastapi.params import Depends as DependsParameter
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from fastapi_crons._util.text import one_line
from fastapi_crons.api.doors.entry import Entry
from fastapi_crons.api.doors.routers import GuardedRouters
from fastapi_crons.api.endpoints import backfills, drains, history, planning, run_log, stats, ticks
from fastapi_crons.api.endpoints.parts import Asking, Before, Endpoints, Instant, Limit, Name, RunId, SomeTags
from fastapi_crons.api.guard import Asked
from fastapi_crons.api.models import (
    CancelAnswer,
    JobModel,
    MissedModel,
    PauseRequest,
    ResumeRequest,
    RunAnswer,
    RunModel,
    RunPage,
    RunRequest,
    TickModel,
)
from fastapi_crons.api.problems import problems
from fastapi_crons.api.scheduler_models import HealthModel, SchedulerModel
from fastapi_crons.engine.events import Published
from fastapi_crons.job import ManualRun
from fastapi_crons.management.views import JobFilter
from fastapi_crons.plugins.calls import HookCall
from fastapi_crons.run import Run, RunStatus
from fastapi_crons.schedule._zones import FIRST, LAST
from fastapi_crons.scheduler.crons import Crons
from fastapi_crons.state.base import Record

logger = logging.getLogger(__name__)

Time = Annotated[
    Instant,
    Path(description="ISO 8601 with offset; fractions of a second are dropped", examples=["2026-03-01T12:00:00Z"]),
]
_CHANGES = problems(409, 415)


_endpoint = Endpoints()


@_endpoint("GET", "/crons")
async def list_jobs(
    asked: Asking,
    tag: SomeTags = None,
    status: Annotated[
        list[JobFilter] | None, Query(max_length=100, description="Only jobs with any of these statuses")
    ] = None,
) -> list[JobModel]:
    """All jobs with their latest state, in the order they were registered."""
    return [
        JobModel.of(view, details=asked.details)
        for view in await asked.management.jobs(tags=tag or (), statuses=status or ())
    ]


@_endpoint("GET", "/crons/{job_name}")
async def one_job(asked: Asking, job_name: Name) -> JobModel:
    """One job with its latest state."""
    return JobModel.of(await asked.management.job(job_name), details=asked.details)


@_endpoint("GET", "/crons/{job_name}/runs")
async def job_runs(
    asked: Asking,
    job_name: Name,
    limit: Limit = 50,
    before: Before = None,
    status: Annotated[
        list[RunStatus] | None, Query(max_length=100, description="Only runs with any of these statuses")
    ] = None,
) -> RunPage:
    """A job's runs, newest first."""
    runs = await asked.management.runs(job_name, limit=limit + 1, before=before, statuses=status or ())
    return RunPage.of(runs, limit, details=asked.details)


@_endpoint("GET", "/crons/{job_name}/runs/{run_id}")
async def one_run(asked: Asking, job_name: Name, run_id: RunId) -> RunModel:
    """One run of a job, with its log."""
    return RunModel.of(await asked.management.run(job_name, run_id), details=asked.details, whole=True)


_RUN_ANSWERS: dict[int | str, dict[str, Any]] = {
    **_CHANGES,
    202: {"model": RunAnswer, "description": "The job is running"},
    500: {"model": RunAnswer, "description": "The run failed"},
}


@_endpoint("POST", "/crons/{job_name}/run", response_model_exclude_none=True, responses=_RUN_ANSWERS)
async def run_job(asked: Asking, response: Response, job_name: Name, body: RunRequest | None = None) -> RunAnswer:
    """Run a job now and wait for its end. A client that disconnects does not cancel the run.

    Without `wait`, or when the scheduler stops in the meantime, the answer is 202 with the id of the run.
    """
    return await _run(asked, response, job_name, body or RunRequest())


async def _run(asked: Asked, response: Response, name: str, wanted: RunRequest, tick: int | None = None) -> RunAnswer:
    job = asked.management.definition(name)
    manual_run = ManualRun(job, wanted.force, wanted.timeout, asked.actor, wanted.note, "api", wanted.kwargs, tick)
    run = await asked.management.run_job(manual_run, wait=wanted.wait)
    # Without `wait`, the answer is 202 even if the run has ended by now.
    response.status_code = {"completed": 200, "running": 202}.get(run.status, 500) if wanted.wait else 202
    return RunAnswer.of(run, datetime.now(timezone.utc).replace(microsecond=0))


@_endpoint("POST", "/crons/{job_name}/runs/{run_id}/cancel", status_code=202, responses=_CHANGES)
async def cancel_run(asked: Asking, job_name: Name, run_id: RunId) -> CancelAnswer:
    """Cancel a run, on whatever instance it is running. Its record says how it ended."""
    cancelled = await asked.management.cancel_run(job_name, run_id, actor=asked.actor)
    return CancelAnswer.of(job_name, cancelled)


@_endpoint("POST", "/crons/{job_name}/pause", responses=_CHANGES)
async def pause(asked: Asking, job_name: Name, body: PauseRequest | None = None) -> JobModel:
    """Run no tick of a job, on any instance and over restarts, until it is resumed. Current runs are left alone."""
    note = None if body is None else body.note
    return JobModel.of(await asked.management.pause(job_name, actor=asked.actor, note=note), details=asked.details)


@_endpoint("POST", "/crons/{job_name}/resume", responses=_CHANGES)
async def resume(asked: Asking, job_name: Name, body: ResumeRequest | None = None) -> JobModel:
    """Resume a job with its next tick; without effect on one that is not paused."""
    await asked.management.resume(job_name, catch_up=body is not None and body.catch_up)
    return JobModel.of(await asked.management.job(job_name), details=asked.details)


@_endpoint("GET", "/crons/{job_name}/ticks/{time}")
async def one_tick(asked: Asking, job_name: Name, time: Time) -> TickModel:
    """What happened to a job at an instant, and why: it ran, was skipped, paused, missed, not due, and so on."""
    time = _possible_tick(time)
    fate = await asked.management.explain_tick(job_name, time, details=asked.details)
    return TickModel.of(job_name, asked.management.zone_of(job_name), time, fate, details=asked.details)


def _possible_tick(time: datetime) -> datetime:
    time = time.replace(microsecond=0)
    if not FIRST <= time.timestamp() <= LAST:
        raise HTTPException(404, f"{time.isoformat()} can't be a tick: it is too close to the year 1 or 9999")
    return time


@_endpoint("POST", "/crons/{job_name}/ticks/{time}/run", response_model_exclude_none=True, responses=_RUN_ANSWERS)
async def run_tick(
    asked: Asking, response: Response, job_name: Name, time: Time, body: RunRequest | None = None
) -> RunAnswer:
    """Run a tick of the past that did not run, or failed, once more; otherwise as any run by hand.

    The run has this tick as its own. 409 for a tick that ran already or has yet to be run, which `force` overrides, and for an
    instant that is no tick of the job or lies ahead.
    """
    tick = int(_possible_tick(time).timestamp())
    return await _run(asked, response, job_name, body or RunRequest(), tick)


@_endpoint("GET", "/scheduler")
async def scheduler(asked: Asking) -> SchedulerModel:
    """The answering scheduler, the instances that share its jobs, and the jobs in figures."""
    return SchedulerModel.of(await asked.management.scheduler(), details=asked.details)


@_endpoint(
    "GET", "/scheduler/health", responses={503: {"model": HealthModel, "description": "It does not do its work"}}
)
async def health(asked: Asking, response: Response) -> HealthModel:
    """Whether the scheduler does its work: 200, or 503 where it does not. Asks no store."""
    found = asked.management.health()
    response.status_code = 503 if found.status == "unhealthy" else 200
    return HealthModel.of(found, details=asked.details)


async def _listening(
    asked: Asking, job: Annotated[list[str] | None, Query(description="Only these jobs", max_length=100)] = None
) -> AsyncIterator[AsyncIterator[Published]]:
    # A dependency, because the endpoint can refuse nothing once its answer has begun, and because this ends with the request.
    if not asked.details:
        raise HTTPException(
            403, "only clients that may change things can listen to events; set CRON_API_TOKEN, and send it"
        )
    with asked.management.subscribe(job) as records:
        yield records


def _event(record: Record, zone_of: Callable[[str], str]) -> ServerSentEvent:
    """A record as an event; all clients get the same."""
    if isinstance(record, Run):
        return _event_of("run", record.id, RunModel.of(record, details=True))
    return _event_of("missed", record.id, MissedModel.of(record, zone_of(record.job), details=True))


def _event_of(kind: str, record_id: str, shown: BaseModel) -> ServerSentEvent:
    return ServerSentEvent(raw_data=shown.model_dump_json(), event=kind, id=record_id)


@_endpoint(
    "GET",
    "/scheduler/events",
    response_class=EventSourceResponse,
    responses={200: {"description": "`run` with a run as it starts or ends, `missed` with missed ticks"}},
)
async def events(
    asked: Asking,
    records: Annotated[AsyncIterator[Published], Depends(_listening)],
) -> AsyncGenerator[ServerSentEvent, None]:
    """Runs as they start and end, without logs, and missed ticks, of all instances that share the state store.

    Only for clients that may see results.
    """
    yield ServerSentEvent(comment="listening")
    show = partial(_event, zone_of=asked.management.zone_of)
    async for published in records:
        yield published.shown_by(show)


def get_cron_router(
    crons: Crons | None = None,
    *,
    dependencies: Sequence[DependsParameter] | None = None,
    change_dependencies: Sequence[DependsParameter] | None = None,
) -> APIRouter:
    """The management endpoints, to include in an app under any prefix.

    `crons` defaults to the scheduler of the app that serves the request, else of the process. `dependencies` guard every
    endpoint; without them and without `CRON_API_TOKEN`, changes are accepted from local clients only. `change_dependencies`
    guard, on top of that, whatever may change something: all but GET, HEAD and OPTIONS, and websockets. They are called
    before the body is read, after `dependencies`, which are called once more for them.

    Raises `ConfigurationError` where `crons` is not a `Crons`, or where there are `change_dependencies` and a dependency reads
    the body.
    """
    guarded = GuardedRouters(crons, dependencies, change_dependencies)
    router = guarded.make(entry=Entry())
    for endpoints in (
        _endpoint,
        history.endpoint,
        backfills.endpoint,
        drains.endpoint,
        planning.endpoint,
        run_log.endpoint,
        stats.endpoint,
        ticks.endpoint,
    ):
        endpoints.add_to(router, guarded.changes.shown)
    for call in (crons or Crons()).plugins.calls["routes"]:
        _add_routes(router, call, crons, guarded)
    return router


def _add_routes(router: APIRouter, call: HookCall, crons: Crons | None, guarded: GuardedRouters) -> None:
    """Call the hook of a plugin with a router of its own, and add that router's routes."""

    def refuse(what: str) -> None:
        logger.error(
            "plugin %r adds %s to the management router, which can't be guarded, so it is left out",
            call.plugin_name,
            what,
        )

    offered = guarded.make()
    try:
        call.invoke(router=offered, crons=crons)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        logger.error("%s failed: %s", call.shown, one_line(error))
    guarded.add(offered, router, refuse)
