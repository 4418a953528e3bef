"""What an expression means: its days and times against the calendar day by day, and the offsets of zones against zoneinfo."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from itertools import accumulate, pairwise
from zoneinfo import ZoneInfo

import pytest

from fastapi_crons.schedule._parser import parse
from fastapi_crons.schedule._tables import Days, Times
from fastapi_crons.schedule._zones import FIRST, LAST, Zone, zone
from tests.oracle import Oracle

_EPOCH = date(1970, 1, 1)
_DAYS = [_EPOCH + timedelta(days=number) for number in range(366 * 4)]

EXPRESSIONS = [
    "* *",
    "? 5",
    "*/2 mon-fri",
    "*/5 */2",
    "13 5",
    "1-7 MON",
    "31 *",
    "1,15,L sat",
    "L *",
    "l,30 3",
    "15W *",
    "W1 *",
    "31w,1W *",
    "lw,w15,30 *",
    "30,15W *",
    "LW,w2,30 sun",
    "* 1#1",
    "* mon#5,Fri#2",
    "* 7#1,SUN#5",
    "* 5L",
    "* L3,sunL,0#2",
    "10 7L",
    "* 0-7",
    "* 5-1",
    "* 4,7",
]


def _oracle(month_day: str, weekday: str, month: str) -> list[bool]:
    """For each day whether it matches, by the rule."""
    weekday = weekday.replace("L3", "3L").replace("5-1", "0,1,5,6")
    oracle = Oracle(f"0 0 {month_day.replace('?', '*')} {month} {weekday}", "UTC")
    return [oracle.matches(datetime(day.year, day.month, day.day)) for day in _DAYS]


@pytest.mark.parametrize("fields", EXPRESSIONS)
def test_each_day_matches_by_the_rule_and_is_found_and_counted(fields: str) -> None:
    month_day, weekday = fields.split()
    for month in ("2,3", "feb-APR,12", "*"):
        days = parse(f"0 0 {month_day} {month} {weekday}").days
        matching = _oracle(month_day, weekday, month)
        found: list[int] = []
        day = days.next_day(0)
        while day is not None and day < len(_DAYS):
            found.append(day)
            day = days.next_day(day + 1)
        assert found == [number for number, matches in enumerate(matching) if matches]
        before = [0, *accumulate(matching)]
        for first in range(0, len(_DAYS) - 100, 37):
            # All lengths up to a month and a half, and some months.
            for last in (*range(first - 1, first + 45, 4), first + 95):
                assert days.count(first, last) == max(0, before[max(last, first)] - before[first])


@pytest.mark.parametrize("fields", ["* *", "? ?", "1-31 *", "* 0-6", "*/1 *"])
def test_days_that_all_match_are_known_to_do_so(fields: str) -> None:
    month_day, weekday = fields.split()
    assert parse(f"0 0 {month_day} * {weekday}").days.every
    assert parse(f"0 0 {month_day} 1-12 {weekday}").days.every
    assert not parse(f"0 0 {month_day} 1-11 {weekday}").days.every


@pytest.mark.parametrize("fields", ["1-30 *", "L *", "* 1-6", "1-31 1-6", "1-31 0-6", "*/2 *"])
def test_days_that_do_not_all_match_or_match_either_field_are_looked_at(fields: str) -> None:
    month_day, weekday = fields.split()
    assert not parse(f"0 0 {month_day} * {weekday}").days.every


def test_the_first_and_the_last_days_of_the_calendar() -> None:
    first, last = (date.min - _EPOCH).days, (date.max - _EPOCH).days
    days = parse("0 0 31 12 *").days
    assert days.next_day(first) == first + 364
    assert days.next_day(last) == last
    assert days.count(last - 400, last + 1) == 2
    assert days.next_day(last + 1) is days.next_day(first - 1) is days.next_day(10**12) is None
    assert parse("0 0 30 11 *").days.next_day(last) is None
    # None within half a century: the next one is looked for no further.
    assert (
        Days(frozenset({30}), False, frozenset(), frozenset({2}), frozenset(range(7)), frozenset(), False).next_day(0)
        is None
    )


def test_a_leap_day_is_found_across_the_year_that_has_none() -> None:
    days, start = parse("0 0 29 2 *").days, (date(2096, 3, 1) - _EPOCH).days
    assert days.next_day(start) == (date(2104, 2, 29) - _EPOCH).days
    # The longest gap of all: from 2072 to 2112.
    monday = parse("0 0 * 2 mon#5").days
    assert monday.next_day((date(2072, 3, 1) - _EPOCH).days) == (date(2112, 2, 29) - _EPOCH).days


@pytest.mark.parametrize(
    "times",
    [
        Times((0,), (0,)),
        Times((1_439,), (59,)),
        Times((0, 1, 2, 60, 61, 1_439), (0, 30)),
        Times((5, 7), (7, 8, 59)),
        Times(tuple(range(0, 1_440, 15)), (15,)),
    ],
)
def test_each_time_of_a_day_is_found_and_counted(times: Times) -> None:
    matching = [minute * 60 + second for minute in times.minutes for second in times.seconds]
    for second in (*range(0, 86_400, 7), *matching, *(time + 1 for time in matching if time < 86_399)):
        after = [time for time in matching if time >= second]
        assert times.next_time(second) == (after[0] if after else None)
        assert times.count_before(second) == len(matching) - len(after)


@pytest.mark.parametrize(
    ("expr", "minutes", "seconds"),
    [
        ("5 2 * * *", [125], [0]),
        ("5-5 2-2/3 * * *", [125], [0]),
        ("5-5,7 2 * * *", [125, 127], [0]),
        ("0,30 23-1 * * * 5,0", [0, 30, 60, 90, 1_380, 1_410], [0, 5]),
        ("0 0 * * * *", [0], list(range(60))),
        ("* 0 * * *", list(range(60)), [0]),
        ("*/25 7 * * * */40", [420, 445, 470], [0, 40]),
    ],
)
def test_times_are_those_that_are_written(expr: str, minutes: list[int], seconds: list[int]) -> None:
    assert parse(expr).times == Times(tuple(minutes), tuple(seconds))


@pytest.mark.parametrize("day", ["MON", "mon", "1"])
@pytest.mark.parametrize("month", ["Feb", "feb", "2"])
def test_a_range_with_equal_ends_is_one_value_however_it_is_written(month: str, day: str) -> None:
    days = parse(f"0 0 * {month}-feb {day}-mon,5").days
    assert days.months == frozenset({2})
    assert days.weekdays == frozenset({1, 5})


@pytest.mark.parametrize(
    ("expr", "interval_like"),
    [
        ("* * * * *", True),
        ("*/5 2 * * *", True),
        ("5 */2 * * *", True),
        ("5 2 * * * *", False),
        ("0-59 0 * * *", False),
    ],
)
def test_what_says_how_often_is_told_from_what_says_when(expr: str, interval_like: bool) -> None:
    assert parse(expr).interval_like is interval_like


#: Zones and the beginning of a time with changes: over the date line, by half an hour, by seconds, and where one stretch of
#: segments passes into the next.
CHANGING = [
    ("America/New_York", "2026-02-01"),
    ("America/New_York", "1976-09-01"),
    ("Europe/Berlin", "1985-02-15"),
    ("Australia/Lord_Howe", "2026-03-01"),
    ("Africa/Casablanca", "2026-01-20"),
    ("Pacific/Apia", "2011-10-01"),
    ("Europe/Amsterdam", "1937-05-01"),
    ("Africa/Monrovia", "1971-12-01"),
    ("America/Anchorage", "1867-09-01"),
    ("Asia/Manila", "1844-11-01"),
]


@pytest.mark.parametrize(("name", "begin"), CHANGING)
def test_segments_follow_upon_each_other_and_have_the_offsets_of_zoneinfo(name: str, begin: str) -> None:
    start = int(datetime.fromisoformat(f"{begin}T00:00+00:00").timestamp())
    info, found = ZoneInfo(name), zone(name)

    def offset(instant: int) -> int:
        at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=instant)
        difference = at.astimezone(info).utcoffset()
        assert difference is not None
        return difference // timedelta(seconds=1)

    segments = [found.segment(start)]
    while segments[-1].end < start + 250 * 86_400:
        segments.append(found.segment(segments[-1].end))
    assert len({segment.offset for segment in segments}) > 1
    assert all(later.start == earlier.end for earlier, later in pairwise(segments))
    for segment in segments:
        hours = range(segment.start, segment.end, 3_600)
        assert {offset(instant) for instant in (*hours, segment.end - 1)} == {segment.offset}
        assert found.segment(segment.start) == found.segment(segment.end - 1) == segment
        # Only what the clock showed in the last two days can be repeated, and it was ahead most right before a change.
        before = [segment.start - 2 * 86_400, segment.start - 1, *(earlier.end - 1 for earlier in segments)]
        shown = [at + offset(at) + 1 for at in before if segment.start - 2 * 86_400 <= at < segment.start]
        begins = segment.start + segment.offset
        assert max(segment.seen_until, begins) == max(*shown, begins)


def test_a_zone_is_known_from_its_first_to_its_last_instant_in_any_order() -> None:
    found = zone("Europe/London")
    first, last = found.segment(FIRST), found.segment(LAST - 1)
    assert first.start <= FIRST < first.end
    assert last.start < last.end == LAST
    assert found.segment(FIRST) == first
    assert found.segment(LAST - 1) == last
    assert found.name == "Europe/London"


def test_a_zone_that_was_never_asked_before_knows_the_beginning_of_1970() -> None:
    tokyo = Zone("Asia/Tokyo", ZoneInfo("Asia/Tokyo"))
    assert tokyo.segment(0).offset == tokyo.segment(0).offset == 9 * 3_600
