"""A job: its definition, what is due, how it went, and its history."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple, get_args

from fastapi import Query
from fastapi.responses import HTMLResponse

from fastapi_crons.api import Before
from fastapi_crons.clock import utc_datetime
from fastapi_crons.locking import KnownJob, LiveInstance
from fastapi_crons.management import Plan, effects_of_changes, ticks_after
from fastapi_crons.run import RunStatus
from fastapi_crons.state import MissedQuery, RunQuery
from fastapi_crons_dashboard.serving.page import Pages, Showing, Shown
from fastapi_crons_dashboard.svg.days import chart
from fastapi_crons_dashboard.svg.strip import PLACES, strip_places, strip_tick
from fastapi_crons_dashboard.words.arguments import arguments_of
from fastapi_crons_dashboard.words.definition import TICKS, end_of_plan, options_of, with_remarks
from fastapi_crons_dashboard.words.fates import FATES
from fastapi_crons_dashboard.words.times import zone

#: How many runs, and how many records of missed ticks, are on a page.
RUNS, MISSED = 25, 20
#: For how many days one can ask for figures.
_DAYS = (7, 30, 90)
_STATUSES = (("", "any"), *((status, FATES[status].word) for status in get_args(RunStatus)))


class Registrars(NamedTuple):
    """The instances that registered the definition in force."""

    running: tuple[str, ...]
    stopped: int
    """How many of them have stopped."""


def add_to(pages: Pages) -> None:
    @pages.get("/jobs/{job_name}", "job")
    async def job(
        shown: Showing,
        job_name: str,
        days: Annotated[int, Query(ge=1, le=366)] = 30,
        status: RunStatus | Literal[""] = "",
        before: Before = None,
        missed_before: Before = None,
    ) -> HTMLResponse:
        asked = shown.management
        view = await asked.job(job_name)
        statuses, ticks = (status,) if status else (), ticks_after(view.job, shown.now, most=TICKS)
        known, instances, fates, plan, stats = await asyncio.gather(
            asked.known_jobs([job_name]),
            asked.instances(),
            asked.fates([job_name], last=PLACES),
            asked.plan(until=end_of_plan(ticks, shown.now), jobs=[job_name]),
            asked.stats([job_name], days=days),
        )
        runs, missed = await asyncio.gather(
            asked.find_runs(RunQuery((job_name,), statuses, before=before, limit=RUNS + 1)),
            asked.find_missed(MissedQuery((job_name,), before=missed_before, limit=MISSED + 1)),
        )
        if not ticks and plan.jobs:
            ticks = [utc_datetime(tick) for tick in plan.jobs[0].ticks.single]
        return shown.page(
            "job.html",
            live=True,
            view=view,
            words=view.schedule_in_words,
            zone=zone(view.job.schedule_zone),
            arguments=() if shown.why_read_only else arguments_of(view.job),
            typed={},
            options=options_of(view.job, details=shown.asked.details),
            known=known[0] if known else None,
            registrars=_registrars(known[0], instances) if known else None,
            ticks=with_remarks(view.job, ticks, shown.now),
            remarks=[
                *(effects_of_changes(view.job, shown.now, ticks[-1]) if ticks else ()),
                *_notes(plan, shown),
            ],
            places=strip_places([strip_tick(mark) for mark in fates[job_name]], len(fates[job_name])),
            whole=stats[0].whole,
            chart=chart(stats[0].days),
            days=days,
            all_days=_DAYS,
            runs=runs[:RUNS],
            older=runs[RUNS - 1].id if len(runs) > RUNS else None,
            of_status=status,
            statuses=_STATUSES,
            before=before,
            missed=missed[:MISSED],
            missed_older=missed[MISSED - 1].ticks.id if len(missed) > MISSED else None,
        )


def _registrars(known: KnownJob, instances: Collection[LiveInstance]) -> Registrars:
    names = {each.instance.owner: each.instance.id for each in instances}
    running = sorted(names[owner] for owner in known.registrars if owner in names)
    return Registrars(tuple(running), len(known.registrars) - len(running))


def _notes(plan: Plan, shown: Shown) -> list[str]:
    """What else stands against its ticks; its pause has its own place, and so have clock changes."""
    if not plan.jobs:
        return []
    planned = replace(plan.jobs[0], pause=None, changes=(), standing="runs")
    return planned.notes(details=shown.asked.details)
