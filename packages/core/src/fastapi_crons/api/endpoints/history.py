"""Endpoints about what has happened, over all jobs: runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from fastapi_crons.api.endpoints.parts import (
    Asking,
    Before,
    Endpoints,
    Limit,
    RunId,
    Since,
    SomeJobs,
    SomeTags,
    Until,
)
from fastapi_crons.api.models import RunModel, RunPage
from fastapi_crons.run import RunStatus
from fastapi_crons.state.base import RunQuery

endpoint = Endpoints()


@endpoint("GET", "/runs")
async def runs(
    asked: Asking,
    status: Annotated[
        list[RunStatus] | None,
        Query(
            max_length=100,
            description="Only runs with any of these statuses; what failed is `failed`, `timed_out` and `interrupted`",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    job: SomeJobs = None,
    tag: SomeTags = None,
    before: Before = None,
    limit: Limit = 50,
) -> RunPage:
    """The runs of all jobs, newest first; `since` and `until` are about when they were claimed."""
    jobs = asked.management.names_of(job or (), tag or ())
    first, last = (None if time is None else time.timestamp() for time in (since, until))
    query = RunQuery(jobs, status or (), first, last, before, limit + 1)
    return RunPage.of(await asked.management.find_runs(query), limit, details=asked.details)


@endpoint("GET", "/runs/{run_id}")
async def one_run(asked: Asking, run_id: RunId) -> RunModel:
    """One run of any job, with its traceback and log."""
    return RunModel.of(await asked.management.find_run(run_id), details=asked.details, whole=True)
