"""Stats: how often jobs ran, failed and were missed in the last days, and how long they took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import NamedTuple

from fastapi_crons.management.plan.ticks import Patience
from fastapi_crons.state.figures import Figures, together

#: For how many days one may ask.
MOST_DAYS = 366
_MEDIAN, _HIGH = 0.5, 0.95


class Stats(NamedTuple):
    """Figures of a job, of some days or of one. Durations are seconds, of the runs that completed; None where none did."""

    runs: int
    """How many ended, however they did."""
    failed: int
    """How many of them failed, exceeded their time limit, or were interrupted."""
    missed: int
    """How many ticks were missed; those that a late run stands for are among them."""
    p50: float | None
    p95: float | None
    longest: float | None

    @classmethod
    def of(cls, figures: Figures) -> Stats:
        return cls(
            figures.runs,
            figures.failed,
            max(0, figures.missed),
            figures.quantile(_MEDIAN),
            figures.quantile(_HIGH),
            figures.longest if figures.durations else None,
        )


#: Of a day on which nothing was.
_NOTHING = Stats(0, 0, 0, None, None, None)


class JobStats(NamedTuple):
    """A job's figures, of all the days and of each."""

    job: str
    whole: Stats
    days: tuple[tuple[date, Stats], ...]
    """Each day (UTC), the oldest first; empty unless they were asked for."""


async def stats_of(jobs: Iterable[str], sums: Mapping[str, Figures]) -> list[JobStats]:
    """The figures of these jobs, in their order, and of others that have some. Takes short turns on the event loop."""
    patience, found = Patience(), list[JobStats]()
    for job in dict.fromkeys([*jobs, *sorted(sums)]):
        await patience.give_turn()
        found.append(JobStats(job, Stats.of(sums[job]) if job in sums else _NOTHING, ()))
    return found


async def stats_by_day(jobs: Iterable[str], figures: Iterable[Figures], days: range) -> list[JobStats]:
    """As `stats_of`, and of each of these days, counted from 1970-01-01, in UTC."""
    patience, by_job = Patience(), dict[str, dict[int, Figures]]()
    for each in figures:
        await patience.give_turn()
        own = by_job.setdefault(each.job, {})
        own[each.day] = own[each.day].plus(each) if each.day in own else each
    dates = [(day, Figures("", day).date) for day in days]
    found = []
    for job in dict.fromkeys([*jobs, *sorted(by_job)]):
        await patience.give_turn()
        own = by_job.get(job, {})
        of_days = tuple([(date, Stats.of(own[day]) if day in own else _NOTHING) for day, date in dates])
        found.append(JobStats(job, Stats.of(together(own.values())) if own else _NOTHING, of_days))
    return found
