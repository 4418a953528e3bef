"""What timelines are drawn from: parts of a span, an axis, and instants as people give them. Pure functions."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_crons.errors import InvalidArgumentError
from fastapi_crons.run import MissedReason, MissedTicks, Run, RunStatus
from fastapi_crons.schedule.cron import cron_schedule
from fastapi_crons_dashboard.svg.axis import labels
from fastapi_crons_dashboard.svg.density import PARTS, Parts, parts_of_records
from fastapi_crons_dashboard.svg.due import DueTicks
from fastapi_crons_dashboard.svg.timeline import MOST, Records, Window, Words, lane
from fastapi_crons_dashboard.words.instants import read_instant
from tests.support import examples

BERLIN = ZoneInfo("Europe/Berlin")
STATUSES: tuple[RunStatus, ...] = ("completed", "failed", "timed_out", "interrupted", "cancelled", "running")
REASONS: tuple[MissedReason, ...] = ("overlap", "vetoed", "paused", "coalesced", "misfire_grace_time", "unknown")
DAY = 86_400


def at(*parts: int, zone: ZoneInfo = BERLIN) -> int:
    return int(datetime(*parts, tzinfo=zone).timestamp())  # type: ignore[arg-type,misc]


def run_at(start: float, status: RunStatus = "completed", took: float | None = 1.0) -> Run:
    ended = None if status == "running" or took is None else start + took
    return Run(f"run-{start}", "job", int(start), "schedule", 1, "worker", 1, status, start, ended)


def missed_at(first: int, last: int, count: int, reason: MissedReason) -> MissedTicks:
    return MissedTicks(f"missed-{first}", "job", first, last, count, reason, last + 1.0, "worker")


@pytest.mark.parametrize(
    ("since", "until", "shown"),
    [
        # The clock goes from 2 to 3: the step stays a round one on the wall.
        ((2026, 3, 29, 0, 0), (2026, 3, 29, 8, 0), "Sun 29 01:00 03:00 04:00 05:00 06:00 07:00"),
        # It goes back from 3 to 2, an hour that comes twice.
        ((2026, 10, 25, 0, 0), (2026, 10, 25, 6, 0), "Sun 25 01:00 02:00 02:00 03:00 04:00 05:00"),
        ((2026, 6, 1, 12, 7), (2026, 6, 1, 12, 34), "12:10 12:15 12:20 12:25 12:30"),
        ((2026, 6, 1, 12, 0), (2026, 6, 8, 12, 0), "Tue 02 Wed 03 Thu 04 Fri 05 Sat 06 Sun 07 Mon 08"),
    ],
)
def test_an_axis_has_round_times_of_its_zone(since: tuple[int, ...], until: tuple[int, ...], shown: str) -> None:
    found = list(labels(at(*since), at(*until), BERLIN))
    assert " ".join(label.text for label in found) == shown
    assert [label.x for label in found] == sorted(label.x for label in found)


def test_an_axis_of_a_zone_that_is_off_by_a_quarter_of_an_hour() -> None:
    zone = ZoneInfo("Asia/Kathmandu")
    found = list(labels(at(2026, 6, 1, 0, 0, zone=zone), at(2026, 6, 2, 0, 0, zone=zone), zone))
    assert [label.text for label in found][:3] == ["Mon 01", "02:00", "04:00"]


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(st.tuples(st.integers(-DAY, 2 * DAY), st.sampled_from(STATUSES), st.floats(0, DAY)), max_size=300),
    st.lists(
        st.tuples(st.integers(-DAY, 2 * DAY), st.integers(0, DAY), st.integers(1, 10_000), st.sampled_from(REASONS)),
        max_size=300,
    ),
    st.integers(0, MOST) | st.none(),
    st.booleans(),
)
def test_a_lane_is_bounded_and_stays_within_its_width(
    runs: list[tuple[int, RunStatus, float]],
    missed: list[tuple[int, int, int, MissedReason]],
    planned: int | None,
    is_dense: bool,
) -> None:
    window = Window(0, DAY, DAY / 2)
    ahead = tuple(range(DAY // 2 + 1, DAY, DAY // 2 // planned)) if planned else ()
    records = Records(
        runs=[run_at(*run) for run in runs],
        missed=[
            missed_at(first, first + (length if count > 1 else 0), count, reason)
            for first, length, count, reason in missed
        ],
        handled=Parts(0, DAY, (7,) * 60 + (0,) * 60) if is_dense else None,
        planned=Parts(0, DAY, (0,) * 60 + (7,) * 60) if planned is None else ahead[:MOST],
        runs_planned=True,
        p50=30.0,
        p95=40.0,
    )
    shapes = lane(window, records, Words(BERLIN, details=False))
    assert len(shapes) <= 4 * PARTS + 4 * MOST
    for shape in shapes:
        assert 0 <= shape.x <= 100
        assert shape.x + shape.width <= 100.4, shape
        assert shape.y >= 0
        assert shape.y + shape.height <= 32
        assert shape.title
        assert (shape.run is None) != (shape.tick is None)


def test_numbers_of_parts_are_those_of_the_records() -> None:
    runs = [run_at(1_000), run_at(1_001, "failed"), run_at(50_000, "cancelled"), run_at(-5), run_at(2 * DAY)]
    missed = [
        missed_at(2_000, 2_000, 1, "overlap"),
        missed_at(10_000, 20_000, 1_000, "misfire_grace_time"),
        missed_at(30_000, 40_000, 1_000, "coalesced"),  # a run stands for these
    ]
    parts = parts_of_records(0, DAY, runs, missed, None)
    assert sum(parts.good) == 1
    assert sum(parts.held) == 2
    assert 990 <= sum(parts.bad) - 1 <= 1_010
    handled = Parts(0, DAY, (10,) * PARTS)
    # The parts are twelve minutes long.
    assert parts_of_records(0, DAY, runs, missed, handled).good[:4] == (10, 9, 9, 10)
    assert parts_of_records(0, DAY, [], [], handled).total == 10 * PARTS


def test_neighbours_that_look_the_same_are_one() -> None:
    good = (9,) * 30 + (10,) * 30 + (0,) * 30 + (3,) * 30
    stacks = list(Parts(0, 1_200, good).stacks())
    assert [(stack.since, stack.until, stack.good) for stack in stacks] == [(0, 600, 570), (900, 1_200, 90)]
    assert [stack.level for stack in stacks] == [1.0, 0.6]


async def test_ticks_are_single_ones_or_numbers_which_sum_up() -> None:
    due = DueTicks(0, DAY, MOST)
    single = await due.between(cron_schedule("0 * * * *"), 0, DAY)
    assert list(single if not isinstance(single, Parts) else ()) == [hour * 3_600 for hour in range(1, 25)]
    for after, until in ((0, DAY), (DAY // 2, DAY), (-1, DAY // 2), (1_234, 60_001)):
        many = await due.between(cron_schedule("* * * * *"), after, until)
        assert isinstance(many, Parts)
        expected = len(range(-(-(after + 1) // 60) * 60, until + 1, 60))
        # A tick at the very end of the window is beyond its last part.
        assert expected - 1 <= many.total <= expected


@pytest.mark.parametrize(
    ("text", "instant", "again", "skipped"),
    [
        ("2026-03-29T02:30", "2026-03-29T01:00:00+00:00", None, True),
        ("2026-03-29 02:00", "2026-03-29T01:00:00+00:00", None, True),
        ("2026-03-29 03:00", "2026-03-29T01:00:00+00:00", None, False),
        ("2026-10-25T02:30", "2026-10-25T00:30:00+00:00", "2026-10-25T01:30:00+00:00", False),
        ("2026-10-25T02:30:00.500Z", "2026-10-25T02:30:00+00:00", None, False),
        (" 2026-06-01 ", "2026-05-31T22:00:00+00:00", None, False),
    ],
)
def test_an_instant_is_read_on_the_wall_clock(text: str, instant: str, again: str | None, skipped: bool) -> None:
    found = read_instant(text, BERLIN)
    assert found.instant == datetime.fromisoformat(instant)
    assert found.again == (None if again is None else datetime.fromisoformat(again))
    assert found.skipped == skipped


@settings(max_examples=examples(200), deadline=None)
@given(st.text(max_size=40) | st.datetimes().map(str) | st.datetimes(timezones=st.just(timezone.utc)).map(str))
def test_any_text_is_an_instant_or_refused(text: str) -> None:
    with suppress(InvalidArgumentError):
        found = read_instant(text, BERLIN)
        assert found.instant.tzinfo is not None
        assert found.instant.microsecond == 0
