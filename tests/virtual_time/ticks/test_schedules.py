"""Every, Once, AnyOf, Within and Except as schedules of jobs: run, late, edited, paused, explained and listed like cron."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from fastapi_crons import CronJob, Crons, CronSchedule, JobDefinitionError, JobGroup, ScheduleError
from fastapi_crons.api.models import JobModel
from fastapi_crons.management.management import Management
from fastapi_crons.schedules import AnyOf, Every, Except, Once, Within
from fastapi_crons.state import SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import at, missed_of, nothing, runs_of
from tests.unit.schedule.test_schedules import Moons

UTC = timezone.utc


async def deployed(clock: VirtualClock, folder: Path, expr: object, **options: object) -> Crons:
    """A scheduler whose job has this schedule, on the file in the folder."""
    crons = Crons(state_backend=SQLiteStateBackend(folder / "jobs.db"), clock=clock)
    crons.jobs.append(CronJob(nothing, expr, "job", **options))  # type: ignore[arg-type]
    await crons.start()
    return crons


@pytest.mark.parametrize(
    ("schedule", "ticks"),
    [
        (Every(minutes=90), ["01:30:00", "03:00:00", "04:30:00", "06:00:00"]),
        ("Every(minutes=90, anchor='2026-01-01T00:10')", ["00:10:00", "01:40:00", "03:10:00", "04:40:00"]),
        (Once("2026-03-01T02:00:30"), ["02:00:30"]),
        (
            AnyOf("0 */4 * * *", Once("2026-03-01T05:00"), "0 2-4 * * *"),
            ["02:00:00", "03:00:00", "04:00:00", "05:00:00"],
        ),
        (Within("0 * * * *", start="2026-03-01T02:00", end="2026-03-01T03:59:59"), ["02:00:00", "03:00:00"]),
        (Except("0 */3 * * *", dates=["2026-02-28", "2026-03-02"]), ["03:00:00", "06:00:00"]),
        ("0 1 * * * 0 2026", ["01:00:00"]),
    ],
)
async def test_a_job_runs_at_the_ticks_of_its_schedule(
    make_crons: MakeCrons, clock: VirtualClock, schedule: object, ticks: list[str]
) -> None:
    crons = make_crons()
    crons.cron(schedule, name="job")(nothing)  # type: ignore[arg-type]
    await crons.start()
    await clock.advance(crons, hours=6)
    assert [at(run) for run in await runs_of(crons, "job")] == ticks
    assert crons.health().status == "ok"


async def test_a_job_without_a_zone_of_its_own_is_read_in_that_of_the_settings(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(timezone="Asia/Tokyo")
    crons.cron(Once("2026-03-01T12:00"), name="settings")(nothing)
    crons.cron(Once("2026-03-01T12:00"), name="job", timezone=ZoneInfo("Europe/Berlin"))(nothing)
    crons.cron(Once("2026-03-01T12:00", timezone="UTC"), name="own")(nothing)
    await crons.start()
    await clock.advance(crons, days=1)
    ran = {name: [at(run) for run in await runs_of(crons, name)] for name in ("settings", "job", "own")}
    assert ran == {"settings": ["03:00:00"], "job": ["11:00:00"], "own": ["12:00:00"]}
    zones = {job.name: (job.schedule_zone, getattr(job.schedule, "timezone", None)) for job in crons.jobs}
    assert zones == {
        "settings": ("Asia/Tokyo", "Asia/Tokyo"),
        "job": ("Europe/Berlin", "Europe/Berlin"),
        "own": ("UTC", "UTC"),
    }


def test_the_zone_of_a_group_is_for_schedules_without_one() -> None:
    group, crons = JobGroup(timezone="Asia/Tokyo"), Crons()
    group.cron(Once("2026-03-01T12:00"), name="group")(nothing)
    group.cron("Once('2026-03-01T12:00')", name="text")(nothing)
    group.cron(Once("2026-03-01T12:00", timezone="UTC"), name="own")(nothing)
    group.cron("Once('2026-03-01T12:00', timezone='UTC')", name="own in its text")(nothing)
    crons.include(group)
    assert {job.name: job.schedule_zone for job in crons.jobs} == {
        "group": "Asia/Tokyo",
        "text": "Asia/Tokyo",
        "own": "UTC",
        "own in its text": "UTC",
    }


async def test_late_ticks_are_made_up_for_after_a_downtime(clock: VirtualClock, tmp_path: Path) -> None:
    schedule = Except(Every(minutes=30), dates=["2026-03-02"])
    await clock.advance(hours=21, minutes=5)
    crons = await deployed(clock, tmp_path, schedule)
    await clock.advance(crons, hours=1)
    count = len(await runs_of(crons, "job"))
    await crons.stop()
    await clock.advance(days=1, hours=2)
    again = await deployed(clock, tmp_path, schedule)
    await clock.settle(again)
    (late,) = (await runs_of(again, "job"))[count:]
    assert (late.tick, late.missed_ticks) == (datetime(2026, 3, 3, tzinfo=UTC), 3), (
        "22:30, 23:00, 23:30 and none of the 2nd"
    )
    await again.stop()


async def test_once_is_late_after_a_downtime_and_never_runs_again(
    clock: VirtualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = Once("2026-03-01T12:00")
    await (await deployed(clock, tmp_path, schedule)).stop()
    await clock.advance(hours=14)
    for _ in range(3):
        crons = await deployed(clock, tmp_path, schedule)
        await clock.settle(crons)
        (run,) = await runs_of(crons, "job")
        assert (at(run), run.trigger, run.started.hour) == ("12:00:00", "catch_up", 14)
        await crons.stop()
        await clock.advance(days=1)
    assert "does not run any more" not in caplog.text


async def test_once_past_its_grace_time_is_missed(clock: VirtualClock, tmp_path: Path) -> None:
    schedule = Once("2026-03-01T12:00")
    await (await deployed(clock, tmp_path, schedule, misfire_grace_time=3_600)).stop()
    await clock.advance(hours=14)
    crons = await deployed(clock, tmp_path, schedule, misfire_grace_time=3_600)
    await clock.settle(crons)
    assert await runs_of(crons, "job") == []
    (missed,) = await missed_of(crons, "job")
    assert (missed.reason, missed.count) == ("misfire_grace_time", 1)
    await crons.stop()


async def test_a_time_that_had_passed_before_the_job_was_registered_is_warned_of(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()
    crons.cron(Once("2026-02-28T12:00"), name="late")(nothing)
    crons.cron("0 0 1 1 * 0 2020", name="old")(nothing)
    crons.cron(Once("2026-03-01T12:00"), name="good")(nothing)
    await crons.start()
    await clock.advance(crons, days=1)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "job 'late' does not run any more: the last tick of its schedule \"Once('2026-02-28T12:00')\" was "
        "2026-02-28T12:00:00+00:00, which had passed when the job was registered, or fell into a pause",
        "job 'old' does not run any more: the last tick of its schedule '0 0 1 1 * 0 2020' was "
        "2020-01-01T00:00:00+00:00, which had passed when the job was registered, or fell into a pause",
    ]
    assert await runs_of(crons, "late") == []
    assert len(await runs_of(crons, "good")) == 1


async def test_once_in_the_second_of_its_registration_is_warned_of_and_after_its_run_it_is_not(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()
    crons.cron(Once(clock.datetime), name="now")(nothing)
    crons.cron(Once(clock.datetime + timedelta(seconds=1)), name="soon")(nothing)
    await crons.start()
    await clock.advance(crons, seconds=10)
    assert (await runs_of(crons, "now"), len(await runs_of(crons, "soon"))) == ([], 1)
    assert [record.getMessage().partition(":")[0] for record in caplog.records if "any more" in record.message] == [
        "job 'now' does not run any more"
    ]


async def test_an_edit_fires_nothing_and_counts_what_the_old_schedule_had_due(
    clock: VirtualClock, tmp_path: Path
) -> None:
    await (await deployed(clock, tmp_path, AnyOf("0 * * * *", Every(minutes=45)), timezone="Europe/Berlin")).stop()
    await clock.advance(hours=3, minutes=10)
    crons = await deployed(clock, tmp_path, Every(minutes=20), timezone="Europe/Berlin")
    await clock.settle(crons)
    assert await runs_of(crons, "job") == []
    (missed,) = await missed_of(crons, "job")
    assert (missed.reason, missed.count) == ("schedule_changed", 6), (
        "01:00, 02:00, 03:00 and 00:45, 01:30, 02:15; 03:00 is one"
    )
    await clock.advance(crons, hours=1)
    assert [at(run) for run in await runs_of(crons, "job")] == ["03:20:00", "03:40:00", "04:00:00"]
    await crons.stop()


async def test_what_was_due_in_a_pause_is_on_record_and_can_be_caught_up_with(
    clock: VirtualClock, tmp_path: Path
) -> None:
    crons = await deployed(clock, tmp_path, Every(minutes=20))
    await crons.pause("job")
    await clock.advance(crons, hours=1, minutes=5)
    await crons.resume("job")
    await clock.settle(crons)
    (missed,) = await missed_of(crons, "job")
    assert (missed.reason, missed.count) == ("paused", 3)
    await crons.pause("job")
    await clock.advance(crons, hours=1)
    await crons.resume("job", catch_up=True)
    await clock.settle(crons)
    assert [(at(run), run.missed_ticks) for run in await runs_of(crons, "job")] == [("02:00:00", 2)]
    await crons.stop()


async def test_a_tick_is_explained_also_where_only_the_store_knows_the_schedule(
    clock: VirtualClock, tmp_path: Path
) -> None:
    crons = await deployed(clock, tmp_path, Within(Every(minutes=40), end="2026-03-01T03:00"))
    await clock.advance(crons, hours=1)
    management = Management(crons)
    ran = await management.explain_tick("job", datetime(2026, 3, 1, 0, 40, tzinfo=UTC))
    assert ran.fate == "ran"
    none = await management.explain_tick("job", datetime(2026, 3, 1, 0, 41, tzinfo=UTC))
    assert none.fate == "not_due"
    assert "Within(Every(minutes=40), end='2026-03-01T03:00')" in none.text
    assert "the next tick after it is 2026-03-01 01:20:00 UTC" in none.text
    over = await management.explain_tick("job", datetime(2026, 3, 1, 3, 20, tzinfo=UTC))
    assert "it is never due after that" in over.text
    await crons.stop()
    other = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), clock=clock)
    other.cron("0 0 * * *", name="job")(nothing)
    await other.start("observer")
    known = await Management(other).explain_tick("job", datetime(2026, 3, 1, 1, 20, tzinfo=UTC))
    assert known.fate in ("not_yet", "waiting")
    await other.stop()


async def test_jobs_are_shown_with_text_zone_and_words(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron(AnyOf("0 9 * * 1-5", "0 12 * * 6"), name="report", timezone="Europe/Berlin")(nothing)
    crons.cron(Moons(), name="foreign")(nothing)
    await crons.start()
    report, foreign = (JobModel.of(view, details=True) for view in await Management(crons).jobs())
    assert report.expr == "AnyOf('0 9 * * 1-5', '0 12 * * 6')"
    assert (report.timezone, report.next_run) == ("Europe/Berlin", datetime(2026, 3, 2, 8, tzinfo=UTC))
    assert report.description == "At 09:00, on Monday to Friday; or at 12:00, on Saturday"
    assert foreign.description is None


def test_what_a_job_cannot_have_is_refused_when_it_is_defined() -> None:
    crons = Crons()
    with pytest.raises(ScheduleError, match="expr can't be the class Every; give an object of it"):
        crons.cron(Every)  # type: ignore[arg-type]
    for own in (
        Every(minutes=90, timezone="UTC"),
        "Every(minutes=90, timezone='UTC')",
        CronSchedule("0 9 * * *"),
        Moons(),
    ):
        with pytest.raises(JobDefinitionError, match="timezone of job 'job' can't be set"):
            crons.cron(own, name="job", timezone="Europe/Berlin")(nothing)
    with pytest.raises(
        ScheduleError, match="schedule 'Evry\\(minutes=90\\)' can't be read: 'Evry' is none of Every, Once"
    ):
        crons.cron("Evry(minutes=90)", name="job")(nothing)
    assert len(crons.jobs) == 0


class Wrong(Moons):
    def next_after(self, instant: datetime) -> datetime | None:
        return instant - timedelta(days=1)


def test_a_faulty_schedule_inside_another_one_is_refused_when_the_job_is_defined() -> None:
    for schedule in (AnyOf(Wrong(), "0 9 * * *"), Within(AnyOf("0 9 * * *", Wrong()), start="2090-01-01")):
        with pytest.raises(ScheduleError, match="expr of job 'job': its Schedule can't be used: next_after returned"):
            CronJob(nothing, schedule, "job")


async def test_a_schedule_inside_another_one_that_breaks_later_stops_its_job_and_no_other(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Turning(Moons):
        broken = False

        def next_after(self, instant: datetime) -> datetime | None:
            return instant if self.broken else Every(minutes=10).next_after(instant)

        def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
            return Every(minutes=10).between(after, until)

    crons, turning = make_crons(), Turning()
    crons.cron(AnyOf(turning, "5 * * * *"), name="job")(nothing)
    crons.cron("*/30 * * * *", name="other")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=15)
    assert [at(run) for run in await runs_of(crons, "job")] == ["00:05:00", "00:10:00"]
    turning.broken = True
    await clock.advance(crons, hours=2)
    assert len(await runs_of(crons, "job")) <= 3
    assert len(await runs_of(crons, "other")) == 4
    assert "the schedule of 'job' can't be used, and runs nothing any more" in caplog.text


def test_a_step_too_large_inside_a_schedule_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    CronJob(nothing, AnyOf("*/90 * * * *", "0 9 * * *"), "job")
    assert "the step of '*/90' in the minute field is larger than its range" in caplog.text
