"""Stats: how often jobs ran, failed and were missed in the last days, and how long they took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple

from fastapi_crons.state.figures import Figures, total

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


class JobStats(NamedTuple):
    """A job's figures, of all the days and of each."""

    job: str
    whole: Stats
    days: tuple[tuple[date, Stats], ...]
    """Each day (UTC) that was asked for, the oldest first."""


def stats_of(jobs: Iterable[str], figures: Sequence[Figures], days: range) -> list[JobStats]:
    """The figures of these jobs, in their order, and of others that have some. Days are counted from 1970-01-01, in UTC."""
    by_day = total(figures)
    names = dict.fromkeys([*jobs, *sorted({each.job for each in figures})])
    found = []
    for job in names:
        whole, of_days = Figures(job, days[-1]), []
        for day in days:
            one = by_day.get((job, day), Figures(job, day))
            whole = whole.plus(one)
            of_days.append((one.date, Stats.of(one)))
        found.append(JobStats(job, Stats.of(whole), tuple(of_days)))
    return found
