"""A histogram of what is due in each hour, so that a crowd is seen."""

from __future__ import annotations

from datetime import tzinfo
from typing import NamedTuple

from fastapi_crons.clock import utc_datetime
from fastapi_crons.management import Plan
from fastapi_crons_dashboard.svg.axis import Label, labels
from fastapi_crons_dashboard.words.times import counted

#: The size of the drawing, and of the part that the bars stand in.
WIDTH, HEIGHT = 740, 132
_LEFT, _RIGHT, _TOP, _BARS = 56, 20, 10, 96
_HOUR = 3_600
#: A bar of few ticks is so high at least; and so much of its hour is a gap.
_LEAST, _GAP = 2.0, 0.15
_MOST_LABELS = 12


class Bar(NamedTuple):
    """The ticks of an hour; places in units of the drawing."""

    hour: int
    """When it begins, in Unix seconds."""
    x: float
    width: float
    y: float
    height: float
    crowded: bool
    text: str


class Histogram(NamedTuple):
    """A histogram, as values that a template writes down."""

    width: int
    height: int
    left: int
    top: int
    bottom: int
    bars: tuple[Bar, ...]
    labels: tuple[Label, ...]
    most: str
    summary: str


def histogram(plan: Plan, zone: tzinfo) -> Histogram | None:
    """The hours of a plan on the wall clock of a zone; None where nothing is due that runs."""
    hours, crowds = plan.collisions.hours, {crowd.hour for crowd in plan.collisions.crowds}
    if not hours:
        return None
    most, wide = max(number for _, number in hours), WIDTH - _LEFT - _RIGHT

    def place(instant: float) -> float:
        within = min(max(instant, plan.since), plan.until)
        return _LEFT + wide * (within - plan.since) / (plan.until - plan.since)

    bars = []
    for hour, number in hours:
        begin, end = place(hour), place(hour + _HOUR)
        height = round(max(_LEAST, _BARS * number / most), 1)
        when = f"{utc_datetime(hour).astimezone(zone):%a %d %b %H:%M %Z}"
        text = f"{when}, for an hour: {counted(number, 'tick')}{', far more than in others' if hour in crowds else ''}"
        x, width = round(begin + _GAP * (end - begin) / 2, 1), round(max(0.5, (1 - _GAP) * (end - begin)), 1)
        bars.append(Bar(hour, x, width, round(_TOP + _BARS - height, 1), height, hour in crowds, text))
    named = list(labels(plan.since, plan.until, zone))
    named = [label._replace(x=round(_LEFT + wide * label.x / 100, 1)) for label in named]
    summary = f"Ticks by hour: {counted(sum(number for _, number in hours), 'tick')}, {most:,} at most in an hour"
    return Histogram(
        WIDTH,
        HEIGHT,
        _LEFT,
        _TOP,
        _TOP + _BARS,
        tuple(bars),
        tuple(named[:: -(-len(named) // _MOST_LABELS) or 1]),
        counted(most, "tick"),
        summary,
    )
