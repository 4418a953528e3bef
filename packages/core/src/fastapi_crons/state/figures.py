"""Figures: how many runs of a job ended on a day, how, and after how long. They stay when the runs themselves are deleted.

Durations are kept as a sketch: so many runs in each of the buckets, whose bounds grow by a tenth. A quantile that is read from
it lies within five per cent of the real one (Masson, Rim and Lee, *DDSketch*, 2019).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from itertools import repeat
from typing import NamedTuple

from fastapi_crons.run import FAILED, MissedTicks, Run

_DAY = 86_400
#: On how many days before their last one missed ticks are counted.
MOST_DAYS = 366
_EPOCH = date(1970, 1, 1)
#: The bound of the first bucket (seconds), how much greater the bound of each other is, and the last bucket, which holds
#: whatever took longer than three weeks.
_FIRST, _GROWTH, _LAST = 0.001, 1.1, 224
_LOG_GROWTH = math.log(_GROWTH)
#: Of so many parts, each is read by itself.
_FEW = 8


class Figures(NamedTuple):
    """The figures of one job and one day. The day of a run is the day that it began on."""

    job: str
    day: int
    """Days since 1970-01-01, in UTC."""
    runs: int = 0
    """How many runs have ended, however they did."""
    failed: int = 0
    """How many of them failed, exceeded their time limit, or were interrupted."""
    missed: int = 0
    """How many ticks were missed; where a record of them says "at least", at least so many."""
    longest: float = 0.0
    """The longest run that completed, in seconds."""
    durations: Mapping[int, int] = {}
    """How many runs that completed took how long: buckets of the sketch, each with their number."""

    @property
    def date(self) -> date:
        """The day (UTC)."""
        return _EPOCH + timedelta(days=self.day)

    def plus(self, other: Figures) -> Figures:
        """Both together, as figures of this job and day."""
        return together((self, other))._replace(job=self.job, day=self.day)

    def quantile(self, share: float) -> float | None:
        """The duration (seconds) that this share of the runs that completed did not exceed; None where none completed."""
        rank, seen = share * sum(self.durations.values()), 0
        for bucket in sorted(self.durations):
            seen += self.durations[bucket]
            if seen >= rank and seen > 0:
                middle = _FIRST * _GROWTH ** (bucket - 0.5) if bucket else _FIRST / 2
                return self.longest if bucket == _LAST else min(middle, self.longest)
        return None


def day_of(instant: float) -> int:
    """The day of an instant (Unix seconds): days since 1970-01-01, in UTC."""
    return int(instant // _DAY)


def of_run(run: Run) -> Figures:
    """What a run that has ended adds to the figures of its job and day."""
    taken = run.duration if run.status == "completed" else None
    return Figures(
        run.job,
        day_of(run.started_ts),
        runs=1,
        failed=int(run.status in FAILED),
        longest=taken or 0.0,
        durations={} if taken is None else {bucket_of(taken): 1},
    )


def of_missed(ticks: MissedTicks, *, sign: int = 1) -> Iterator[Figures]:
    """What missed ticks add to the figures of each of their days; with `sign=-1` what they take away.

    Ticks between the first and the last count as spread evenly over the time; those of more than a year, as missed on its last
    days.
    """
    last, span = day_of(ticks.last_ts), ticks.last_ts - ticks.first_ts
    first = max(day_of(ticks.first_ts), last - MOST_DAYS)
    counted = 0
    for day in range(first, last + 1):
        until = min((day + 1) * _DAY - 1, ticks.last_ts)
        upto = ticks.count if day == last else int(ticks.count * (until - ticks.first_ts) / span)
        if upto > counted:
            yield Figures(ticks.job, day, missed=sign * (upto - counted))
        counted = max(counted, upto)


def together(figures: Iterable[Figures]) -> Figures:
    """The sum of figures of one job, of whatever days."""
    runs = failed = missed = 0
    longest, durations = 0.0, dict[int, int]()
    for each in figures:
        runs, failed, missed = runs + each.runs, failed + each.failed, missed + each.missed
        longest = max(longest, each.longest)
        for bucket, number in each.durations.items():
            durations[bucket] = durations.get(bucket, 0) + number
    return Figures("", 0, runs, failed, missed, longest, durations)


def total(figures: Iterable[Figures]) -> dict[tuple[str, int], Figures]:
    """The sums of figures, by job and day."""
    found: dict[tuple[str, int], Figures] = {}
    add(found, figures)
    return found


def add(to: dict[tuple[str, int], Figures], figures: Iterable[Figures]) -> None:
    """Add figures to sums by job and day."""
    for each in figures:
        key = (each.job, each.day)
        to[key] = to[key].plus(each) if key in to else each


def bucket_of(seconds: float) -> int:
    """The bucket of a duration."""
    if seconds <= _FIRST:
        return 0
    return min(math.ceil(math.log(seconds / _FIRST) / _LOG_GROWTH), _LAST)


def text_of(durations: Mapping[int, int]) -> str:
    """A sketch as a text: each bucket with its number, `40:3 41:7`."""
    return " ".join(f"{bucket}:{number}" for bucket, number in sorted(durations.items()))


def durations_of(text: str) -> dict[int, int]:
    """The sketch that a text stands for, where buckets may be named more than once. Raises `ValueError` for any other text."""
    found: dict[int, int] = {}
    parts = text.split()
    # In the sum of many days, most parts are there several times.
    for part, times in Counter(parts).items() if len(parts) > _FEW else zip(parts, repeat(1)):
        bucket, number = map(int, part.split(":"))
        if not 0 <= bucket <= _LAST or number < 0:
            raise ValueError(f"{text!r} is no sketch of durations")
        found[bucket] = found.get(bucket, 0) + number * times
    return found
