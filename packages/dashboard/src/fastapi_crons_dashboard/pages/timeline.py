"""The timeline: what ran, what did not, and what is due, of each job on one axis of time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from fastapi import Query
from fastapi.responses import HTMLResponse

from fastapi_crons.locking import KnownJob
from fastapi_crons.management import JobStats, JobView, Management
from fastapi_crons.run import MissedTicks, Run, RunStatus
from fastapi_crons.state import MissedQuery, RunQuery
from fastapi_crons_dashboard.pages.table import by_name, has_text
from fastapi_crons_dashboard.serving.links import Links
from fastapi_crons_dashboard.serving.page import Pages, Showing
from fastapi_crons_dashboard.svg.axis import labels
from fastapi_crons_dashboard.svg.density import PARTS, Parts, edge
from fastapi_crons_dashboard.svg.due import DueTicks
from fastapi_crons_dashboard.svg.timeline import HEIGHT, MOST, Records, Shape, Window, Words, lane, summary
from fastapi_crons_dashboard.words.instants import Given, ZoneName, read_instant, zone_asked
from fastapi_crons_dashboard.words.times import zone as in_zone

#: How many lanes are on a page.
PER_PAGE = 25
#: How many records of each kind are read at most.
_MOST_RECORDS = 5_000
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
    stats: Sequence[JobStats]
    known: dict[str, KnownJob]

    @property
    def cut(self) -> bool:
        """Whether there are more records than were read."""
        return max(len(self.runs), len(self.missed)) >= _MOST_RECORDS


def add_to(pages: Pages) -> None:
    @pages.get("/timeline", "timeline")
    async def timeline(
        shown: Showing,
        zoom: Zoom = "2d",
        at: Annotated[str, Query(max_length=60)] = "",
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
            pages=max(1, -(-len(views) // PER_PAGE)),
        )


async def _lanes(
    management: Management, links: Links, views: Sequence[JobView], window: Window, words: Words
) -> tuple[list[Lane], bool]:
    ticks = DueTicks(window.since, window.until, MOST)
    before = {
        view.job.name: await ticks.between(view.job.schedule, window.since - 1, min(window.until, int(window.now)))
        for view in views
    }
    dense = {name for name, due in before.items() if isinstance(due, Parts)}
    found = await _found(management, [view.job.name for view in views], dense, window)
    stats = {each.job: each.whole for each in found.stats}
    lanes = []
    for view in views:
        job, name = view.job, view.job.name
        runs = {run.id: run for run in (*found.runs, *found.running) if run.job == name}
        due = before[name]
        records = Records(
            runs=list(runs.values()),
            missed=[missed for missed in found.missed if missed.job == name],
            handled=_handled(due, found.known.get(name)) if isinstance(due, Parts) else None,
            planned=await _ahead(ticks, view, window) if job.enabled else (),
            runs_planned=view.pause is None,
            p50=stats[name].p50,
            p95=stats[name].p95,
            swallowed=() if view.pause is None else _since(due, view.pause.since),
        )
        lanes.append(
            Lane(
                view,
                lane(window, records, words),
                summary(records),
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


async def _found(management: Management, names: Sequence[str], dense: set[str], window: Window) -> Found:
    """One query for each kind of record."""
    if not names:
        return Found((), (), (), (), {})
    stats = await management.stats(names)
    reach = min(_LONGEST_REACH, max((each.whole.longest or 0 for each in stats), default=0) + 60)
    since, until = window.since - reach, min(window.until, window.now) + 1
    if until <= since:
        return Found((), (), (), stats, {})
    single = [name for name in names if name not in dense]

    async def runs(jobs: Sequence[str], statuses: tuple[RunStatus, ...]) -> list[Run]:
        query = RunQuery(jobs, statuses, since, until, limit=_MOST_RECORDS)
        return await management.find_runs(query) if jobs else []

    of_single, of_dense, running, missed, known = await asyncio.gather(
        runs(single, ()),
        runs(sorted(dense), _NOT_COMPLETED),
        management.find_runs(RunQuery(names, _RUNNING, limit=_MOST_RECORDS)),
        management.find_missed(MissedQuery(names, window.since, until, limit=_MOST_RECORDS)),
        management.known_jobs(sorted(dense)) if dense else _none(),
    )
    by_name = {each.job: each for each in known}
    return Found([*of_single, *of_dense], running, [each.ticks for each in missed], stats, by_name)


async def _none() -> list[KnownJob]:
    return []


def _handled(due: Parts, known: KnownJob | None) -> Parts:
    """Those of the ticks that fell due which were handled since the definition in force is known."""
    return _within(due, 0, 0) if known is None else _within(due, known.since, known.last_handled)


def _since(due: Sequence[int] | Parts, instant: float) -> Sequence[int] | Parts:
    """Those of the ticks that fell due after an instant."""
    return _within(due, instant, due.until) if isinstance(due, Parts) else [tick for tick in due if tick > instant]


def _within(due: Parts, since: float, until: float) -> Parts:
    """Those of the ticks that lie in a span, as if they were evenly spread in each part."""
    begin = [edge(due.since, due.until, part) for part in range(PARTS + 1)]
    shares = (_overlap(begin[part], begin[part + 1], since, until) for part in range(PARTS))
    return due._replace(good=tuple(round(number * share) for number, share in zip(due.good, shares, strict=True)))


def _overlap(begin: int, end: int, since: float, until: float) -> float:
    """How much of a part lies in a span, from 0 to 1."""
    return max(0.0, min(end, until) - max(begin, since)) / max(1, end - begin)
