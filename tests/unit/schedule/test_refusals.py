"""What schedules besides cron expressions refuse, and what they say of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_crons import CronJob, CronSchedule, ScheduleError
from fastapi_crons.schedule.base import ZonedSchedule
from fastapi_crons.schedules import AnyOf, AtStart, Every, Except, Once, Within
from fastapi_crons.schedules.texts import schedule_of_text
from tests.support import examples, nothing


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Every(), "the period of Every can't be 0 s; give at least one second, like Every(minutes=90)"),
        (lambda: Every(seconds=0), "the period of Every can't be 0 s"),
        (lambda: Every(minutes=-5), "minutes of Every can't be -5; give a number, 0 or more"),
        (lambda: Every(timedelta(minutes=-5)), "the period of Every can't be -300 s"),
        (lambda: Every(seconds=0.5), "the period of Every can't be 0.5 s; ticks are whole seconds"),
        (lambda: Every(timedelta(milliseconds=1_500)), "the period of Every can't be 1.5 s; ticks are whole seconds"),
        (lambda: Every(days=40_000), "give at most 50 years"),
        (lambda: Every(days=10**400), "days of Every can't be 1000"),
        (lambda: Every(seconds=float("nan")), "seconds of Every can't be nan"),
        (lambda: Every(seconds=float("inf")), "seconds of Every can't be inf"),
        (lambda: Every(seconds=True), "seconds of Every can't be True"),
        (lambda: Every(seconds="90"), "seconds of Every can't be '90'"),  # type: ignore[arg-type]
        (lambda: Every(90), "Every can't be 90 without a unit; write it like Every(seconds=90)"),  # type: ignore[arg-type]
        (lambda: Every(timedelta(1), seconds=5), "Every takes a timedelta or units, not both"),
        (lambda: Every(minutes=5, after="start"), "after of Every can't be 'start'; give 'end'"),  # type: ignore[arg-type]
        (
            lambda: Every(minutes=5, after="end", anchor="2026-01-01T00:00"),
            "anchor of Every can't be given with after='end'",
        ),
        (
            lambda: Every(minutes=5, anchor="09:00"),
            "anchor of Every can't be '09:00'; give a datetime, or a date and a time",
        ),
        (lambda: Every(minutes=5, anchor="2026-01-01"), "anchor of Every can't be '2026-01-01'; give a datetime"),
        (lambda: Every(minutes=5, timezone="Europe/Berln"), "timezone 'Europe/Berln' is unknown"),
        (
            lambda: Every(minutes=5, timezone=timezone(timedelta(hours=1))),
            "timezone must be the name of a zone or a ZoneInfo",
        ),
        (lambda: Once("tomorrow"), "the time of Once can't be 'tomorrow'; give a datetime, or a date and a time like"),
        (lambda: Once("2026-02-30T09:00"), "the time of Once can't be '2026-02-30T09:00'"),
        (lambda: Once("2026-12-24"), "the time of Once can't be '2026-12-24'"),
        (lambda: Once("2026-W52-4T17:00"), "the time of Once can't be '2026-W52-4T17:00'"),
        (lambda: Once(date(2026, 12, 24)), "the time of Once can't be datetime.date(2026, 12, 24)"),  # type: ignore[arg-type]
        (lambda: Once(1_767_225_600), "the time of Once can't be 1767225600"),  # type: ignore[arg-type]
        (lambda: Once(datetime(2026, 12, 24, 17, 0, 0, 5)), "give whole seconds"),
        (lambda: Once(datetime(2026, 10, 25, 2, 30, fold=1)), "is the first of the two, so give one with tzinfo"),
        (lambda: Once("9999-12-24T17:00"), "give a year from 2 to 9998"),
        (lambda: AnyOf(), 'AnyOf needs at least one schedule; e.g. AnyOf("0 9 * * 1-5", "0 12 * * 6")'),
        (lambda: AnyOf(["0 9 * * *"]), "give them one by one, like AnyOf(*schedules)"),  # type: ignore[arg-type]
        (lambda: AnyOf("0 9 * * *", 5), "AnyOf can't hold 5; give a cron expression or a schedule"),  # type: ignore[arg-type]
        (lambda: AnyOf("0 9 * * *", "61 * * * *"), "minute field '61' can't be used"),
        (lambda: AnyOf("0 9 * * *", AtStart), "AnyOf can't hold the class AtStart; give an object of it"),  # type: ignore[arg-type]
        (lambda: AnyOf("0 9 * * *", AtStart()), "AnyOf can't hold AtStart(), which is not known from the clock"),
        (
            lambda: Within(Every(seconds=45, after="end"), start="2026-05-01"),
            "which is not known from the clock; give it a job",
        ),
        (lambda: AnyOf("0 9 * * *", timezone="Mars"), "timezone 'Mars' is unknown"),
        (lambda: Within("0 9 * * *"), "Within needs start=, end= or both"),
        (lambda: Within("0 9 * * *", start="May"), "start of Within can't be 'May'"),
        (lambda: Within("0 9 * * *", end=time(9)), "end of Within can't be datetime.time(9, 0)"),  # type: ignore[arg-type]
        (
            lambda: Within("0 9 * * *", start="2026-05-01", end="2026-04-01"),
            "end of Within can't be '2026-04-01': that is before its start, '2026-05-01'",
        ),
        (lambda: Within("0 9 * * *", start="2026-05-01T09:00", end="2026-05-01 08:59"), "that is before its start"),
        (lambda: Except("0 9 * * *", dates=[]), "dates of Except is empty; give at least one date"),
        (
            lambda: Except("0 9 * * *", dates="2026-12-24"),
            "dates of Except can't be '2026-12-24'; give a list of dates",
        ),
        (lambda: Except("0 9 * * *", dates=date(2026, 12, 24)), "give a list of dates"),  # type: ignore[arg-type]
        (
            lambda: Except("0 9 * * *", dates=["24.12.2026"]),
            "a date in dates of Except can't be '24.12.2026'; give a date, like",
        ),
        (
            lambda: Except("0 9 * * *", dates=[datetime(2026, 12, 24, 9)]),
            "can't be datetime.datetime(2026, 12, 24, 9, 0)",
        ),
        (lambda: Except("0 9 * * *", dates=["2026-12-31/2026-12-24"]), "the range ends before it begins"),
        (
            lambda: Except("0 9 * * *", dates=["2026-12-24/2026-12-25/2026-12-26"]),
            "the first and the last one of a range",
        ),
        (
            lambda: Except("0 9 * * *", dates=[date(2026, 1, 1) + timedelta(days=2 * number) for number in range(500)]),
            "the text of Except has 7",
        ),
    ],
)
def test_a_wrong_use_is_refused_in_one_sentence(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        make()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "schedule",
    [
        Within("0 9 29 2 *", start="2026-03-01", end="2026-12-31"),
        Within("0 9 * * *", start="2026-05-01T12:00Z", end="2026-05-01T11:30"),
        Except(Once("2026-12-24T17:00"), dates=["2026-12-24"]),
        AnyOf("0 9 * * *", Except(Once("2026-12-24T17:00"), dates=["2026-12-24"])),
    ],
)
def test_what_is_never_due_is_refused_when_a_job_is_defined(schedule: ZonedSchedule) -> None:
    with pytest.raises(ScheduleError, match="is never due in UTC: no tick of its schedule is left"):
        CronJob(nothing, schedule, "job")


def test_whether_a_schedule_is_ever_due_is_asked_in_the_zone_of_its_job() -> None:
    schedule = Within("0 9 * * *", start="2026-05-01T00:00Z", end="2026-05-01T06:00Z")
    assert CronJob(nothing, schedule, "job", timezone="Asia/Tokyo").schedule_zone == "Asia/Tokyo"
    with pytest.raises(ScheduleError, match="is never due in UTC"):
        CronJob(nothing, schedule, "job")


def test_schedules_lie_in_each_other_so_far_and_no_further() -> None:
    schedule = AnyOf("0 9 * * *")
    while schedule.depth < 20:
        schedule = AnyOf(schedule)
    with pytest.raises(ScheduleError, match="at most 20 are allowed"):
        AnyOf(schedule)
    assert schedule_of_text(schedule.text) == schedule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Every(", "schedule 'Every(' can't be read; write it like Every(minutes=90)"),
        ("Every(weeks=1)", "schedule 'Every(weeks=1)' can't be read: "),
        ("Once()", "schedule 'Once()' can't be read: "),
        ("Every(minutes=90).period()", "is none of Every, Once, AtStart, AnyOf, Within, Except, CronSchedule"),
        ("open('x')", "'open' is none of"),
        ("Every(minutes=int('5'))", "'int' is none of"),
        ("Every(minutes=x)", "'x' is neither a schedule nor a text, number or list"),
        ("Every(**{'minutes': 5})", "** has no meaning in it"),
        ("AnyOf(*['0 9 * * *'])", "is neither a schedule nor a text, number or list"),
        ("('0 9 * * *')", "can't be read"),
        ("Every(minutes=0)", "the period of Every can't be 0 s"),
        ("Every(minutes=f'{5}')", "is neither a schedule nor a text, number or list"),
        (f"AnyOf({'(' * 300}", "can't be read"),
        (f"AnyOf('{'0' * 5_000}')", "at most 4000 are allowed"),
    ],
)
def test_a_text_that_is_no_schedule_is_refused(text: str, said: str) -> None:
    with pytest.raises(ScheduleError, match=re.escape(said)):
        schedule_of_text(text)


@settings(max_examples=examples(300), deadline=None)
@given(
    st.one_of(
        st.text(max_size=40).map(lambda text: f"Every({text})"),
        st.lists(
            st.sampled_from(
                [
                    "Every",
                    "AnyOf",
                    "Within",
                    "Except",
                    "Once",
                    "(",
                    ")",
                    ",",
                    "'0 9 * * *'",
                    "minutes=5",
                    "start='2026-01-01'",
                ]
            ),
            max_size=12,
        ).map("".join),
        st.recursive(st.just("1"), lambda inner: inner.map(lambda text: f"-({text})"), max_leaves=3),
    )
)
def test_whatever_is_read_is_a_schedule_or_refused(text: str) -> None:
    try:
        schedule = schedule_of_text(text)
    except ScheduleError:
        return
    assert schedule_of_text(schedule.text) == schedule


def test_an_instant_without_a_zone_is_refused() -> None:
    for schedule in (Every(minutes=90), AnyOf("0 9 * * *"), CronSchedule("0 9 * * *")):
        with pytest.raises(ScheduleError, match="instant must be an aware datetime"):
            schedule.next_after(datetime(2026, 1, 1))
