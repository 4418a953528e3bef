"""Deploy: what starting an instance with other code would do to the jobs that a lock store knows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import KnownJob, Pause
from fastapi_crons.management.plan.collisions import TooMany
from fastapi_crons.management.plan.edits import Edits, TickEdit
from fastapi_crons.management.plan.late import LateTicks, late_ticks
from fastapi_crons.management.plan.plan import Plan, PlanRecords, plan_of
from fastapi_crons.management.plan.planned import PlannedJob
from fastapi_crons.management.plan.renames import Renamed, renames
from fastapi_crons.schedule.base import ZonedSchedule
from fastapi_crons.schedule.due import TickRange
from fastapi_crons.schedules.texts import range_of_text

#: More late runs than these at the start are many.
MANY_LATE_RUNS = 10
#: A tick that is not older (seconds) is about to be handled, where an instance lives that has the job.
_ABOUT_NOW = 5

Part = Literal["schedule", "timezone", "enabled", "arguments", "function"]


class Change(NamedTuple):
    """One part of a job's definition that differs. Of arguments only that is known."""

    part: Part
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ChangedJob:
    """A job with another definition than the one in force."""

    job: CronJob
    changes: tuple[Change, ...]
    edit: TickEdit | None
    """What that does to its ticks in the span; None where it does nothing, or that is not known."""
    lost: TickRange | None = None
    """Late ticks of the schedule in force, which the new one does not have: they are recorded as missed."""


@dataclass(frozen=True, slots=True)
class Deploy:
    """What a deploy does. Instants in Unix seconds (UTC); ticks are those in (since, until]."""

    since: int
    until: int
    jobs: int
    """How many jobs the code has."""
    instances: int
    """How many running instances run jobs."""
    new: tuple[tuple[CronJob, TickEdit | None], ...]
    gone: tuple[tuple[KnownJob, TickEdit | None], ...]
    """Jobs of the instances that run now, or ran last, which the code does not have; also those that were perhaps renamed."""
    renamed: tuple[Renamed, ...]
    changed: tuple[ChangedJob, ...]
    paused: tuple[tuple[CronJob, Pause], ...]
    """Jobs that stay paused."""
    late: tuple[tuple[CronJob, LateTicks], ...]
    """What is caught up with at the start."""
    at_start: tuple[CronJob, ...]
    """Jobs that are run because of the start."""
    overlapping: tuple[PlannedJob, ...]
    """New and changed jobs that usually take longer than their new interval."""
    too_many: tuple[TooMany, ...]
    """Instants at which the new and changed jobs make more due than can run, or still more."""
    former: tuple[str, ...]
    """Jobs on record that no instance has any more already: nothing changes for them."""

    @property
    def late_runs(self) -> int:
        return sum(late.runs for _, late in self.late)

    @property
    def is_safe(self) -> bool:
        """Whether nothing is lost or in doubt: no job goes, no tick is lost, and not much is caught up with."""
        lost = any(changed.lost is not None for changed in self.changed)
        return not self.gone and not lost and self.late_runs <= MANY_LATE_RUNS


async def deploy_of(records: PlanRecords, living: Collection[str]) -> Deploy:
    """What a deploy of the jobs does to what is known. `living`: the owners of running instances that run jobs."""
    jobs, known, now = {job.name: job for job in records.jobs}, records.known, int(records.now)
    edits = Edits(now, records.until)
    new = [job for name, job in jobs.items() if name not in known]
    not_here = [each for name, each in sorted(known.items()) if name not in jobs]
    in_use = _in_use(known, jobs, living)
    gone = [each for each in not_here if each.job in in_use]
    changed = [
        await _changed(job, known[name], changes, edits, _due_until(known[name], records, living))
        for name, job in jobs.items()
        if name in known and (changes := changes_of(known[name], job))
    ]
    redefined = {each.job.name for each in changed if each.edit is not None}
    touched = {*redefined, *(job.name for job in new)}
    plans = await _plans(records, touched)
    return Deploy(
        now,
        records.until,
        len(jobs),
        records.instances,
        tuple([(job, await edits.of(None, job)) for job in new]),
        tuple([(each, await edits.of(each, None)) for each in gone]),
        tuple(renames(gone, new)),
        tuple(changed),
        tuple((job, pause) for name, job in jobs.items() if name in known and (pause := known[name].pause) is not None),
        tuple(_late(jobs, records, living)),
        tuple(job for job in jobs.values() if _runs_at_start(job, known.get(job.name), living)),
        tuple(each for each in plans[0].jobs if each.job.name in touched and each.overlapping is not None),
        _more(plans[0], plans[1]),
        tuple(each.job for each in not_here if each.job not in in_use),
    )


def changes_of(known: KnownJob, job: CronJob) -> tuple[Change, ...]:
    """What differs between the definition in force and a job."""
    words = {True: "enabled", False: "disabled"}
    parts: list[tuple[Part, str, str]] = [
        ("schedule", known.schedule, job.schedule.text),
        ("timezone", known.timezone, job.schedule_zone),
        ("enabled", words[known.enabled], words[job.enabled]),
        ("function", known.function, job.function_name),
    ]
    found = [Change(part, before, after) for part, before, after in parts if before != after]
    if known.arguments is not None and known.arguments != job.arguments_digest:
        found.append(Change("arguments", None, None))
    return tuple(found)


def _in_use(known: Mapping[str, KnownJob], jobs: Mapping[str, CronJob], living: Collection[str]) -> set[str]:
    """The jobs that living instances have registered; where none is alive, those that the last one had."""
    owners = set(living)
    if not owners:
        owners = {each.registrars[-1] for name, each in known.items() if name in jobs and each.registrars}
    if not owners:
        return set(known)  # it can't be told
    return {name for name, each in known.items() if not owners.isdisjoint(each.registrars)}


def _due_until(known: KnownJob, records: PlanRecords, living: Collection[str]) -> float:
    """Up to when (Unix seconds) ticks count as late."""
    return records.now - (0 if set(living).isdisjoint(known.registrars) else _ABOUT_NOW)


async def _changed(
    job: CronJob, known: KnownJob, changes: tuple[Change, ...], edits: Edits, until: float
) -> ChangedJob:
    if not {change.part for change in changes} & {"schedule", "timezone", "enabled"}:
        return ChangedJob(job, changes, None)
    lost = None
    if known.enabled and known.pause is None:
        lost = range_of_text(known.schedule, known.timezone, known.last_handled, int(until))
    return ChangedJob(job, changes, await edits.of(known, job), lost)


def _late(
    jobs: Mapping[str, CronJob], records: PlanRecords, living: Collection[str]
) -> list[tuple[CronJob, LateTicks]]:
    found = []
    for name, job in jobs.items():
        known = records.known.get(name)
        if known is None or known.pause is not None or not (job.enabled and known.enabled):
            continue
        if (known.schedule, known.timezone) != (job.schedule.text, job.schedule_zone):
            continue
        late = late_ticks(job, known, _due_until(known, records, living), records.config)
        if late is not None:
            found.append((job, late))
    return found


def _runs_at_start(job: CronJob, known: KnownJob | None, living: Collection[str]) -> bool:
    if not job.enabled or not isinstance(job.schedule, ZonedSchedule) or not job.schedule.at_start:
        return False
    if known is None or known.schedule != job.schedule.text or not known.enabled:
        return True
    return job.schedule.at_start == "fleet" and set(living).isdisjoint(known.registrars)


async def _plans(records: PlanRecords, touched: Collection[str]) -> tuple[Plan, Plan]:
    """The plan of all jobs, and that of those which neither come nor change; without what the store knows of them."""
    bare = replace(records, known={})
    others = replace(bare, jobs=[job for job in records.jobs if job.name not in touched])
    return await plan_of(bare), await plan_of(others)


def _more(plan: Plan, before: Plan) -> tuple[TooMany, ...]:
    """What there is too little of, and was not, or not so much."""
    due = {each.what: each.due for each in before.collisions.too_many}
    return tuple(each for each in plan.collisions.too_many if each.due > due.get(each.what, 0))
