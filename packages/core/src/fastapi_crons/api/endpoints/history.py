"""Endpoints about what has happened, over all jobs: runs, and ticks that were not run."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Query

from fastapi_crons.api.endpoints.missed_models import MissedPage
from fastapi_crons.api.endpoints.parts import (
    Asking,
    Before,
    Endpoints,
    Limit,
    RunId,
    RunsSince,
    RunsUntil,
    Since,
    SomeJobs,
    SomeTags,
    Until,
)
from fastapi_crons.api.models import RunModel, RunPage
from fastapi_crons.management.unhandled import UnhandledTicks
from fastapi_crons.run import RunStatus
from fastapi_crons.state.base import MissedQuery, RunQuery

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
    since: RunsSince = None,
    until: RunsUntil = None,
    job: SomeJobs = None,
    tag: SomeTags = None,
    before: Before = None,
    limit: Limit = 50,
) -> RunPage:
    """The runs of all jobs, newest first; with `since` and `until` those that were under way in between.

    Those that began more than a day before `since` are left out.
    """
    jobs = asked.management.names_of(job or (), tag or ())
    query = RunQuery(
        jobs, status or (), until=_seconds(until), before=before, limit=limit + 1, under_way_since=_seconds(since)
    )
    return RunPage.of(await asked.management.find_runs(query), limit, details=asked.details)


@endpoint("GET", "/runs/{run_id}")
async def one_run(asked: Asking, run_id: RunId) -> RunModel:
    """One run of any job, with its traceback and log."""
    return RunModel.of(await asked.management.find_run(run_id), details=asked.details, whole=True)


@endpoint("GET", "/missed")
async def missed(
    asked: Asking,
    since: Since = None,
    until: Until = None,
    job: SomeJobs = None,
    tag: SomeTags = None,
    before: Before = None,
    limit: Limit = 50,
    only_open: Annotated[
        bool, Query(alias="open", description="Only records with ticks that are still to be made up for; see `made_up`")
    ] = False,
) -> MissedPage:
    """Which ticks of all jobs were not run, and why: those on record as missed, and those that no instance has handled.

    Late ticks that the run of a later one stands for are among them, with the reason `coalesced`.
    """
    jobs = asked.management.names_of(job or (), tag or ())
    query = MissedQuery(jobs, _seconds(since), _seconds(until), before, limit + 1)
    records = await asked.management.find_missed(query, only_open=only_open)
    unhandled: tuple[list[UnhandledTicks], int] = ([], 0)
    if before is None:
        limited = query._replace(limit=limit)
        unhandled = await asked.management.unhandled(limited, details=asked.details, only_open=only_open)
    return MissedPage.of(records, unhandled, limit, asked.management.zone_of, details=asked.details)


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()
