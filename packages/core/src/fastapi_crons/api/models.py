"""What the management API takes and gives."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainSerializer

from fastapi_crons.clock import utc_datetime
from fastapi_crons.run import Run, RunStatus, Trigger
from fastapi_crons.service import JobView


def _with_z(instant: datetime) -> str:
    return instant.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


Instant = Annotated[datetime, PlainSerializer(_with_z, return_type=str, when_used="json")]


class JobModel(BaseModel):
    """A job and what became of it last. Times are UTC."""

    name: str
    expr: str = Field(description="Cron expression", examples=["*/5 * * * *"])
    timezone: str | None = Field(description="The zone that the expression is read in")
    tags: list[str]
    enabled: bool
    status: RunStatus | Literal["pending"] = Field(description="Of the latest run; `pending` for a job that never ran")
    last_run: Instant | None
    next_run: Instant | None
    instance_id: str | None = Field(description="Where the latest run ran")

    @classmethod
    def of(cls, view: JobView) -> JobModel:
        job = view.job
        return cls(
            name=job.name,
            expr=job.schedule.text,
            timezone=job.schedule_zone or None,
            tags=list(job.tags),
            enabled=job.enabled,
            status=view.status or "pending",
            last_run=view.last_run,
            next_run=view.next_run,
            instance_id=view.instance,
        )


class LogLineModel(BaseModel):
    """A log record that was made inside a run."""

    time: Instant
    level: str
    logger: str
    message: str


class ErrorModel(BaseModel):
    """What a run raised. `message` is None for clients that are not shown details."""

    type: str
    message: str | None


class RunModel(BaseModel):
    """One execution of a job. Times are UTC, durations seconds."""

    id: str
    job_name: str
    scheduled_time: Instant | None = Field(description="The tick; None for a manual run")
    trigger: Trigger
    attempt: int
    instance_id: str
    status: RunStatus
    start_time: Instant
    end_time: Instant | None
    duration: float | None
    missed_ticks: int = Field(description="How many earlier ticks this run stands for")
    result: JsonValue = Field(description="What the function returned")
    error: ErrorModel | None
    actor: str | None
    note: str | None
    beside: str | None = Field(description="The run that was going on when this one was forced")
    log: list[LogLineModel] = Field(description="Its log, where one run is asked for")
    log_dropped: int = Field(description="How many earlier log records did not fit")

    @classmethod
    def of(cls, run: Run, *, details: bool) -> RunModel:
        error = None
        if run.error is not None:
            error = ErrorModel(type=run.error.type, message=run.error.message if details else None)
        return cls(
            id=run.id,
            job_name=run.job,
            scheduled_time=run.tick,
            trigger=run.trigger,
            attempt=run.attempt,
            instance_id=run.instance,
            status=run.status,
            start_time=run.started,
            end_time=run.ended,
            duration=run.duration,
            missed_ticks=run.missed_ticks,
            result=json.loads(run.result) if run.result is not None and details else None,
            error=error,
            actor=run.actor,
            note=run.note,
            beside=run.beside,
            log=[
                LogLineModel(time=utc_datetime(line.ts), level=line.level, logger=line.logger, message=line.message)
                for line in run.log
                if details
            ],
            log_dropped=run.log_dropped,
        )


class RunPage(BaseModel):
    """Some of a job's runs, newest first."""

    runs: list[RunModel]
    next: str | None = Field(description="Give this as `before` to get the runs before these; None at the end")


class RunRequest(BaseModel):
    """How a job is to be run."""

    model_config = ConfigDict(extra="forbid")

    force: bool = Field(default=False, description="Run it although it is running already")
    timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="Seconds; else the job's own")
    wait: bool = Field(default=True, description="False answers 202 as soon as the run has started")
    note: str | None = Field(default=None, max_length=1000, description="Kept with the run")


class RunAnswer(BaseModel):
    """How a manual run went."""

    status: Literal["success", "failed", "running"]
    message: str
    execution_time: float = Field(description="Seconds", examples=[2.34])
    instance_id: str
    timestamp: Instant
    run_id: str
    error: str | None = None

    @classmethod
    def of(cls, run: Run, timestamp: datetime) -> RunAnswer:
        if run.status == "completed":
            status, message = "success", f"Job '{run.job}' executed successfully"
        elif run.status == "running":
            status, message = "running", f"Job '{run.job}' is running"
        else:
            status, message = "failed", f"Job '{run.job}' {run.status.replace('_', ' ')}"
        return cls(
            status=status,  # type: ignore[arg-type]
            message=message,
            execution_time=round(run.duration or 0.0, 6),
            instance_id=run.instance,
            timestamp=timestamp,
            run_id=run.id,
            error=None if run.error is None else f"{run.error.type}: {run.error.message}",
        )


class HealthModel(BaseModel):
    """Whether the scheduler does its work, and what is to be looked at."""

    status: Literal["ok", "degraded", "unhealthy"]
    findings: list[str]


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
