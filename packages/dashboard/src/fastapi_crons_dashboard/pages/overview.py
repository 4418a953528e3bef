"""The overview: health, figures, and all jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import Query
from fastapi.responses import HTMLResponse

from fastapi_crons.state import MissedQuery
from fastapi_crons_dashboard.pages.table import STATES, Found, JobRow, Sort, State, Wanted, counts_of, find, states_of
from fastapi_crons_dashboard.serving.page import Pages, Showing, Shown
from fastapi_crons_dashboard.svg.strip import PLACES, Strip, strip, strip_tick

#: The states that have a figure of their own.
_TILES: tuple[State, ...] = ("running", "failing", "late", "paused", "due")
#: How many of the jobs with overdue ticks are looked for.
_MOST_LATE = 1_000

Text = Annotated[str, Query(max_length=1_000)]
PageNumber = Annotated[int, Query(ge=1, le=1_000_000)]


def add_to(pages: Pages) -> None:
    @pages.get("", "overview")
    async def overview(
        shown: Showing,
        q: Text = "",
        tag: Text = "",
        state: State | Literal[""] = "",
        sort: Sort = "name",
        backwards: bool = False,
        page: PageNumber = 1,
    ) -> HTMLResponse:
        rows, late = await _rows(shown)
        wanted = Wanted(q, tag, state or None, sort, backwards, page)
        found = find(rows, wanted)
        return shown.page(
            "overview.html",
            live=True,
            found=await _with_runs(shown, found),
            wanted=wanted,
            jobs=len(rows),
            counts={**counts_of(rows), "late": late},
            tiles=_TILES,
            states=STATES,
            health=shown.management.health(),
            runs=await _who_runs(shown),
        )


async def _who_runs(shown: Shown) -> Literal["here", "others", "nobody"]:
    """Which instances run jobs at their ticks. The store is asked only where this one is told not to."""
    management = shown.management
    if management.crons.config.enabled:  # whatever else keeps it from that, its health says
        return "here"
    return "others" if any(each.runs_ticks for each in await management.instances()) else "nobody"


async def _rows(shown: Shown) -> tuple[list[JobRow], int]:
    """A row for each job, and how many jobs have overdue ticks."""
    views, (unhandled, late) = await asyncio.gather(
        shown.management.jobs(), shown.management.unhandled(MissedQuery(limit=_MOST_LATE), details=False)
    )
    # Ticks of these wait for nothing.
    held = {view.job.name for view in views if view.pause is not None or not view.job.enabled}
    names = {each.job for each in unhandled} - held
    rows = [JobRow(view, states_of(view, names, shown.now)) for view in views]
    return rows, late - len(unhandled) + len(names)


async def _with_runs(shown: Shown, found: Found) -> Found:
    """The same page with the latest runs, and the strips of ticks, of its jobs."""
    names = [row.name for row in found.rows]
    latest, strips = await asyncio.gather(shown.management.latest_runs(names), _strips(shown, names))
    rows = (replace(row, last=latest.get(row.name), strip=strips.get(row.name)) for row in found.rows)
    return found._replace(rows=tuple(rows))


async def _strips(shown: Shown, names: Sequence[str]) -> dict[str, Strip]:
    """The strips of the last ticks of these jobs."""
    fates = await shown.management.fates(names, last=PLACES)
    return {name: strip([strip_tick(mark) for mark in marks]) for name, marks in fates.items() if marks}
