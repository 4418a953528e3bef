"""Words for schedules besides cron expressions: read back by a reader of its own, they are the ticks."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings

from fastapi_crons import CronSchedule
from fastapi_crons.schedule.base import ZonedSchedule
from fastapi_crons.schedules import AnyOf, AtStart, Every, Except, Once, Within
from tests.support import examples
from tests.unit.schedule.test_schedules import bound, cases, windows
from tests.unit.schedule.test_words import listed
from tests.unit.schedule.test_words import read as read_cron

UTC = timezone.utc
Matches = Callable[[datetime], bool]


def split(words: str, between: str) -> list[str]:
    """Split outside of brackets."""
    parts, depth, begin = [], 0, 0
    for at, character in enumerate(words):
        depth += (character == "(") - (character == ")")
        if depth == 0 and words.startswith(between, at):
            parts.append(words[begin:at])
            begin = at + len(between)
    return [*parts, words[begin:]]


def read(words: str) -> Matches:
    """Which instants the words speak of, in UTC."""
    words = words[:1].upper() + words[1:]
    *_, last = alternatives = split(words, "; or ")
    if len(alternatives) > 1:
        readers = [read(part) for part in alternatives]
        return lambda instant: any(reader(instant) for reader in readers)
    rest, *limits = split(last, "; ")
    if rest.startswith("(") and rest.endswith(")"):
        rest = rest[1:-1]
        matches = read(rest)
    else:
        matches = read_one(rest)
    for limit in limits:
        matches = both(matches, read_limit(limit))
    return matches


def both(one: Matches, other: Matches) -> Matches:
    return lambda instant: one(instant) and other(instant)


def read_one(words: str) -> Matches:
    if match := re.fullmatch(r"Once, at (.+)", words):
        at = datetime.fromisoformat(match[1])
        return lambda instant: instant == at
    if match := re.fullmatch(r"Every (?:(\d+) )?(\D+?)s?(?: of 24 hours)?, counted from (.+)", words):
        first = datetime.fromisoformat(match[3].replace(" UTC", "+00:00"))
        unit = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}[match[2]]
        period = int(match[1] or 1) * unit
        return lambda instant: (instant - first).total_seconds() % period == 0
    return read_cron(words)


def read_limit(words: str) -> Matches:
    if match := re.fullmatch(r"but not on (.+)", words):
        ranges = [ends.split(" through ") for ends in listed(match[1])]
        spans = [(date.fromisoformat(ends[0]), date.fromisoformat(ends[-1])) for ends in ranges]
        return lambda instant: not any(first <= instant.date() <= last for first, last in spans)
    match = re.fullmatch(r"only(?: from (.+?))?(?: on| through (.+))", words)
    assert match is not None, words
    start, end = match[1], match[2]

    def is_in(instant: datetime) -> bool:
        early = bool(start) and (
            instant < datetime.fromisoformat(start) if ":" in start else instant.date() < date.fromisoformat(start)
        )
        late = bool(end) and (
            instant > datetime.fromisoformat(end) if ":" in end else instant.date() > date.fromisoformat(end)
        )
        return not early and not late

    return is_in


def without_other_zones(schedule: ZonedSchedule) -> bool:
    return "timezone=" not in schedule.text and "CronSchedule(" not in schedule.text


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(cases.map(lambda case: bound(case, "UTC")).filter(without_other_zones), windows())
def test_the_words_read_back_are_the_ticks(schedule: ZonedSchedule, window: tuple[str, datetime, datetime]) -> None:
    _, after, until = window
    matches = read(schedule.words)
    ticks = set(schedule.between(after, until))
    minutes = (until - after) // timedelta(minutes=1)
    whole = after.replace(second=0)
    near = {tick + timedelta(seconds=away) for tick in ticks for away in (-1, 0, 1)}
    for instant in {*near, *(whole + timedelta(minutes=number) for number in range(1, minutes))}:
        if after < instant <= until:
            assert matches(instant) == (instant in ticks), (schedule.words, instant)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Every(seconds=1), "Every second, counted from 1970-01-01 00:00 UTC"),
        (Every(minutes=90), "Every 90 minutes, counted from 1970-01-01 00:00 UTC"),
        (Every(days=1), "Every 24 hours, counted from 1970-01-01 00:00 UTC"),
        (
            Every(days=2, anchor="2026-03-29T02:30", timezone="Europe/Berlin"),
            "Every 2 days of 24 hours, counted from 2026-03-29 03:00+02:00",
        ),
        (Every(seconds=45, after="end"), "45 seconds after the end of the last run"),
        (Every(hours=1, after="end"), "One hour after the end of the last run"),
        (Once("2026-12-24T17:00", timezone="Europe/Berlin"), "Once, at 2026-12-24 17:00+01:00"),
        (Once("2026-10-25T02:30", timezone="Europe/Berlin"), "Once, at 2026-10-25 02:30+02:00"),
        (Once("2026-10-25T02:30+01:00", timezone="Europe/Berlin"), "Once, at 2026-10-25 02:30+01:00"),
        (AtStart(), "At the start of the fleet"),
        (AtStart(version="1.4.2"), "At the first start of version 1.4.2"),
        (AnyOf("0 9 * * 1-5", "0 12 * * 6"), "At 09:00, on Monday to Friday; or at 12:00, on Saturday"),
        (AnyOf("@daily", "0 0 * * *"), "At 00:00, every day"),
        (
            AnyOf("0 9 * * *", CronSchedule("0 9 * * *", "Asia/Tokyo"), timezone="Europe/Berlin"),
            "At 09:00, every day; or at 09:00, every day (Asia/Tokyo)",
        ),
        (
            Within("*/10 * * * *", start="2026-05-01", end="2026-09-30T12:00", timezone="Europe/Berlin"),
            "Every 10 minutes; only from 2026-05-01 through 2026-09-30 12:00+02:00",
        ),
        (Within("0 9 * * *", start="2026-05-01"), "At 09:00, every day; only from 2026-05-01 on"),
        (Within("0 9 * * *", end="2026-05-01"), "At 09:00, every day; only through 2026-05-01"),
        (
            Except(
                AnyOf("0 9 * * *", Within("0 12 * * *", end="2026-05-01", timezone="Asia/Tokyo")), dates=["2026-12-24"]
            ),
            "(at 09:00, every day; or (at 12:00, every day; only through 2026-05-01; in Asia/Tokyo)); but not on 2026-12-24",
        ),
        (
            Except("0 9 * * *", dates=["2026-12-24/2026-12-26", "2027-01-01"]),
            "At 09:00, every day; but not on 2026-12-24 through 2026-12-26 and 2027-01-01",
        ),
        (
            Except("0 9 * * *", dates=[f"2026-{month:02}-0{day}" for month in range(1, 13) for day in (1, 3)]),
            "At 09:00, every day; but not on 2026-01-01, 2026-01-03, 2026-02-01, 2026-02-03, 2026-03-01, 2026-03-03, "
            "2026-04-01, 2026-04-03, 2026-05-01, 2026-05-03, 2026-06-01 and 13 other days",
        ),
    ],
)
def test_ordinary_schedules_have_ordinary_words(schedule: ZonedSchedule, words: str) -> None:
    assert schedule.words == words
