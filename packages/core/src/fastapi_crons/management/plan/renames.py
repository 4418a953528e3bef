"""Which jobs were perhaps renamed: one name goes, another one comes, and they have much in common."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import KnownJob

#: How alike (0 to 1) names must be, where the functions are others.
_ALIKE = 0.6
#: Where so many jobs have the same function or schedule, that says nothing.
_MOST = 100


class Renamed(NamedTuple):
    """A name that goes, and the job that was perhaps known by it."""

    known: KnownJob
    job: CronJob
    common: Literal["function", "schedule"]
    """What they have in common; with the schedule, their names are similar, too."""


def renames(gone: Collection[KnownJob], new: Collection[CronJob]) -> list[Renamed]:
    """The pairs that have most in common; each job is in one pair at most."""
    by_function: dict[str, list[CronJob]] = {}
    by_schedule: dict[tuple[str, str], list[CronJob]] = {}
    for job in new:
        by_function.setdefault(job.function_name, []).append(job)
        by_schedule.setdefault((job.schedule.text, job.schedule_zone), []).append(job)

    def pairs() -> Iterator[tuple[tuple[bool, bool, float], Renamed]]:
        for known in gone:
            same_function = by_function.get(known.function, [])
            same_schedule = by_schedule.get((known.schedule, known.timezone), [])
            both = {job.name for job in same_function} & {job.name for job in same_schedule}
            for job in same_function[:_MOST]:
                yield (True, job.name in both, _alike(known, job)), Renamed(known, job, "function")
            for job in same_schedule if len(same_schedule) <= _MOST else ():
                if _alike(known, job) >= _ALIKE:
                    yield (False, True, _alike(known, job)), Renamed(known, job, "schedule")

    found: list[Renamed] = []
    taken: set[str] = set()
    for _, pair in sorted(pairs(), key=lambda rated: rated[0], reverse=True):
        names = {f"from {pair.known.job}", f"to {pair.job.name}"}
        if not names & taken:
            taken |= names
            found.append(pair)
    return sorted(found, key=lambda pair: pair.known.job)


def _alike(known: KnownJob, job: CronJob) -> float:
    return SequenceMatcher(None, known.job, job.name).ratio()
