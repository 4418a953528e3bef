"""ManualRun: what somebody asks for who wants a job run now."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi_crons.job import LONGEST, CronJob
from fastapi_crons.run import Trigger

_TRIGGERS: tuple[Trigger, ...] = ("cli", "api", "code")


@dataclass(frozen=True, slots=True)
class ManualRun:
    """A run that somebody asks for; see `Crons.run_job`. Raises `ValueError` where it can't be had."""

    job: CronJob
    force: bool = False
    timeout: float | None = None
    """In seconds; None for the job's own."""
    triggered_by: Trigger = "code"
    actor: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.timeout, (int, float)) and not isinstance(self.timeout, bool)
        if self.timeout is not None and not (number and 0 < self.timeout <= LONGEST):
            raise ValueError(f"timeout can't be {self.timeout!r}; give seconds, more than 0")
        if self.triggered_by not in _TRIGGERS:
            raise ValueError(f"triggered_by can't be {self.triggered_by!r}; choose one of {', '.join(_TRIGGERS)}")
