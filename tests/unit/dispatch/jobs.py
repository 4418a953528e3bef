"""Jobs for tests of what an instance knows of them: one is due each second."""

from __future__ import annotations

from fastapi_crons import CronJob
from fastapi_crons.engine.dispatch.tracked import TrackedJob
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.job import Overlap
from fastapi_crons.schedule.due import Policy, SharedTicks, tick_source
from tests.support import nothing

START = 1_772_323_200


def tracked_job(overlap: Overlap = "skip", *, coalesce: bool = True, jitter: float = 0) -> TrackedJob:
    job = CronJob(nothing, "* * * * * *", "job", overlap=overlap, jitter=jitter)
    ticks = SharedTicks(tick_source(job.schedule))
    ticks.next_tick = START  # as the timeline has placed it
    return TrackedJob(job, ticks, Policy(coalesce, None, 5), START)


def run_of(tracked: TrackedJob, tick: int | None = None, late: bool = False) -> ActiveRun:
    return ActiveRun(tracked.job, f"run of {tick}", tick, "catch_up" if late else "schedule")
