"""PlannedJob: a job with its ticks in a span of time, and what stands against them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fastapi_crons._util.text import counted, span
from fastapi_crons.clock import local_time
from fastapi_crons.job import CronJob, Overlap
from fastapi_crons.locking.base import Pause
from fastapi_crons.management.made_ticks import is_made, next_in_words
from fastapi_crons.management.plan.collisions import Overlapping
from fastapi_crons.management.plan.late import LateTicks
from fastapi_crons.management.plan.ticks import Ticks

#: What happens to the ticks: they are run, or they are not because the job is paused or disabled.
Standing = Literal["runs", "paused", "disabled"]

_MET: dict[Overlap, str] = {
    "skip": "skipped",
    "queue": "queued until that run has ended",
    "allow": "run at the same time",
}


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job with its ticks in a span of time. Durations in seconds."""

    job: CronJob
    ticks: Ticks
    standing: Standing
    pause: Pause | None = None
    late: LateTicks | None = None
    """Late ticks that wait, and are run or recorded as missed as soon as an instance that has the job gets to them."""
    p50: float | None = None
    """What half of the runs that completed in the last days did not exceed; None where none completed."""
    p95: float | None = None
    overlapping: Overlapping | None = None
    changes: tuple[str, ...] = ()
    """What clock changes in the span do to its ticks."""
    in_force: str | None = None
    """The schedule that is in force, where it is another one than this process has."""

    @property
    def zone(self) -> str:
        """The zone of the job's own local time."""
        return self.job.schedule_zone or "UTC"

    @property
    def often(self) -> str:
        """How often it is due in the span, in words."""
        ticks = self.ticks
        number = f"{'at least ' if ticks.more else ''}{ticks.number:,} times"
        if ticks.number < 2:
            return "once" if ticks.number else "-"
        return number if ticks.every is None else f"every {span(ticks.every).removeprefix('1 ')}, {number}"

    def notes(self, *, details: bool) -> list[str]:
        """What stands against its ticks, and what else should be known: a sentence each, instants in the job's zone.

        `details` says whether notes and error texts may be shown.
        """
        return list(self._notes(details))

    def _notes(self, details: bool) -> Iterator[str]:
        if self.standing == "disabled":
            yield "disabled in code: its ticks are not run"
        if self.pause is not None:
            yield f"{paused_in_words(self.pause, self.zone, details=details)}: its ticks are not run"
        if self.in_force is not None:
            yield f"instances that are running have another schedule in force: {self.in_force}"
        if self.ticks.fault is not None:
            yield f"its schedule can't be asked{f': {self.ticks.fault}' if details else ''}"
        if is_made(self.job.schedule):
            yield self._made()
        if self.late is not None:
            yield self._late(self.late)
        if self.overlapping is not None and self.p95 is not None:
            met, several = self.overlapping, self.overlapping.looked_at > 2
            which = f"{met.number} of {met.looked_at} ticks" if several else "the next tick"
            fate = f"{'are' if several and met.number > 1 else 'is'} {_MET[self.job.overlap]}"
            took = f"it usually takes up to {seconds(self.p95)} (p95), and is due again before that"
            yield f"{took}: {which} {fate}, the first at {local_time(met.first, self.zone)}"
        yield from self.changes

    def _made(self) -> str:
        if self.job.counts_from_end:
            known = "further ticks are" if self.ticks.number or self.late is not None else "its next tick is"
            return f"{known} counted from the end of each run, and not known before"
        return next_in_words(self.job.schedule) or ""

    def _late(self, late: LateTicks) -> str:
        ticks = counted(late.ticks.number, "late tick", more=late.ticks.more)
        said = f"{ticks} since {local_time(late.ticks.first, self.zone)}"
        runs = f"{counted(late.runs, 'run')} as soon as an instance claims"
        missed = f"{late.missed:,} recorded as missed" if late.missed else ""
        if not late.runs:
            return f"{said}: {missed}"
        return f"{said}: {runs} {'it' if late.ticks.number == 1 else 'them'}{f', {missed}' if missed else ''}"


def paused_in_words(pause: Pause, zone: str, *, details: bool) -> str:
    """Since when a job is paused, by whom, and why."""
    by = f" by {pause.actor}" if pause.actor else ""
    return f"paused since {local_time(pause.since, zone)}{by}{f' ({pause.note})' if pause.note and details else ''}"


def seconds(number: float) -> str:
    """A duration for people."""
    return f"{number:.2g} s" if number < 10 else span(number)
