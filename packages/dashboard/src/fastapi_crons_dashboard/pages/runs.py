"""Runs of all jobs, and ticks that did not run."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Annotated, Literal, get_args

from fastapi import Depends, Query
from fastapi.responses import HTMLResponse

from fastapi_crons.api import Before
from fastapi_crons.run import FAILED, RunStatus
from fastapi_crons.state import MissedQuery, RunQuery
from fastapi_crons_dashboard.pages.table import has_text
from fastapi_crons_dashboard.serving.page import Pages, Showing
from fastapi_crons_dashboard.words.fates import FATES

#: How many runs, and how many records of missed ticks, are on a page.
RUNS, MISSED = 50, 20
#: Spans in hours, in words.
_SPANS = ((1, "an hour ago"), (24, "yesterday, this time"), (168, "a week ago"), (720, "30 days ago"))
Status = Literal["", "failed", "raised", "timed_out", "interrupted", "running", "completed", "cancelled"]
"""Which runs; `failed` stands for all ways in which a run does not succeed, and the empty one for all runs."""
_STATUSES: dict[Status, str] = {
    "": "any",
    "failed": "did not succeed",
    "raised": "failed by an error",
    **{status: FATES[status].word for status in get_args(RunStatus) if status != "failed"},
}


class Wanted:
    """Which runs are wanted: where it is not said, those that failed, or else all."""

    def __init__(
        self,
        status: Status | Literal["any"] | None = None,
        hours: Annotated[int, Query(ge=1, le=8_784)] = 24,
        q: Annotated[str, Query(max_length=1000)] = "",
        tag: Annotated[str, Query(max_length=1000)] = "",
        before: Before = None,
        missed_before: Before = None,
    ) -> None:
        self.status: Status = "failed" if status is None else "" if status == "any" else status
        self.q = q
        self.is_open = status is None and before is None
        self.hours, self.tag = hours, tag
        self.before, self.missed_before = before, missed_before

    def runs(self, jobs: Collection[str] | None, status: Status, since: float) -> RunQuery:
        return RunQuery(jobs, _statuses(status), before=self.before, limit=RUNS + 1, under_way_since=since)


def _statuses(status: Status) -> tuple[RunStatus, ...]:
    if status == "failed":
        return FAILED
    return ("failed",) if status == "raised" else (status,) if status else ()


def add_to(pages: Pages) -> None:
    @pages.get("/runs", "runs")
    async def runs(shown: Showing, wanted: Annotated[Wanted, Depends()]) -> HTMLResponse:
        asked = shown.management
        jobs = None  # also those that the app has no more
        if wanted.q.strip() or wanted.tag:
            tagged = asked.crons.get_jobs([wanted.tag] if wanted.tag else None)
            jobs = [job.name for job in tagged if has_text(job, wanted.q)]
        since = shown.now.timestamp() - wanted.hours * 3_600
        status = wanted.status
        found, missed = await asyncio.gather(
            asked.find_runs(wanted.runs(jobs, status, since)),
            asked.find_missed(MissedQuery(jobs, since, before=wanted.missed_before, limit=MISSED + 1)),
        )
        nothing_failed = wanted.is_open and not found
        if nothing_failed:
            status, found = "", await asked.find_runs(wanted.runs(jobs, "", since))
        return shown.page(
            "runs.html",
            live=True,
            wanted=wanted,
            of_status=status,
            nothing_failed=nothing_failed,
            spans=_SPANS if wanted.hours in dict(_SPANS) else (*_SPANS, (wanted.hours, f"{wanted.hours:,} hours ago")),
            jobs=len(asked.crons.get_jobs()),
            statuses=_STATUSES.items(),
            runs=found[:RUNS],
            older=found[RUNS - 1].id if len(found) > RUNS else None,
            missed=missed[:MISSED],
            missed_older=missed[MISSED - 1].ticks.id if len(missed) > MISSED else None,
        )
