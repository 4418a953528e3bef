"""The endpoint that stops an instance gently."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fastapi_crons.api.endpoints.parts import Asking, Endpoints
from fastapi_crons.api.models import Instant
from fastapi_crons.api.problems import problems
from fastapi_crons.management.drains import DrainView

endpoint = Endpoints()


class DrainRequest(BaseModel):
    """Which instance is to claim nothing more."""

    model_config = ConfigDict(extra="forbid")

    instance: str | None = Field(
        default=None, min_length=1, max_length=200, description="Its name; otherwise the one that answers", strict=True
    )


class RunLeftModel(BaseModel):
    """A run that is not over."""

    job_name: str = Field(description="The job", examples=["cleanup"])
    run_id: str = Field(description="The run's id")
    start_time: Instant = Field(description="When it began")
    ends_by: Instant | None = Field(
        description="When it has ended at the latest, by its time limit and its retries; None where that is not known"
    )
    limit: Literal["limited", "unlimited", "unknown"] = Field(
        description="Whether it has a time limit; `unknown` where the answering instance does not have its job"
    )


class DrainModel(BaseModel):
    """An instance that is to claim nothing more, and what still runs there."""

    instance_id: str = Field(description="Its name", examples=["worker-001"])
    host: str = Field(description="The machine or container that it runs on", examples=["web-1"])
    pid: int = Field(description="Its process there")
    draining: bool = Field(description="Whether it claims nothing more")
    running: int = Field(description="How many runs it had at its last heartbeat")
    runs: list[RunLeftModel] = Field(description="Those that are on record, oldest first")

    @classmethod
    def of(cls, view: DrainView) -> DrainModel:
        instance = view.instance.instance
        return cls(
            instance_id=instance.id,
            host=instance.host,
            pid=instance.pid,
            draining=view.draining,
            running=view.left,
            runs=[
                RunLeftModel(job_name=run.job, run_id=run.id, start_time=run.started, ends_by=run.ends, limit=run.limit)
                for run in view.runs
            ],
        )


@endpoint("POST", "/scheduler/drain", status_code=202, responses=problems(409, 415))
async def drain(asked: Asking, body: DrainRequest | None = None) -> list[DrainModel]:
    """Have an instance claim nothing more, until its process ends: for a gentle stop. There is no way back but a restart.

    Its ticks go to the other instances at once, what runs goes on, and runs by hand are refused there. The answer comes when
    the instance has heard of it: another one with its next heartbeat at the latest. 409 where its version is too old for that.
    """
    drains = asked.management.drains
    views = await drains.until_heard(await drains.drain(None if body is None else body.instance))
    return [DrainModel.of(view) for view in views]
