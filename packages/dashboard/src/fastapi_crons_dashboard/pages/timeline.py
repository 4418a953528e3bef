"""The timeline: what ran, what did not, and what is due, of each job on one axis of time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from math import inf
from typing import Annotated, Literal, NamedTuple

from fastapi import Query
from fastapi.responses import HTMLResponse

from fastapi_crons.clock import utc_datetime
from fastapi_crons.locking import KnownJob
from fastapi_crons.management import JobStats, JobView, Management
from fastapi_crons.run import MissedTicks, Run, RunStatus
from fastapi_crons.state import MissedQuery, RunQuery
from fastapi_crons_dashboard.pages.table import by_name, has_text
from fastapi_crons_dashboard.serving.links import Links
from fastapi_crons_dashboard.serving.page import Pages, Showing
from fastapi_crons_dashboard.svg.axis import labels
from fastapi_crons_dashboard.svg.density import Parts
from fastapi_crons_dashboard.svg.due import DueTicks
from fastapi_crons_dashboard.svg.timeline import HEIGHT, MOST, Records, Shape, Window, Words, lane, summary
from fastapi_crons_dashboard.words.fates import LANE_LEGEND, legend
from fastapi_crons_dashboard.words.instants import Given, ZoneName, read_instant, zone_asked
from fastapi_crons_dashboard.words.times import zone as in_zone

#: How many lanes are on a page.
PER_PAGE = 25
#: How many records of each kind are read at most.
_MOST_RECORDS = 5_000
#: So many runs of a lane are read at most. Of jobs that had more, their ticks are counted: see `Records.handled`.
_MOST_RUNS = 500
#: How far before the window (seconds) runs are looked for that reach into it: as long as runs take, and no longer than this.
_LONGEST_REACH = 86_400

Zoom = Literal["1h", "3h", "6h", "12h", "1d", "2d", "7d"]
ZOOMS: dict[Zoom, int] = {
    "1h": 3_600,
    "3h": 10_800,
    "6h": 21_600,
    "12h": 43_200,
    "1d": 86_400,
    "2d": 172_800,
    "7d": 604_800,
}
_RUNNING: tuple[RunStatus, ...] = ("running",)
_COMPLETED: tuple[RunStatus, ...] = ("completed",)
#: Those that say something where runs can't be told apart.
_NOT_COMPLETED: tuple[RunStatus, ...] = ("running", "failed", "timed_out", "interrupted", "cancelled")


class Lane(NamedTuple):
    """The lane of a job, as the template draws it."""

    view: JobView
    shapes: Sequence[Shape]
    summary: str
    run_path: str
    """The path of its runs, without their ids."""
    why_path: str


class Found(NamedTuple):
    """What is on record of the jobs of a page."""

    runs: Sequence[Run]
    running: Sequence[Run]
    missed: Sequence[MissedTicks]
    stats: dict[str, JobStats]
    counted: Collection[str]
    """The jobs whose runs are too many to be read: of these, those that did not complete, or are of an older definition."""
    known: dict[str, KnownJob]
    """What the lock store knows of these."""
    cut: bool
    """Whether there are more records than were read."""


def add_to(pages: Pages) -> None:
    @pages.get("/timeline", "timeline")
    async def timeline(
        shown: Showing,
        zoom: Zoom = "2d",
        at: str = "",
        q: Annotated[str, Query(max_length=200)] = "",
        tag: Annotated[str, Query(max_length=1000)] = "",
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
        zone: ZoneName = "",
    ) -> HTMLResponse:
        management = shown.management
        own = management.crons.config.timezone
        tz, now = in_zone(own), shown.now.timestamp()
        given = read_instant(at, in_zone(zone_asked(zone, own))) if at.strip() else Given(shown.now)
        middle, half = int(given.instant.timestamp()), ZOOMS[zoom] // 2
        window = Window(middle - half, middle + half, now)
        views = [view for view in await management.jobs(tags=[tag] if tag else ()) if has_text(view.job, q)]
        views.sort(key=lambda view: by_name(view.job.name))
        pages = max(1, -(-len(views) // PER_PAGE))
        page = min(page, pages)
        here = views[(page - 1) * PER_PAGE : page * PER_PAGE]
        lanes, cut = await _lanes(management, shown.links, here, window, Words(tz, shown.asked.details))
        return shown.page(
            "timeline.html",
            live=True,
            lanes=lanes,
            cut=cut,
            window=window,
            height=HEIGHT,
            labels=list(labels(window.since, window.until, tz)),
            zone=own,
            middle=given.instant,
            follows=not at.strip(),
            step=half,
            zoom=zoom,
            zooms=[(each, each) for each in ZOOMS],
            q=q,
            tag=tag,
            jobs=len(views),
            page=page,
            pages=pages,
            legend=legend(LANE_LEGEND),
        )


async def _lanes(
    management: Management, links: Links, views: Sequence[JobView], window: Window, words: Words
) -> tuple[list[Lane], bool]:
    ticks = DueTicks(window.since, window.until, MOST)
    due = {view.job.name: await ticks.between(view.job.schedule, window.since - 1, window.past_until) for view in views}
    found = await _found(management, due, window)
    lanes = []
    for view in views:
        job, name = view.job, view.job.name
        runs = {run.id: run for run in (*found.runs, *found.running) if run.job == name}
        known, usual = found.known.get(name), found.stats[name].whole
        records = Records(
            runs=list(runs.values()),
            missed=[missed for missed in found.missed if missed.job == name],
            handled=await _handled(ticks, view, window, known) if name in found.counted else None,
            handled_since=None if known is None else known.since,
            planned=await _ahead(ticks, view, window) if job.enabled else (),
            runs_planned=view.pause is None,
            p50=usual.p50,
            p95=usual.p95,
            swallowed=await _swallowed(ticks, view, window),
        )
        lanes.append(
            Lane(
                view,
                lane(window, records, words),
                summary(window, records),
                links.to("run", job_name=name, run_id="-").removesuffix("-"),
                links.to("why", job_name=name),
            )
        )
    return lanes, found.cut


async def _ahead(ticks: DueTicks, view: JobView, window: Window) -> Sequence[int] | Parts:
    """The ticks ahead in a window. Those that runs or starts make are not known from the schedule, but the next one may be."""
    ahead = await ticks.between(view.job.schedule, window.ahead_since, window.until)
    if ahead or view.next_run is None:
        return ahead
    tick = int(view.next_run.timestamp())
    return [tick] if window.ahead_since < tick <= window.until else ()


async def _handled(ticks: DueTicks, view: JobView, window: Window, known: KnownJob | None) -> Parts:
    """The ticks in a window that were handled since the definition in force is known, and before a pause that goes on."""
    since, until = (0.0, 0.0) if known is None else (known.since, float(known.last_handled))
    until = until if view.pause is None else min(until, view.pause.since)
    return await ticks.in_parts(
        view.job.schedule, max(window.since - 1, int(since)), min(window.past_until, int(until))
    )


async def _swallowed(ticks: DueTicks, view: JobView, window: Window) -> Sequence[int] | Parts:
    """The ticks in a window that fell due in a pause that goes on."""
    if view.pause is None:
        return ()
    return await ticks.between(view.job.schedule, max(window.since - 1, int(view.pause.since)), window.past_until)


async def _found(management: Management, due: Mapping[str, Sequence[int] | Parts], window: Window) -> Found:
    """One query for each kind of record. `due`: the ticks of each job, up to now."""
    if not due:
        return Found((), (), (), {}, (), {}, cut=False)
    stats = {each.job: each for each in await management.stats(due)}
    reach = min(_LONGEST_REACH, max((each.whole.longest or 0 for each in stats.values()), default=0) + 60)
    since, until = window.since - reach, min(window.until, window.now) + 1
    if until <= since:
        return Found((), (), (), stats, (), {}, cut=False)
    most = min(_MOST_RUNS, management.crons.config.history_keep)
    counted = {
        name
        for name, ticks in due.items()
        if isinstance(ticks, Parts) and _most_runs(ticks, stats[name], window) > most
    }
    read = [name for name in due if name not in counted]

    async def runs(jobs: Sequence[str], statuses: tuple[RunStatus, ...], limit: int) -> list[Run]:
        query = RunQuery(jobs, statuses, since, until, limit=limit, under_way_since=window.since)
        return await management.find_runs(query) if jobs else []

    of_read, of_counted, running, missed, known = await asyncio.gather(
        runs(read, (), _MOST_RUNS * PER_PAGE),
        runs(sorted(counted), _NOT_COMPLETED, _MOST_RECORDS),
        management.find_runs(RunQuery(list(due), _RUNNING, limit=_MOST_RECORDS)),
        management.find_missed(MissedQuery(list(due), window.since, until, limit=_MOST_RECORDS)),
        management.known_jobs(sorted(counted)) if counted else _none(),
    )
    since_of = dict.fromkeys(counted, window.now) | {each.job: each.since for each in known}
    of_older = await _of_older(management, since_of, since, until)
    return Found(
        [*of_read, *of_counted, *(run for run in of_older if run.started_ts <= since_of[run.job])],
        running,
        [each.ticks for each in missed],
        stats,
        counted,
        {each.job: each for each in known},
        cut=len(of_read) >= _MOST_RUNS * PER_PAGE or max(len(of_counted), len(of_older), len(missed)) >= _MOST_RECORDS,
    )


async def _of_older(management: Management, since_of: Mapping[str, float], since: float, until: float) -> list[Run]:
    """The runs of a span that completed, up to the last definition in force: how many ticks older ones had is not known."""
    jobs = sorted(name for name, known in since_of.items() if known > since)
    until = min(until, max((since_of[name] for name in jobs), default=0.0) + 1)
    if until <= since:
        return []
    return await management.find_runs(RunQuery(jobs, _COMPLETED, since, until, limit=_MOST_RECORDS))


async def _none() -> list[KnownJob]:
    return []


def _most_runs(due: Parts, stats: JobStats, window: Window) -> float:
    """How many runs a job has had at most since a window began, by its ticks and by its figures of days."""
    known = [due.total] if window.until >= window.now else []
    first = utc_datetime(window.since).date()
    if any(day == first for day, _ in stats.days):
        known.append(sum(figures.runs for day, figures in stats.days if day >= first))
    return min(known, default=inf)
