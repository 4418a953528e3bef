"""CronSchedule as a value: what it is equal to, which zones and instants it takes, and where the calendar ends."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from unittest.mock import ANY
from zoneinfo import ZoneInfo

import pytest

from fastapi_crons import CronSchedule, ScheduleError
from fastapi_crons._util.text import brief
from fastapi_crons.schedule._zones import FIRST, LAST, zone
from fastapi_crons.schedule.cron import check_timezone, cron_schedule, zone_name
from tests.oracle import Oracle

UTC = timezone.utc
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_schedules_are_equal_where_text_and_zone_are() -> None:
    schedule = CronSchedule("0  9 * * *", "Europe/Berlin")
    assert (schedule.text, schedule.timezone) == ("0 9 * * *", "Europe/Berlin")
    same = CronSchedule("0 9 * * *", ZoneInfo("Europe/Berlin"))
    others = [CronSchedule("0 9 * * *"), CronSchedule("1 9 * * *", "Europe/Berlin"), CronSchedule("@daily")]
    assert schedule == same
    assert hash(schedule) == hash(same)
    assert schedule not in others
    assert len({schedule, same, *others}) == 4
    assert len({hash(each) for each in (schedule, *others)}) > 1
    assert schedule != "0 9 * * *"
    assert schedule == ANY, "what it does not know may say itself whether it is equal"
    assert CronSchedule("0 9 * * *").timezone == "UTC"


def test_a_schedule_can_not_be_changed_and_travels() -> None:
    schedule = CronSchedule("0 9 * * *", "Europe/Berlin")
    with pytest.raises(AttributeError, match="instead of setting text"):
        schedule.text = "* * * * *"
    assert schedule.text == "0 9 * * *"
    assert repr(schedule) == "CronSchedule('0 9 * * *', 'Europe/Berlin')"
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_the_same_expression_in_the_same_zone_is_parsed_once() -> None:
    assert cron_schedule("1 2 3 4 *", "Asia/Tokyo") is cron_schedule("1 2 3 4 *", "Asia/Tokyo")
    assert cron_schedule("1 2 3 4 *") == CronSchedule("1 2 3 4 *")


def test_an_expression_that_is_not_kept_is_parsed_each_time() -> None:
    assert CronSchedule(f"{','.join(['7'] * 100)} 9 * * *").next_tick(0) == 9 * 3_600 + 7 * 60
    expr: Any = []  # has no hash
    with pytest.raises(ScheduleError, match="a cron expression must be text, not list"):
        CronSchedule(expr)


class Pytz(tzinfo):
    """Has its name in the attribute that pytz uses."""

    def __init__(self, zone: object) -> None:
        self.zone = zone

    def _unknown(self, instant: datetime | None) -> None: ...

    utcoffset = dst = tzname = _unknown


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (ZoneInfo("Asia/Tokyo"), "Asia/Tokyo"),
        (UTC, "UTC"),
        (Pytz("America/Denver"), "America/Denver"),
    ],
)
def test_a_zone_is_taken_by_name_and_as_an_object_with_a_name(given: Any, name: str) -> None:
    assert zone_name(given) == name
    assert CronSchedule("0 9 * * *", given).timezone == name
    check_timezone(name)


class NoZone:
    key = "Europe/Berlin"


@pytest.mark.parametrize("given", [timezone(timedelta(hours=1)), None, 5, NoZone(), Pytz(5), Pytz(None)])
def test_what_has_no_name_of_a_zone_is_refused(given: Any) -> None:
    with pytest.raises(ScheduleError) as refused:
        zone_name(given)
    said = f"timezone must be the name of a zone or a ZoneInfo, not {brief(given)}; e.g. 'Europe/Berlin'"
    assert str(refused.value) == said


@pytest.mark.parametrize("name", ["Europe/Atlantis", "", "../x", "Europe"])
def test_a_zone_that_the_tz_database_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ScheduleError, match=r"timezone .* is unknown"):
        check_timezone(name)


def test_an_instant_without_a_zone_is_refused_and_named() -> None:
    schedule, naive = CronSchedule("* * * * *"), NOON.replace(tzinfo=None)
    said = "{} must be an aware datetime, not 2026-01-01T12:00:00; add tzinfo"
    with pytest.raises(ScheduleError) as refused:
        schedule.next_after(naive)
    assert str(refused.value) == said.format("instant")
    with pytest.raises(ScheduleError) as refused:
        schedule.between(naive, NOON)
    assert str(refused.value) == said.format("after")
    with pytest.raises(ScheduleError) as refused:
        schedule.between(NOON, naive)
    assert str(refused.value) == said.format("until")


def test_instants_between_two_seconds() -> None:
    minutes, half = CronSchedule("* * * * *"), timedelta(seconds=0.5)
    minute = timedelta(minutes=1)
    assert minutes.next_after(NOON - half) == NOON
    assert minutes.next_after(NOON) == minutes.next_after(NOON + half) == NOON + minute
    assert list(minutes.between(NOON - half, NOON + minute - half)) == [NOON]
    assert list(minutes.between(NOON + half, NOON + minute + half)) == [NOON + minute]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert CronSchedule("* * * * * *").next_after(epoch - half) == epoch
    tick = minutes.next_after(NOON.astimezone(ZoneInfo("Asia/Tokyo")))
    assert tick is not None
    assert tick.tzinfo is UTC


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("expr", ["* * * * * */30", "59 23 * * * 59", "0 0 * * * 0"])
def test_near_the_ends_of_the_calendar_there_are_no_ticks(expr: str, zone: str) -> None:
    schedule = CronSchedule(expr, zone)
    first = schedule.next_tick(FIRST - 10**12)
    assert first is not None
    assert FIRST <= first < FIRST + 86_400
    assert schedule.next_tick(FIRST - 2) == schedule.next_tick(FIRST - 1) == first
    assert schedule.next_tick(LAST) is schedule.next_tick(LAST + 10**12) is None
    assert schedule.next_tick(LAST - 86_401) is not None
    for after, until in ((FIRST - 10**9, FIRST + 90_000), (LAST - 90_000, LAST + 10**9)):
        ticks = list(schedule.ticks_between(after, until))
        assert schedule.count_ticks(after, until, 100_000, lambda: False) == (len(ticks), False)


def test_after_the_last_tick_of_the_calendar_there_is_none() -> None:
    assert CronSchedule("0 0 1 1 *").next_after(datetime(9999, 6, 1, tzinfo=UTC)) is None


def test_counting_ends_when_it_has_been_enough() -> None:
    schedule = CronSchedule("0 3 * * *")
    year = 366 * 86_400
    assert schedule.count_ticks(0, year, 1_000, lambda: False) == (366, False)
    assert schedule.count_ticks(0, year, 366, lambda: False) == (366, False)
    assert schedule.count_ticks(0, year, 365, lambda: False) == (365, True)
    number, more = schedule.count_ticks(0, year, 1_000, lambda: True)
    assert more
    assert 0 < number < 366
    # What is counted to the end in one step is counted whole.
    assert schedule.count_ticks(0, 10 * 86_400, 1_000, lambda: True) == (10, False)
    # A range that ends where a step ends is counted whole, too.
    end = zone("UTC").segment(0).end
    assert schedule.count_ticks(end - 5 * 86_400, end - 1, 1_000, lambda: True) == (5, False)


@pytest.mark.parametrize("expr", ["30 6,18 * * 1", "30 2 * * *", "0,30 2,3 * * 0", "*/30 2 * * *", "* 2 * * 6 */20"])
@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("UTC", "2026-01-03"),
        # The clock goes forward or back on the third day.
        ("Europe/Berlin", "2026-03-27"),
        ("Europe/Berlin", "2026-10-23"),
        ("America/St_Johns", "2026-10-30"),
        ("Pacific/Apia", "2011-12-28"),
    ],
)
def test_ticks_of_all_ranges_of_some_days_are_found_and_counted_by_the_rule(expr: str, zone: str, start: str) -> None:
    begin = datetime.fromisoformat(f"{start}T00:00:00+00:00")
    schedule, first, end = CronSchedule(expr, zone), int(begin.timestamp()), begin + timedelta(days=5)
    expected = [int(tick.timestamp()) for tick in Oracle(expr, zone).ticks(begin, end)]
    assert list(schedule.ticks_between(first, int(end.timestamp()))) == expected
    ends = sorted({*range(first, first + 5 * 86_400, 9_000), *(tick - at for tick in expected[::7] for at in (0, 1))})
    for after in ends:
        assert schedule.next_tick(after) == next((tick for tick in expected if tick > after), schedule.next_tick(after))
        for until in ends[::3]:
            number = sum(after < tick <= until for tick in expected)
            assert schedule.count_ticks(after, until, 10_000, lambda: False) == (number, False)


def test_what_a_gap_skips_is_due_once_right_after_it() -> None:
    gap = int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp())
    skipped = CronSchedule("0,30 2,3 * * *", "Europe/Berlin")
    assert list(skipped.ticks_between(gap - 3_600, gap + 3_600)) == [gap, gap + 1_800]
    counted = [skipped.count_ticks(gap - 3_600, until, 9, lambda: False) for until in (gap - 1, gap, gap + 1_800)]
    assert counted == [(0, False), (1, False), (2, False)]
    assert skipped.count_ticks(gap, gap + 1_800, 9, lambda: False) == (1, False)
    each_second = CronSchedule("0 2,3 * * * *", "Europe/Berlin")
    assert list(each_second.ticks_between(gap - 3_600, gap + 3)) == [gap, gap + 1, gap + 2, gap + 3]
    assert each_second.count_ticks(gap - 3_600, gap + 3, 9, lambda: False) == (4, False)


@pytest.mark.parametrize(
    ("expr", "zone", "change"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-03-29T01:00:00"),
        ("15 0 * * *", "America/Havana", "2026-03-08T05:00:00"),
        ("0 9 30 12 *", "Pacific/Apia", "2011-12-30T10:00:00"),
    ],
)
def test_the_tick_after_a_gap_is_found_from_the_second_before(expr: str, zone: str, change: str) -> None:
    schedule, end = CronSchedule(expr, zone), datetime.fromisoformat(change).replace(tzinfo=timezone.utc)
    before = end - timedelta(seconds=1)
    assert schedule.next_after(before) == end
    first, last = int(before.timestamp()), int(end.timestamp())
    assert schedule.count_ticks(first, last, 10, lambda: False) == (1, False)
    assert schedule.count_ticks(first, last + 3_600, 10, lambda: False)[0] == 1
    assert schedule.next_after(end) != end
