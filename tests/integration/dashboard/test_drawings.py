"""What is drawn: strips of ticks, and charts of days; and how instants and durations are written."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import get_args

import pytest

from fastapi_crons.management.fates.explain import Fate
from fastapi_crons.management.stats import Stats
from fastapi_crons.run import RunStatus, Trigger
from fastapi_crons_dashboard.svg.days import chart, nice
from fastapi_crons_dashboard.svg.strip import StripTick, strip, strip_places
from fastapi_crons_dashboard.words.fates import FATES, TRIGGERS
from fastapi_crons_dashboard.words.times import counted, duration, localised, relative

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
NOTHING = Stats(0, 0, 0, None, None, None)


def ticks(*fates: str) -> list[StripTick]:
    return [StripTick(NOON + timedelta(minutes=index), fate, None) for index, fate in enumerate(fates)]


def test_each_fate_status_and_trigger_has_words_and_fates_a_shape_that_can_be_drawn() -> None:
    fates = {*get_args(Fate), *get_args(RunStatus)}
    assert fates <= FATES.keys()
    assert set(get_args(Trigger)) == TRIGGERS.keys()
    for fate in FATES:
        assert strip(ticks(fate)).marks[0].path


def test_fates_are_told_apart_without_colours() -> None:
    shapes = {
        FATES[fate].shape for fate in ("completed", "failed", "running", "skipped", "paused", "missed", "not_yet")
    }
    assert len(shapes) == 7


def test_the_latest_tick_is_at_the_right_end_of_a_strip_and_marks_of_one_look_are_one_path() -> None:
    drawn = strip(ticks("completed", "failed", "completed"), places=4)
    assert [(marks.tone, marks.thick) for marks in drawn.marks] == [("good", True), ("bad", False)]
    assert drawn.marks[0].path == "M9 2v12M21 2v12"
    assert drawn.width == 24
    assert drawn.summary == "Last 3 ticks: 2 completed, 1 failed"
    assert [place.x for place in strip_places(ticks(*["completed"] * 9), places=4)] == [0, 6, 12, 18]
    assert strip([]).summary == "No ticks yet"


def test_a_chart_has_a_bar_for_each_day_and_a_line_that_breaks_where_nothing_completed() -> None:
    first = date(2026, 3, 1)
    stats = [Stats(4, 0, 0, 1.0, 2.0, 2.0), Stats(2, 2, 1, None, None, None), Stats(1, 0, 0, 5.0, 5.0, 5.0), NOTHING]
    drawn = chart([(first + timedelta(days=index), each) for index, each in enumerate(stats)])
    assert drawn is not None
    assert drawn.median.count("M") == 2
    assert [day.text for day in drawn.days] == [
        "2026-03-01: 4 runs, median 1.0 s, p95 2.0 s",
        "2026-03-02: 2 runs, 2 failed, 1 tick missed",
        "2026-03-03: 1 run, median 5.0 s, p95 5.0 s",
        "2026-03-04: 0 runs",
    ]
    assert [(day.runs_height, day.failed_height, day.missed) for day in drawn.days] == [
        (56.0, 0.0, False),
        (0.0, 28.0, True),
        (14.0, 0.0, False),
        (0.0, 0.0, False),
    ]
    assert len(drawn.dots) == 2
    assert chart([(first, NOTHING)]) is None


@pytest.mark.parametrize(("value", "top"), [(0.0004, 0.001), (1, 1), (1.2, 2), (4, 5), (6, 10), (101, 200)])
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert nice(value) == pytest.approx(top)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.0, "0 s"),
        (0.000_04, "0.04 ms"),
        (0.004, "4 ms"),
        (0.009_99, "10 ms"),
        (0.5, "0.50 s"),
        (9.96, "10.0 s"),
        (60, "1 min"),
        (3_725, "1 h 2 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_written_in_one_or_two_units(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_instants_are_written_as_seen_from_now() -> None:
    assert relative(NOON, NOON) == "now"
    assert relative(NOON + timedelta(seconds=90), NOON) == "in 1 min 30 s"
    assert relative(NOON - timedelta(hours=3), NOON) == "3 h ago"
    assert counted(1, "job") == "1 job"
    assert counted(12_000, "job") == "12,000 jobs"
    assert localised("until 2026-03-01T12:00:00+00:00.") == "until 2026-03-01 12:00:00 UTC."
