"""Schedules of somebody else's: held to the protocol when a job is defined, and while it runs."""

from __future__ import annotations

import time
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_crons import CronJob, CronSchedule, ScheduleError
from tests.support import nothing

UTC = timezone.utc


class Every:
    """Aligned to an anchor; in UTC as it should be, or on the wall clock of a zone."""

    def __init__(self, step: timedelta, zone: str = "UTC", anchor: str = "2026-01-01T00:00:00") -> None:
        self.step, self.zone = step, ZoneInfo(zone)
        self.anchor = datetime.fromisoformat(anchor).replace(tzinfo=self.zone)
        self.text = f"every {step} in {zone} from {anchor}"

    def next_after(self, instant: datetime) -> datetime | None:
        local = instant.astimezone(self.zone)
        steps = (local - self.anchor) // self.step + 1
        return (self.anchor + steps * self.step).astimezone(UTC)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        tick = self.next_after(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_after(tick)


class Made(Every):
    """Gives what `change` makes of a right answer."""

    def __init__(self, change: Callable[[datetime], Any]) -> None:
        super().__init__(timedelta(minutes=10))
        self.change = change

    def next_after(self, instant: datetime) -> datetime | None:
        tick = super().next_after(instant)
        assert tick is not None
        changed: datetime | None = self.change(tick)
        return changed


class Between(Every):
    """Whose `between` gives what `change` makes of a right answer."""

    def __init__(self, change: Callable[[list[datetime], datetime], Any]) -> None:
        super().__init__(timedelta(minutes=10))
        self.change = change

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        changed: Iterator[datetime] = self.change(list(super().between(after, until)), after)
        return changed


def _raises(*_: object) -> Any:
    raise LookupError("no rule")


def _endless(ticks: list[datetime], after: datetime) -> Iterator[datetime]:
    while True:
        after += timedelta(minutes=10)
        yield after


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (Every(timedelta(minutes=30), "Europe/Berlin"), "not later"),
        (Every(timedelta(minutes=20), "America/New_York"), "not later"),
        (Every(timedelta(minutes=45), "Australia/Sydney"), "not later"),
        (Every(timedelta(minutes=10), "Australia/Lord_Howe"), "not later"),
        (Every(timedelta(minutes=15), "Pacific/Chatham"), "not later"),
        (Every(timedelta(minutes=15), "Africa/Casablanca"), "not later"),
        (Made(lambda tick: tick - timedelta(minutes=10)), "not later"),
        (Made(lambda tick: tick - timedelta(days=3)), "not later"),
        (Made(lambda tick: tick.replace(tzinfo=None)), "no zone"),
        (Made(lambda tick: tick.astimezone(ZoneInfo("Europe/Berlin"))), "in UTC"),
        (Made(lambda tick: tick.astimezone(ZoneInfo("Europe/London"))), "in UTC"),
        (Made(lambda tick: tick + timedelta(microseconds=1)), "whole seconds"),
        (Made(lambda tick: tick.timestamp()), "must return datetimes"),
        (Made(_raises), "next_after failed with LookupError: no rule"),
        (Made(lambda tick: tick if tick.month != 10 else tick.replace(tzinfo=None)), "no zone"),
        (Between(lambda ticks, after: ticks[:-1]), "between.* returned"),
        (Between(lambda ticks, after: [after, *ticks]), "between returned .* not later"),
        (Between(lambda ticks, after: ticks[::-1]), "between returned .* not later"),
        (Between(lambda ticks, after: [tick + timedelta(seconds=1) for tick in ticks]), "between.* returned"),
        (Between(lambda ticks, after: [tick.replace(tzinfo=None) for tick in ticks]), "no zone"),
        (Between(lambda ticks, after: None), "between failed with TypeError"),
        (Between(_raises), "between failed with LookupError"),
        (Between(_endless), "between.* returned"),
    ],
)
def test_what_breaks_the_protocol_is_refused_when_the_job_is_defined(schedule: Any, said: str) -> None:
    with pytest.raises(ScheduleError, match=said) as caught:
        CronJob(nothing, schedule, "mine")
    assert "'mine'" in str(caught.value)


def test_what_reckons_on_the_wall_clock_is_refused_in_whatever_zone_clocks_change() -> None:
    days, taken = [datetime.now(UTC) + timedelta(days=day) for day in range(0, 360, 3)], []
    for zone in sorted(zoneinfo.available_timezones()):
        offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0) for day in days]

        class Wrong(Every): ...

        if max(before - after for before, after in pairwise(offsets)) >= timedelta(minutes=30):
            with suppress(ScheduleError):
                CronJob(nothing, Wrong(timedelta(minutes=10), zone), "mine")
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


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("expr", ["*/30 * * * *", "30 2 * * *", "0 0 29 2 *", "* * * * * 0"])
def test_a_cron_schedule_behind_the_protocol_passes(zone: str, expr: str) -> None:
    class Wrapped(Every):
        def __init__(self) -> None:
            self.inner, self.text = CronSchedule(expr, zone), expr

        def next_after(self, instant: datetime) -> datetime | None:
            return self.inner.next_after(instant)

        def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
            return self.inner.between(after, until)

    CronJob(nothing, Wrapped(), "mine")


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
