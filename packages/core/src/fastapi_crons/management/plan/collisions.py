"""Collisions: runs that reach past the next tick, instants at which more is due than can run at a time, crowded hours."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Literal, NamedTuple

from fastapi_crons.config import CronConfig
from fastapi_crons.job import CronJob, Place
from fastapi_crons.management.plan.ticks import Patience, Ticks, is_ours
from fastapi_crons.schedule.base import Schedule, ZonedSchedule

Limited = Literal["runs", "threads", "processes"]

#: How many ticks are looked at together. Where there are more, only the first part of the span is looked at.
MAX_LOOKED_AT = 200_000
#: How often the ticks of a schedule in an hour are counted; as above.
_MOST_COUNTS = 50_000
#: So many times the average, and at least so many ticks, make an hour a crowded one.
_CROWD, _LEAST_CROWD = 3, 20
_NAMED = 5
_HOUR = 3_600
_LIMITED: Mapping[Place, Limited] = {"thread": "threads", "process": "processes"}


class Overlapping(NamedTuple):
    """Ticks of a job that fall due while its run before, of usual length (p95), is still running."""

    number: int
    looked_at: int
    """Of how many ticks, from the first one on."""
    first: int


class TooMany(NamedTuple):
    """More jobs are due at one instant than can run at a time: the others wait."""

    what: Limited
    limit: int
    """How many runs, threads or processes the living instances have together."""
    at: int
    """When most are due."""
    due: int
    """How many then."""
    instants: int
    """At how many instants there are too many."""
    jobs: tuple[str, ...]
    """Some of those that are due then."""


class Crowd(NamedTuple):
    """An hour with far more ticks than others; when it begins, in Unix seconds."""

    hour: int
    ticks: int


class Collisions(NamedTuple):
    """What was found in the part of the span that was looked at."""

    too_many: tuple[TooMany, ...]
    crowds: tuple[Crowd, ...]
    until: int
    """Up to when was looked."""
    hours: tuple[tuple[int, int], ...]
    """How many ticks each hour has that has any; when it begins, in Unix seconds."""
    counted_until: int
    """Up to when the ticks of hours were counted."""


def overlapping(ticks: Ticks, usual: float | None, policy: str, running_since: float | None) -> Overlapping | None:
    """The ticks that meet a run of usual length (seconds), also the one that is running since then; None for none."""
    if usual is None:
        return None
    times = [
        *ticks.single,
        *([ticks.following] if ticks.following is not None and ticks.number == len(ticks.single) else []),
    ]
    busy_until, met = -math.inf if running_since is None else running_since + usual, []
    for tick in times:
        if tick < busy_until:
            met.append(tick)
        if tick >= busy_until or policy != "skip":
            busy_until = tick + usual
    return Overlapping(len(met), len(times), met[0]) if met else None


async def collisions(
    jobs: Mapping[Schedule, Sequence[CronJob]],
    ticks: Mapping[Schedule, Ticks],
    after: int,
    until: int,
    limits: Mapping[Limited, int],
    patience: Patience,
) -> Collisions:
    """What collides in (after, until] of jobs whose ticks run, by their schedules."""
    weights = {schedule: _weights(having) for schedule, having in jobs.items()}
    # Of what is enough for all jobs at once, there is never too little.
    short = [what for what, limit in limits.items() if sum(weight[what] for weight in weights.values()) > limit]
    wanting = [schedule for schedule, weight in weights.items() if any(weight[what] for what in short)]
    hours, counted_until = await _hours(jobs, ticks, after, until, patience)
    looked_until = counted_until
    due: dict[Limited, dict[int, int]] = {what: {} for what in short}
    streams = [_stream(weights[schedule], schedule, ticks[schedule], looked_until) for schedule in wanting]
    looked_at = 0
    for instant, group in groupby(merge(*streams, key=itemgetter(0)), itemgetter(0)):
        await patience.give_turn()
        wanted = [weight for _, weight in group]
        looked_at += len(wanted)
        for what in short:
            together = sum(weight[what] for weight in wanted) if len(wanted) > 1 else wanted[0][what]
            if together > limits[what]:
                due[what][instant] = together
        if looked_at > MAX_LOOKED_AT:
            looked_until = instant
            break
    found = [_too_many(what, limits[what], instants, jobs, ticks) for what, instants in due.items() if instants]
    by_hour = tuple((hour * _HOUR, number) for hour, number in sorted(hours.items()) if number)
    return Collisions(tuple(found), _crowds(hours, after, looked_until), looked_until, by_hour, counted_until)


async def _hours(
    jobs: Mapping[Schedule, Sequence[CronJob]],
    ticks: Mapping[Schedule, Ticks],
    after: int,
    until: int,
    patience: Patience,
) -> tuple[Counter[int], int]:
    """How many ticks each hour has, by its number since 1970, and up to when they were counted."""
    counted = [schedule for schedule in jobs if ticks[schedule].number > len(ticks[schedule].single)]
    counted = [schedule for schedule in counted if is_ours(schedule)]
    if counted:
        until = min(until, after + _HOUR * max(1, _MOST_COUNTS // len(counted)))
    hours: Counter[int] = Counter()
    for schedule in counted:
        assert isinstance(schedule, ZonedSchedule)
        for hour in range((after + 1) // _HOUR, until // _HOUR + 1):
            await patience.give_turn()
            begin, end = max(after, hour * _HOUR - 1), min(until, hour * _HOUR + _HOUR - 1)
            number, _ = schedule.count_ticks(begin, end, _HOUR, lambda: False)
            hours[hour] += number * len(jobs[schedule])
    for schedule in jobs.keys() - set(counted):
        for tick in ticks[schedule].single:
            if tick <= until:
                hours[tick // _HOUR] += len(jobs[schedule])
    return hours, until


def limits_of(config: CronConfig, instances: int) -> dict[Limited, int]:
    """How many runs, threads and processes so many instances have together."""
    each: dict[Limited, int] = {
        "runs": config.max_concurrent_runs,
        "threads": config.max_threads,
        "processes": config.max_processes,
    }
    return {what: limit * max(1, instances) for what, limit in each.items()}


def _weights(jobs: Sequence[CronJob]) -> Counter[Limited]:
    """How many of these jobs want which of what is limited, at the same instant."""
    found: Counter[Limited] = Counter()
    for job in jobs:
        if job.jitter < 1:  # otherwise their starts are spread
            found["runs"] += 1
            if job.run_in != "loop":
                found[_LIMITED[job.run_in]] += 1
    return found


def _stream(
    weight: Counter[Limited], schedule: Schedule, ticks: Ticks, until: int
) -> Iterator[tuple[int, Counter[Limited]]]:
    """The ticks that were computed already, and those beyond them, where they can be computed quickly."""
    for tick in ticks.single:
        if tick <= until:
            yield tick, weight
    if ticks.number > len(ticks.single) and is_ours(schedule) and isinstance(schedule, ZonedSchedule):
        for tick in schedule.ticks_between(ticks.single[-1], until):
            yield tick, weight


def _too_many(
    what: Limited,
    limit: int,
    instants: Mapping[int, int],
    jobs: Mapping[Schedule, Sequence[CronJob]],
    ticks: Mapping[Schedule, Ticks],
) -> TooMany:
    worst = max(instants, key=lambda instant: (instants[instant], -instant))
    named: list[str] = []
    for schedule, having in jobs.items():
        if len(named) < _NAMED and _is_due(schedule, ticks[schedule], worst):
            named += [job.name for job in having if _weights([job])[what]]
    return TooMany(what, limit, worst, instants[worst], len(instants), tuple(named[:_NAMED]))


def _is_due(schedule: Schedule, ticks: Ticks, instant: int) -> bool:
    if ticks.number == len(ticks.single) or not (is_ours(schedule) and isinstance(schedule, ZonedSchedule)):
        return instant in ticks.single
    return schedule.next_tick(instant - 1) == instant


def _crowds(hours: Mapping[int, int], after: int, until: int) -> tuple[Crowd, ...]:
    span = max(1.0, (until - after) / _HOUR)
    least = max(_LEAST_CROWD, _CROWD * sum(hours.values()) / span)
    return tuple(Crowd(hour * _HOUR, number) for hour, number in sorted(hours.items()) if number >= least)
