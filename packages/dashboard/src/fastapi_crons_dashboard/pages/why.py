"""Why: what became of an instant of a job, in words, with the records that say so."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import NamedTuple

from fastapi.responses import HTMLResponse

from fastapi_crons.job import CronJob
from fastapi_crons.management import TickFate, tick_up_to, ticks_around
from fastapi_crons.run import reason_in_words
from fastapi_crons_dashboard.serving.page import Pages, Showing, Shown
from fastapi_crons_dashboard.words.instants import Given, ZoneName, read_instant, zone_asked
from fastapi_crons_dashboard.words.times import zone as in_zone

#: What ticks may be run again for. One that completed is run again from the page of its run.
_RUN_AGAIN = ("failed", "timed_out", "interrupted", "cancelled", "skipped", "vetoed", "paused", "missed", "unknown")


class Explained(NamedTuple):
    """An instant, and what became of it."""

    instant: datetime
    fate: TickFate

    @property
    def tick(self) -> int:
        """The instant in Unix seconds."""
        return int(self.instant.timestamp())

    @property
    def look(self) -> str:
        """How its fate is shown: of a tick that ran, by how that ended."""
        runs = self.fate.runs
        return runs[-1].status if self.fate.fate == "ran" and runs else self.fate.fate


def add_to(pages: Pages) -> None:
    @pages.get("/jobs/{job_name}/why", "why")
    async def why(shown: Showing, job_name: str, at: str = "", zone: ZoneName = "") -> HTMLResponse:
        job = shown.management.definition(job_name)
        own = job.schedule_zone or "UTC"
        asked_zone = zone_asked(zone, own)
        given = (
            read_instant(at, in_zone(asked_zone))
            if at.strip()
            else Given(tick_up_to(job, shown.now) or shown.now.replace(microsecond=0))
        )
        before, after = ticks_around(job, given.instant)
        here, earlier, later = await asyncio.gather(
            _explain(shown, job, given.instant), _explain(shown, job, before), _explain(shown, job, after)
        )
        assert here is not None
        missed = here.fate.missed
        return shown.page(
            "why.html",
            live=True,
            job=job,
            zone=own,
            tz=in_zone(own),
            asked_zone=asked_zone,
            given=given,
            asked_text=at.strip(),
            here=here,
            may_run_again=here.look in _RUN_AGAIN and here.instant <= shown.now,
            force=_force(here),
            reason=None if missed is None else reason_in_words(missed, details=shown.asked.details),
            earlier=earlier,
            later=later,
        )


def _force(here: Explained) -> str:
    """Although what a tick would be run; empty where it is on record that it did not run to its end."""
    if here.fate.runs or here.fate.missed:
        return ""
    return (
        "although the job is paused" if here.look == "paused" else "although nothing on record says that it did not run"
    )


async def _explain(shown: Shown, job: CronJob, instant: datetime | None) -> Explained | None:
    if instant is None:
        return None
    return Explained(instant, await shown.management.explain_tick(job.name, instant, details=shown.asked.details))
