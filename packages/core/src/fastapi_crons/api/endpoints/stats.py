"""The endpoint about how often jobs run and fail, and how long they take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from fastapi_crons.api.endpoints.parts import Asking, Endpoints, SomeJobs, SomeTags
from fastapi_crons.management.stats import MOST_DAYS, JobStats, Stats

endpoint = Endpoints()

Seconds = Annotated[float | None, Field(description="Seconds; None where no run completed", examples=[2.34])]


class StatsModel(BaseModel):
    """Figures of some days, or of one. Durations are those of runs that completed."""

    runs: int = Field(description="How many runs ended, however they did")
    failed: int = Field(description="How many of them failed, exceeded their time limit, or were interrupted")
    missed: int = Field(
        description="How many ticks were missed; those among them that a late run stands for (`coalesce`)"
    )
    p50: Seconds = Field(description="Half of the runs took no longer, in seconds; within 5 %")
    p95: Seconds = Field(description="95 of 100 runs took no longer, in seconds; within 5 %")
    longest: Seconds = Field(description="The longest run, in seconds")

    @classmethod
    def of(cls, stats: Stats) -> StatsModel:
        return cls(
            runs=stats.runs,
            failed=stats.failed,
            missed=stats.missed,
            p50=_rounded(stats.p50),
            p95=_rounded(stats.p95),
            longest=_rounded(stats.longest),
        )


class DayStatsModel(StatsModel):
    """Figures of a day."""

    day: date = Field(description="The day on which the runs began (UTC)", examples=["2026-03-01"])

    @classmethod
    def of_day(cls, day: date, stats: Stats) -> DayStatsModel:
        return cls(day=day, **StatsModel.of(stats).model_dump())


class JobStatsModel(StatsModel):
    """Figures of a job, of all the days and of each."""

    job_name: str = Field(description="The job", examples=["cleanup"])
    days: list[DayStatsModel] = Field(description="Each day, the oldest first; empty unless it was asked for")

    @classmethod
    def of_job(cls, stats: JobStats) -> JobStatsModel:
        days = [DayStatsModel.of_day(*day) for day in stats.days]
        return cls(job_name=stats.job, days=days, **StatsModel.of(stats.whole).model_dump())


class StatsAnswer(BaseModel):
    """Figures of jobs over some days, in UTC, today among them."""

    since: date = Field(description="The first day", examples=["2026-02-23"])
    until: date = Field(description="The last day: today", examples=["2026-03-01"])
    jobs: list[JobStatsModel] = Field(
        description="In the order of registration; jobs that are no longer there come last"
    )

    @classmethod
    def of(cls, days: Sequence[date], jobs: Sequence[JobStats]) -> StatsAnswer:
        return cls(since=days[0], until=days[-1], jobs=[JobStatsModel.of_job(each) for each in jobs])


@endpoint("GET", "/stats")
async def stats(
    asked: Asking,
    days: Annotated[int, Query(ge=1, le=MOST_DAYS, description="Of so many days (UTC), today among them")] = 7,
    job: SomeJobs = None,
    tag: SomeTags = None,
    by_day: Annotated[bool, Query(description="With the figures of each day")] = False,
) -> StatsAnswer:
    """How often jobs ran, failed and were missed, and how long they took."""
    management = asked.management
    found = await management.stats(management.names_of(job or (), tag or ()), days=days, by_day=by_day)
    return StatsAnswer.of(management.last_days(days), found)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
