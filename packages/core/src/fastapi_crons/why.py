"""Why: what became of an instant of a job, said in a sentence or two."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fastapi_crons.clock import utc_datetime
from fastapi_crons.locking.base import KnownJob
from fastapi_crons.run import MissedTicks, Run
from fastapi_crons.schedule import Schedule

Fate = Literal[
    "ran",
    "running",
    "interrupted",
    "covered",
    "skipped",
    "vetoed",
    "paused",
    "missed",
    "waiting",
    "not_yet",
    "not_due",
    "older_schedule",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class TickRecords:
    """All that is on record about an instant of one job, and now. Instants in Unix seconds (UTC)."""

    tick: int
    now: float
    schedule: Schedule
    """The schedule as this process has it."""
    zone: str
    """Its zone; empty for schedules that have none."""
    known: KnownJob | None
    """What the lock store knows of the job; None where no instance has registered it."""
    runs: tuple[Run, ...]
    """The job's runs, oldest first, at least those since the tick."""
    missed: tuple[MissedTicks, ...]
    instances: int
    """How many instances live that run jobs."""


@dataclass(frozen=True, slots=True)
class TickFate:
    """What became of an instant of a job."""

    fate: Fate
    text: str
    """A sentence or two for people; instants in the job's zone."""
    runs: tuple[Run, ...] = ()
    """The runs that answer for it, oldest first."""
    missed: MissedTicks | None = None
    """The record by which it was let go."""
    next_ts: int | None = None
    """The job's next tick after now."""

    @property
    def next(self) -> datetime | None:
        """The job's next tick after now (aware, UTC)."""
        return None if self.next_ts is None else utc_datetime(self.next_ts)


def made_at(record_id: str) -> float:
    """When an id was made, in Unix seconds (UUID version 7)."""
    return int(record_id[:8] + record_id[9:13], 16) / 1000


def explain(records: TickRecords, *, details: bool = True) -> TickFate:
    """What became of the instant. `details` says whether error texts and notes may be told."""
    raise NotImplementedError
