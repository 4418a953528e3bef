"""Schedules of other libraries that fail while a scheduler runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from fastapi_crons import CronJob, Schedule, ScheduleError
from fastapi_crons.management.management import Management
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing, runs_of
from tests.unit.app.test_job import _Every, job
from tests.unit.schedule.test_foreign_schedules import Every, _raises


class Turning(Every):
    """Is as it should be until somebody says otherwise."""

    def __init__(self) -> None:
        super().__init__(timedelta(minutes=1))
        self.change: Callable[[datetime], Any] | None = None

    def next_after(self, instant: datetime) -> datetime | None:
        tick = super().next_after(instant)
        changed: datetime | None = tick if self.change is None or tick is None else self.change(tick)
        return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda tick: tick - timedelta(minutes=1),
        lambda tick: tick - timedelta(days=1),
        lambda tick: tick.replace(tzinfo=None),
        lambda tick: tick + timedelta(microseconds=5),
        lambda tick: 5,
    ],
)
async def test_a_schedule_that_breaks_the_protocol_later_stops_its_jobs_and_no_others(
    change: Any, make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons, schedule = make_crons(), Turning()
    crons.cron(schedule, name="one")(nothing)
    crons.cron(schedule, name="two", coalesce=False, jitter=1)(nothing)
    crons.cron("* * * * *", name="other")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=5)
    assert crons.health().status == "ok"
    schedule.change = change
    await clock.advance(crons, minutes=30)
    assert len(await runs_of(crons, "one")) in (5, 6), "the tick that was known already may still run"
    assert len(await runs_of(crons, "other")) == 35
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1, [record.getMessage() for record in errors]
    assert "the schedule of 'one', 'two' can't be used, and runs nothing any more" in errors[0].getMessage()
    health = crons.health()
    assert health.status == "degraded"
    assert health.findings == ("a schedule fails or breaks its protocol, so its job does not run: 'one', 'two'",)
    views = {view.job.name: view.next_run for view in await Management(crons).jobs()}
    assert views["one"] is None
    assert views["other"] is not None
    assert (await crons.run_job("one")).status == "completed"


async def test_a_schedule_that_goes_on_failing_is_logged_now_and_then_and_when_it_answers_again(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons, schedule = make_crons(), Turning()
    crons.cron(schedule, name="one")(nothing)
    await crons.start()
    schedule.change = _raises
    await clock.advance(crons, minutes=40)
    schedule.change = None
    await clock.advance(crons, minutes=3)
    said = [record.getMessage() for record in caplog.records if record.name == "fastapi_crons.engine.dispatch.timeline"]
    beginnings = [
        "the schedule of 'one' failed, and is asked again every 60 s: LookupError: no rule",
        "the schedule of 'one' has failed for 1 minute",
        "the schedule of 'one' has failed for 5 minutes",
        "the schedule of 'one' has failed for 15 minutes",
        "the schedule of 'one' has failed for 30 minutes",
        "the schedule of 'one' works again, after 40 minutes",
    ]
    assert len(said) == len(beginnings), said
    assert all(line.startswith(beginning) for line, beginning in zip(said, beginnings, strict=True)), said


async def test_a_schedule_that_fails_is_named_in_health_until_it_answers_again(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons, schedule = make_crons(), Turning()
    crons.cron(schedule, name="one")(nothing)
    await crons.start()
    schedule.change = _raises
    await clock.advance(crons, minutes=3)
    assert "so its job does not run: 'one'" in crons.health().findings[0]
    assert [view.next_run for view in await Management(crons).jobs()] == [None]
    schedule.change = None
    await clock.advance(crons, minutes=3)
    assert crons.health().status == "ok"


class EveryFullMinute:
    """A schedule of another kind, as a plugin may bring it."""

    text = "every full minute"

    def next_after(self, instant: datetime) -> datetime | None:
        return instant.replace(second=0, microsecond=0) + timedelta(minutes=1)

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        tick = self.next_after(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_after(tick)


async def test_a_schedule_of_another_kind_works(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    assert isinstance(EveryFullMinute(), Schedule)
    crons.cron(EveryFullMinute(), name="job")(job)
    await crons.start()
    await clock.advance(crons, minutes=3)
    assert len(await runs_of(crons, "job")) == 3
    with pytest.raises(ScheduleError, match="Schedule"):
        crons.cron(42, name="bad")(job)  # type: ignore[arg-type]


async def test_a_schedule_that_fails_later_is_asked_again_and_disturbs_no_other(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons, broken = make_crons(), _Every()
    crons.cron(broken, name="mine")(job)
    crons.cron("* * * * * *", name="other")(job)
    await crons.start()
    await clock.advance(crons, seconds=5)
    broken.tick = ValueError("gone")
    await clock.advance(crons, seconds=100)
    assert len(await runs_of(crons, "other")) == 105
    assert len(await runs_of(crons, "mine")) == 5
    broken.tick = None
    await clock.advance(crons, seconds=70)
    assert (await runs_of(crons, "mine"))[-1].started_ts == clock.now()


async def test_a_schedule_that_fails_at_registration_holds_up_no_other(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons, broken = make_crons(), _Every()
    await crons.start()
    jobs = [CronJob(job, "* * * * * *", "first"), CronJob(job, broken, "broken"), CronJob(job, "* * * * * *", "last")]
    broken.tick = ValueError("not now")
    crons.jobs.extend(jobs)
    await clock.advance(crons, seconds=5)
    assert len(await runs_of(crons, "first")) == len(await runs_of(crons, "last")) == 5
