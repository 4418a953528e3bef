"""Job definitions: what is refused, how, and what registering does."""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fastapi_crons import (
    ConfigurationError,
    CronConfig,
    CronJob,
    Crons,
    CronSchedule,
    DuplicateJobError,
    JobDefinitionError,
    ScheduleError,
)


def job() -> None: ...


@pytest.mark.parametrize(
    "name", ["a", "x" * 200, "ünïcødé", "a:b*c %d", "日本語", "rocket 🚀", "zero\u200djoiner", " padded "]
)
def test_names_of_printable_characters_are_fine(name: str) -> None:
    assert CronJob(job, "* * * * *", name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "\t",
        "x" * 201,
        "a/b",
        "line\nbreak",
        "nul\x00",
        "\x7f",
        "\ud800",
        "\u202eabc",
        "\u2066a",
        "\u2028",
        "\u200b\ufeff",
        ".",
        "..",
        3,
    ],
)
def test_other_names_are_refused_whole(name: Any) -> None:
    with pytest.raises(JobDefinitionError) as caught:
        CronJob(job, "* * * * *", name)
    assert str(caught.value).startswith("name ")
    assert str(caught.value).isascii()
    assert len(str(caught.value)) <= 200


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"misfire_grace_time": 0}, "misfire_grace_time"),
        ({"overlap": "maybe"}, "overlap"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": True}, "max_retries"),
        ({"retry_delay": -1}, "retry_delay"),
        ({"retry_on": "ValueError"}, "retry_on"),
        ({"retry_on": ["ValueError"]}, "retry_on"),
        ({"retry_on": [ValueError, 3]}, "retry_on"),
        ({"retry_on": ValueError()}, "retry_on"),
        ({"retry_on": 5}, "retry_on"),
        ({"retry_on": None}, "retry_on"),
        ({"jitter": float("inf")}, "jitter"),
        ({"coalesce": 1}, "coalesce"),
        ({"enabled": None}, "enabled"),
        ({"store_result": "no"}, "store_result"),
        ({"tags": "one"}, "tags"),
        ({"tags": [1]}, "tags"),
        ({"tags": ["ok", "\ud800"]}, "tags"),
        ({"tags": ["two\nlines"]}, "tags"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"timezone": 5}, "timezone"),
        ({"timezone": timezone(timedelta(hours=2))}, "timezone"),
        ({"timezone": ""}, "timezone"),
    ],
)
def test_a_bad_option_is_refused_and_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        CronJob(job, "* * * * *", "job", **options)


@pytest.mark.parametrize("func", [None, 3, "job"])
def test_what_can_not_be_called_is_refused(func: Any) -> None:
    with pytest.raises(JobDefinitionError, match="func must be callable"):
        CronJob(func, "* * * * *")


def test_a_job_can_not_be_changed() -> None:
    definition = CronJob(func=job, expr="0 2 * * *", name="database_backup", tags=["backup", "database"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        definition.name = "other"  # type: ignore[misc]
    assert definition.tags == ("backup", "database")


def test_the_name_defaults_to_that_of_the_function() -> None:
    assert CronJob(job, "* * * * *").name == "job"
    assert CronJob(job, "* * * * *", None).name == "job"
    parameters = inspect.signature(CronJob).parameters
    assert (parameters["name"].default, parameters["tags"].default) == (None, None)
    assert list(parameters)[:4] == ["func", "expr", "name", "tags"]
    assert CronJob(job, "* * * * *").tags == CronJob(job, "* * * * *", tags=None).tags == ()
    renamed = dataclasses.replace(CronJob(job, "* * * * *", timeout=5), name="other")
    assert (renamed.name, renamed.timeout) == ("other", 5)


@pytest.mark.parametrize(
    "given",
    [
        [ValueError, KeyError],
        (ValueError, KeyError),
        {ValueError, KeyError},
        (kind for kind in (ValueError, KeyError)),
        {ValueError: 1, KeyError: 2},
    ],
)
def test_retry_on_takes_any_row_of_classes(given: Any) -> None:
    assert set(CronJob(job, "* * * * *", retry_on=given).retry_on) == {ValueError, KeyError}
    assert CronJob(job, "* * * * *", retry_on=OSError).retry_on == (OSError,)


@pytest.mark.parametrize(
    ("zone", "name"),
    [(ZoneInfo("Europe/Berlin"), "Europe/Berlin"), (timezone.utc, "UTC"), (ZoneInfo("UTC"), "UTC")],
)
def test_a_zone_may_be_given_as_an_object(zone: tzinfo, name: str) -> None:
    crons = Crons(config=CronConfig(timezone=zone))
    crons.cron("0 0 * * *", name="own", timezone=zone)(job)
    crons.cron("0 0 * * *", name="open")(job)
    assert [known.schedule_zone for known in crons.jobs] == [name, name]
    assert CronJob(job, "0 0 * * *", timezone=zone).timezone == name
    assert CronSchedule("0 0 * * *", zone) == CronSchedule("0 0 * * *", name)
    with pytest.raises(ScheduleError, match="timezone must be the name of a zone or a ZoneInfo"):
        CronSchedule("0 0 * * *", timezone(timedelta(hours=1)))


def test_a_decorator_without_an_expression_is_refused() -> None:
    crons = Crons()
    with pytest.raises(JobDefinitionError, match=r"for 'job'; write it like @crons.cron\("):
        crons.cron(job)  # type: ignore[arg-type]
    for nothing in (42, None, ["* * * * *"], b"* * * * *"):
        with pytest.raises(ScheduleError, match="expr must be a cron expression"):
            crons.cron(nothing)  # type: ignore[arg-type]
    assert crons.get_jobs() == []


class Half:
    text = "half"

    def next_after(self, instant: datetime) -> datetime | None: ...


def test_what_lacks_a_part_of_the_protocol_of_schedules_is_refused_with_that_part() -> None:
    with pytest.raises(ScheduleError, match=r"expr of job 'x' must be a .*Schedule, not <.*>, which lacks 'between'"):
        CronJob(job, Half(), "x")  # type: ignore[arg-type]
    with pytest.raises(ScheduleError, match=r"expr must be a .*Schedule, not <.*>, which lacks 'between'"):
        Crons().cron(Half())  # type: ignore[arg-type]
    with pytest.raises(ScheduleError, match=r"must be a cron expression or a Schedule, not 42$"):
        CronJob(job, 42, "x")  # type: ignore[arg-type]


def test_the_next_run_is_after_now_in_the_jobs_zone() -> None:
    tick = CronJob(job, "30 4 * * *", timezone="Asia/Tokyo").next_run
    assert tick is not None
    assert tick > datetime.now(timezone.utc)
    assert (tick.utcoffset(), tick.hour, tick.minute) == (timedelta(0), 19, 30)
    assert CronJob(job, "* * * * *", enabled=False).next_run is None


def test_one_function_registered_twice_is_told_from_two_functions_of_one_name() -> None:
    crons = Crons()
    crons.cron("* * * * *", name="one")(job)
    with pytest.raises(
        DuplicateJobError, match=r"test_job:job \(test_job.py, line \d+\) is registered twice as job 'one'"
    ):
        crons.cron("0 * * * *", name="one")(job)
    with pytest.raises(
        DuplicateJobError, match=r"'one' is already registered, for .*:job \(.*; give the job of .*print"
    ):
        crons.cron("0 * * * *", name="one")(print)


def test_appending_registers_and_a_second_job_of_the_same_name_is_an_error() -> None:
    crons = Crons()
    crons.jobs.append(CronJob(job, "* * * * *", "one", ["x"]))
    crons.cron("* * * * *", name="two", tags=["x", "y"])(job)
    with pytest.raises(DuplicateJobError, match="'one'"):
        crons.cron("0 * * * *", name="one")(job)
    with pytest.raises(DuplicateJobError):
        crons.jobs.append(crons.jobs[1])
    assert [known.name for known in crons.get_jobs()] == ["one", "two"]
    assert [known.name for known in crons.get_jobs(tags=["x", "y"])] == ["two"]
    assert crons.get_job("one") is crons.jobs[0]
    assert crons.get_job("three") is None
    assert crons.get_jobs()[0].schedule.text == "* * * * *"


def test_a_refused_job_leaves_nothing_behind() -> None:
    crons = Crons()
    with pytest.raises(ScheduleError):
        crons.cron("61 * * * *", name="bad")(job)
    assert crons.get_jobs() == []
    crons.cron("1 * * * *", name="bad")(job)


def test_open_options_take_the_schedulers_settings() -> None:
    crons = Crons(config=CronConfig(timezone="Europe/Berlin", coalesce=False, default_timeout=9, misfire_grace_time=60))
    crons.cron("0 0 * * *", name="decorated")(job)
    crons.jobs.append(CronJob(job, "0 0 * * *", "appended"))
    crons.jobs.append(CronJob(job, "0 0 * * *", "own", timezone="UTC", coalesce=True, timeout=1, misfire_grace_time=5))
    for name in ("decorated", "appended"):
        known = crons.get_job(name)
        assert known is not None
        assert (known.timezone, known.coalesce, known.timeout, known.misfire_grace_time) == (
            "Europe/Berlin",
            False,
            9,
            60,
        )
    own = crons.get_job("own")
    assert own is not None
    assert (own.timezone, own.coalesce, own.timeout, own.misfire_grace_time) == ("UTC", True, 1, 5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (3, 20.0)),
        ({"max_retries": None, "retry_delay": None}, (3, 20.0)),
        ({"max_retries": 0}, (0, 20.0)),
        ({"retry_delay": 1.0}, (3, 1.0)),
        ({"retry_delay": 0, "max_retries": 1}, (1, 0)),
    ],
)
def test_retries_that_a_job_leaves_open_are_a_setting(
    monkeypatch: pytest.MonkeyPatch, given: Any, expected: tuple[int, float]
) -> None:
    monkeypatch.setenv("CRON_DEFAULT_MAX_RETRIES", "3")
    monkeypatch.setenv("CRON_DEFAULT_RETRY_DELAY", "20")
    crons = Crons()
    crons.cron("0 0 * * *", name="decorated", **given)(job)
    crons.jobs.append(CronJob(job, "0 0 * * *", **given))
    for known in crons.jobs:
        assert (known.max_retries, known.retry_delay) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MAX_RETRIES", "-1"), ("MAX_RETRIES", "1.5"), ("RETRY_DELAY", "-1"), ("RETRY_DELAY", "inf")],
)
def test_a_setting_for_retries_that_can_not_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"CRON_DEFAULT_{variable}", value)
    with pytest.raises(ConfigurationError, match=f"CRON_DEFAULT_{variable}='{value}'"):
        CronConfig()


def test_crons_without_arguments_is_the_scheduler_of_the_process() -> None:
    first = Crons()
    found: list[Crons] = []
    threads = [threading.Thread(target=lambda: found.append(Crons())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(crons is first for crons in found)
    other = Crons(config=CronConfig(timezone="Asia/Tokyo"))
    assert other is not first
    assert Crons() is other
    other.cron("* * * * *", name="only here")(job)
    assert first.get_job("only here") is None


class _Every:
    """A schedule of somebody else's."""

    def __init__(self, text: Any = "every second", tick: Any = None) -> None:
        self.text = text
        self.tick = tick

    def next_after(self, instant: datetime) -> datetime | None:
        if isinstance(self.tick, Exception):
            raise self.tick
        tick: datetime | None = self.tick or instant.replace(microsecond=0) + timedelta(seconds=1)
        return tick

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        tick = self.next_after(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_after(tick)


class _Unhashable(_Every):
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (_Every(text=None), "text must be"),
        (_Every(text=" "), "text must be"),
        (_Every(text="x" * 2000), "text must be"),
        (_Every(text="two\nlines"), "text must be"),
        (_Every(tick=datetime(2026, 1, 1)), "aware datetimes"),
        (_Every(tick=5), "must return datetimes"),
        (_Every(tick=ValueError("no rule")), "no rule"),
        (_Unhashable(), "unhashable"),
    ],
)
def test_a_schedule_of_somebody_elses_is_tried_when_the_job_is_defined(schedule: Any, wanted: str) -> None:
    with pytest.raises(ScheduleError, match=wanted) as caught:
        CronJob(job, schedule, "mine")
    assert "'mine'" in str(caught.value)
    assert CronJob(job, _Every()).schedule_zone == ""


def test_a_job_that_was_appended_is_found_in_the_registry() -> None:
    crons = Crons()
    given = CronJob(job, "0 2 * * *", "backup")
    crons.jobs.append(given)
    assert given in crons.jobs
    assert CronJob(job, "0 3 * * *", "backup") not in crons.jobs
    assert crons.get_job("backup") in crons.jobs


@pytest.mark.parametrize("option", ["timeout", "retry_delay", "jitter", "misfire_grace_time"])
def test_a_number_that_no_float_holds_is_refused_like_any_other(option: str) -> None:
    def define(value: Any) -> None:
        options: dict[str, Any] = {option: value}
        CronJob(job, "* * * * *", **options)

    for fit in (10**6, 0.5):
        define(fit)
    for unfit in (-1, float("nan"), float("inf"), 10**400, True, "5"):
        with pytest.raises(JobDefinitionError, match=option):
            define(unfit)
