"""The endpoint that tells what became of a job's latest ticks."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from fastapi_crons.api.endpoints.parts import Asking, Endpoints, Name
from fastapi_crons.api.models import Instant
from fastapi_crons.management.fates.explain import Fate
from fastapi_crons.management.fates.fates import MAX_LAST, TickMark
from fastapi_crons.run import MissedReason, RunStatus

endpoint = Endpoints()


class TickMarkModel(BaseModel):
    """What became of a tick. `GET …/ticks/{time}` says why."""

    time: Instant = Field(description="The tick")
    fate: Fate = Field(description="What happened, in a word")
    run_id: str | None = Field(description="Its latest run, or the one that stands for it")
    status: RunStatus | None = Field(description="Of that run")
    reason: MissedReason | None = Field(description="Why it was not run, where that is on record")

    @classmethod
    def of(cls, mark: TickMark) -> TickMarkModel:
        return cls(
            time=mark.time,
            fate=mark.fate,
            run_id=None if mark.run is None else mark.run.id,
            status=None if mark.run is None else mark.run.status,
            reason=None if mark.missed is None else mark.missed.reason,
        )


class TickMarks(BaseModel):
    """What became of a job's latest ticks."""

    job_name: str = Field(description="The requested job", examples=["cleanup"])
    ticks: list[TickMarkModel] = Field(description="Oldest first; of ticks under an older schedule those on record")


@endpoint("GET", "/crons/{job_name}/ticks")
async def latest_ticks(
    asked: Asking, job_name: Name, last: Annotated[int, Query(ge=1, le=MAX_LAST, description="How many ticks")] = 60
) -> TickMarks:
    """What became of a job's latest ticks up to now: they ran, were skipped, paused, missed, and so on."""
    fates = await asked.management.fates([job_name], last=last)
    return TickMarks(job_name=job_name, ticks=[TickMarkModel.of(mark) for mark in fates[job_name]])
