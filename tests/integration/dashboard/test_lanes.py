"""What lanes of timelines are drawn from: parts of a span, an axis, instants as people give them; and lanes that are dense."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_crons import CronConfig, Crons
from fastapi_crons.errors import InvalidArgumentError
from fastapi_crons.run import MissedReason, MissedTicks, Run, RunStatus
from fastapi_crons.schedule.cron import cron_schedule
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock, reset
from fastapi_crons_dashboard.svg.axis import labels
from fastapi_crons_dashboard.svg.density import PARTS, Parts, edge, parts_of_records
from fastapi_crons_dashboard.svg.due import DueTicks
from fastapi_crons_dashboard.svg.timeline import MOST, Records, Window, Words, lane
from fastapi_crons_dashboard.words.fates import FATES
from fastapi_crons_dashboard.words.instants import read_instant
from tests.integration.dashboard.browsing import Dashboard
from tests.support import examples, nothing

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
        missed_at(30_000, 40_000, 1_000, "coalesced"),  # a run stands for these: they are not work
    ]
    parts = parts_of_records(0, DAY, runs, missed, None)
    assert sum(parts.good) == 1
    assert sum(parts.held) == 2
    assert sum(parts.bad) == 1_001
    assert sum(parts.covered) == 1_000
    handled = Parts(0, DAY, (10,) * PARTS)
    # The parts are twelve minutes long. Of those that lie within a record, none ran.
    estimate = parts_of_records(0, DAY, runs[1:], missed, handled)
    assert estimate.good[:4] == (10, 9, 9, 10)
    assert estimate.good[14:27] == estimate.good[42:55] == (0,) * 13
    assert parts_of_records(0, DAY, [], [], handled).total == 10 * PARTS


@pytest.mark.parametrize(("every", "covered"), [(300, 119), (60, 599), (90, 399)])
def test_of_ticks_at_equal_distances_it_is_known_in_which_part_each_is(every: int, covered: int) -> None:
    first, last = 28_800 + every, 64_800 - every
    ticks = range(0, DAY, every)
    handled = [sum(edge(0, DAY, part) <= tick < edge(0, DAY, part + 1) for tick in ticks) for part in range(PARTS)]
    missed = missed_at(first, last, covered, "coalesced")
    parts = parts_of_records(0, DAY, [], [missed], Parts(0, DAY, tuple(handled)))
    for part in range(PARTS):
        own = [tick for tick in ticks if edge(0, DAY, part) <= tick < edge(0, DAY, part + 1)]
        assert parts.covered[part] == sum(first <= tick <= last for tick in own)
        assert parts.good[part] + parts.covered[part] == len(own)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        # Each run is known.
        ("*/5 * * * *", "145 runs, 0 failed; 0 ticks not run; 119 covered by a later run"),
        # There are too many to read: of those that nothing is on record of, it is known that they were handled.
        ("* * * * *", "721 ticks ran, 0 failed; 0 ticks not run; 599 covered by a later run"),
    ],
)
async def test_an_outage_is_not_drawn_as_work(
    crons: Crons, pages: Dashboard, clock: VirtualClock, schedule: str, words: str
) -> None:
    crons.cron(schedule, name="often")(nothing)
    await crons.start()
    await clock.advance(crons, hours=8)
    await crons.stop()
    await clock.advance(hours=10)
    await crons.start()
    await clock.advance(crons, hours=4)
    page = await pages.get("/timeline")
    (lane,) = page.all("svg", class_="lane")
    assert str(lane["aria-label"]).startswith(f"often: {words}; ")

    def spans(class_: str) -> list[tuple[float, float]]:
        """Where bars begin and end, in hours from the start, neighbours as one. The window has two days; its middle is now."""
        found: list[tuple[float, float]] = []
        for bar in page.all("rect", class_=class_):
            if str(bar["x"]).endswith("%"):
                x, width = (float(str(bar[key]).removesuffix("%")) * 0.48 for key in ("x", "width"))
                begins = found.pop()[0] if found and abs(found[-1][1] - (x - 2)) < 0.05 else x - 2
                found.append((begins, x - 2 + width))
        return [(round(begin, 1), round(end, 1)) for begin, end in found]

    part = 0.4
    (up, up_again), (down,) = spans("level"), spans("range")
    assert 0 <= up[0] <= 0.1
    assert 8 <= up[1] <= 8 + part
    assert 18 - part <= up_again[0] <= 18
    assert 22 <= up_again[1] <= 22.2  # the run of now is as wide as a bar is at least
    assert down[0] + part >= 8
    assert up[1] - part <= down[0] <= up[1]
    assert up_again[0] <= down[1] <= up_again[0] + part
    middle = next(href for href, said in page.links if said.endswith(" covered by a later run") and " ran" not in said)
    assert "covered by a later run" in (await pages.get(middle)).text


async def test_runs_of_an_older_schedule_stay_in_a_lane_of_many(clock: VirtualClock, tmp_path: Path) -> None:
    async def life(expr: str, hours: float) -> Crons:
        crons = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), config=CronConfig(), clock=clock)
        crons.cron(expr, name="often")(nothing)
        await crons.start()
        await clock.advance(crons, hours=hours)
        return crons

    await (await life("* * * * *", 9)).stop()
    reset()
    crons = await life("* * * * * */30", 1)
    async with Dashboard(crons) as pages:
        page = await pages.get("/timeline")
    await crons.stop()
    assert str(next(page.all("svg", class_="lane"))["aria-label"]).startswith("often: 660 ticks ran, 0 failed; ")


async def test_a_job_that_has_run_for_half_a_minute_is_drawn_from_its_start_at_any_zoom(
    crons: Crons, pages: Dashboard, clock: VirtualClock
) -> None:
    crons.cron("* * * * * */5", name="warm")(nothing)
    await crons.start()
    await clock.advance(crons, seconds=30)
    for zoom in ("1h", "12h", "2d", "7d"):
        page = await pages.get(f"/timeline?zoom={zoom}")
        assert str(next(page.all("svg", class_="lane"))["aria-label"]).startswith("warm: 6 runs, 0 failed; ")
        bars = [bar for bar in page.all("rect", class_="run") if str(bar["x"]).endswith("%")]
        levels = [bar for bar in page.all("rect", class_="level") if str(bar["x"]).endswith("%")]
        assert all(float(str(bar["x"]).removesuffix("%")) > 49 for bar in (*bars, *levels))
        assert bars or levels


async def test_all_that_a_lane_draws_is_in_the_legend(pages: Dashboard, crons: Crons) -> None:
    crons.cron("0 0 * * *", name="nightly")(nothing)
    await crons.start()
    legend = (await pages.get("/timeline")).text
    for fate in (*get_args(RunStatus), "covered", "skipped", "vetoed", "paused", "missed"):
        assert FATES[fate].word in legend


async def test_after_the_last_page_of_lanes_comes_the_last_page(pages: Dashboard, crons: Crons) -> None:
    crons.cron("0 0 * * *", name="nightly")(nothing)
    await crons.start()
    page = await pages.get("/timeline?page=99")
    assert len(list(page.all("svg", class_="lane"))) == 1
    assert "No jobs yet" not in page.text


def test_neighbours_that_look_the_same_are_one() -> None:
    good = (9,) * 30 + (10,) * 30 + (0,) * 30 + (3,) * 30
    stacks = list(Parts(0, 1_200, good).stacks(0, 1_200))
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
