"""The plan: what is due in the next hours, over all jobs, and what stands against it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse

from fastapi_crons.api import PlanModel
from fastapi_crons.clock import utc_datetime
from fastapi_crons.management import MAX_HOURS, Limited, Patience, Plan, PlannedJob
from fastapi_crons_dashboard.pages.table import has_text
from fastapi_crons_dashboard.serving.page import Pages, Showing, Shown
from fastapi_crons_dashboard.svg.hours import histogram
from fastapi_crons_dashboard.words.times import duration, iso
from fastapi_crons_dashboard.words.times import zone as in_zone

#: How many jobs are on a page.
PER_PAGE = 50
_HOURS = (1, 6, 24, 72, 168)
_WANTED: dict[Limited, tuple[str, str]] = {
    "runs": ("run at a time", "CRON_MAX_CONCURRENT_RUNS"),
    "threads": ("run in threads at a time", "CRON_MAX_THREADS"),
    "processes": ("run in processes at a time", "CRON_MAX_PROCESSES"),
}
_COLUMNS = ("job", "first", "last", "ticks", "more", "often", "timezone", "standing", "p50", "p95", "notes")
#: Spreadsheets take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Wanted:
    """Which part of the plan is wanted: a dependency that all its forms share."""

    def __init__(
        self,
        hours: Annotated[float, Query(gt=0, le=MAX_HOURS)] = 24,
        tag: Annotated[str, Query(max_length=1000)] = "",
        q: Annotated[str, Query(max_length=200)] = "",
    ) -> None:
        self.hours, self.tag, self.q = hours, tag, q

    async def plan(self, shown: Shown, *, durations: bool = True) -> Plan:
        """The plan of all jobs, or of those with the tag. One query for each kind of record."""
        tags = (self.tag,) if self.tag else ()
        return await shown.management.plan(hours=self.hours, tags=tags, durations=durations)

    def jobs(self, plan: Plan) -> list[PlannedJob]:
        """Those with the text in their name or tags."""
        return [planned for planned in plan.jobs if has_text(planned.job, self.q)]


Wanting = Annotated[Wanted, Depends()]


def add_to(pages: Pages) -> None:
    @pages.get("/plan", "plan")
    async def plan(shown: Showing, wanted: Wanting, page: Annotated[int, Query(ge=1, le=100_000)] = 1) -> HTMLResponse:
        management = shown.management
        found = await wanted.plan(shown, durations=False)
        jobs = wanted.jobs(found)
        rows = jobs[(page - 1) * PER_PAGE : page * PER_PAGE]
        # How long jobs take is only asked of those on the page.
        names = {planned.job.name for planned in rows}
        of_rows = await management.plan(hours=wanted.hours, jobs=names) if names else found
        whole = {planned.job.name: planned for planned in of_rows.jobs}
        return shown.page(
            "plan.html",
            live=True,
            plan=found,
            wanted=wanted,
            planned=[whole.get(planned.job.name, planned) for planned in rows],
            has_durations=of_rows.has_durations,
            number=len(jobs),
            page=page,
            pages=max(1, -(-len(jobs) // PER_PAGE)),
            swallowed=[each for each in jobs if each.standing == "paused" and each.ticks.number],
            limits=_WANTED,
            spans=[(hours, duration(hours * 3_600)) for hours in sorted({*_HOURS, wanted.hours})],
            hours=histogram(found, in_zone(management.crons.config.timezone)),
            zone=management.crons.config.timezone,
        )

    @pages.get("/plan.json", "plan_json", response_class=JSONResponse, response_model=PlanModel)
    async def plan_json(shown: Showing, wanted: Wanting) -> PlanModel:
        found = await wanted.plan(shown)
        return PlanModel.of(_only(found, wanted), details=shown.asked.details)

    @pages.get("/plan.csv", "plan_csv", response_class=Response)
    async def plan_csv(shown: Showing, wanted: Wanting) -> Response:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(_COLUMNS)
        patience = Patience()
        for planned in wanted.jobs(await wanted.plan(shown)):
            await patience.give_turn()
            writer.writerow(_row(planned, details=shown.asked.details))
        headers = {"Content-Disposition": 'attachment; filename="plan.csv"'}
        return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _only(plan: Plan, wanted: Wanted) -> Plan:
    return replace(plan, jobs=tuple(wanted.jobs(plan)))


def _row(planned: PlannedJob, *, details: bool) -> tuple[object, ...]:
    ticks = planned.ticks
    return (
        _cell(planned.job.name),
        "" if ticks.first is None else iso(utc_datetime(ticks.first)),
        "" if ticks.last is None else iso(utc_datetime(ticks.last)),
        ticks.number,
        str(ticks.more).lower(),
        _cell("" if planned.often == "-" else planned.often),
        planned.job.schedule_zone,
        planned.standing,
        "" if planned.p50 is None else f"{planned.p50:.3f}",
        "" if planned.p95 is None else f"{planned.p95:.3f}",
        _cell("; ".join(planned.notes(details=details))),
    )


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
