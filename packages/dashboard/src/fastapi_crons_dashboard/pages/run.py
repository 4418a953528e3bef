"""A run: all that is on record of it, and its log, live while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from datetime import tzinfo
from typing import Annotated, Literal, NamedTuple

from fastapi import Depends, Header, Query
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from fastapi_crons.api import Asked, asked
from fastapi_crons.errors import UnknownRunError
from fastapi_crons.management import LogEvent, Logged, Lost, Management
from fastapi_crons.run import LogLine, Run, made_at
from fastapi_crons.state import RunQuery
from fastapi_crons_dashboard.serving.page import Pages, Showing, Shown
from fastapi_crons_dashboard.serving.rendering import render
from fastapi_crons_dashboard.words.times import zone

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_LEVELS: dict[str, int] = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
#: Levels with names of their own are shown with those of this rank.
_OTHER = 20
#: How far (seconds) after a run the next one is looked for at first, how much further each time, and in how many runs.
_FIRST_REACH, _GROWTH, _MOST = 60, 60, 1_000
#: How many other runs of its tick are looked for among those around it.
_AROUND = 50
#: How often, and after which pauses (seconds), a run that has just been started is looked for.
_TRIES, _PAUSE = 20, 0.1

AtLeast = Annotated[Level | None, Query()]


class Neighbours(NamedTuple):
    """Other runs of a job."""

    before: Run | None
    after: Run | None
    of_tick: tuple[Run, ...]
    """The runs of the same tick, oldest first, this one included; none for a run without a tick."""


class Following(NamedTuple):
    """What is followed of a run: its log, and the zone that its lines have their times in."""

    events: AsyncIterator[LogEvent]
    zone: tzinfo


def add_to(pages: Pages) -> None:
    @pages.get("/jobs/{job_name}/runs/{run_id}", "run")
    async def run(shown: Showing, job_name: str, run_id: str, level: Level | Literal[""] = "") -> HTMLResponse:
        found = await _found(shown, job_name, run_id)
        job, details = shown.management.definition(job_name), shown.asked.details
        lines = [line for line in found.log if details and is_shown(line, level or None)]
        neighbours = await _neighbours(shown.management, found, shown.now.timestamp())
        of_tick = {each.status for each in neighbours.of_tick}
        return shown.page(
            "run.html",
            live=found.status == "running",
            run=found,
            job=job,
            zone=zone(job.schedule_zone),
            level=level,
            levels=tuple(_LEVELS)[:4],
            lines=lines,
            log_chars=shown.management.crons.config.max_log_chars,
            last_number=found.log_dropped + len(found.log),
            neighbours=neighbours,
            may_run_again=found.tick_ts is not None and "running" not in of_tick,
            has_completed="completed" in of_tick,
        )

    @pages.get("/jobs/{job_name}/runs/{run_id}/log", "run-log", response_class=EventSourceResponse)
    async def log(
        following: Annotated[Following, Depends(_following)], level: AtLeast = None
    ) -> AsyncGenerator[ServerSentEvent, None]:
        yield ServerSentEvent(comment="following")
        async for event in following.events:
            sent = _sent(event, level, following.zone)
            if sent is not None:
                yield sent


async def _found(shown: Shown, job_name: str, run_id: str) -> Run:
    """A run. Just after it was started, another process of the app may be asked for it before its store has it."""
    for _ in range(_TRIES if shown.has_started_a_run else 0):
        with suppress(UnknownRunError):
            return await shown.management.run(job_name, run_id)
        await asyncio.sleep(_PAUSE)
    return await shown.management.run(job_name, run_id)


async def _following(
    job_name: str,
    run_id: str,
    asked: Annotated[Asked, Depends(asked)],
    after: Annotated[int, Query(ge=0)] = 0,
    last_event_id: Annotated[int, Header(ge=0)] = 0,
) -> AsyncIterator[Following]:
    # A dependency, because the answer can refuse nothing once it has begun, and because this ends with the request.
    if not asked.details:
        raise HTTPException(403, "only clients that may change things can follow a log")
    run = await asked.management.run(job_name, run_id)
    with asked.management.follow_log(run, after=max(after, last_event_id)) as events:
        yield Following(events, zone(asked.management.definition(job_name).schedule_zone))


def _sent(event: LogEvent, level: Level | None, zone: tzinfo) -> ServerSentEvent | None:
    """A line as the page shows it; None for one that is not shown. An event of a name of its own where the run has ended."""
    if isinstance(event, Logged):
        if not is_shown(event.line, level):
            return None
        return ServerSentEvent(
            raw_data=render("parts/log_line.html", {"line": event.line, "zone": zone}), id=str(event.number)
        )
    if isinstance(event, Lost):
        return ServerSentEvent(raw_data=render("parts/log_lost.html", {"number": event.number}), id=str(event.until))
    return ServerSentEvent(raw_data="{}", event="ended")


def is_shown(line: LogLine, level: Level | None) -> bool:
    """Whether a line has at least this level."""
    return level is None or _LEVELS.get(line.level, _OTHER) >= _LEVELS[level]


async def _neighbours(asked: Management, run: Run, now: float) -> Neighbours:
    before, after = await asyncio.gather(
        asked.find_runs(RunQuery((run.job,), before=run.id, limit=_AROUND)), _following_runs(asked, run, now)
    )
    of_tick = () if run.tick_ts is None else tuple(r for r in (*before[::-1], run, *after) if r.tick_ts == run.tick_ts)
    return Neighbours(before[0] if before else None, after[0] if after else None, of_tick)


async def _following_runs(asked: Management, run: Run, now: float) -> Sequence[Run]:
    """Some of the runs after a run, oldest first. Stores find the newest runs of a span, so that it grows until it has some."""
    since, reach = made_at(run.id), _FIRST_REACH
    while True:
        until = since + reach
        runs = await asked.find_runs(RunQuery((run.job,), since=since, until=until, limit=_MOST))
        found = [each for each in runs[::-1] if each.id > run.id]
        if found or until > now:
            return found
        reach *= _GROWTH
