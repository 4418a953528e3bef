"""Words for cron expressions: they say what the ticks do. A reader of its own reads them back."""

from __future__ import annotations

import calendar
import logging
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fastapi_crons import CronJob, CronSchedule, ScheduleError
from fastapi_crons.schedule._parser import doubts
from fastapi_crons.schedule.english import in_words
from tests.oracle import nearest_weekday
from tests.support import examples

pytestmark = pytest.mark.once

UTC = timezone.utc
Matches = Callable[[datetime], bool]

MONTHS = list(calendar.month_name)
WEEKDAYS = list(calendar.day_name)
WHICH = ["first", "second", "third", "fourth", "fifth"]


def listed(text: str) -> list[str]:
    """`a, b and c` as its parts."""
    *parts, last = re.split(r", (?!and )", text)
    return [*parts, *last.split(" and ")]


def numbers(text: str) -> set[int]:
    """`0 to 3, 7 and 9`, `1, 3, 5, ..., 59`."""
    if ", ..., " in text:
        start, last = text.split(", ..., ")
        values = [int(value) for value in start.split(", ")]
        return set(range(values[0], int(last) + 1, values[1] - values[0]))
    found: set[int] = set()
    for part in listed(text):
        first, _, end = part.partition(" to ")
        found |= set(range(int(first), int(end or first) + 1))
    return found


def named(text: str, names: list[str]) -> set[int]:
    """`Monday to Friday`, or over the end of the week or the year: `Saturday to Monday`."""
    begin, _, end = text.partition(" to ")
    first, last = names.index(begin), names.index(end or begin)
    return set(range(first, last + 1)) if first <= last else {*range(first, len(names)), *range(last + 1)}


def read_times(text: str) -> Matches:
    """The first part of the words: at which times of a day."""
    if match := re.fullmatch(r"At ([\d:, and]+)", text):
        times = {tuple(map(int, part.split(":"))) for part in listed(match[1])}
        return lambda wall: any((wall.hour, wall.minute, wall.second) == (*time, 0)[:3] for time in times)
    if match := re.fullmatch(r"Every (?:(\d+) )?hours?", text):
        every = int(match[1] or 1)
        return lambda wall: wall.hour % every == 0 and (wall.minute, wall.second) == (0, 0)
    seconds, minutes, hours = {0}, set(range(60)), set(range(24))
    rest, _, at = text.partition(", at second ")
    if at:
        seconds = {int(at)}
    if match := re.search(r" (?:of|during) (?:the )?hours? ([\d, andto.]+)", rest):
        hours, rest = numbers(match[1]), rest.replace(match[0], "")
    elif match := re.search(r" (from [\d: andtofrm]+)", rest):
        spans = [span.removeprefix("from ").split(" to ") for span in match[1].split(" and ")]
        assert all(first.endswith(":00") and last.endswith(":59") for first, last in spans)
        hours = {hour for first, last in spans for hour in range(int(first[:2]), int(last[:2]) + 1)}
        rest = rest.replace(match[0], "")
    rest = rest.removesuffix(" of every hour")
    if match := re.fullmatch(r"Every (?:(\d+) )?minutes?", rest):
        minutes = set(range(0, 60, int(match[1] or 1)))
    elif match := re.fullmatch(r"Every (?:(\d+) )?seconds?", rest):
        seconds = set(range(0, 60, int(match[1] or 1)))
    elif match := re.fullmatch(r"At minutes? (.+)", rest):
        minutes = numbers(match[1])
    else:
        match = re.fullmatch(r"(?:Every second|At seconds? (.+)) of (?:every minute|(?:the )?minutes? (.+))", rest)
        assert match is not None, text
        seconds = numbers(match[1]) if match[1] else set(range(60))
        minutes = numbers(match[2]) if match[2] else minutes
    return lambda wall: wall.hour in hours and wall.minute in minutes and wall.second in seconds


def read_day(text: str) -> Matches:
    """One item of a list of days."""
    if match := re.fullmatch(r"days? (.+)", text):
        days = numbers(match[1])
        return lambda wall: wall.day in days
    if text == "the last day":
        return lambda wall: wall.day == calendar.monthrange(wall.year, wall.month)[1]
    if text == "the last weekday (Monday to Friday)":
        return lambda wall: wall.date() == nearest_weekday(last_day(wall))
    if match := re.fullmatch(r"the weekday nearest to day (\d+)", text):
        wanted = int(match[1])
        return lambda wall: (
            wanted <= last_day(wall).day and wall.date() == nearest_weekday(wall.date().replace(day=wanted))
        )
    if match := re.fullmatch(r"the last (\w+)", text):
        weekday = WEEKDAYS.index(match[1])
        return lambda wall: wall.weekday() == weekday and wall.day > last_day(wall).day - 7
    if match := re.fullmatch(r"the (\w+) (\w+day)", text):
        which, weekday = WHICH.index(match[1]), WEEKDAYS.index(match[2])
        return lambda wall: wall.weekday() == weekday and (wall.day - 1) // 7 == which
    weekdays = named(text, WEEKDAYS)
    return lambda wall: wall.weekday() in weekdays


def last_day(wall: datetime) -> date:
    return wall.date().replace(day=calendar.monthrange(wall.year, wall.month)[1])


def read_days(text: str) -> Matches:
    kept = text.removesuffix(" of the month")
    # The numbers of days are a list inside a list: taken out first.
    days = re.match(r"days? [\d, andto.]+?(?=, the | and the |$)", kept)
    if days is not None:
        kept = kept.replace(days[0], "#", 1)
    items = listed(kept)
    assert text.endswith(" of the month") is any(item == "#" or item.startswith("the ") for item in items)
    readers = [read_day(days[0] if days and item == "#" else item) for item in items]
    return lambda wall: any(reader(wall) for reader in readers)


def read(words: str) -> Matches:
    """Which wall-clock times the words speak of."""
    time, *_ = re.split(r", (?:every day|on |in )", words)
    conditions = [read_times(time)]
    rest = words.removeprefix(time)
    if match := re.search(r", in the years? (.+)$", rest):
        years = numbers(match[1])
        conditions.append(lambda wall: wall.year in years)
        rest = rest.removesuffix(match[0])
    if match := re.search(r", in ([A-Z][\w, ]+)$", rest):
        months = set().union(*(named(part, MONTHS) for part in listed(match[1])))
        conditions.append(lambda wall: wall.month in months)
        rest = rest.removesuffix(match[0])
    rest = rest.removeprefix(", every day").removeprefix(", on ")
    if ", or on " in rest:
        first, second = map(read_days, rest.split(", or on "))
        conditions.append(lambda wall: first(wall) or second(wall))
    elif rest:
        conditions += map(read_days, rest.split(", and only on "))
    return lambda wall: all(condition(wall) for condition in conditions)


def field(low: int, high: int, names: str = "") -> st.SearchStrategy[str]:
    """Any way to write a field, with steps that don't divide and ranges that wrap around."""
    one = st.integers(low, high).map(str)
    if names:
        one = st.one_of(one, st.sampled_from(names.split()))
    step = st.integers(1, high + 3)
    stretch = st.tuples(one, one).map("-".join)
    item = st.one_of(one, one, stretch, st.builds("{}/{}".format, st.one_of(st.just("*"), stretch), step), st.just("*"))
    return st.one_of(
        st.just("*"),
        step.map("*/{}".format),
        item,
        st.lists(item, min_size=1, max_size=3).map(",".join),
    )


month_days = st.one_of(
    st.just("*"),
    field(1, 31),
    st.lists(st.sampled_from(["L", "LW", "1W", "15W", "31W", "3", "4", "5", "20-28"]), min_size=1, max_size=4).map(
        ",".join
    ),
)
weekdays = st.one_of(
    st.just("*"),
    field(0, 7, "sun mon TUE wed thu fri sat"),
    st.lists(st.sampled_from(["5L", "friL", "1#1", "2#2", "0#5", "mon", "sat-sun", "3"]), min_size=1, max_size=3).map(
        ",".join
    ),
)
months = st.one_of(st.just("*"), st.just("*"), field(1, 12, "jan feb MAR apr may jun jul aug sep oct nov dec"))
seconds = st.one_of(st.just(""), st.just(""), field(0, 59).map(" {}".format))
years = st.one_of(st.just("*"), st.sampled_from(["2025", "2024-2027", "2023,2026,2027", "*/3", "2026/2", "2090-1980"]))
whole = st.tuples(field(0, 59), field(0, 23), month_days, months, weekdays).map(" ".join)
expressions = st.one_of(
    st.builds("{}{}".format, whole, seconds),
    st.builds("{} {} {}".format, whole, field(0, 59), years),
    st.sampled_from(["@hourly", "@daily", "@WEEKLY", "@yearly"]),
)


def readable(expr: str) -> CronSchedule:
    try:
        return CronSchedule(expr)
    except ScheduleError:  # what is never due has no words either
        assume(False)
        raise


def first_ticks(schedule: CronSchedule, start: datetime, count: int) -> list[datetime]:
    return [
        tick for _, tick in zip(range(count), schedule.between(start, start + timedelta(days=20_000)), strict=False)
    ]


@settings(
    max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(expressions, st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)), st.data())
def test_the_words_read_back_are_the_ticks(expr: str, naive: datetime, data: st.DataObject) -> None:
    schedule = readable(expr)
    matches = read(in_words(expr))
    start = naive.replace(microsecond=0, tzinfo=UTC)
    ticks = first_ticks(schedule, start, 40)
    for tick in ticks:
        assert matches(tick), (in_words(expr), tick)
    # And where there are no words for an instant, there is no tick: looked for near ticks, and anywhere.
    due = set(ticks)
    near = [
        tick + timedelta(seconds=away) for tick in ticks for away in (-86_400, -3_600, -60, -1, 1, 60, 3_600, 86_400)
    ]
    anywhere = [start + timedelta(seconds=away) for away in data.draw(st.lists(st.integers(0, 10**8), max_size=20))]
    for instant in [*near, *anywhere]:
        is_due = instant in due or schedule.next_after(instant - timedelta(seconds=1)) == instant
        assert matches(instant) == is_due, (in_words(expr), instant)


@settings(
    max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(whole)
def test_words_that_say_how_often_differ_from_those_that_say_when(expr: str) -> None:
    """The two differ where clocks change (see the rule for time)."""
    readable(expr)
    words = in_words(expr)
    says_when = bool(re.match(r"At \d\d:", words)) or " of the hour" in words
    says_how_often = any(field.startswith("*") for field in expr.split()[:2])
    assert says_when is not says_how_often, words


@settings(
    max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(expressions, st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))
@example("*/45 * * * *", datetime(2026, 1, 1))
@example("*/7 */5 * * * 30", datetime(2026, 1, 1))
def test_every_so_many_means_gaps_that_are_all_the_same(expr: str, start: datetime) -> None:
    schedule = readable(expr)
    match = re.fullmatch(r"Every (?:(\d+) )?(second|minute|hour)s?(?:, at second \d+)?", in_words(expr))
    if match is None:
        return
    gap = timedelta(**{f"{match[2]}s": int(match[1] or 1)})
    ticks = first_ticks(schedule, start.replace(tzinfo=UTC), 130)
    assert {later - earlier for earlier, later in pairwise(ticks)} == {gap}


@pytest.mark.parametrize(
    ("expr", "words"),
    [
        ("* * * * *", "Every minute"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("0 * * * *", "Every hour"),
        ("0 */2 * * *", "Every 2 hours"),
        ("0 0 * * *", "At 00:00, every day"),
        ("0 0 * * 0", "At 00:00, on Sunday"),
        ("0 0 1 * *", "At 00:00, on day 1 of the month"),
        ("@daily", "At 00:00, every day"),
        ("*/45 * * * *", "At minutes 0 and 45 of every hour"),
        ("*/90 * * * *", "Every hour"),
        ("0 0 */2 * 1", "At 00:00, on Monday, and only on days 1, 3, 5, ..., 31 of the month"),
        ("0 0 1,15 * 1", "At 00:00, on days 1 and 15 of the month, or on Monday"),
        ("*/15 9-17 * * mon-fri", "Every 15 minutes from 09:00 to 17:59, on Monday to Friday"),
        ("0 9,17 * jan,jun-aug *", "At 09:00 and 17:00, every day, in January and June to August"),
        (
            "0 0 L,1W,LW * *",
            "At 00:00, on the last day, the weekday nearest to day 1 and the last weekday "
            "(Monday to Friday) of the month",
        ),
        ("0 0 * * 1#2,5L", "At 00:00, on the second Monday and the last Friday of the month"),
        ("0 9 * * sat,1#1,1#3", "At 09:00, on Saturday, the first Monday and the third Monday of the month"),
        ("0 9 * * sun-tue", "At 09:00, on Sunday to Tuesday"),
        ("0 9 * * mon,wed,fri-sun", "At 09:00, on Wednesday and Friday to Monday"),
        ("0 9 * * mon,sun", "At 09:00, on Monday and Sunday"),
        ("0 9 * nov-feb,apr *", "At 09:00, every day, in April and November to February"),
        ("0 */24 * * *", "At minute 0 during the hour 0"),
        ("*/30 */12 * * *", "Every 30 minutes during the hours 0 and 12"),
        ("* 9 * * *", "Every minute from 09:00 to 09:59"),
        ("* * * * * */10", "Every 10 seconds"),
        ("*/10 * * * * *", "Every second of the minutes 0, 10, 20, 30, 40 and 50 of every hour"),
        ("0 9 * * * 30", "At 09:00:30, every day"),
        ("0 9 1 1 * 0 2027", "At 09:00, on day 1 of the month, in January, in the year 2027"),
        ("0 9 * * * 0 2027-2029,2031", "At 09:00, every day, in the years 2027 to 2029 and 2031"),
    ],
)
def test_ordinary_expressions_have_ordinary_words(expr: str, words: str) -> None:
    assert in_words(expr) == words


AT_DISTANCES = "; for equal distances, write Every({}) of fastapi_crons.schedules"


@pytest.mark.parametrize(
    ("expr", "step", "field", "left", "instead"),
    [
        ("*/90 * * * *", "*/90", "minute", 0, AT_DISTANCES.format("minutes=90")),
        ("0 */25 * * *", "*/25", "hour", 0, AT_DISTANCES.format("hours=25")),
        ("0 0 */32 * *", "*/32", "day of month", 1, AT_DISTANCES.format("days=32")),
        ("0 0 1 */13 *", "*/13", "month", 1, ""),
        ("0 0 * * mon-fri/6", "mon-fri/6", "day of week", 1, ""),
        ("* * * * * 5,0-30/40", "0-30/40", "second", 0, ""),
    ],
)
def test_a_step_larger_than_its_field_is_warned_of_once_when_a_job_is_defined(
    expr: str, step: str, field: str, left: int, instead: str, caplog: pytest.LogCaptureFixture
) -> None:
    CronJob(print, expr, "poll")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"job 'poll': the step of '{step}' in the {field} field is larger than its range, so only {left} matches{instead}"
    )


@pytest.mark.parametrize(
    "expr", ["*/60 * * * *", "0 */24 * * *", "*/45 * * * *", "0 0 * * */7", "9-9/5 * * * *", "@hourly"]
)
def test_a_step_that_fits_is_not_warned_of(expr: str, caplog: pytest.LogCaptureFixture) -> None:
    CronJob(print, expr, "poll")
    assert not caplog.records
    assert doubts(expr) == ()


def test_seconds_that_come_first_are_warned_of_when_a_job_is_defined(caplog: pytest.LogCaptureFixture) -> None:
    CronJob(print, "0 0 12 * * *", "noon")
    assert "seconds are the last field here, not the first" in caplog.text
    caplog.clear()
    CronJob(print, "* * * * * *", "always")
    CronJob(print, "0 9 * * * 0,30", "twice")
    assert not caplog.records


def test_a_day_rule_with_a_star_and_a_weekday_wants_both() -> None:
    """`*/2` begins with `*`, so it does not restrict by itself, as cron(8) has it."""
    ticks = first_ticks(CronSchedule("0 0 */2 * 1", "Europe/Berlin"), datetime(2026, 1, 1, tzinfo=UTC), 30)
    walls = [tick.astimezone(ZoneInfo("Europe/Berlin")) for tick in ticks]
    assert all(wall.weekday() == 0 and wall.day % 2 == 1 for wall in walls)


@pytest.mark.parametrize("expr", ["0 15 10 * * 1", "0 0 9 * * 1-5"])
def test_a_day_of_the_week_in_the_place_of_seconds_is_warned_of(expr: str, caplog: pytest.LogCaptureFixture) -> None:
    CronJob(print, expr, "weekly")
    assert f"if they come first, write '{expr.removeprefix('0 ')}'" in caplog.text
    caplog.clear()
    CronJob(print, "0 15 10 * * 30", "monthly")
    CronJob(print, "0 15 10 6 * 1", "yearly")
    assert not caplog.records
