"""Times as people give them on the command line."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_crons_cli.ticks import tick_at
from fastapi_crons_cli.times import EXAMPLES, Time

UTC = timezone.utc
NOW = datetime(2026, 3, 29, 12, 0, 7, 500_000, UTC)
BERLIN = "Europe/Berlin"
#: With changes of the clock by an hour, by half of one, at midnight, and by a whole day.
ZONES = ("UTC", BERLIN, "America/Havana", "Australia/Lord_Howe", "Asia/Beirut", "Pacific/Apia", "Asia/Kolkata")
instants = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
zones = st.sampled_from(ZONES)


def at(text: str, zone: str = "UTC", now: datetime = NOW) -> str:
    return Time.given(text).instant(zone, now.timestamp()).isoformat()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-03-29T12:00:07+00:00"),
        ("30m", "2026-03-29T11:30:07+00:00"),
        (" 2H ", "2026-03-29T10:00:07+00:00"),
        ("1d12h", "2026-03-28T00:00:07+00:00"),
        ("2w", "2026-03-15T12:00:07+00:00"),
        ("90s", "2026-03-29T11:58:37+00:00"),
        ("today", "2026-03-29T00:00:00+00:00"),
        ("Yesterday", "2026-03-28T00:00:00+00:00"),
        ("2026-03-01", "2026-03-01T00:00:00+00:00"),
        ("2026-03-01 02:00", "2026-03-01T02:00:00+00:00"),
        ("2026-03-01T02:00:30", "2026-03-01T02:00:30+00:00"),
        ("2026-03-01T02:00:30.7Z", "2026-03-01T02:00:30+00:00"),
        ("2026-03-01 02:00+01:00", "2026-03-01T02:00:00+01:00"),
    ],
)
def test_what_can_be_written(text: str, expected: str) -> None:
    assert at(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01 02:00", "2026-03-01T02:00:00+01:00"),
        ("2026-03-01 02:00Z", "2026-03-01T02:00:00+00:00"),
        ("today", "2026-03-29T00:00:00+01:00"),
        ("yesterday", "2026-03-28T00:00:00+01:00"),
        ("yesterday 02:30", "2026-03-28T02:30:00+01:00"),
        ("Today 02:30:15", "2026-03-29T03:00:00+02:00"),
        ("1d", "2026-03-28T13:00:07+01:00"),
        # Skipped, as clocks go forward: the first instant after it. Repeated, as they go back: the first of the two.
        ("2026-03-29 02:30", "2026-03-29T03:00:00+02:00"),
        ("2025-10-26 02:30", "2025-10-26T02:30:00+02:00"),
    ],
)
def test_without_an_offset_it_is_the_clock_on_the_wall_of_the_zone(text: str, expected: str) -> None:
    assert at(text, BERLIN) == expected


def test_a_day_that_begins_after_midnight() -> None:
    assert at("today", "America/Havana", datetime(2026, 3, 8, 20, tzinfo=UTC)) == "2026-03-08T01:00:00-04:00"


@settings(deadline=None)
@given(instants, zones, zones)
def test_what_is_shown_with_its_offset_is_the_same_instant_in_whatever_zone(
    instant: datetime, shown_in: str, zone: str
) -> None:
    whole = instant.replace(microsecond=0)
    shown = whole.astimezone(ZoneInfo(shown_in))
    if (shown.utcoffset() or timedelta()).seconds % 60 == 0:
        for text in (shown.isoformat(), shown.isoformat(" ")):
            assert datetime.fromisoformat(at(text, zone)) == whole
    if not shown.fold:
        assert datetime.fromisoformat(at(f"{shown:%Y-%m-%d %H:%M:%S}", shown_in)) == whole


@given(instants, zones)
def test_today_and_yesterday_begin_at_the_first_instant_of_their_day(now: datetime, zone: str) -> None:
    for text, days in (("today", 0), ("yesterday", 1)):
        found = datetime.fromisoformat(at(text, zone, now))
        wanted = now.astimezone(ZoneInfo(zone)).date() - timedelta(days=days)
        before = (found - timedelta(seconds=1)).astimezone(UTC).astimezone(ZoneInfo(zone)).date()
        assert before < wanted <= found.astimezone(ZoneInfo(zone)).date()
        assert found <= now


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from("smhdw")), min_size=1, max_size=5), instants, zones)
def test_a_span_is_so_long_ago(parts: list[tuple[int, str]], now: datetime, zone: str) -> None:
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    ago = sum((timedelta(**{units[unit]: number}) for number, unit in parts), timedelta())
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert datetime.fromisoformat(at(text, zone, now)) == now.replace(microsecond=0) - ago


@given(st.text() | st.text("0123456789smhdw -:TZ+."))
def test_anything_else_is_refused_with_what_can_be_written(text: str) -> None:
    refusal = None
    try:
        Time.given(text).instant(BERLIN, NOW.timestamp())
    except typer.BadParameter as error:
        refusal = str(error)
    assert refusal is None or refusal.startswith(repr(text))


@pytest.mark.parametrize(
    "text", ["", "soon", "30", "30 minutes", "-30m", "m30", "02:00", "2026-02-30", "2026-03-01 25:00"]
)
def test_near_misses_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a time; give 30m, 2h, 3d"):
        Time.given(text)


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31", "999999999w"])
def test_times_too_far_away_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"give a year from 2 to 9998|is too long ago"):
        at(text)


def test_what_a_shell_offers_can_be_given() -> None:
    assert [Time.given(text).text for text in EXAMPLES] == list(EXAMPLES)


@pytest.mark.parametrize("text", ["2025-10-26 02:30", "yesterday 02:30"])
def test_of_a_tick_in_the_hour_that_is_there_twice_it_has_to_be_said_which_one_is_meant(text: str) -> None:
    day_after = datetime(2025, 10, 27, 9, tzinfo=UTC).timestamp()
    with pytest.raises(
        typer.BadParameter, match=r"twice in .*: 2025-10-26T02:30:00\+02:00 or 2025-10-26T02:30:00\+01:00"
    ):
        tick_at(Time.given(text), BERLIN, day_after)


@pytest.mark.parametrize("text", ["2026-03-29 02:30", "today 02:30"])
def test_of_a_tick_in_the_hour_that_is_skipped_it_is_said_when_it_ends(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"does not exist in .*: .* to 2026-03-29T03:00:00\+02:00"):
        tick_at(Time.given(text), BERLIN, NOW.timestamp())


def test_a_day_whose_midnight_is_skipped_begins_all_the_same() -> None:
    now = datetime(2026, 3, 29, 9, tzinfo=UTC).timestamp()
    assert tick_at(Time.given("today"), "Asia/Beirut", now).isoformat() == "2026-03-29T01:00:00+03:00"
