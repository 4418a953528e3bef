"""TickRecords: everything on record about one instant of a job."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import KnownJob
from fastapi_crons.run import MissedTicks, Run


@dataclass(frozen=True, slots=True)
class TickRecords:
    """Instants in Unix seconds (UTC)."""

    tick: int
    """The instant that is asked about."""
    now: float
    job: CronJob
    """As it is defined in this process."""
    known: KnownJob | None
    """What the lock store knows of the job; None where no instance has registered it."""
    runs: tuple[Run, ...]
    """The job's runs, oldest first, at least those since the tick."""
    missed: tuple[MissedTicks, ...]
    living: frozenset[str] = frozenset()
    """The owners of leases whose instances are running."""
    instances: int = 0
    """How many running instances run jobs."""
    max_reruns: int = 1
    """How often an interrupted tick is rerun, by the settings of this process."""
