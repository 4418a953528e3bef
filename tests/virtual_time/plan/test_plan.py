"""What is due in the next hours, over all jobs, and what stands against it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta, timezone

import pytest

from fastapi_crons import Crons, InvalidArgumentError, StoreUnavailableError, UnknownJobError
from fastapi_crons.management.management import Management
from fastapi_crons.management.plan.planned import PlannedJob
from fastapi_crons.schedules import AtStart, Every
from fastapi_crons.state import MemoryStateBackend, SQLiteStateBackend
from fastapi_crons.state.figures import Figures
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing


async def planned(crons: Crons, job: str, **asked: object) -> PlannedJob:
    """The plan of one job."""
    (found,) = (await Management(crons).plan(jobs=[job], **asked)).jobs  # type: ignore[arg-type]
    return found


def notes(found: PlannedJob) -> str:
    return "; ".join(found.notes(details=True))


async def test_what_is_due_is_listed_by_its_first_tick(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("0 2,4 * * *", name="some", tags=["a"])(nothing)
    crons.cron(Every(seconds=5), name="many")(nothing)
    crons.cron("0 12 * * *", name="later")(nothing)
    crons.cron("7 * * * *", name="hourly", timezone="Asia/Kolkata")(nothing)
    await crons.start()
    plan = await Management(crons).plan(hours=6)
    assert [each.job.name for each in plan.jobs] == ["many", "hourly", "some"]
    assert plan.idle == 1
    many, hourly, some = plan.jobs
    assert (many.often, many.ticks.number, len(many.ticks.single)) == ("every 5 seconds, 4,320 times", 4_320, 12)
    assert many.ticks.first == clock.now() + 5
    assert many.ticks.last == clock.now() + 6 * 3_600
    assert (hourly.often, hourly.zone) == ("every hour, 6 times", "Asia/Kolkata")
    assert some.ticks.single == (clock.now() + 2 * 3_600, clock.now() + 4 * 3_600)
    assert all(not each.notes(details=True) for each in plan.jobs)
    assert [each.job.name for each in (await Management(crons).plan(tags=["a"])).jobs] == ["some"]
    until = clock.datetime + timedelta(hours=13)
    assert (await planned(crons, "later", until=until)).often == "once"


@pytest.mark.parametrize("hours", [0, -1, 745, float("nan"), float("inf")])
async def test_a_span_is_at_most_31_days(make_crons: MakeCrons, hours: float) -> None:
    crons = make_crons()
    await crons.start()
    with pytest.raises(InvalidArgumentError, match="a plan ends after now, and within 31 days"):
        await Management(crons).plan(hours=hours)
    with pytest.raises(UnknownJobError):
        await Management(crons).plan(jobs=["nope"])


async def test_ticks_of_paused_and_disabled_jobs_are_shown_as_not_run(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="paused", timezone="Europe/Berlin")(nothing)
    crons.cron("0 * * * *", name="off", enabled=False)(nothing)
    await crons.start()
    await crons.pause("paused", actor="ops", note="the disk is full")
    await clock.advance(crons, hours=2)
    paused = await planned(crons, "paused")
    assert (paused.standing, paused.ticks.number, paused.late) == ("paused", 6, None)
    assert paused.notes(details=True) == [
        "paused since 2026-03-01 01:00:00 CET by ops (the disk is full): its ticks are not run"
    ]
    assert "full" not in str(paused.notes(details=False))
    off = await planned(crons, "off")
    assert (off.standing, off.notes(details=True)) == ("disabled", ["disabled in code: its ticks are not run"])


@pytest.mark.parametrize(
    ("options", "runs", "missed", "said"),
    [
        ({}, 1, 0, "4 late ticks since 2026-03-01 01:00:00 UTC: 1 run as soon as an instance claims them"),
        ({"coalesce": False}, 3, 1, "4 late ticks since 2026-03-01 01:00:00 UTC: 3 runs as soon as an instance claims"),
        ({"misfire_grace_time": 4_000}, 1, 2, "1 run as soon as an instance claims them, 2 recorded as missed"),
        ({"misfire_grace_time": 60}, 0, 4, "4 late ticks since 2026-03-01 01:00:00 UTC: 4 recorded as missed"),
    ],
)
async def test_what_becomes_of_late_ticks_is_said_before_it_happens(
    make_crons: MakeCrons, clock: VirtualClock, options: dict[str, object], runs: int, missed: int, said: str
) -> None:
    def made() -> Crons:
        crons = make_crons(state_backend=SQLiteStateBackend("jobs.db"), max_catch_up=3)
        crons.cron("0 * * * *", name="job", **options)(nothing)  # type: ignore[arg-type]
        return crons

    crons = made()
    await crons.start()
    await crons.stop()
    clock.step(4 * 3_600 + 100)  # nobody is there
    observer = made()
    await observer.start("observer")
    late = await planned(observer, "job")
    assert late.late is not None
    assert (late.late.ticks.number, late.late.runs, late.late.missed) == (4, runs, missed)
    assert said in notes(late)

    back = made()
    await back.start()
    await clock.advance(back, minutes=1)
    assert len(await back.runs("job")) == runs
    records = await Management(back).missed("job")
    assert sum(ticks.count for ticks in records if ticks.reason != "coalesced") == missed
    assert (await planned(observer, "job")).late is None


async def test_a_job_that_takes_longer_than_its_interval_overlaps(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    async def slow() -> None:
        await clock.sleep(700)

    for overlap in ("skip", "queue", "allow"):
        crons.cron("*/5 * * * *", name=overlap, overlap=overlap)(slow)
    await crons.start()
    await clock.advance(crons, hours=1)
    skip = await planned(crons, "skip", hours=1)
    assert skip.p95 == pytest.approx(700, rel=0.06)
    assert skip.p50 == pytest.approx(700, rel=0.06)
    assert skip.overlapping is not None
    assert (skip.overlapping.number, skip.overlapping.looked_at) == (8, 13)
    assert "8 of 13 ticks are skipped, the first at 2026-03-01 01:10:00 UTC" in notes(skip)
    assert "are queued until that run has ended" in notes(await planned(crons, "queue"))
    assert "are run at the same time" in notes(await planned(crons, "allow"))

    async def skipped() -> int:
        return sum(ticks.count for ticks in await Management(crons).missed("skip", limit=500))

    before = await skipped()
    await clock.advance(crons, hours=1)
    assert await skipped() - before == 8
    await clock.advance(crons, seconds=700)


async def test_a_tick_that_the_current_run_stands_in_the_way_of_overlaps(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()

    async def slow() -> None:
        await clock.sleep(5 * 3_600)

    crons.cron("0 2,6 * * *", name="import")(slow)
    await crons.start()
    await clock.advance(crons, hours=28)
    found = await planned(crons, "import", hours=3)
    assert (found.ticks.number, found.overlapping and found.overlapping.number) == (1, 1)
    assert "the next tick is skipped, the first at 2026-03-02 06:00:00 UTC" in notes(found)
    await clock.advance(crons, hours=3, minutes=1)
    missed = await Management(crons).missed("import")
    assert (missed[0].reason, missed[0].last_ts) == ("overlap", found.ticks.first)


async def test_more_than_can_run_at_one_instant_is_found(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(max_concurrent_runs=12, max_threads=10, max_processes=3)
    for number in range(11):
        crons.cron("0 3 * * *" if number else "*/30 * * * *", name=f"thread{number:02}")(lambda: None)
    for number in range(3):
        crons.cron("0 3 * * *", name=f"loop{number}")(nothing)
        crons.cron("0 3 * * *", name=f"spread{number}", jitter=60)(nothing)
    await crons.start()
    await crons.pause("loop0")
    found = {each.what: each for each in (await Management(crons).plan()).collisions.too_many}
    assert set(found) == {"runs", "threads"}
    assert (found["runs"].due, found["runs"].limit, found["runs"].instants) == (13, 12, 1)
    assert (found["threads"].due, found["threads"].at) == (11, clock.now() + 3 * 3_600)
    assert len(found["threads"].jobs) == 5
    assert all(name.startswith("thread") for name in found["threads"].jobs)


async def test_an_hour_with_a_crowd_is_found(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    for number in range(40):
        crons.cron(f"{number} 3 * * *", name=f"night{number}")(nothing)
    crons.cron("30 * * * *", name="hourly")(nothing)
    await crons.start()
    (crowd,) = (await Management(crons).plan(hours=24)).collisions.crowds
    assert (crowd.hour, crowd.ticks) == (clock.now() + 3 * 3_600, 41)


async def test_crowds_are_found_in_a_long_span_whatever_its_ticks(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(max_threads=2)
    crons.cron("* * * * * *", name="each second")(nothing)
    crons.cron("* 3 2 3 *", name="one hour of March")(nothing)
    for number in range(3):
        crons.cron("0 4 3 3 *", name=f"thread{number}", run_in="thread")(lambda: None)
    crons.cron("* 5 4 3 *", name="another hour", run_in="thread")(lambda: None)
    await crons.start()
    plan = await Management(crons).plan(hours=7 * 24)
    found = plan.collisions
    assert found.until == plan.until
    assert found.crowds == ()
    (threads,) = found.too_many
    assert (threads.what, threads.due, threads.instants, threads.at) == (
        "threads",
        3,
        1,
        clock.now() + 2 * 86_400 + 4 * 3_600,
    )
    assert sorted(threads.jobs) == ["thread0", "thread1", "thread2"]
    crons.jobs.remove("each second")
    (crowd, later) = (await Management(crons).plan(hours=7 * 24)).collisions.crowds
    assert (crowd.hour, crowd.ticks) == (clock.now() + 86_400 + 3 * 3_600, 60)
    assert (later.hour, later.ticks) == (clock.now() + 3 * 86_400 + 5 * 3_600, 60)


async def test_clock_changes_are_told_of_the_jobs_that_they_concern(clock: VirtualClock, make_crons: MakeCrons) -> None:
    clock.step((datetime(2026, 3, 28, 12, tzinfo=timezone.utc) - clock.datetime).total_seconds())
    crons = make_crons(timezone="Europe/Berlin")
    crons.cron("30 2 * * *", name="fixed")(nothing)
    crons.cron("*/15 * * * *", name="interval")(nothing)
    crons.cron("0 9 * * *", name="morning")(nothing)
    crons.cron("30 2 * * *", name="utc", timezone="UTC")(nothing)
    await crons.start()
    plan = await Management(crons).plan(hours=24)
    said = {each.job.name: notes(each) for each in plan.jobs}
    assert said["fixed"] == "on 2026-03-29 02:30 does not come: it runs once instead, at 03:00"
    assert said["interval"] == "on 2026-03-29 02:00 to 03:00 does not come: it goes on at 03:00"
    assert said["morning"] == said["utc"] == ""
    (change,) = plan.changes
    assert change.text == "on 2026-03-29 the time from 02:00 to 03:00 does not come in Europe/Berlin"
    (tick,) = (each.ticks.first for each in plan.jobs if each.job.name == "fixed")
    assert tick == change.at


async def test_times_that_come_twice_are_told(clock: VirtualClock, make_crons: MakeCrons) -> None:
    clock.step((datetime(2026, 10, 24, 12, tzinfo=timezone.utc) - clock.datetime).total_seconds())
    crons = make_crons(timezone="Europe/Berlin")
    crons.cron("30 2 * * *", name="fixed")(nothing)
    crons.cron("*/30 2 * * *", name="interval")(nothing)
    await crons.start()
    fixed, interval = await planned(crons, "fixed", hours=24), await planned(crons, "interval", hours=24)
    assert notes(fixed) == "on 2026-10-25 02:30 comes twice: it runs the first time only"
    assert fixed.ticks.single == (int(datetime(2026, 10, 25, 0, 30, tzinfo=timezone.utc).timestamp()),)
    assert notes(interval) == "on 2026-10-25 02:00 to 03:00 comes twice: it runs both times"
    assert interval.ticks.number == 4


async def test_ticks_that_runs_and_starts_make_are_shown_as_far_as_they_are_known(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    started = asyncio.Event()

    async def long() -> None:
        started.set()
        await clock.sleep(600)

    crons.cron(Every(minutes=10, after="end"), name="after_end")(long)
    crons.cron(AtStart(), name="start")(nothing)
    await crons.start()
    after_end = await planned(crons, "after_end")
    assert (after_end.ticks.first, after_end.ticks.number, after_end.ticks.more) == (clock.now() + 600, 1, True)
    assert notes(after_end) == "further ticks are counted from the end of each run, and not known before"
    await clock.advance(crons, minutes=11)
    assert started.is_set()
    running = await planned(crons, "after_end")
    assert running.ticks.first is None
    assert notes(running) == "its next tick is counted from the end of each run, and not known before"
    assert notes(await planned(crons, "start")) == "it is due at the next start"
    await clock.advance(crons, minutes=10)


class WithoutFigures(MemoryStateBackend):
    """A state store that does not get to its figures in time."""

    async def figures(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> list[Figures]:
        raise StoreUnavailableError("too slow")


async def test_what_is_due_is_known_without_the_state_store(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(state_backend=WithoutFigures())
    crons.cron("*/5 * * * *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=5)
    plan = await Management(crons).plan(hours=1)
    assert [(each.ticks.number, each.p95) for each in plan.jobs] == [(12, None)]
    assert not plan.has_durations


class Endless:
    """A schedule of an app that is due each second, for ever; and fails, after so many answers."""

    text = "endless"

    def __init__(self, fails_after: int = 10**9) -> None:
        self.left = fails_after

    def next_after(self, instant: datetime) -> datetime | None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("no more")
        return instant.astimezone(timezone.utc).replace(microsecond=0) + timedelta(seconds=1)

    def between(self, after: datetime, until: datetime):  # type: ignore[no-untyped-def]
        tick = self.next_after(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_after(tick)


async def test_endless_and_failing_schedules_of_apps_are_bounded(make_crons: MakeCrons) -> None:
    crons = make_crons(enabled=False)
    failing = Endless()
    crons.cron(Endless(), name="endless")(nothing)
    crons.cron(failing, name="failing")(nothing)
    await crons.start()
    failing.left = 3
    plan = {each.job.name: each for each in (await Management(crons).plan(hours=744)).jobs}
    endless = plan["endless"].ticks
    assert (endless.number, endless.more, len(endless.single)) == (500, True, 12)
    assert plan["failing"].ticks.number == 3
    assert notes(plan["failing"]) == "its schedule can't be asked: RuntimeError: no more"


async def test_ten_thousand_jobs_are_planned(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(enabled=False)
    for number in range(10_000):
        crons.cron(f"{number % 60} {number % 24} * * {number % 7}", name=f"job{number}")(nothing)
    await crons.start()
    plan = await Management(crons).plan(hours=24 * 7)
    assert len(plan.jobs) == 10_000
    assert sum(each.ticks.number for each in plan.jobs) == 10_000
