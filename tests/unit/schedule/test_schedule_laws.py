"""The laws of schedules, against the oracle and against other libraries."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastapi_crons import ScheduleError
from fastapi_crons.schedule import CronSchedule
from tests.oracle import Oracle
from tests.support import examples

UTC = timezone.utc

# Zones and, for each, days on which its clock changes.
CHANGES = {
    "America/New_York": ["2026-03-08", "2026-11-01"],
    "Europe/London": ["2026-03-29", "2026-10-25"],
    "Australia/Lord_Howe": ["2026-04-05", "2026-10-04"],
    "Antarctica/Troll": ["2026-03-29", "2026-10-25"],
    "America/Havana": ["2026-03-08", "2026-11-01"],
    "Asia/Beirut": ["2026-03-29", "2026-10-25"],
    "Pacific/Apia": ["2011-12-30", "2012-04-01"],
    "Africa/Casablanca": ["2026-02-15", "2026-03-22"],
    "Europe/Amsterdam": ["1937-07-01", "1940-05-16"],
    "Africa/Monrovia": ["1972-01-07", "1972-01-07"],
    "Asia/Kathmandu": ["1986-01-01", "2026-06-01"],
    "UTC": ["2026-03-08", "2026-12-31"],
}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0 9-9 * * *", "0 9 * * *"),
        ("5-5/7 9 * * *", "5 9 * * *"),
        ("0 9 1-1 2-feb *", "0 9 1 2 *"),
        ("0 9 * * mon-mon", "0 9 * * 1"),
        ("0 9 * * 5,5#2", "0 9 * * 5"),
        ("0 9 * * 5#2,1", "0 9 * * 1,5#2"),
        ("0 9 * * 0-7", "0 9 * * *"),
    ],
)
def test_two_ways_to_write_the_same(written: str, meant: str) -> None:
    start, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    assert list(CronSchedule(written).between(start, until)) == list(CronSchedule(meant).between(start, until))


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high)
    return st.one_of(
        one.map(str),
        st.lists(one, min_size=2, max_size=3, unique=True).map(lambda values: ",".join(map(str, sorted(values)))),
        st.tuples(one, one).filter(lambda ends: ends[0] < ends[1]).map(lambda ends: f"{ends[0]}-{ends[1]}"),
    )


def field(low: int, high: int, steps: tuple[int, ...]) -> st.SearchStrategy[str]:
    return st.one_of(st.just("*"), st.sampled_from(steps).map(lambda step: f"*/{step}"), numbers(low, high))


minutes = field(0, 59, (5, 15, 30))
# Weighted towards the hours in which clocks change.
hours = st.one_of(field(0, 23, (2, 3)), numbers(0, 3), st.just("2"))
month_days = st.one_of(st.just("*"), st.just("*"), field(1, 31, (2,)))
weekdays = st.one_of(st.just("*"), st.just("*"), field(0, 6, (2,)))
expressions = st.tuples(minutes, hours, month_days, st.just("*"), weekdays).map(" ".join)
seconds = st.one_of(st.just(""), st.just(""), st.sampled_from([" 0", " 30", " */20"]))


@st.composite
def zones_and_starts(draw: st.DrawFn) -> tuple[str, datetime]:
    zone = draw(st.sampled_from(sorted(CHANGES)))
    day = datetime.fromisoformat(draw(st.sampled_from(CHANGES[zone]))).replace(tzinfo=UTC)
    return zone, day + timedelta(seconds=draw(st.integers(-30 * 3600, 6 * 3600)))


@settings(max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(expressions, seconds, zones_and_starts())
@example("30 2 * * *", "", ("America/New_York", datetime(2026, 3, 7, 20, tzinfo=UTC)))
@example("30 1 * * *", "", ("America/New_York", datetime(2026, 11, 1, 0, tzinfo=UTC)))
@example("0 0 * * *", "", ("Pacific/Apia", datetime(2011, 12, 29, 0, tzinfo=UTC)))
@example("* 0,1 1 * *", "", ("America/New_York", datetime(2026, 11, 1, 0, tzinfo=UTC)))
@example("*/15 * * * *", "", ("Australia/Lord_Howe", datetime(2026, 4, 4, 12, tzinfo=UTC)))
def test_ticks_are_those_of_the_rule(expr: str, second: str, zone_and_start: tuple[str, datetime]) -> None:
    zone, start = zone_and_start
    until = start + timedelta(hours=30)
    expected = Oracle(expr + second, zone).ticks(start, until)
    assert list(CronSchedule(expr + second, zone).between(start, until)) == expected


@settings(max_examples=examples(60), deadline=None)
@given(
    st.sampled_from(["30 2 * * *", "0 0 1 1 *", "*/20 23 31 12 *", "0 12 L * *"]),
    st.sampled_from(["2028", "2026-2028", "2027,2030", "*", "*/4", "2029/2", "2096-1972"]),
    st.sampled_from(sorted(CHANGES)),
    st.integers(2025, 2031),
)
def test_the_seventh_field_is_the_year(expr: str, years: str, zone: str, year: int) -> None:
    start = datetime(year, 12, 30, 12, tzinfo=UTC)
    until = start + timedelta(days=3)
    expected = Oracle(f"{expr} 0 *", zone).ticks(start, until)
    clock, wanted = ZoneInfo(zone), set(croniter.expand(f"0 0 1 1 * 0 {years}")[0][6])
    assert list(CronSchedule(f"{expr} 0 {years}", zone).between(start, until)) == [
        tick for tick in expected if "*" in wanted or tick.astimezone(clock).year in wanted
    ]


def test_a_year_field_ends_a_schedule_and_reaches_far_ahead() -> None:
    over = CronSchedule("0 0 1 1 * 0 2020")
    assert over.next_after(datetime(2026, 1, 1, tzinfo=UTC)) is None
    assert over.next_after(datetime(1, 6, 1, tzinfo=UTC)) == datetime(2020, 1, 1, tzinfo=UTC)
    assert CronSchedule("0 0 1 1 * 0 2099").next_after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(
        2099, 1, 1, tzinfo=UTC
    )
    until = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
    count = CronSchedule("*/30 * * 2 * 0 2027,2028").count_ticks(0, until, 10_000, lambda: False)
    assert count == (48 * (28 + 29), False)


special_days = st.one_of(
    st.just("*"),
    st.sampled_from(["L", "LW", "1W", "15W", "31W", "W6", "L,1", "15W,20", "LW,1-3", "1W,L"]),
    st.integers(1, 28).map(lambda day: f"{day}W"),
)
special_weekdays = st.one_of(
    st.just("*"),
    st.sampled_from(["MON-FRI", "sun", "7", "5L", "friL", "1#1,3#2", "mon#5", "0#1", "sat,sun", "L5", "7#2", "tue#1"]),
    st.tuples(st.integers(0, 6), st.integers(1, 5)).map(lambda both: f"{both[0]}#{both[1]}"),
)


@settings(max_examples=examples(150), deadline=None)
@given(
    st.tuples(st.just("30 2"), special_days, st.sampled_from(["*", "feb", "JAN-MAR", "1,6,12"]), special_weekdays),
    st.sampled_from(sorted(CHANGES)),
    st.dates(date(2020, 1, 1), date(2040, 1, 1)),
)
def test_days_are_those_of_the_calendar(fields: tuple[str, ...], zone: str, day: date) -> None:
    expr = " ".join(fields)
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    until = start + timedelta(days=45)
    oracle_expr = expr.replace("L5", "5L")
    expected = []
    for offset in range(-2, 48):
        wall = datetime(day.year, day.month, day.day, 2, 30) + timedelta(days=offset)
        oracle = Oracle(oracle_expr, zone)
        if oracle.matches(wall):
            tick = oracle.instant_of(wall)
            if start < tick <= until:
                expected.append(tick)
    if fields[1] == "31W" and fields[2] == "feb" and fields[3] == "*":
        with pytest.raises(ScheduleError, match="is never due"):
            CronSchedule(expr, zone)
    else:
        assert list(CronSchedule(expr, zone).between(start, until)) == sorted(set(expected))


@settings(max_examples=examples(200), deadline=None)
@given(expressions, zones_and_starts(), st.integers(1, 40 * 24 * 3600))
def test_between_is_next_after_repeated(expr: str, zone_and_start: tuple[str, datetime], length: int) -> None:
    zone, start = zone_and_start
    schedule, until = CronSchedule(expr, zone), start + timedelta(seconds=length)
    one_by_one: list[datetime] = []
    tick = schedule.next_after(start)
    while tick is not None and tick <= until and len(one_by_one) < 500:
        one_by_one.append(tick)
        tick = schedule.next_after(tick)
    in_one_go = [tick for _, tick in zip(range(500), schedule.between(start, until), strict=False)]
    assert in_one_go == one_by_one
    assert all(earlier < later for earlier, later in pairwise(in_one_go))


@settings(max_examples=examples(200), deadline=None)
@given(expressions, zones_and_starts(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_an_interval_is_the_sum_of_its_parts(
    expr: str, zone_and_start: tuple[str, datetime], first: int, second: int
) -> None:
    zone, start = zone_and_start
    schedule = CronSchedule(expr, zone)
    a, b, c = (int(start.timestamp()) + offset for offset in (0, first, first + second))
    whole = [tick for _, tick in zip(range(2000), schedule.ticks_between(a, c), strict=False)]
    parts = [*schedule.ticks_between(a, b), *schedule.ticks_between(b, c)] if len(whole) < 2000 else whole
    assert parts == whole


@settings(max_examples=examples(200), deadline=None)
@given(
    st.tuples(minutes, hours, month_days, field(1, 12, (3,)), weekdays).map(" ".join),
    st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)),
)
def test_without_clock_changes_we_agree_with_croniter_and_cronsim(expr: str, naive: datetime) -> None:
    start = naive.replace(microsecond=0, tzinfo=ZoneInfo("UTC"))
    # croniter takes "both day fields restricted" from the expanded values, cronsim and cron(8) from the text.
    both_by_text = not expr.split()[2].startswith("*") and not expr.split()[4].startswith("*")
    try:
        sim = CronSim(expr, start)
        expected = [next(sim) for _ in range(3)]
    except Exception:
        return  # never due within cronsim's horizon
    schedule = CronSchedule(expr)
    ours = [tick for _, tick in zip(range(3), schedule.between(start, start + timedelta(days=366 * 60)), strict=False)]
    assert ours == expected
    full = expr.split()[2] in ("*", "1-31") or expr.split()[4] in ("*", "0-6")
    if not full and both_by_text:
        theirs = croniter(expr, start)
        assert ours == [theirs.get_next(datetime) for _ in range(3)]
