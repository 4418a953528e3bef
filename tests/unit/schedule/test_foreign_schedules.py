"""Schedules of somebody else's are held to the protocol: what is found, and when they are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import count, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fastapi_crons import CronSchedule
from fastapi_crons._util.text import brief
from fastapi_crons.clock import utc_datetime
from fastapi_crons.schedule.checks import ForeignTicks, fault_of
from tests.unit.schedule.test_counting import Foreign

UTC = timezone.utc
NOW = 1_767_225_600  # 2026-01-01T00:00:00Z
_DAY = 86_400


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


def within(answers: int) -> Callable[[], bool]:
    """Trying ends after so many answers."""
    given = count(1)
    return lambda: next(given) >= answers


def _found(schedule: Any) -> str | None:
    return fault_of(schedule, NOW, lambda: False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tick: tick - timedelta(minutes=10), "00:00:00+00:00 for {now}, which is not later: {advice}"),
        (lambda tick: tick - timedelta(minutes=20), "23:50:00+00:00 for {now}, which is not later: {advice}"),
        (
            lambda tick: tick.replace(tzinfo=None),
            "00:10:00 for {now}, which has no zone; it must return aware datetimes in UTC",
        ),
        (
            lambda tick: tick.astimezone(ZoneInfo("Europe/Berlin")),
            "01:10:00+01:00 for {now}; it must return aware datetimes in UTC: add .astimezone(timezone.utc)",
        ),
        (
            lambda tick: tick + timedelta(microseconds=1),
            "00:10:00.000001+00:00 for {now}; ticks must be whole seconds",
        ),
    ],
)
def test_an_answer_that_is_no_tick_is_refused_with_what_to_do(change: Callable[[datetime], Any], said: str) -> None:
    found = _found(Made(change))
    assert found is not None
    said = said.format(now="2026-01-01T00:00:00+00:00", advice="calculate in UTC, which has no clock changes")
    assert found.partition("T")[2] == said
    assert found.startswith("next_after returned 20")


def test_an_answer_that_is_no_datetime_is_shown_in_part() -> None:
    assert _found(Made(lambda tick: tick.timestamp())) == (
        "next_after returned 1767226200.0 for 2026-01-01T00:00:00+00:00; it must return datetimes"
    )
    found = _found(Made(lambda tick: "\N{SNOWMAN}" + "x" * 1_000))
    assert found is not None
    assert found.startswith("next_after returned '\\u2603xxx")
    assert len(found) < 150


@pytest.mark.parametrize(
    "schedule",
    [
        Every(timedelta(minutes=30), "Europe/Berlin"),
        Every(timedelta(minutes=20), "America/New_York"),
        Every(timedelta(minutes=45), "Australia/Sydney"),
        Every(timedelta(minutes=10), "Australia/Lord_Howe"),
        Every(timedelta(minutes=15), "Pacific/Chatham"),
        Every(timedelta(minutes=15), "Africa/Casablanca"),
    ],
)
def test_a_schedule_that_adds_on_the_wall_clock_is_refused(schedule: Every) -> None:
    found = _found(schedule)
    assert found is not None
    assert "which is not later" in found


def test_a_fault_that_shows_only_in_autumn_is_found() -> None:
    found = _found(Made(lambda tick: tick if tick.month != 10 else tick.replace(tzinfo=None)))
    assert found is not None
    assert "which has no zone" in found


_TICKS = [f"2026-01-01T00:{minute}0:00+00:00" for minute in range(1, 6)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # One is missing, or each comes a second late.
        (
            lambda ticks, after: ticks[:-1],
            f"between(2026-01-01T00:00:00+00:00, {_TICKS[-1]}) returned {', '.join(_TICKS[:-1])}, "
            f"but next_after returned {', '.join(_TICKS)}",
        ),
        (
            lambda ticks, after: [],
            f"between(2026-01-01T00:00:00+00:00, {_TICKS[-1]}) returned nothing, but next_after returned {', '.join(_TICKS)}",
        ),
        # One too many: beyond the end.
        (
            lambda ticks, after: [after + timedelta(minutes=10 * number) for number in range(1, 6)],
            f"between(2026-01-01T00:00:00+00:00, 2026-01-01T00:49:59+00:00) returned {', '.join(_TICKS)}, "
            f"but next_after returned {', '.join(_TICKS[:-1])}",
        ),
        (
            lambda ticks, after: [after, *ticks],
            "between returned 2026-01-01T00:00:00+00:00 for 2026-01-01T00:00:00+00:00, which is not later: "
            "calculate in UTC, which has no clock changes",
        ),
        (
            lambda ticks, after: ticks[:2] + ticks[:1],
            f"between returned {_TICKS[0]} for {_TICKS[1]}, which is not later: "
            "calculate in UTC, which has no clock changes",
        ),
        (
            lambda ticks, after: [tick.replace(tzinfo=None) for tick in ticks],
            "between returned 2026-01-01T00:10:00 for 2026-01-01T00:00:00+00:00, which has no zone; "
            "it must return aware datetimes in UTC",
        ),
        (lambda ticks, after: None, "between failed with TypeError: 'NoneType' object is not iterable"),
        (_raises, "between failed with LookupError: no rule"),
    ],
)
def test_what_between_returns_is_compared_with_what_next_after_returns(
    change: Callable[[list[datetime], datetime], Any], said: str
) -> None:
    assert _found(Between(change)) == said


def test_a_between_without_an_end_is_cut_off() -> None:
    found = _found(Between(_endless))
    assert found is not None
    assert found.count("00:10:00") == 2
    assert "01:00:00" in found


def test_a_next_after_that_fails_is_refused() -> None:
    assert _found(Made(_raises)) == "next_after failed with LookupError: no rule"


def test_a_schedule_without_further_ticks_must_not_return_any_in_between() -> None:
    class Over(Between):
        def next_after(self, instant: datetime) -> datetime | None:
            return None

    asked: list[tuple[datetime, datetime]] = []

    class Silent(Over):
        def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
            asked.append((after, until))
            return iter(())

    assert _found(Silent(_endless)) is None
    assert all(timedelta(0) < until - after <= timedelta(days=1) for after, until in asked)
    assert _found(Over(_endless)) == (
        "between(2026-01-01T00:00:00+00:00, 2026-01-02T00:00:00+00:00) returned 2026-01-01T00:10:00+00:00, "
        "but next_after returned nothing"
    )


@pytest.mark.parametrize("text", ["", " ", "x" * 1_001, "two\nlines", None])
def test_the_text_of_a_schedule_can_be_shown_and_stored(text: Any) -> None:
    schedule = Every(timedelta(minutes=10))
    schedule.text = "x" * 1_000
    assert _found(schedule) is None
    schedule.text = text
    found = _found(schedule)
    assert found is not None
    assert found == f"its text must be 1 to 1000 printable characters, not {brief(text)}"


def test_a_schedule_that_has_no_hash_is_refused() -> None:
    class Unhashable(Every):
        def __hash__(self) -> int:
            raise LookupError("no hash")

    assert _found(Unhashable(timedelta(minutes=10))) == "its hash failed with LookupError: no hash"


class Recording(Every):
    """Right, and knows of what it was asked."""

    def __init__(self, timezone: object = None) -> None:
        super().__init__(timedelta(minutes=10))
        self.asked: list[datetime] = []
        #: What it was asked without having given it as its last answer.
        self.tried: list[datetime] = []
        self.answered: datetime | None = None
        self.compared: list[tuple[datetime, datetime]] = []
        if timezone is not None:
            self.timezone = timezone

    def next_after(self, instant: datetime) -> datetime | None:
        if instant != self.answered:
            self.tried.append(instant)
        self.asked.append(instant)
        self.answered = super().next_after(instant)
        return self.answered

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        self.compared.append((after, until))
        return Every(self.step).between(after, until)


def test_the_first_thing_that_is_tried_is_now_and_five_ticks_up_to_the_last_and_just_before_it() -> None:
    schedule = Recording()
    assert _found(schedule) is None
    now = utc_datetime(NOW)
    assert schedule.asked[:6] == [now, *(now + timedelta(minutes=10 * number) for number in range(5))]
    last = now + timedelta(minutes=50)
    assert schedule.compared[:2] == [(now, last), (now, last - timedelta(seconds=1))]


@pytest.mark.parametrize(
    ("timezone", "change"),
    [
        ("Europe/Berlin", "2026-03-29T01:00:00+00:00"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00+00:00"),
        ("Pacific/Chatham", "2026-04-04T14:00:00+00:00"),
        # Of one without a zone, or with one that is none, the changes of the most used zone come first.
        (None, "2026-03-29T01:00:00+00:00"),
        (["Asia/Beirut"], "2026-03-29T01:00:00+00:00"),
        ("no/zone", "2026-03-29T01:00:00+00:00"),
    ],
)
def test_next_it_is_tried_around_the_changes_of_its_own_zone(timezone: object, change: str) -> None:
    schedule = Recording(timezone)
    assert fault_of(schedule, NOW + 7, within(60)) is None
    tried = [(asked - datetime.fromisoformat(change)).total_seconds() for asked in schedule.asked[6:18]]
    # From an hour before it to two hours after it, and most of all in the hour that may be repeated.
    assert tried[:4] == [-3_600, -1, 0, 1]
    assert tried == sorted(tried)
    assert tried[-2:] == [3_600, 7_200]
    assert sum(0 <= seconds < 3_600 for seconds in tried) >= 8
    before = datetime.fromisoformat(change) - timedelta(hours=2)
    assert schedule.compared[2][0] == schedule.asked[18] == before


def test_in_the_end_it_is_tried_on_every_other_day_of_a_year_at_another_time_each_and_compared_each_month() -> None:
    schedule = Recording("UTC")
    assert _found(schedule) is None
    days = schedule.tried[-183:]
    assert 363 <= (days[-1] - utc_datetime(NOW)).days <= 366
    assert all(day.microsecond == 0 for day in days)
    assert len({day.time() for day in days}) == len(days)
    assert all(timedelta(days=1) < later - earlier < timedelta(days=2, hours=3) for earlier, later in pairwise(days))
    months = [after for after, _ in schedule.compared[-26::2]]
    assert [round((later - earlier).days, -1) for earlier, later in pairwise(months)] == [30] * 12


@pytest.mark.parametrize("answers", [1, 2, 6, 9, 30])
def test_trying_ends_when_it_has_been_enough(answers: int) -> None:
    schedule = Recording()
    assert fault_of(schedule, NOW, within(answers)) is None
    assert len(schedule.asked) <= answers
    assert (answers >= 7) == bool(schedule.compared)
    assert fault_of(Between(_endless), NOW, within(7)) is None, "not even the first answer of between has been compared"


def test_a_schedule_that_broke_the_protocol_once_has_no_more_ticks() -> None:
    faults: list[str] = []
    wrong = Made(lambda tick: tick if tick.minute < 30 else tick.replace(tzinfo=None))
    ticks = ForeignTicks(wrong, faults.append)
    assert list(ticks.ticks_between(NOW, NOW + 3_600)) == [NOW + 600, NOW + 1_200]
    assert ticks.fault is not None
    assert faults == [ticks.fault]
    assert "which has no zone" in ticks.fault
    assert ticks.next_tick(NOW) is None
    assert len(faults) == 1, "it is called once"
    unheard = ForeignTicks(wrong)
    assert unheard.fault is None
    assert unheard.next_tick(NOW + 1_200) is None
    assert unheard.fault == ticks.fault


def test_counting_ends_at_its_bounds() -> None:
    ticks = ForeignTicks(Every(timedelta(minutes=1)))
    assert ticks.count_ticks(NOW, NOW + 300, 5, lambda: False) == (5, False)
    assert ticks.count_ticks(NOW, NOW + 300, 4, lambda: False) == (4, True)
    assert ticks.count_ticks(NOW, NOW + 300, 5, within(3)) == (2, True)
    assert ticks.count_ticks(NOW, NOW + 59, 5, lambda: True) == (0, False)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("expr", ["*/30 * * * *", "30 2 * * *", "0 0 29 2 *", "* * * * * 0"])
def test_a_cron_schedule_behind_the_protocol_passes(zone: str, expr: str) -> None:
    assert _found(Foreign(CronSchedule(expr, zone))) is None
