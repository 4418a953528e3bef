"""The bodies of the management API's requests and responses."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from math import isfinite
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fastapi_crons.api.endpoints.job_options import OptionsModel
from fastapi_crons.clock import UTC, in_local_time, utc_datetime
from fastapi_crons.locking.base import Pause
from fastapi_crons.management.fates.explain import Fate, TickFate
from fastapi_crons.management.views import JobStatus, JobView
from fastapi_crons.run import MissedReason, MissedTicks, Run, RunStatus, Trigger, reason_in_words
from fastapi_crons.schedule.base import ZonedSchedule

#: A result that is nested more deeply is shown as text: pydantic can serialise about 250 levels.
_DEEPEST = 100
#: Strings, and brackets outside of them. An unclosed string matches up to the end, so that it is searched only once.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]')

# In UTC, which pydantic writes with a `Z`.
Instant = Annotated[datetime, Field(examples=["2026-03-01T12:00:00Z"])]
_RUN_ID = "019ca8c1-6c00-7000-8000-0123456789ab"
Note = Annotated[str, Field(max_length=1000, examples=["the other side is down"])]


class PauseModel(BaseModel):
    """Since when a job is paused, by whom, and why."""

    since: Instant = Field(description="When it was paused")
    actor: str | None = Field(description="Who paused it, where that is known", examples=["ops"])
    note: str | None = Field(description="Why; None for clients that are not shown details")

    @classmethod
    def of(cls, pause: Pause, *, details: bool) -> PauseModel:
        return cls(since=utc_datetime(pause.since), actor=pause.actor, note=pause.note if details else None)


class JobModel(BaseModel):
    """A job and its latest run. Times are UTC."""

    name: str = Field(description="Unique in its scheduler", examples=["cleanup"])
    expr: str = Field(
        description="Cron expression, or the text of another schedule", examples=["*/5 * * * *", "Every(minutes=90)"]
    )
    description: str | None = Field(
        description="The schedule in words; None for a kind that a plugin or the app brings",
        examples=["Every 5 minutes"],
    )
    timezone: str | None = Field(description="The time zone of the schedule", examples=["Europe/Berlin"])
    tags: list[str] = Field(description="The tags it has in code", examples=[["maintenance"]])
    kwargs: dict[str, JsonValue] = Field(
        description="What its function is called with, without secrets; empty for clients that are not shown details",
        examples=[{"region": "eu"}],
    )
    options: OptionsModel = Field(description="How it is run, retried and caught up")
    enabled: bool = Field(description="False for a job that is switched off in code")
    paused: PauseModel | None = Field(description="None for a job that is not paused")
    status: JobStatus = Field(description="Of the latest run; `pending` for a job that never ran")
    last_run: Instant | None = Field(description="When the latest run began")
    next_run: Instant | None = Field(
        description="The next tick that is run; None for a job that is paused, disabled, or never due again"
    )
    instance_id: str | None = Field(description="Where the latest run ran", examples=["worker-001"])
    last_success: Instant | None = Field(
        description="When the latest run that completed ended; None for none on record"
    )
    last_success_run: str | None = Field(description="The id of that run", examples=[_RUN_ID])
    last_success_duration: float | None = Field(description="How long it took, in seconds", examples=[2.34])
    failures: int = Field(
        description="How many runs failed, exceeded their time limit, or were interrupted since a run completed last"
    )

    @classmethod
    def of(cls, view: JobView, *, details: bool) -> JobModel:
        job = view.job
        return cls(
            name=job.name,
            expr=job.schedule.text,
            description=job.schedule.words if isinstance(job.schedule, ZonedSchedule) else None,
            timezone=job.schedule_zone or None,
            tags=list(job.tags),
            kwargs=_arguments(job.arguments_json) if details else {},
            options=OptionsModel.of(job, details=details),
            enabled=job.enabled,
            paused=None if view.pause is None else PauseModel.of(view.pause, details=details),
            status=view.status,
            last_run=view.last_run,
            next_run=view.next_run,
            instance_id=view.instance,
            last_success=view.last_success,
            last_success_run=view.last_success_run,
            last_success_duration=view.last_success_took,
            failures=view.failures,
        )


class LogLineModel(BaseModel):
    """A log record of a run."""

    time: Instant = Field(description="When it was logged")
    level: str = Field(description="Name of its level", examples=["INFO"])
    logger: str = Field(description="Name of its logger", examples=["shop.orders"])
    message: str = Field(description="Its text, with the traceback where it had one", examples=["3 orders sent"])


class ErrorModel(BaseModel):
    """What a run raised."""

    type: str = Field(description="Name of the exception", examples=["ConnectionError"])
    message: str | None = Field(description="Its text; None for clients that are not shown details")
    traceback: str | None = Field(description="Only of a single run; None for clients that are not shown details")


class RunModel(BaseModel):
    """One execution of a job. Times are UTC, durations seconds."""

    id: str = Field(description="Unique; ids sort by the time that the runs were claimed", examples=[_RUN_ID])
    job_name: str = Field(description="The job that was run", examples=["cleanup"])
    scheduled_time: Instant | None = Field(description="The tick; None for a manual run, unless it runs a tick again")
    trigger: Trigger = Field(
        description="What started it; `catch_up` for a late tick, `again` for a request to run a tick again"
    )
    attempt: int = Field(description="How many times the function has been started for this tick, this time included")
    instance_id: str = Field(description="Where it runs, or ran", examples=["worker-001"])
    status: RunStatus = Field(description="How it ended; `running` until then")
    start_time: Instant = Field(description="When it began")
    end_time: Instant | None = Field(description="None while it is running")
    duration: float | None = Field(description="Seconds from start to end", examples=[2.34])
    missed_ticks: int = Field(description="How many earlier ticks this run stands for")
    missed_since: Instant | None = Field(description="The oldest of those")
    delay: str | None = Field(description="Why its tick was claimed late; None for clients that are not shown details")
    waited: float = Field(
        description="Seconds that it waited for a free thread or process; its time limit begins after that"
    )
    result: JsonValue = Field(description="What the function returned; None for clients that are not shown details")
    error: ErrorModel | None = Field(description="Why the run did not succeed")
    kwargs: dict[str, JsonValue] = Field(
        description="What the function was called with, without secrets; empty for clients that are not shown details"
    )
    actor: str | None = Field(description="Who asked for a manual run, where that is known", examples=["ops"])
    note: str | None = Field(description="Why it was requested; None for clients that are not shown details")
    beside: str | None = Field(description="The run that was already running when this one was forced")
    fencing_token: int = Field(description="Greater than that of any earlier run of the job")
    log: list[LogLineModel] = Field(description="Its log; only of a single run")
    log_dropped: int = Field(description="How many earlier log records were dropped")

    @classmethod
    def of(cls, run: Run, *, details: bool, whole: bool = False) -> RunModel:
        """`details`: results, texts and logs may be shown. `whole`: this is the only run of the answer."""
        error = None
        if run.error is not None:
            error = ErrorModel(
                type=run.error.type,
                message=run.error.message if details else None,
                traceback=run.error.traceback if details and whole else None,
            )
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
            missed_since=None if run.missed_since_ts is None else utc_datetime(run.missed_since_ts),
            delay=run.delay if details else None,
            waited=run.waited,
            result=_shown(run.result_json) if run.result_json is not None and details else None,
            error=error,
            kwargs=_arguments(run.arguments_json) if details else {},
            actor=run.actor,
            note=run.note if details else None,
            beside=run.beside,
            fencing_token=run.token,
            log=[
                LogLineModel(time=utc_datetime(line.ts), level=line.level, logger=line.logger, message=line.message)
                for line in run.log
                if details
            ],
            log_dropped=run.log_dropped,
        )


def _arguments(text: str | None) -> dict[str, JsonValue]:
    shown = None if text is None else _shown(text)
    return shown if isinstance(shown, dict) else {}


class RunPage(BaseModel):
    """Some of the runs on record, newest first."""

    runs: list[RunModel] = Field(description="Newest first, without logs and tracebacks")
    next: str | None = Field(description="Pass this as `before` to get the next page; None on the last one")

    @classmethod
    def of(cls, runs: Sequence[Run], limit: int, *, details: bool) -> RunPage:
        """A page of at most so many runs; that there are more shows that there is a next page."""
        shown = [RunModel.of(run, details=details) for run in runs[:limit]]
        return cls(runs=shown, next=runs[limit - 1].id if len(runs) > limit else None)


class RunRequest(BaseModel):
    """How to run a job."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"force": False}]})

    force: bool = Field(
        default=False,
        description="Run it although it is already running; for a tick, although it ran already",
        strict=True,
    )
    timeout: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False, strict=True)] | None = Field(
        default=None, description="Seconds; else the job's own"
    )
    wait: bool = Field(default=True, description="False: answer 202 as soon as the run has started", strict=True)
    note: Note | None = Field(default=None, description="Stored with the run")
    kwargs: dict[str, JsonValue] = Field(
        default={}, description="Arguments of this run, in place of the job's own", examples=[{"region": "us"}]
    )


class RunAnswer(BaseModel):
    """How a manual run went."""

    status: Literal["success", "failed", "running"] = Field(
        description="`running` if the answer did not wait for the end"
    )
    message: str = Field(description="The same in words", examples=["Job 'backup_database' executed successfully"])
    execution_time: float = Field(description="Seconds; 0 for a run that has not ended", examples=[2.34])
    instance_id: str = Field(description="Where it ran", examples=["worker-001"])
    timestamp: Instant = Field(description="The time of this answer, in whole seconds")
    run_id: str = Field(description="The id of the run, to get its log and result", examples=[_RUN_ID])
    error: str | None = Field(
        default=None, description="The error; left out where there is none", examples=["ValueError: no such table"]
    )

    @classmethod
    def of(cls, run: Run, timestamp: datetime) -> RunAnswer:
        status: Literal["success", "failed", "running"]
        if run.status == "completed":
            status, message = "success", f"Job '{run.job}' executed successfully"
        elif run.status == "running":
            status, message = "running", f"Job '{run.job}' is running"
        else:
            status, message = "failed", f"Job '{run.job}' {run.status.replace('_', ' ')}"
        return cls(
            status=status,
            message=message,
            execution_time=round(run.duration or 0.0, 6),
            instance_id=run.instance,
            timestamp=timestamp,
            run_id=run.id,
            error=None if run.error is None else f"{run.error.type}: {run.error.message}",
        )


class CancelAnswer(BaseModel):
    """A run is being cancelled. An async function is cancelled at once, on another instance with its next heartbeat."""

    run_id: str = Field(description="The run", examples=[_RUN_ID])
    message: str = Field(description="The same in words")

    @classmethod
    def of(cls, job: str, run_id: str) -> CancelAnswer:
        return cls(run_id=run_id, message=f"Run {run_id} of job '{job}' is being cancelled")


class PauseRequest(BaseModel):
    """Why to pause a job."""

    model_config = ConfigDict(extra="forbid")

    note: Note | None = Field(default=None, description="Stored with the pause")


class ResumeRequest(BaseModel):
    """How to resume a job."""

    model_config = ConfigDict(extra="forbid")

    catch_up: bool = Field(
        default=False, description="Treat the ticks of the pause as late ticks, not as missed ones", strict=True
    )


class MissedModel(BaseModel):
    """Successive missed ticks, in one record."""

    id: str = Field(description="The id of the record; ids sort by the time that ticks were missed", examples=[_RUN_ID])
    job_name: str = Field(description="The job that was not run", examples=["cleanup"])
    first: Instant = Field(description="The oldest of the ticks")
    last: Instant = Field(description="The newest of the ticks")
    count: int = Field(description="How many; where `more` is true, at least so many")
    more: bool = Field(description="Whether counting stopped early")
    reason: MissedReason = Field(description="Why they were missed")
    explanation: str = Field(
        description="The same in words, on the clock of the job; without what is not for clients that are not shown details",
        examples=["the job was still running"],
    )
    recorded: Instant = Field(description="When they were recorded")
    instance_id: str = Field(description="The instance that recorded them", examples=["worker-001"])

    @classmethod
    def of(cls, ticks: MissedTicks, zone: str, *, details: bool) -> MissedModel:
        return cls(
            id=ticks.id,
            job_name=ticks.job,
            first=ticks.first,
            last=ticks.last,
            count=ticks.count,
            more=ticks.more,
            reason=ticks.reason,
            explanation=in_local_time(reason_in_words(ticks, details=details), zone),
            recorded=utc_datetime(ticks.recorded_ts),
            instance_id=ticks.instance,
        )


class TickModel(BaseModel):
    """What happened to a job at an instant, and why."""

    job_name: str = Field(description="The requested job", examples=["cleanup"])
    time: Instant = Field(description="The requested instant")
    fate: Fate = Field(description="What happened, in a word")
    explanation: str = Field(
        description="A sentence or two; without error texts and notes for clients that are not shown details",
        examples=["It started at 2026-03-01 12:00:00 UTC on worker-001 (run 019ca8c1-…), and completed after 2.3 s."],
    )
    runs: list[RunModel] = Field(description="Its runs, oldest first")
    missed: MissedModel | None = Field(description="The record of it as a missed tick")
    next: Instant | None = Field(description="The job's next tick after now")

    @classmethod
    def of(cls, name: str, zone: str, time: datetime, fate: TickFate, *, details: bool) -> TickModel:
        return cls(
            job_name=name,
            time=time.astimezone(UTC),
            fate=fate.fate,
            explanation=fate.text,
            runs=[RunModel.of(run, details=details) for run in fate.runs],
            missed=None if fate.missed is None else MissedModel.of(fate.missed, zone, details=details),
            next=fate.next,
        )


def _shown(result: str) -> JsonValue:
    """A result that is stored as JSON text."""
    depth = deepest = 0
    if result.count("[") + result.count("{") > _DEEPEST:
        for found in _BRACKETS.finditer(result):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found.group(), 0)
            deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        return result
    try:
        shown: JsonValue = json.loads(result, parse_constant=_no_json, parse_float=_finite)
        if "\\ud" in result.lower():
            json.dumps(shown, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # not written by us
        return result
    return shown


def _no_json(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _finite(number: str) -> float:
    found = float(number)
    return found if isfinite(found) else _no_json(number)
