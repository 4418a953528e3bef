"""Schedules of somebody else's are tried when a job is defined, but not for long."""

from __future__ import annotations

import time
import zoneinfo
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons import CronJob, ScheduleError
from fastapi_crons.clock import utc_datetime
from fastapi_crons.schedule.checks import fault_of
from tests.support import nothing
from tests.unit.schedule.test_foreign_schedules import NOW, Every, within


def test_a_schedule_that_breaks_the_protocol_is_refused_with_the_name_of_the_job() -> None:
    with pytest.raises(ScheduleError, match=r"expr of job 'mine': its Schedule can't be used: next_after .* not later"):
        CronJob(nothing, Every(timedelta(minutes=30), "Europe/Berlin"), "mine")


def test_what_reckons_on_the_wall_clock_is_refused_in_whatever_zone_clocks_change() -> None:
    days, taken = [utc_datetime(NOW + day * 86_400) for day in range(0, 360, 3)], []
    for zone in sorted(zoneinfo.available_timezones()):
        offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0) for day in days]
        # So many answers are given in time.
        if (
            max(before - after for before, after in pairwise(offsets)) >= timedelta(minutes=30)
            and fault_of(Every(timedelta(minutes=10), zone), NOW, within(900)) is None
        ):
            taken.append(zone)
    assert taken == []


@given(
    minutes=st.integers(1, 100_000),
    anchor=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(
        lambda at: at.replace(microsecond=0).isoformat()
    ),
)
def test_what_reckons_in_utc_is_taken(minutes: int, anchor: str) -> None:
    class Right(Every): ...

    CronJob(nothing, Right(timedelta(minutes=minutes), anchor=anchor), "mine")


def test_one_that_has_no_more_ticks_is_taken() -> None:
    class Over(Every):
        def next_after(self, instant: datetime) -> datetime | None:
            return None

    assert CronJob(nothing, Over(timedelta(1)), "mine").next_run is None


def test_a_slow_schedule_is_not_tried_for_long() -> None:
    asked = []

    class Slow(Every):
        def next_after(self, instant: datetime) -> datetime | None:
            asked.append(instant)
            time.sleep(0.01)
            return super().next_after(instant)

    CronJob(nothing, Slow(timedelta(hours=1)), "mine")
    assert 1 <= len(asked) <= 25, "no more than within 250 ms"


def test_very_many_schedules_of_one_kind_are_not_all_tried_to_the_end() -> None:
    asked = []

    class Counted(Every):
        def next_after(self, instant: datetime) -> datetime | None:
            asked.append(instant)
            return super().next_after(instant)

    for number in range(1, 1_500):
        CronJob(nothing, Counted(timedelta(minutes=number)), f"job {number}")
    half = len(asked)
    CronJob(nothing, Counted(timedelta(minutes=1)), "last")
    assert len(asked) - half <= 2
