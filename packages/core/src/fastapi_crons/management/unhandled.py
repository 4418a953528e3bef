"""Unhandled ticks: those that are overdue, and that no instance has run, skipped, or recorded as missed so far."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from operator import itemgetter
from typing import NamedTuple

from fastapi_crons.errors import ScheduleError
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import KnownJob, LiveInstance
from fastapi_crons.management.fates.explain import TickFate, explain
from fastapi_crons.management.fates.explain_words import OVERDUE
from fastapi_crons.management.fates.tick_records import TickRecords
from fastapi_crons.management.made_ticks import is_made, next_made_tick
from fastapi_crons.schedule.base import Schedule
from fastapi_crons.schedule.due import TickRange, tick_range, tick_source
from fastapi_crons.schedules.texts import schedule_of_text
from fastapi_crons.state.base import MissedQuery


class UnhandledTicks(NamedTuple):
    """Successive unhandled ticks of a job."""

    job: str
    ticks: TickRange
    fate: TickFate
    """Why no instance has handled the oldest of them, as *why* explains it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the stores and this process know when unhandled ticks are looked for."""

    now: float
    known: Mapping[str, KnownJob]
    """What the lock store knows of each job."""
    instances: Collection[LiveInstance]
    running: int
    """How many of them run jobs."""


def unhandled_ticks(
    jobs: Iterable[CronJob], asked: Asked, query: MissedQuery, *, details: bool
) -> tuple[list[UnhandledTicks], int]:
    """The unhandled ticks of these jobs in the time of a query, those that wait longest first, and how many jobs have some.

    There are at most as many as the query says. A pure function of what the stores know.
    """
    found = sorted(_ranges(jobs, asked, query), key=itemgetter(0, 1))
    living = frozenset(each.instance.owner for each in asked.instances)
    shown = []
    for ticks, name, job in found[: query.limit]:
        records = TickRecords(ticks.first, asked.now, job, asked.known[name], (), (), living, asked.running)
        shown.append(UnhandledTicks(name, ticks, explain(records, details=details)))
    return shown, len(found)


def _ranges(jobs: Iterable[CronJob], asked: Asked, query: MissedQuery) -> Iterator[tuple[TickRange, str, CronJob]]:
    counted: dict[tuple[str, str, int, int], TickRange | None] = {}
    for job in jobs:
        known = asked.known.get(job.name)
        schedule = None if known is None else _in_force(job, known)
        if known is None or schedule is None:
            continue
        # What is due now is just being claimed, or held back by jitter.
        until = int(asked.now - OVERDUE - job.jitter)
        if query.until is not None:
            until = min(until, ceil(query.until) - 1)
        after = known.last_handled if query.since is None else max(known.last_handled, ceil(query.since) - 1)
        if is_made(schedule):
            tick = next_made_tick(schedule, known)
            ticks = None if tick is None or not after < tick <= until else TickRange(tick, tick, 1)
        else:
            # Many jobs of one schedule wait since the same instant, and counting takes long.
            key = (known.schedule, known.timezone, after, until)
            if key not in counted:
                counted[key] = tick_range(tick_source(schedule), after, until)
            ticks = counted[key]
        if ticks is not None:
            yield ticks, job.name, job


def _in_force(job: CronJob, known: KnownJob) -> Schedule | None:
    """The schedule that is in force; None for a kind that is not installed here."""
    if (known.schedule, known.timezone) == (job.schedule.text, job.schedule_zone):
        return job.schedule
    try:
        return schedule_of_text(known.schedule, known.timezone or None)
    except ScheduleError:
        return None
