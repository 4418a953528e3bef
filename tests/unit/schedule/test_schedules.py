"""Schedules besides cron expressions: their ticks, against a reading of their documentation by brute force."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fastapi_crons import CronSchedule, Schedule, ScheduleError
from fastapi_crons.schedule.base import ZonedSchedule
from fastapi_crons.schedule.due import newest_tick, tick_range
from fastapi_crons.schedules import AnyOf, AtStart, Every, Except, Once, Within
from fastapi_crons.schedules.texts import schedule_of_text
from tests.oracle import Oracle
from tests.support import examples

UTC = timezone.utc
#: Zones, and a day on which the clock of each changes; among them a change over midnight and a day that is skipped.
CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),
    "America/Havana": ("2026-03-08", "2026-11-01"),
    "Asia/Beirut": ("2026-03-29", "2026-10-25"),
    "America/St_Johns": ("2009-03-08", "2009-11-01"),
    "Pacific/Apia": ("2011-12-30", "2012-04-01"),
    "Asia/Kathmandu": ("1986-01-01", "2026-06-01"),
    "UTC": ("2026-03-08", "2026-12-31"),
}
#: How many hours around a change are looked at.
AROUND = 44
Ticks = Callable[[datetime, datetime], set[datetime]]


@dataclass
class Case:
    """A schedule, and how its documentation reads: its ticks in (after, until], in a zone."""

    schedule: str | Schedule
    ticks: Callable[[str], Ticks]


def wall_instant(wall: datetime, zone: str) -> datetime:
    """The first instant that shows a wall-clock time; else the first one after the gap."""
    return Oracle("* * * * *", zone).instant_of(wall)


walls = st.tuples(st.sampled_from(sorted(CHANGES)), st.integers(0, 1), st.integers(-AROUND * 60, AROUND * 60)).map(
    lambda drawn: datetime.fromisoformat(CHANGES[drawn[0]][drawn[1]]) + timedelta(minutes=drawn[2])
)
aware = st.tuples(walls, st.sampled_from(sorted(CHANGES))).map(lambda both: both[0].replace(tzinfo=ZoneInfo(both[1])))
moments = st.one_of(walls, aware)


def instant_of(moment: datetime, zone: str) -> datetime:
    return wall_instant(moment, zone) if moment.tzinfo is None else moment.astimezone(UTC)


def crons() -> st.SearchStrategy[Case]:
    minutes = st.sampled_from(["0", "*/20", "30", "0,45", "59"])
    hours = st.sampled_from(["*", "*/2", "0", "1", "2", "23", "0-3", "9,17"])
    days = st.sampled_from(["* * *", "* * 1-5", "* * 0,6", "1-15 * *", "*/2 * *", "* 3-10 *"])
    texts = st.tuples(minutes, hours, days).map(" ".join)

    def ticks(text: str) -> Callable[[str], Ticks]:
        return lambda zone: lambda after, until: set(Oracle(text, zone).ticks(after, until))

    return texts.map(lambda text: Case(text, ticks(text)))


def every() -> st.SearchStrategy[Case]:
    def case(seconds: int, anchor: datetime | None) -> Case:
        def ticks(zone: str) -> Ticks:
            first = datetime(1970, 1, 1, tzinfo=UTC) if anchor is None else instant_of(anchor, zone)
            return lambda after, until: {
                datetime.fromtimestamp(second, UTC)
                for second in range(int(after.timestamp()) + 1, int(until.timestamp()) + 1)
                if (second - int(first.timestamp())) % seconds == 0
            }

        return Case(Every(seconds=seconds, anchor=anchor), ticks)

    periods = st.one_of(st.sampled_from([1_800, 3_600, 5_400, 86_400]), st.integers(1_000, 100_000))
    return st.builds(case, periods, st.one_of(st.none(), moments))


def once() -> st.SearchStrategy[Case]:
    def case(moment: datetime) -> Case:
        return Case(
            Once(moment),
            lambda zone: lambda after, until: {tick for tick in [instant_of(moment, zone)] if after < tick <= until},
        )

    return moments.map(case)


singles = st.one_of(crons(), crons(), every(), once())


def in_own_zone(case: Case, zone: str) -> Case:
    """The same with a zone of its own, which no outer one changes."""
    if isinstance(case.schedule, str):
        return Case(CronSchedule(case.schedule, zone), lambda _: case.ticks(zone))
    assert isinstance(case.schedule, ZonedSchedule)
    return Case(case.schedule.in_zone(zone), lambda _: case.ticks(zone))


def combined(cases: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    parts = st.one_of(cases, cases, st.builds(in_own_zone, cases, st.sampled_from(sorted(CHANGES))))

    def any_of(found: list[Case]) -> Case:
        def ticks(zone: str) -> Ticks:
            return lambda after, until: set().union(*(case.ticks(zone)(after, until) for case in found))

        return Case(AnyOf(*(case.schedule for case in found)), ticks)

    def within(case: Case, start: date | None, end: date | None) -> Case:
        assume(start is not None or end is not None)
        schedule = made(lambda: Within(case.schedule, start=start, end=end))

        def is_in(instant: datetime, zone: str) -> bool:
            local = instant.astimezone(ZoneInfo(zone)).date()
            late = (
                instant >= instant_of(start, zone) if isinstance(start, datetime) else start is None or local >= start
            )
            if isinstance(end, datetime):
                return late and instant <= instant_of(end, zone)
            return late and (end is None or local <= end)

        def ticks(zone: str) -> Ticks:
            return lambda after, until: {tick for tick in case.ticks(zone)(after, until) if is_in(tick, zone)}

        return Case(schedule, ticks)

    def excepted(case: Case, days: list[tuple[date, int]]) -> Case:
        ranges = [(first, first + timedelta(days=more)) for first, more in days]
        schedule = made(
            lambda: Except(case.schedule, dates=[pair if pair[0] != pair[1] else pair[0] for pair in ranges])
        )

        def ticks(zone: str) -> Ticks:
            def is_left(tick: datetime) -> bool:
                local = tick.astimezone(ZoneInfo(zone)).date()
                return not any(first <= local <= last for first, last in ranges)

            return lambda after, until: {tick for tick in case.ticks(zone)(after, until) if is_left(tick)}

        return Case(schedule, ticks)

    days = walls.map(datetime.date)
    edges = st.one_of(st.none(), days, moments)
    return st.one_of(
        st.lists(parts, min_size=1, max_size=3).map(any_of),
        st.builds(within, parts, edges, edges),
        st.builds(excepted, parts, st.lists(st.tuples(days, st.integers(0, 2)), min_size=1, max_size=3)),
    )


def made(make: Callable[[], Schedule]) -> Schedule:
    try:
        return make()
    except ScheduleError:  # nothing is left of it
        assume(False)
        raise


cases = st.recursive(singles, combined, max_leaves=4)


@st.composite
def windows(draw: st.DrawFn) -> tuple[str, datetime, datetime]:
    """A zone, and a stretch of hours about a change of its clock."""
    zone = draw(st.sampled_from(sorted(CHANGES)))
    day = datetime.fromisoformat(draw(st.sampled_from(CHANGES[zone]))).replace(tzinfo=UTC)
    start = day + timedelta(minutes=draw(st.integers(-AROUND * 60, AROUND * 60)), seconds=draw(st.integers(0, 1)))
    return zone, start, start + timedelta(hours=draw(st.integers(1, 30)))


def bound(case: Case, zone: str) -> ZonedSchedule:
    """The case's schedule, in a zone as a job's would be."""
    if isinstance(case.schedule, str):
        return CronSchedule(case.schedule, zone)
    assert isinstance(case.schedule, ZonedSchedule)
    return case.schedule.in_zone(zone)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(cases, windows())
@example(
    Case(Once(datetime(2026, 3, 29, 2, 30)), lambda _: lambda *_: {datetime(2026, 3, 29, 1, tzinfo=UTC)}),
    ("Europe/Berlin", datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC)),
)
@example(
    Case(Once(datetime(2026, 10, 25, 2, 30)), lambda _: lambda *_: {datetime(2026, 10, 25, 0, 30, tzinfo=UTC)}),
    ("Europe/Berlin", datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC)),
)
def test_ticks_are_those_of_the_documentation(case: Case, window: tuple[str, datetime, datetime]) -> None:
    zone, after, until = window
    schedule = bound(case, zone)
    expected = sorted(case.ticks(zone)(after, until))
    assert list(schedule.between(after, until)) == expected, schedule
    one_by_one, tick = [], schedule.next_after(after)
    while tick is not None and tick <= until:
        one_by_one.append(tick)
        tick = schedule.next_after(tick)
    assert one_by_one == expected
    first, last = int(after.timestamp()), int(until.timestamp())
    assert schedule.count_ticks(first, last, 100_000, lambda: False) == (len(expected), False)
    found = tick_range(schedule, first, last)
    assert (found.number if found else 0) == len(expected)
    assert newest_tick(schedule, first, last) == (int(expected[-1].timestamp()) if expected else None)


@settings(max_examples=examples(80), deadline=None, suppress_health_check=list(HealthCheck))
@given(cases, windows())
def test_a_schedule_is_made_again_from_its_text(case: Case, window: tuple[str, datetime, datetime]) -> None:
    zone, after, until = window
    schedule = bound(case, zone)
    for again in (schedule_of_text(schedule.text, zone), pickle.loads(pickle.dumps(schedule))):
        assert again == schedule
        assert hash(again) == hash(schedule)
        assert (again.text, again.timezone, again.words) == (schedule.text, schedule.timezone, schedule.words)
        assert list(again.between(after, until)) == list(schedule.between(after, until))


@settings(max_examples=examples(50), deadline=None, suppress_health_check=list(HealthCheck))
@given(cases, windows(), st.integers(0, 5))
def test_counting_stops_at_most(case: Case, window: tuple[str, datetime, datetime], most: int) -> None:
    zone, after, until = window
    schedule = bound(case, zone)
    number = len(list(schedule.between(after, until)))
    counted, more = schedule.count_ticks(int(after.timestamp()), int(until.timestamp()), most, lambda: False)
    assert (counted, more) == (min(number, most), number > most)


@pytest.mark.parametrize(
    ("schedule", "same"),
    [
        (Every(minutes=90), Every(timedelta(hours=1.5))),
        (Every(hours=1, minutes=30), Every(seconds=5_400)),
        (Every(minutes=0.5), Every(seconds=30)),
        (Every(days=7), Every(hours=168)),
        (Every(minutes=5, anchor="2026-01-01 09:00"), Every(minutes=5, anchor=datetime(2026, 1, 1, 9))),
        (Every(minutes=5, anchor="2026-01-01T09:00Z"), Every(minutes=5, anchor="2026-01-01T10:00:00+01:00")),
        (
            Once("2026-12-24T17:00", timezone="Europe/Berlin"),
            Once("2026-12-24 17:00:00", timezone=ZoneInfo("Europe/Berlin")),
        ),
        (AnyOf("@daily", "0  9 * * *"), AnyOf("@daily", "0 9 * * *")),
        (Within("0 9 * * *", start=date(2026, 5, 1)), Within("0 9 * * *", start="2026-05-01")),
        (
            Except("0 9 * * *", dates=["2026-12-26", date(2026, 12, 25), ("2026-12-27", "2026-12-31")]),
            Except("0 9 * * *", dates=["2026-12-25/2026-12-31"]),
        ),
        (Except("0 9 * * *", dates={date(2026, 12, 25): "Christmas"}), Except("0 9 * * *", dates=iter(["2026-12-25"]))),
    ],
)
def test_two_ways_to_write_the_same(schedule: ZonedSchedule, same: ZonedSchedule) -> None:
    assert schedule == same
    assert len({schedule, same}) == 1
    assert repr(schedule) == repr(same)


@pytest.mark.parametrize(
    "different",
    [
        Every(minutes=91),
        Every(minutes=90, anchor="2026-01-01T00:30"),
        Every(minutes=90, timezone="Europe/Berlin"),
        Every(minutes=90, after="end"),
        AnyOf(Every(minutes=90)),
    ],
)
def test_what_differs_in_text_or_zone_is_not_equal(different: ZonedSchedule) -> None:
    assert different != Every(minutes=90)


def test_a_period_of_days_is_real_time_and_moves_with_the_clock() -> None:
    daily = Every(days=1, anchor="2026-03-27T09:00", timezone="Europe/Berlin")
    local = [
        f"{tick.astimezone(ZoneInfo('Europe/Berlin')):%d %H:%M}"
        for tick in daily.between(datetime(2026, 3, 27, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC))
    ]
    assert local == ["27 09:00", "28 09:00", "29 10:00", "30 10:00"]


def test_a_schedule_takes_the_zone_of_its_job_unless_it_has_one() -> None:
    inner = Once("2026-12-24T17:00")
    own = Once("2026-12-24T17:00", timezone="Asia/Tokyo")
    both = AnyOf(inner, own).in_zone("Europe/Berlin")
    ticks = [tick.hour for tick in both.between(datetime(2026, 12, 24, tzinfo=UTC), datetime(2026, 12, 25, tzinfo=UTC))]
    assert ticks == [8, 16]
    assert inner.timezone == "UTC"
    assert inner.in_zone("Europe/Berlin").timezone == "Europe/Berlin"
    assert own.in_zone("Europe/Berlin") is own
    assert both.in_zone("America/New_York") is both


def test_schedules_cannot_be_changed() -> None:
    for schedule in (Every(minutes=90), AnyOf("0 9 * * *"), CronSchedule("0 9 * * *")):
        with pytest.raises(AttributeError, match="immutable"):
            schedule.text = "other"
        with pytest.raises(AttributeError, match="immutable"):
            del schedule.text


@pytest.mark.parametrize(
    "schedule", [Every(seconds=1), Every(days=1), Once("2026-12-24T17:00"), AnyOf("0 9 * * *", Every(hours=1))]
)
def test_schedules_answer_over_all_of_time(schedule: ZonedSchedule) -> None:
    for instant in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)):
        tick = schedule.next_after(instant)
        assert tick is None or tick > instant


def test_counting_over_years_is_quick() -> None:
    decade = 10 * 366 * 86_400
    asked = []

    def enough() -> bool:
        asked.append(1)
        return False

    season = Except(Within(Every(seconds=1), start="2026-01-01", end="2035-12-31"), dates=["2026-12-24", "2027-12-24"])
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    number, more = season.count_ticks(start - 1, start + decade, 10**12, enough)
    assert (number, more) == ((3_652 - 2) * 86_400, False)
    assert len(asked) < 50


def in_2026(schedule: Schedule) -> list[datetime]:
    return list(schedule.between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)))


def test_what_starts_and_ends_of_runs_make_is_not_known_from_the_clock() -> None:
    for schedule in (AtStart(), Every(seconds=45, after="end")):
        assert not schedule.is_clocked
        assert in_2026(schedule) == []
        assert schedule.count_ticks(0, 10**10, 5, lambda: False) == (0, False)


class Moons:
    """A schedule of somebody else's: each 29th day."""

    text = "each moon"

    def next_after(self, instant: datetime) -> datetime | None:
        return Every(days=29).next_after(instant)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        return Every(days=29).between(after, until)


def test_schedules_of_others_can_be_combined() -> None:
    both = Except(AnyOf(Moons(), "0 9 1 * *"), dates=["2026-05-01"])
    ticks = in_2026(both)
    moons = [tick for tick in in_2026(Moons()) if tick.date() != date(2026, 5, 1)]
    firsts = [datetime(2026, month, 1, 9, tzinfo=UTC) for month in range(1, 13) if month != 5]
    assert ticks == sorted({*moons, *firsts})
    assert all(earlier < later for earlier, later in pairwise(ticks))
    assert both.text == "Except(AnyOf(<each moon>, '0 9 1 * *'), dates=['2026-05-01'])"
    assert both.words == "(as 'each moon' says; or at 09:00, on day 1 of the month); but not on 2026-05-01"
    with pytest.raises(ScheduleError, match="can't be read"):
        schedule_of_text(both.text)


def test_the_seconds_of_start_and_end_belong_to_the_time_between_them() -> None:
    schedule = Within("0 * * * *", start="2026-05-01T09:00", end="2026-05-01T11:00")
    assert [tick.hour for tick in in_2026(schedule)] == [9, 10, 11]
    later = Within("0 * * * *", start="2026-05-01T09:00:01", end="2026-05-01T10:59:59")
    assert [tick.hour for tick in in_2026(later)] == [10]


def test_a_day_between_two_that_are_left_out_is_not_left_out() -> None:
    schedule = Except(Within("0 9 * * *", start="2026-12-23", end="2026-12-27"), dates=["2026-12-24", "2026-12-26"])
    assert [tick.day for tick in in_2026(schedule)] == [23, 25, 27]


def test_a_day_that_a_clock_change_begins_twice_is_told_from_the_one_before() -> None:
    """In St. John's, one minute after midnight, the clock went back to 23:01 of the day before."""
    zone, start, until = "America/St_Johns", datetime(2009, 11, 1, tzinfo=UTC), datetime(2009, 11, 1, 5, tzinfo=UTC)
    every_minute = CronSchedule("* * * * *", zone).between(start, until)
    first_of_november = [tick for tick in every_minute if tick.astimezone(ZoneInfo(zone)).day == 1]
    within = Within("* * * * *", start="2009-11-01", end="2009-11-01", timezone=zone)
    assert list(within.between(start, until)) == first_of_november
    assert (first_of_november[1] - first_of_november[0]) == timedelta(hours=1), "00:00, and then 00:00 again"
    without = Except("* * * * *", dates=["2009-11-01"], timezone=zone)
    assert not {*without.between(start, until)} & {*first_of_november}
    assert len({*without.between(start, until)} | {*first_of_november}) == 300
