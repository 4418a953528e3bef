"""What becomes of the ticks of a job that are late already."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from fastapi_crons.config import CronConfig
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import KnownJob
from fastapi_crons.management.made_ticks import is_made, next_made_tick
from fastapi_crons.management.plan.ticks import is_ours
from fastapi_crons.schedule.base import ZonedSchedule
from fastapi_crons.schedule.due import Policy, TickRange, tick_range


class LateTicks(NamedTuple):
    """Ticks that were due, and that no instance has handled yet."""

    ticks: TickRange
    runs: int
    """How many runs they get."""
    missed: int = 0
    """How many are too old or too many to be run. Those that a run of the newest one covers are not among them."""


def late_ticks(job: CronJob, known: KnownJob, now: float, config: CronConfig) -> LateTicks | None:
    """The late ticks of a job that is neither paused nor disabled, by the policy for late ticks; None where there are none."""
    grace = None if job.misfire_grace_time is None else job.misfire_grace_time + job.jitter
    if is_made(job.schedule):
        tick = next_made_tick(job.schedule, known)
        if tick is None or tick > now:
            return None
        runs = int(grace is None or now - tick <= grace)
        return LateTicks(TickRange(tick, tick, 1), runs, 1 - runs)
    schedule = job.schedule
    if not is_ours(schedule) or not isinstance(schedule, ZonedSchedule):
        return None  # it may take long, or fail
    return _by_policy(schedule, known.last_handled, now, Policy(job.coalesce, grace, config.max_catch_up))


@lru_cache(maxsize=1_024)  # many jobs of one schedule wait since the same instant
def _by_policy(schedule: ZonedSchedule, last_handled: int, now: float, policy: Policy) -> LateTicks | None:
    late = tick_range(schedule, last_handled, int(now))
    if late is None:
        return None
    in_time: TickRange | None = late
    if policy.grace is not None:
        # The last whole second that is past its grace time, as in `next_step`.
        past_grace = max(last_handled, min(int(now), math.ceil(now - policy.grace) - 1))
        in_time = tick_range(schedule, past_grace, int(now))
    number = 0 if in_time is None else in_time.number
    runs = min(number, 1 if policy.coalesce else policy.max_catch_up)
    return LateTicks(late, runs, late.number - (number if policy.coalesce else runs))
