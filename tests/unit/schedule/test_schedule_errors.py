"""What is said of expressions that can't be used: which field is the cause, and what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_crons import CronJob, CronSchedule, ScheduleError
from tests.support import examples

FIELDS = ["minute", "hour", "day of month", "month", "day of week", "second"]
GOOD = {
    "minute": ["*", "0", "*/5", "1,2", "5-9/2", "59"],
    "hour": ["*", "0", "*/2", "9-17", "23", "22-2"],
    "day of month": ["*", "?", "1", "1,15", "*/2", "L", "15W", "LW,1"],
    "month": ["*", "1", "jan", "mar-MAY", "*/3", "1,12"],
    "day of week": ["*", "?", "0", "7", "mon-fri", "1#2", "5L", "sat,1#1", "THU", "*/2"],
    "second": ["0", "*", "*/10", "30,45"],
}
#: Refused in every field.
BAD = [
    "x",
    "-1",
    "1-",
    "-",
    "/",
    "*/0",
    "*/",
    "5//2",
    "1,,2",
    ",1",
    "#",
    "1-2-3",
    "1.5",
    "$",
    "9999",
    "H",
    "R(1-5)",
    "**",
    "L-3",
]
BAD_IN = {
    "minute": [*BAD, "60", "1,60", "?", "L", "5W", "mon", "jan", "1#1", "0-60", "5L", "*/2#1"],
    "hour": [*BAD, "24", "?", "L", "W", "mon", "2#1", "9-24"],
    "day of month": [*BAD, "0", "32", "mon", "32W", "0W", "1-3W", "W", "1#2", "jan", "LL", "?W"],
    "month": [*BAD, "0", "13", "?", "L", "mon", "1#1", "january", "6W"],
    "day of week": [*BAD, "8", "L", "1#6", "1#0", "jan", "monday", "5W", "8L", "mon#9", "#2", "LW"],
    "second": [*BAD, "60", "?", "L", "mon", "SUN-SAT", "1#1", "jan"],
}


@st.composite
def expressions_with_one_bad_field(draw: st.DrawFn) -> tuple[str, str]:
    fields = FIELDS[: draw(st.sampled_from([5, 6]))]
    bad = draw(st.sampled_from(fields))
    values = {field: draw(st.sampled_from(GOOD[field])) for field in fields}
    values[bad] = draw(st.sampled_from(BAD_IN[bad]))
    return " ".join(values.values()), bad


@settings(max_examples=examples(1_000), deadline=None)
@given(expressions_with_one_bad_field())
def test_the_one_field_that_is_bad_is_the_one_that_is_blamed(case: tuple[str, str]) -> None:
    expr, bad = case
    with pytest.raises(ScheduleError) as refused:
        CronSchedule(expr)
    value = expr.split()[FIELDS.index(bad)]
    assert str(refused.value).startswith(f"{bad} field {value!r} can't be used: "), expr


@pytest.mark.parametrize(
    ("expr", "cause"),
    [
        ("0 0 */15 * 1#2", "day of month '*/15' and day of week '1#2'"),
        ("0 0 */15 2 1#2", "day of month '*/15' and day of week '1#2'"),
        ("0 0 30 2 *", "day of month '30' and month '2'"),
        ("0 0 31W 2,4 *", "day of month '31W' and month '2,4'"),
        ("0 0 31 apr */3", "day of month '31' and month 'apr'"),
        ("0 0 */29 2 1#5", "day of month '*/29', month '2' and day of week '1#5'"),
    ],
)
def test_the_fields_that_never_meet_are_the_ones_that_are_named(expr: str, cause: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        CronSchedule(expr)
    assert str(refused.value) == f"cron expression {expr!r} is never due: {cause} never occur together"


@pytest.mark.parametrize(
    ("expr", "written"),
    [
        ("0 0 12 * * ?", "0 12 * * *"),
        ("0 0 12 * * MON-FRI", "0 12 * * MON-FRI"),
        ("0 0 12 ? * WED", "0 12 * * WED"),
        ("0 0/5 14 * * ?", "0/5 14 * * *"),
        ("30 0 12 * * MON", "0 12 * * MON 30"),
        ("*/10 * * * * ?", "* * * * * */10"),
        ("0 15 10 L * ?", "15 10 L * *"),
        ("0 15 10 ? * 6L", "15 10 * * 6L"),
        ("0 15 10 * * ? 2026", "15 10 * * * 0 2026"),
        ("0 15 10 * * ? 2026-2028", "15 10 * * * 0 2026-2028"),
        ("30 15 10 ? * 7 *", "15 10 * * 7 30"),
    ],
)
def test_seconds_that_come_first_are_told_where_they_stand_here(expr: str, written: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        CronSchedule(expr)
    told = re.search(
        "seconds are the last field here, not the first as in Quartz and Spring; .* write '(.*?)'", str(refused.value)
    )
    assert told is not None, refused.value
    assert told[1] == written
    CronSchedule(told[1])


def test_numbered_weekdays_of_quartz_are_said_to_count_from_another_day() -> None:
    with pytest.raises(ScheduleError, match="in Quartz and AWS, Sunday is day 1 of the week; here it is 0 or 7"):
        CronSchedule("0 15 10 ? * 6L")


@pytest.mark.parametrize("expr", ["0 15 10 L-2 * ?", "0 0 12 1W,L-3 * ? 2026"])
def test_what_only_quartz_has_is_told_where_seconds_stand_too(expr: str) -> None:
    with pytest.raises(ScheduleError, match="seconds are the last field here"):
        CronSchedule(expr)


@pytest.mark.parametrize("expr", ["61 * * * *", "0 0 * * 8", "* * * * * 60", "0 0 1 * * * * *"])
def test_other_faults_are_not_taken_for_seconds_that_come_first(expr: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        CronSchedule(expr)
    assert "Quartz" not in str(refused.value)


@pytest.mark.parametrize(
    ("expr", "blamed"),
    [
        ("60 * * * *", "minute field '60' can't be used: a number is outside of the range 0 to 59"),
        ("0 24 * * *", "hour field '24' can't be used: a number is outside of the range 0 to 23"),
        ("0 0 0 * *", "day of month field '0' can't be used: a number is outside of the range 1 to 31"),
        ("0 0 * 13 *", "month field '13' can't be used: a number is outside of the range 1 to 12"),
        ("0 0 * * 8", "day of week field '8' can't be used: a number is outside of the range 0 to 7"),
        ("0 0 * * * 60-61", "second field '60-61' can't be used: a number is outside of the range 0 to 59"),
        ("? * * * *", "minute field '?' can't be used: ? is allowed only in the day of month and day of week fields"),
        ("0 0 * * 5-?", "day of week field '5-?' can't be used: it can't be parsed"),
        ("a-b * * * *", "minute field 'a-b' can't be used: it can't be parsed"),
        ("0 0 $ * *", "day of month field '$' can't be used: it contains characters that no cron field allows"),
        ("99999 * * * *", "minute field '99999' can't be used: a number is too large"),
        ("0 0 00W * *", "day of month field '00W' can't be used: days go from 1 to 31"),
        ("0 0 1,32W * *", "day of month field '1,32W' can't be used: days go from 1 to 31"),
        ("0 0 1-3w * *", "day of month field '1-3w' can't be used: W needs a single day, as in 15W or LW"),
        (
            "0 r * * *",
            "hour field 'r' can't be used: H and R would mean another time in each process; write '0 0 * * *', and jitter=… "
            "where jobs must not all start at once",
        ),
        # The whole field is shown, and not only the faulty item.
        ("0 0 * * 1,x#2,5L", "day of week field '1,x#2,5L' can't be used: it can't be parsed"),
        ("0 0 * * 5L,x,1#2", "day of week field '5L,x,1#2' can't be used: it can't be parsed"),
        (
            f"{'1,' * 40}x * * * *",
            "minute field '1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,... can't be used: it can't be parsed",
        ),
    ],
)
def test_the_field_and_the_reason_are_named(expr: str, blamed: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        CronSchedule(expr)
    assert str(refused.value) == blamed


_QUARTZ = "; seconds are the last field here, not the first as in Quartz and Spring"
_SUNDAY = " (in Quartz and AWS, Sunday is day 1 of the week; here it is 0 or 7; names like SUN mean the same)"


@pytest.mark.parametrize(
    ("expr", "counted"),
    [
        ("", "0 fields"),
        ("*", "1 field"),
        ("* * * *", "4 fields"),
        ("0 0 1 * * * * *", "8 fields"),
    ],
)
def test_how_many_fields_there_are_is_counted(expr: str, counted: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        CronSchedule(expr)
    assert str(refused.value) == (
        f"cron expression '{expr}' has {counted}; give five (minute, hour, day of month, month, day of week), six with "
        "seconds last, or seven with the year after the seconds"
    )


@pytest.mark.parametrize(
    ("expr", "hint"),
    [
        (
            "0 15 10 L-2 * ?",
            f"{_QUARTZ}; if they come first, write '15 10 26-29 * *', and let the job return on the other days",
        ),
        ("0 15 10 * * * x", ""),
        ("0 15 10 * * ? x", _QUARTZ),
        ("0 15 10 * * ? *", f"{_QUARTZ}; if they come first, write '15 10 * * *'"),
        ("0 15 10 * * mon ?", f"{_QUARTZ}; if they come first, write '15 10 * * mon'"),
        ("5 15 10 ? * 6#3 2026/2,2030", f"{_QUARTZ}; if they come first, write '15 10 * * 6#3 5 2026/2,2030'{_SUNDAY}"),
        ("30 0 12 ? * WED", f"{_QUARTZ}; if they come first, write '0 12 * * WED 30'"),
        ("0 0 12 ? JAN-MAR 1-5", f"{_QUARTZ}; if they come first, write '0 12 * JAN-MAR 1-5'{_SUNDAY}"),
        # Only which one of the month, and not a day of the week, is a number.
        ("0 15 10 ? * MON#1,TUE#2", f"{_QUARTZ}; if they come first, write '15 10 * * MON#1,TUE#2'"),
    ],
)
def test_what_to_write_instead_of_seconds_that_come_first(expr: str, hint: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        CronSchedule(expr)
    assert str(refused.value).endswith(hint)


def test_what_is_longer_than_a_thousand_characters_is_refused() -> None:
    assert CronSchedule("0 9 * * *".ljust(1_000)) == CronSchedule("0 9 * * *")
    with pytest.raises(ScheduleError, match="the cron expression has 1001 characters; at most 1000 are allowed"):
        CronSchedule("0 9 * * *".ljust(1_001))


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        (5, "a cron expression must be text, not int; e.g. '*/5 * * * *'"),
        (
            "@Reboot",
            "'@Reboot' is no cron expression here; write AtStart() of fastapi_crons.schedules, which is due once for all "
            "workers",
        ),
        (
            "@fortnightly",
            "'@fortnightly' is unknown; known names are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly",
        ),
    ],
)
def test_what_is_no_expression_is_refused(expr: Any, said: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        CronSchedule(expr)
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("expr", "reason"),
    [
        (
            "0 0 L-3 * *",
            "days before the last one, as in Quartz, are not known here; write '0 0 25-28 * *', and let the job return on the "
            "other days",
        ),
        (
            "0 0 * * L",
            "L needs a day, as in 5L for the last Friday of the month; alone, as in Quartz, write 6 for Saturday",
        ),
        ("0 0 * * 5W", "W belongs to the day of month field"),
        ("0 0 * * monday", "names of months and days have three letters"),
        ("0 0 * january *", "names of months and days have three letters"),
        ("0 0 1 1 * 0 1969", "year field '1969' can't be used: a number is outside of the range 1970 to 2099"),
        ("0 0 1 1 * 0 L", "year field 'L' can't be used"),
        ("0 0 1 1 * 0 20260", "year field '20260' can't be used: a number is too large"),
        ("0 0 29 2 * 0 2026,2027", "day of month '29', month '2' and year '2026,2027' never occur together"),
        ("@every 1.5h", "in place of an interval, write Every(…) of fastapi_crons.schedules, like Every(minutes=5)"),
        ("*", "has 1 field;"),
        ("", "has 0 fields;"),
    ],
)
def test_what_is_meant_otherwise_elsewhere_is_told_with_what_to_write(expr: str, reason: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        CronSchedule(expr)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("@every 5m", "in place of an interval, write Every(minutes=5) of fastapi_crons.schedules"),
        ("@every 1h30m", "write Every(hours=1, minutes=30) of"),
        ("every 10 minutes", "write Every(minutes=10) of"),
        ("rate(5 minutes)", "write Every(minutes=5) of"),
        (
            "TZ=Europe/Berlin 0 5 * * *",
            "the zone is an option of the job; write '0 5 * * *' with timezone='Europe/Berlin'",
        ),
        ("CRON_TZ=UTC 0 5 * * *", "write '0 5 * * *' with timezone='UTC'"),
        ("*-*-* 02:00", "in place of a calendar event of systemd, write '0 2 * * *'"),
        ("Mon..Fri *-*-* 02:05:30", "write '5 2 * * MON-FRI 30'"),
        ("Sat,Sunday 2026-*-1,15 09:00:00", "write '0 9 1,15 * SAT,SUN 0 2026'"),
        ("*:0/15", "write '0/15 * * * *'"),
        ("daily", "write '@daily'"),
        ("H * * * *", "write '0 * * * *', and jitter=… where jobs must not all start at once"),
        ("H/15 H(1-7) H * *", "write '*/15 1 1 * *', and jitter=…"),
        ("H(0-29)/10 * * * *", "write '0-29/10 * * * *', and jitter=…"),
        (
            "0 10 * * ? 2026",
            "the year is the seventh field here, after the seconds, not the sixth as in AWS; write '0 10 * * * 0 2026'",
        ),
        ("cron(0 10 ? * MON-FRI 2026-2028)", "the sixth as in AWS; write '0 10 * * MON-FRI 0 2026-2028'"),
        ("0 10 L-3 * ? 2026", "as in AWS; write '0 10 25-28 * * 0 2026', and let the job return on the other days"),
        (
            "0 0 10 L-3 * ? 2026",
            "if they come first, write '0 10 25-28 * * 0 2026', and let the job return on the other days",
        ),
    ],
)
def test_what_other_programs_write_is_told_with_what_to_write_here(expr: str, said: str) -> None:
    """A job says the same as the schedule, though a bracket may be one of ours."""
    with pytest.raises(ScheduleError) as refused:
        CronSchedule(expr)
    assert said in str(refused.value)
    with pytest.raises(ScheduleError) as of_job:
        CronJob(print, expr)
    assert str(of_job.value) == str(refused.value)
    written = re.search("write '(.*?)'", str(refused.value))
    assert written is None or CronSchedule(written[1])


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("0 */5 * * * *", "if they come first, write '*/5 * * * *'"),
        ("*/10 * * * * *", "if they come first, write '* * * * * */10'"),
        ("*/10 9 * * * *", "if they come first, write '9 * * * * */10'"),
        ("0 10 ? * MON-FRI *", "not the sixth as in AWS; write '0 10 * * MON-FRI'"),
        ("30 9 * * * *", "for one run a minute, leave them out: '30 9 * * *'"),
        ("0 0 9 * * 2", "it runs on day 9 of the month, at second 2 of the minute; seconds are the last field here"),
        ("0 0 9,18 * * 1-5", "it runs on days 9,18 of the month, at seconds 1-5 of the minute; seconds are"),
        ("0 */10 9-17 * * 1,3", "if they come first, write '*/10 9-17 * * 1,3'"),
        ("0 12 31 * * 5", None),
    ],
)
def test_what_can_be_read_but_was_hardly_meant_is_warned_of_with_what_to_write(
    expr: str, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    CronJob(print, expr)
    warnings = [record.getMessage() for record in caplog.records]
    assert (said is None) == (not warnings), warnings
    assert all(str(said) in warning for warning in warnings)
