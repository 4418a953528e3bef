"""A chart of a job's days: how long its runs took, and how many ran and failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from fastapi_crons.management import Stats
from fastapi_crons_dashboard.words.times import counted, duration

#: The size of the drawing, and of its parts, from the top: durations, a gap with the days, runs.
WIDTH, HEIGHT = 740, 210
_LEFT, _RIGHT, _TOP, _TIMES, _RUNS = 56, 20, 8, 100, 56
_RUNS_TOP = _TOP + _TIMES + 20
#: The greatest number of days that are named.
_MOST_NAMES = 8
_NICE = (1, 2, 3, 5, 10)


class Day(NamedTuple):
    """The bars of a day; heights in units of the drawing."""

    x: float
    width: float
    runs_y: float
    runs_height: float
    failed_y: float
    failed_height: float
    missed: bool
    text: str


class Line(NamedTuple):
    """A horizontal line with its value."""

    y: float
    text: str


class Name(NamedTuple):
    x: float
    text: str


class Chart(NamedTuple):
    """A chart, as values that a template writes down."""

    width: int
    height: int
    left: int
    median: str
    """The path of the medians, broken where no run completed."""
    high: str
    """The path of the 95th percentiles."""
    dots: tuple[tuple[float, float], ...]
    """Medians of days whose neighbours have none, which no line shows."""
    days: tuple[Day, ...]
    lines: tuple[Line, ...]
    names: tuple[Name, ...]
    names_y: float
    summary: str


def chart(days: Sequence[tuple[date, Stats]]) -> Chart | None:
    """The chart of these days, the oldest first; None where nothing ran or was missed on any of them."""
    if not any(stats.runs or stats.missed for _, stats in days):
        return None
    step = (WIDTH - _LEFT - _RIGHT) / len(days)
    top = nice(max((stats.p95 or 0.0 for _, stats in days), default=0.0) or 1.0)
    most = max(1, *(stats.runs for _, stats in days))
    median = [None if stats.p50 is None else _at(index, step, stats.p50 / top) for index, (_, stats) in enumerate(days)]
    high = [None if stats.p95 is None else _at(index, step, stats.p95 / top) for index, (_, stats) in enumerate(days)]
    every = -(-len(days) // _MOST_NAMES)
    return Chart(
        WIDTH,
        HEIGHT,
        _LEFT,
        _path(median),
        _path(high),
        tuple(point for index, point in enumerate(median) if point is not None and _alone(median, index)),
        tuple(_day(index, step, most, day, stats) for index, (day, stats) in enumerate(days)),
        (
            Line(_TOP, duration(top)),
            Line(_TOP + _TIMES, "0"),
            Line(_RUNS_TOP, f"{most:,} run{'' if most == 1 else 's'}"),
            Line(_RUNS_TOP + _RUNS, "0"),
        ),
        tuple(
            Name(round(_LEFT + (index + 0.5) * step, 1), f"{day:%d %b}")
            for index, (day, _) in enumerate(days)
            if (len(days) - 1 - index) % every == 0
        ),
        _RUNS_TOP + _RUNS + 16,
        _summary(days),
    )


def nice(value: float) -> float:
    """The first of 1, 2, 3, 5, 10, 20 … (or 0.5, 0.3 …) that is not below a value."""
    size = 1e-3
    while size * 10 < value:
        size *= 10
    return next((size * each for each in _NICE if size * each >= value), size * 10)


def _at(index: int, step: float, share: float) -> tuple[float, float]:
    return round(_LEFT + (index + 0.5) * step, 1), round(_TOP + _TIMES * (1 - min(1.0, share)), 1)


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    parts, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        parts.append(f"{pen}{point[0]:g} {point[1]:g}")
        pen = "L"
    return "".join(parts)


def _alone(points: Sequence[tuple[float, float] | None], index: int) -> bool:
    before = points[index - 1] if index else None
    after = points[index + 1] if index + 1 < len(points) else None
    return before is None and after is None


def _day(index: int, step: float, most: int, day: date, stats: Stats) -> Day:
    good, failed = stats.runs - stats.failed, stats.failed
    height, bad = (round(_RUNS * each / most, 1) for each in (good, failed))
    if failed:
        bad = max(2.0, bad)
    bottom = _RUNS_TOP + _RUNS
    parts = [counted(stats.runs, "run")]
    if failed:
        parts.append(f"{failed:,} failed")
    if stats.missed:
        parts.append(f"{counted(stats.missed, 'tick')} missed")
    if stats.p50 is not None:
        parts.append(f"median {duration(stats.p50)}, p95 {duration(stats.p95)}")
    return Day(
        round(_LEFT + index * step + step * 0.1, 1),
        round(step * 0.8, 1),
        round(bottom - height, 1),
        height,
        round(max(_RUNS_TOP, bottom - height - bad), 1),
        bad,
        bool(stats.missed),
        f"{day:%Y-%m-%d}: {', '.join(parts)}",
    )


def _summary(days: Sequence[tuple[date, Stats]]) -> str:
    runs, failed = sum(stats.runs for _, stats in days), sum(stats.failed for _, stats in days)
    return f"Durations and failures by day, {len(days)} days: {counted(runs, 'run')}, {failed:,} failed"
