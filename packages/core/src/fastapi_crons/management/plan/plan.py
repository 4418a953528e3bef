"""Plan: what is due in the next hours, over all jobs, and what stands against it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from fastapi_crons.config import CronConfig
from fastapi_crons.errors import InvalidArgumentError
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import KnownJob
from fastapi_crons.management.made_ticks import is_made, next_made_tick
from fastapi_crons.management.plan.clock_changes import ClockChange, changes_between, effects_of
from fastapi_crons.management.plan.collisions import Collisions, collisions, limits_of, overlapping
from fastapi_crons.management.plan.late import late_ticks
from fastapi_crons.management.plan.planned import PlannedJob, Standing
from fastapi_crons.management.plan.ticks import Patience, Ticks
from fastapi_crons.run import made_at
from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.state.figures import Figures

#: How many days of figures say how long a job usually takes.
FIGURES_DAYS = 7
#: The longest span (hours) that is planned: 31 days.
MAX_HOURS = 31 * 24


@dataclass(frozen=True, slots=True)
class PlanRecords:
    """What a plan is made from. Instants in Unix seconds (UTC)."""

    now: float
    until: int
    jobs: Collection[CronJob]
    """As they are defined in this process."""
    known: Mapping[str, KnownJob]
    """What the lock store knows of them."""
    instances: int
    """How many running instances run jobs."""
    figures: Mapping[str, Figures] | None
    """Of the last days, by job; none where they were not asked for. None where the state store did not answer."""
    config: CronConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due in (since, until], in Unix seconds (UTC)."""

    since: int
    until: int
    jobs: tuple[PlannedJob, ...]
    """Those with ticks in the span or late ones, and those of which it is not known; by their first tick."""
    idle: int
    """How many jobs are not due in the span."""
    collisions: Collisions
    changes: tuple[ClockChange, ...]
    """The clock changes in the span, of all zones of these jobs."""
    instances: int
    """How many running instances run jobs."""
    has_durations: bool
    """False where the state store did not answer, so that it is not known how long jobs usually take."""


async def plan_of(records: PlanRecords) -> Plan:
    """What is due. Takes short turns on the event loop, however many jobs there are."""
    patience, since = Patience(), int(records.now)
    ticks: dict[Schedule, Ticks] = {}
    changes: dict[str, list[ClockChange]] = {}
    planned: list[PlannedJob] = []
    figures = records.figures or {}
    running: dict[Schedule, list[CronJob]] = {}
    for job in records.jobs:
        await patience.give_turn()
        known = records.known.get(job.name)
        own = ticks.get(job.schedule)
        if own is None and is_made(job.schedule):
            own = _made(job.schedule, known, since, records.until)
        elif own is None:
            own = ticks[job.schedule] = patience.ticks_of(job.schedule, since, records.until)
        if job.schedule_zone not in changes:
            changes[job.schedule_zone] = changes_between(job.schedule_zone or "UTC", since, records.until)
        made = _planned(job, own, known, figures.get(job.name), changes[job.schedule_zone], records)
        if made is not None:
            planned.append(made)
            if made.standing == "runs" and job.schedule in ticks:
                running.setdefault(job.schedule, []).append(job)
    planned.sort(key=lambda each: (each.ticks.first or 0, each.job.name))
    found = await collisions(
        running, ticks, since, records.until, limits_of(records.config, records.instances), patience
    )
    zones = {each.job.schedule_zone for each in planned}
    all_changes = sorted(change for zone in zones for change in changes[zone])
    idle = len(records.jobs) - len(planned)
    return Plan(
        since,
        records.until,
        tuple(planned),
        idle,
        found,
        tuple(all_changes),
        records.instances,
        records.figures is not None,
    )


def end_of_span(now: float, hours: float, until: datetime | None) -> int:
    """When a span that begins now ends (Unix seconds): after so many hours, or at an instant (aware).

    Raises `InvalidArgumentError` where that is not within 31 days.
    """
    end = now + hours * 3_600 if until is None else until.timestamp()
    if not now < end <= now + MAX_HOURS * 3_600:
        given = f"hours can't be {hours:g}" if until is None else f"until can't be {until.isoformat()}"
        raise InvalidArgumentError(f"{given}: a plan ends after now, and within {MAX_HOURS // 24} days")
    return int(end)


def _planned(
    job: CronJob,
    ticks: Ticks,
    known: KnownJob | None,
    figures: Figures | None,
    changes: Iterable[ClockChange],
    records: PlanRecords,
) -> PlannedJob | None:
    """A job in the plan; None where nothing of it is due."""
    pause = None if known is None else known.pause
    standing: Standing = "disabled" if not job.enabled else "runs" if pause is None else "paused"
    in_force = known is None or (known.schedule, known.timezone) == (job.schedule.text, job.schedule_zone)
    late = None
    if known is not None and in_force and known.enabled and standing == "runs":
        late = late_ticks(job, known, records.now, records.config)
    if not ticks.number and late is None and ticks.fault is None and not is_made(job.schedule):
        return None
    p50, p95 = usual(figures)
    effects: tuple[str, ...] = ()
    if ticks.number and isinstance(job.schedule, ZonedSchedule):
        effects = tuple(effect for change in changes for effect in effects_of(job.schedule, change))
    return PlannedJob(
        job,
        ticks,
        standing,
        pause,
        late,
        p50,
        p95,
        overlapping(ticks, p95, job.overlap, _running_since(known)) if standing == "runs" else None,
        effects,
        None if in_force or known is None else f"{known.schedule!r}{f' in {known.timezone}' if known.timezone else ''}",
    )


def _running_since(known: KnownJob | None) -> float | None:
    """When the latest run of a job began that has not ended; None where none is running."""
    leases = () if known is None else known.leases
    return max((made_at(lease.run_id) for lease in leases if lease.missed is None), default=None)


def _made(schedule: Schedule, known: KnownJob | None, since: int, until: int) -> Ticks:
    """The tick that is known of a job whose runs or starts make its ticks."""
    matches = known is not None and known.schedule == schedule.text
    tick = next_made_tick(schedule, known) if matches else None
    if tick is None or not since < tick <= until:
        return Ticks()
    return Ticks((tick,), 1, tick, more=isinstance(schedule, ZonedSchedule) and schedule.period_from_end > 0)


def usual(figures: Figures | None) -> tuple[float | None, float | None]:
    """The durations (p50, p95, in seconds) of the runs in figures; None where none completed."""
    return (None, None) if figures is None else (figures.quantile(0.5), figures.quantile(0.95))
