"""Endpoints about backfills: the ticks of a span that did not run are run again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from fastapi_crons.api.endpoints.parts import Asking, Endpoints, Instant, Name
from fastapi_crons.api.models import Note
from fastapi_crons.api.problems import problems
from fastapi_crons.clock import utc_datetime, whole_seconds
from fastapi_crons.engine.backfills import BackfillPlan, Span, begun
from fastapi_crons.state.backfills import BackfillRecord, BackfillStatus

endpoint = Endpoints()
_CHANGES = problems(409, 415)
BackfillId = Annotated[str, Path(min_length=1, max_length=100, description="The backfill's id")]


class BackfillRequest(BaseModel):
    """Which ticks to make up for, and how."""

    model_config = ConfigDict(extra="forbid")

    first: Instant = Field(alias="from", description="ISO 8601 with offset; a tick at this time is included")
    last: Instant = Field(alias="to", description="ISO 8601 with offset; a tick at this time is included")
    one_by_one: bool = Field(
        default=False, description="Run each tick; otherwise as the job's late ticks are run", strict=True
    )
    force: bool = Field(default=False, description="Run those, too, that ran already", strict=True)
    stop_on_failure: bool = Field(default=False, description="Leave the rest when a run fails", strict=True)
    dry_run: bool = Field(default=False, description="Only say what would be done", strict=True)
    note: Note | None = Field(default=None, description="Stored with each run")


class BackfillModel(BaseModel):
    """Ticks that are being made up for, and how far that is."""

    id: str | None = Field(description="None for a dry run")
    job_name: str = Field(description="The job", examples=["cleanup"])
    first: datetime = Field(serialization_alias="from", description="The beginning of the span, included")
    last: datetime = Field(serialization_alias="to", description="The end of the span, included")
    one_by_one: bool = Field(description="Whether each tick is run")
    status: BackfillStatus | None = Field(
        description="How it stands; `stopped` after a failure, `interrupted` where its instance died. None for a dry run"
    )
    ticks: int = Field(description="How many ticks the span has up to now")
    ran: int = Field(description="How many of them ran before, and are left out")
    stood_for: int = Field(
        description="How many of them the run of a later tick stands for (`coalesce`); `one_by_one` runs them"
    )
    running: int = Field(description="How many of them are on record as running, and are left out")
    waiting: int = Field(description="How many the scheduler has yet to handle, and are left to it")
    in_doubt: int = Field(description="How many may have run: their records were deleted. Only `force` runs them")
    beyond: int = Field(description="How many are older than the late ticks that a job may run; `one_by_one` runs them")
    runs: int = Field(description="How many runs it has")
    done: int = Field(description="How many of these completed")
    failed: int = Field(description="How many of these did not")
    skipped: int = Field(description="How many ticks were run by others in the meantime")
    left: int = Field(description="How many runs have not ended")
    current_run: str | None = Field(description="The id of the run that is running now")
    actor: str | None = Field(description="Who asked for it, where that is known", examples=["ops"])
    note: str | None = Field(description="Why; None for clients that are not shown details")
    instance: str | None = Field(description="The instance that works on it; None for a dry run")
    cancel_asked: bool = Field(description="Whether it was cancelled, or is about to be")
    start_time: datetime | None = Field(description="When it began; None for a dry run")
    end_time: datetime | None = Field(description="None while it is going on, and where its instance died")
    error: str | None = Field(description="Why it stopped, where no run says so; None for clients not shown details")

    @classmethod
    def of(cls, found: BackfillRecord, *, details: bool) -> BackfillModel:
        return cls(
            id=found.id,
            job_name=found.job,
            first=utc_datetime(found.first),
            last=utc_datetime(found.last),
            one_by_one=found.one_by_one,
            status=found.status,
            ticks=found.ticks,
            ran=found.ran,
            stood_for=found.stood_for,
            running=found.running,
            waiting=found.waiting,
            in_doubt=found.in_doubt,
            beyond=found.beyond,
            runs=found.runs,
            done=found.done,
            failed=found.failed,
            skipped=found.skipped,
            left=found.left,
            current_run=found.current_run,
            actor=found.actor,
            note=found.note if details else None,
            instance=found.instance,
            cancel_asked=found.cancel_asked,
            start_time=utc_datetime(found.started_ts),
            end_time=None if found.ended_ts is None else utc_datetime(found.ended_ts),
            error=found.error if details else None,
        )

    @classmethod
    def planned(cls, span: Span, plan: BackfillPlan, *, details: bool) -> BackfillModel:
        """One that has not begun."""
        shown = cls.of(begun(span, plan, "", "", "", 0.0), details=details)
        return shown.model_copy(update=dict.fromkeys(("id", "status", "instance", "start_time")))


@endpoint("POST", "/crons/{job_name}/backfill", status_code=202, responses=_CHANGES)
async def backfill(asked: Asking, job_name: Name, body: BackfillRequest) -> BackfillModel:
    """Run the ticks of a span again that did not run, or failed: in the background of this instance, one after another.

    They take the places of late ticks, so that ticks that are due go first. Asked again, it goes on where it stopped.
    """
    span = Span(
        asked.management.definition(job_name),
        whole_seconds(body.first, "from"),
        whole_seconds(body.last, "to"),
        body.one_by_one,
        body.force,
        body.stop_on_failure,
        asked.actor,
        body.note,
    )
    if body.dry_run:
        return BackfillModel.planned(span, await asked.management.backfills.plan(span), details=asked.details)
    begun = await asked.management.backfills.start(span)
    return BackfillModel.of(begun.record(), details=asked.details)


@endpoint("GET", "/crons/{job_name}/backfills")
async def backfills(asked: Asking, job_name: Name) -> list[BackfillModel]:
    """The backfills of a job, newest first, whichever instance works on them; the newest hundred of all jobs are kept."""
    return [BackfillModel.of(each, details=asked.details) for each in await asked.management.backfills.of_job(job_name)]


@endpoint("GET", "/crons/{job_name}/backfills/{backfill_id}")
async def one_backfill(asked: Asking, job_name: Name, backfill_id: BackfillId) -> BackfillModel:
    """How far a backfill is, whichever instance works on it."""
    return BackfillModel.of(await asked.management.backfills.one(job_name, backfill_id), details=asked.details)


@endpoint("POST", "/crons/{job_name}/backfills/{backfill_id}/cancel", status_code=202, responses=_CHANGES)
async def cancel_backfill(asked: Asking, job_name: Name, backfill_id: BackfillId) -> BackfillModel:
    """Cancel the current run, and begin none of the others; where another instance works on it, within about a second."""
    found = await asked.management.backfills.cancel(job_name, backfill_id, actor=asked.actor)
    return BackfillModel.of(found, details=asked.details)
