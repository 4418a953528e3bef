"""Drain: what still runs on an instance that claims nothing more, and until when."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

from fastapi_crons.clock import utc_datetime
from fastapi_crons.config import CronConfig
from fastapi_crons.job import CronJob
from fastapi_crons.run import Run


class RunLeft(NamedTuple):
    """A run that is not over. Instants are aware, UTC."""

    job: str
    id: str
    started: datetime
    ends: datetime | None
    """When it has ended at the latest, by its time limit and its retries."""
    limit: Literal["limited", "unlimited", "unknown"]
    """Whether it has a time limit; `unknown` where its job is not defined in this process."""


def run_left(run: Run, job: CronJob | None, timeout: float | None, config: CronConfig) -> RunLeft:
    """A run of an instance that drains, with the time limit of each of its attempts."""
    started = utc_datetime(run.started_ts)
    if job is None:
        return RunLeft(run.job, run.id, started, None, "unknown")
    if timeout is None:
        return RunLeft(run.job, run.id, started, None, "unlimited")
    delays = sum(min(config.max_retry_delay, job.retry_delay * 1.25 * 2**number) for number in range(job.max_retries))
    ends = run.started_ts + run.waited + timeout * (job.max_retries + 1) + delays
    return RunLeft(run.job, run.id, started, utc_datetime(ends), "limited")
