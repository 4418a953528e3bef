"""The body of the management API's response about what is due."""

from __future__ import annotations

from pydantic import BaseModel, Field

from fastapi_crons.api.models import Instant, PauseModel
from fastapi_crons.clock import utc_datetime
from fastapi_crons.management.plan.clock_changes import ClockChange
from fastapi_crons.management.plan.collisions import Crowd, Limited, TooMany
from fastapi_crons.management.plan.late import LateTicks
from fastapi_crons.management.plan.plan import Plan
from fastapi_crons.management.plan.planned import PlannedJob, Standing


class LateModel(BaseModel):
    """Late ticks that wait, and what becomes of them."""

    first: Instant = Field(description="The oldest of them")
    last: Instant = Field(description="The newest of them")
    count: int = Field(description="How many; where `more` is true, at least so many")
    more: bool = Field(description="Whether counting stopped early")
    runs: int = Field(description="How many runs they get as soon as an instance claims them")
    missed: int = Field(description="How many are recorded as missed")

    @classmethod
    def of(cls, late: LateTicks) -> LateModel:
        ticks = late.ticks
        return cls(
            first=utc_datetime(ticks.first),
            last=utc_datetime(ticks.last),
            count=ticks.number,
            more=ticks.more,
            runs=late.runs,
            missed=late.missed,
        )


class OverlappingModel(BaseModel):
    """Ticks that fall due while the run before, of usual length (`p95`), is still running."""

    count: int = Field(description="How many of those that were looked at")
    of: int = Field(description="How many were looked at, from the first one on")
    first: Instant = Field(description="The first of them")


class PlannedModel(BaseModel):
    """A job with its ticks in the span. Times are UTC, durations seconds."""

    job_name: str = Field(description="The job", examples=["cleanup"])
    standing: Standing = Field(description="Whether its ticks are run, or not because it is paused or disabled")
    count: int = Field(description="How many ticks it has in the span; where `more` is true, at least so many")
    more: bool = Field(description="Whether there are more than were counted, or are known")
    first: Instant | None = Field(description="The first of them; None where there is none, or none is known")
    last: Instant | None = Field(description="The last of them; of a schedule that can't be counted, the last counted")
    every: int | None = Field(description="Seconds from each one to the next, where they are the same", examples=[300])
    ticks: list[Instant] = Field(description="The first ones, 12 at most")
    expr: str = Field(description="The schedule", examples=["*/5 * * * *"])
    timezone: str | None = Field(description="The time zone of the schedule", examples=["Europe/Berlin"])
    tags: list[str] = Field(description="The tags it has in code")
    paused: PauseModel | None = Field(description="None for a job that is not paused")
    late: LateModel | None = Field(description="Late ticks that wait; None where there are none")
    p50: float | None = Field(description="What half of the runs of the last 7 days did not exceed", examples=[2.3])
    p95: float | None = Field(description="What 95 % of them did not exceed; None where none completed", examples=[4.1])
    overlapping: OverlappingModel | None = Field(description="Ticks that its own runs probably stand in the way of")
    in_force: str | None = Field(description="The schedule in force, where that is another one")
    notes: list[str] = Field(description="What stands against its ticks, in words, with times in the job's zone")

    @classmethod
    def of(cls, planned: PlannedJob, *, details: bool) -> PlannedModel:
        job, ticks, met = planned.job, planned.ticks, planned.overlapping
        return cls(
            job_name=job.name,
            standing=planned.standing,
            count=ticks.number,
            more=ticks.more,
            first=None if ticks.first is None else utc_datetime(ticks.first),
            last=None if ticks.last is None else utc_datetime(ticks.last),
            every=ticks.every,
            ticks=[utc_datetime(tick) for tick in ticks.single],
            expr=job.schedule.text,
            timezone=job.schedule_zone or None,
            tags=list(job.tags),
            paused=None if planned.pause is None else PauseModel.of(planned.pause, details=details),
            late=None if planned.late is None else LateModel.of(planned.late),
            p50=planned.p50,
            p95=planned.p95,
            overlapping=None
            if met is None
            else OverlappingModel(count=met.number, of=met.looked_at, first=utc_datetime(met.first)),
            in_force=planned.in_force,
            notes=planned.notes(details=details),
        )


class TooManyModel(BaseModel):
    """More is due at one instant than can run at a time."""

    what: Limited = Field(description="What there is too little of")
    limit: int = Field(description="How many the running instances have together, by the settings of the answering one")
    time: Instant = Field(description="When most are due")
    due: int = Field(description="How many then")
    instants: int = Field(description="At how many instants there are too many")
    jobs: list[str] = Field(description="Some of those that are due then")

    @classmethod
    def of(cls, found: TooMany) -> TooManyModel:
        return cls(
            what=found.what,
            limit=found.limit,
            time=utc_datetime(found.at),
            due=found.due,
            instants=found.instants,
            jobs=list(found.jobs),
        )


class CrowdModel(BaseModel):
    """An hour with far more ticks than others."""

    hour: Instant = Field(description="When it begins")
    ticks: int = Field(description="How many ticks it has")

    @classmethod
    def of(cls, crowd: Crowd) -> CrowdModel:
        return cls(hour=utc_datetime(crowd.hour), ticks=crowd.ticks)


class ClockChangeModel(BaseModel):
    """A clock change in the span, in a zone of these jobs."""

    timezone: str = Field(description="The time zone", examples=["Europe/Berlin"])
    time: Instant = Field(description="When it happens")
    seconds: int = Field(description="By how much the clock is put forward; less than 0: back", examples=[3600])
    text: str = Field(description="The same in words")

    @classmethod
    def of(cls, change: ClockChange) -> ClockChangeModel:
        return cls(
            timezone=change.timezone,
            time=utc_datetime(change.at),
            seconds=change.after - change.before,
            text=change.text,
        )


class PlanModel(BaseModel):
    """What is due in a span of time. Times are UTC."""

    since: Instant = Field(description="After this time")
    until: Instant = Field(description="Up to this time, which is included")
    jobs: list[PlannedModel] = Field(description="Jobs that are due, or have late ticks, by their first tick")
    idle: int = Field(description="How many other jobs there are, which are not due")
    too_many: list[TooManyModel] = Field(description="What more is wanted of, at one instant, than there is")
    crowds: list[CrowdModel] = Field(description="Hours with far more ticks than others")
    looked_until: Instant = Field(
        description="Up to when it was looked for these two; before `until` for very many ticks"
    )
    clock_changes: list[ClockChangeModel] = Field(description="Clock changes in the span, in the zones of these jobs")
    instances: int = Field(description="How many running instances run jobs; with 0, nothing runs until one starts")
    has_durations: bool = Field(
        description="False where the state store did not answer, so that it is not known how long jobs usually take"
    )

    @classmethod
    def of(cls, plan: Plan, *, details: bool) -> PlanModel:
        return cls(
            since=utc_datetime(plan.since),
            until=utc_datetime(plan.until),
            jobs=[PlannedModel.of(planned, details=details) for planned in plan.jobs],
            idle=plan.idle,
            too_many=[TooManyModel.of(found) for found in plan.collisions.too_many],
            crowds=[CrowdModel.of(crowd) for crowd in plan.collisions.crowds],
            looked_until=utc_datetime(plan.collisions.until),
            clock_changes=[ClockChangeModel.of(change) for change in plan.changes],
            instances=plan.instances,
            has_durations=plan.has_durations,
        )
