"""Ticks are counted, and the newest is found, without looking at each: however many there are and however they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastapi_crons import CronSchedule
from fastapi_crons.schedule.due import (
    MAX_COUNT,
    MAX_STEPS,
    Policy,
    TickRange,
    TickSource,
    newest_tick,
    next_step,
    tick_range,
    tick_source,
)
from tests import seam
from tests.support import examples
from tests.unit.schedule.test_schedule_laws import expressions, seconds, zones_and_starts


class Foreign:
    """A schedule of somebody else's, of which only the protocol is known."""

    def __init__(self, inner: CronSchedule) -> None:
        self.inner = inner
        self.text = f"foreign {inner.text}"
        self.asked = 0

    def next_after(self, instant: datetime) -> datetime | None:
        self.asked += 1
        return self.inner.next_after(instant)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        tick = self.next_after(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_after(tick)


def _in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    seam.MAX_STEPS.replace(monkeypatch, 1_000_000)


@pytest.mark.parametrize("foreign", [False, True])
@settings(max_examples=examples(60), deadline=None)
@given(
    expr=st.tuples(expressions, seconds).map("".join)
    | st.sampled_from(["* * 1 * *", "*/7 2 * * * */9", "0 0 29 2 *", "0,30 2 * 3,10 0", "* * * 2 * *"]),
    zone_and_start=zones_and_starts(),
    length=st.integers(0, 40 * 24 * 3600),
    most=st.integers(1, 40),
)
@example(
    expr="0,20,40 2 * * *",
    zone_and_start=("Europe/Berlin", datetime.fromisoformat("2026-03-28T00:00+00:00")),
    length=200_000,
    most=2,
)
@example(
    expr="30 1 * * *",
    zone_and_start=("Europe/Berlin", datetime.fromisoformat("2026-03-29T01:00+00:00")),
    length=80_000,
    most=2,
)
def test_counting_and_the_newest_agree_with_looking_at_each(
    foreign: bool, expr: str, zone_and_start: tuple[str, datetime], length: int, most: int
) -> None:
    zone, start = zone_and_start
    schedule = CronSchedule(expr, zone)
    source = tick_source(Foreign(schedule) if foreign else schedule)
    after, until = int(start.timestamp()), int(start.timestamp()) + length
    ticks = [tick for _, tick in zip(range(3_000), schedule.ticks_between(after, until), strict=False)]
    if len(ticks) == 3_000:
        until = ticks[-1]
    with pytest.MonkeyPatch.context() as patch:
        _in_no_hurry(patch)
        assert newest_tick(source, after, until) == (ticks[-1] if ticks else None)
        assert tick_range(source, after, until) == (TickRange(ticks[0], ticks[-1], len(ticks)) if ticks else None)
        step = next_step(source, after, until, Policy(False, None, most))
    assert step.run == (ticks[-most:][0] if ticks else None)
    missed = ticks[: max(0, len(ticks) - most)]
    assert step.missed == (((missed[-1], "max_catch_up"),) if missed else ())
    assert step.more == (min(most, len(ticks)) > 1 and not step.alone)


@pytest.mark.parametrize("foreign", [False, True])
def test_a_tick_at_the_very_end_of_a_range_belongs_to_it_and_one_at_its_beginning_does_not(foreign: bool) -> None:
    schedule = CronSchedule("* * * * *")
    source = tick_source(Foreign(schedule) if foreign else schedule)
    assert [newest_tick(source, 60, until) for until in (119, 120, 121)] == [None, 120, 120]
    assert [tick_range(source, 60, until) for until in (119, 120)] == [None, TickRange(120, 120, 1)]
    assert [tick_range(source, 60, until) for until in (179, 180)] == [
        TickRange(120, 120, 1),
        TickRange(120, 180, 2),
    ]


@pytest.mark.parametrize("number", [MAX_COUNT - 1, MAX_COUNT, MAX_COUNT + 1])
def test_counting_stops_at_its_bound(number: int) -> None:
    source = tick_source(CronSchedule("* * * * * *"))
    assert tick_range(source, 0, number) == TickRange(1, number, min(number, MAX_COUNT), number > MAX_COUNT)


DENSE = ["* * * 2 * *", "* * 1 1 * *", "* * * * * *", "* 9 * * * *", "0 3 * * *", "0 0 29 2 *", "0 0 1 * *"]


class Counted:
    """How often a schedule is asked for a tick, and in how many steps its ticks are counted."""

    def __init__(self, source: TickSource) -> None:
        self.source = source
        self.asked = self.steps = 0

    def next_tick(self, after: int) -> int | None:
        self.asked += 1
        return self.source.next_tick(after)

    def ticks_between(self, after: int, until: int) -> Iterator[int]:
        raise AssertionError("ticks are not looked at one by one")

    def count_ticks(self, after: int, until: int, most: int, enough: Callable[[], bool]) -> tuple[int, bool]:
        def counted() -> bool:
            self.steps += 1
            return enough()

        return self.source.count_ticks(after, until, most, counted)


@pytest.mark.parametrize("expr", DENSE)
@pytest.mark.parametrize("zone", ["UTC", "Africa/Casablanca"])
@pytest.mark.parametrize("foreign", [False, True])
def test_no_step_takes_long_however_long_the_downtime_was(expr: str, zone: str, foreign: bool) -> None:
    now = datetime.fromisoformat("2026-02-25T12:00:00+00:00")
    schedule = CronSchedule(expr, zone)
    source = tick_source(Foreign(schedule) if foreign else schedule)
    for years in (1, 3, 12, 40):
        mark, until = int((now - timedelta(days=365 * years)).timestamp()), int(now.timestamp())
        for policy in (Policy(True, None, 100), Policy(False, None, 100), Policy(False, 60.0, 10_000)):
            counted = Counted(source)
            next_step(counted, mark, until, policy)
            assert counted.asked < 70
            assert counted.steps < MAX_STEPS, "a hundred ticks are always found"
        counted = Counted(source)
        found = tick_range(counted, mark, until)
        assert counted.asked < 35
        assert counted.steps <= MAX_STEPS + 1
        assert found is None or found.more == (counted.steps > MAX_STEPS or found.number == MAX_COUNT)


@pytest.mark.parametrize("expr", DENSE)
def test_finding_the_newest_asks_a_schedule_only_a_few_times(expr: str) -> None:
    schedule = Foreign(CronSchedule(expr, "Europe/Berlin"))
    now = int(datetime.fromisoformat("2026-02-25T12:00:00+00:00").timestamp())
    newest_tick(tick_source(schedule), now - 40 * 365 * 86_400, now)
    assert schedule.asked < 70
