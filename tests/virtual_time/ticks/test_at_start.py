"""AtStart(): once for each start of the fleet, or of a deploy, however many workers start, and whichever of them lives on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone

import pytest
import pytest_asyncio

from fastapi_crons import CronConfig, CronJob, Crons, JobDefinitionError, ScheduleError
from fastapi_crons.api.models import JobModel
from fastapi_crons.locking import ClaimRequest, Definition, LeaseTerms
from fastapi_crons.locking.instance import Instance
from fastapi_crons.management.management import Management
from fastapi_crons.schedules import AtStart, Every
from fastapi_crons.schedules.texts import schedule_of_text
from fastapi_crons.testing import VirtualClock
from tests.support import missed_of, nothing, runs_of
from tests.virtual_time.ticks.servers import Servers

VERSION = AtStart(version="1.4.2")


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def servers(clock: VirtualClock, request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    found = Servers(clock, request.param)
    yield found
    for crons in found.started:
        await crons.stop()


async def restart(servers: Servers, schedule: AtStart) -> None:
    """Stop all, and start as many; none of them runs while another one does."""
    number = len(servers.started)
    for crons in list(servers.started):
        await servers.stop(crons)
    for _ in range(number):
        await servers.start(schedule, nothing)


async def number_of_runs(servers: Servers) -> int:
    runs = await runs_of(servers.started[0], "job")
    assert all(run.status == "completed" for run in runs)
    assert await missed_of(servers.started[0], "job") == []
    return len(runs)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("schedule", [AtStart(), VERSION])
async def test_it_runs_once_however_many_start(servers: Servers, number: int, schedule: AtStart) -> None:
    for _ in range(number):
        await servers.start(schedule, nothing)
    await servers.advance(seconds=1)
    assert await number_of_runs(servers) == 1
    await servers.start(schedule, nothing)
    await servers.advance(minutes=3)
    assert await number_of_runs(servers) == 1
    assert servers.started[-1].health().status == "ok"


@pytest.mark.parametrize(("schedule", "after"), [(AtStart(), [1, 2, 3]), (VERSION, [1, 1, 1])])
async def test_a_fleet_that_starts_again_is_a_start_and_no_deploy(
    servers: Servers, schedule: AtStart, after: list[int]
) -> None:
    runs = []
    await servers.start(schedule, nothing)
    await servers.start(schedule, nothing)
    for _ in range(3):
        await servers.advance(seconds=1)
        runs.append(await number_of_runs(servers))
        await restart(servers, schedule)
    assert runs == after


@pytest.mark.parametrize(
    ("before", "later", "runs"),
    [
        (AtStart(), AtStart(), 1),
        (VERSION, VERSION, 1),
        (VERSION, AtStart(version="1.5"), 2),
        ("0 0 1 1 *", AtStart(), 1),
    ],
)
async def test_a_rolling_deploy_is_no_start_but_one_of_another_version(
    servers: Servers, before: object, later: object, runs: int
) -> None:
    old = [await servers.start(before, nothing), await servers.start(before, nothing)]
    await servers.advance(seconds=10)
    for crons in old:
        await servers.start(later, nothing)
        await servers.advance(seconds=10)
        await servers.stop(crons)
        await servers.advance(seconds=10)
    assert await number_of_runs(servers) == runs


async def test_a_start_that_nothing_could_run_is_made_up_for_by_the_next_one(
    servers: Servers, clock: VirtualClock
) -> None:
    first = await servers.start(AtStart(), nothing)
    await Management(first).pause("job")
    await servers.advance(minutes=5)
    await servers.stop(first)
    second = await servers.start(AtStart(), nothing)
    await servers.advance(minutes=5)
    assert await number_of_runs(servers) == 0
    await Management(second).resume("job", catch_up=True)
    await servers.advance(seconds=1)
    (run,) = await runs_of(second, "job")
    assert (run.trigger, run.tick_ts) == ("catch_up", clock.now() - 600)


async def test_the_tick_of_a_pause_that_is_not_caught_up_with_is_on_record(servers: Servers) -> None:
    crons = await servers.start(AtStart(), nothing)
    await Management(crons).pause("job")
    await servers.advance(minutes=5)
    await Management(crons).resume("job")
    await servers.advance(minutes=5)
    assert await runs_of(crons, "job") == []
    assert [(each.count, each.reason) for each in await missed_of(crons, "job")] == [(1, "paused")]


@pytest.mark.parametrize("schedule", [AtStart(), VERSION])
async def test_a_pause_from_before_the_start_is_on_record_whoever_resumes(servers: Servers, schedule: AtStart) -> None:
    operator = await servers.start(schedule, nothing, role="operator")
    management = Management(operator)
    await management.pause("job")
    started = await servers.start(schedule, nothing)
    await servers.advance(minutes=5)
    await management.resume("job")
    await servers.advance(minutes=5)
    assert await runs_of(started, "job") == []
    (missed,) = await missed_of(started, "job")
    assert (missed.count, missed.reason) == (1, "paused")
    why = await management.explain_tick("job", missed.first)
    assert (why.fate, "was paused" in why.text) == ("paused", True)
    after = await management.explain_tick("job", missed.first + timedelta(seconds=5))
    follows = "at the first start of another version" if schedule.version else "at the next start"
    assert after.text.endswith(f"has no tick at that instant; it is due {follows}.")
    await restart(servers, AtStart() if schedule.version is None else AtStart(version="1.5"))
    await servers.advance(seconds=2)
    assert len(await runs_of(servers.started[0], "job")) == 1


async def test_the_start_of_a_version_that_is_replaced_in_its_pause_is_on_record(servers: Servers) -> None:
    crons = await servers.start(VERSION, nothing)
    await Management(crons).pause("job")
    await servers.advance(minutes=5)
    await servers.stop(crons)
    crons = await servers.start(AtStart(version="1.5"), nothing)
    assert [(each.count, each.reason) for each in await missed_of(crons, "job")] == [(1, "paused")]


async def test_one_that_died_elsewhere_counts_as_alive_until_its_timeout(servers: Servers, clock: VirtualClock) -> None:
    died = servers.locks()
    instance = Instance("elsewhere", "elsewhere~1", "elsewhere", "", 1, "", clock.now())
    await died.open(instance, CronConfig().namespace, LeaseTerms(60, 4), clock)
    for waits, runs in ((3, 0), (5, 1)):
        await died.beat()
        tick = (await died.register([Definition("job", "AtStart()", "UTC", "m:f", at_start="fleet")]))[0].start
        await died.register([Definition("job", "AtStart()", "UTC", "m:f", last_handled=tick, at_start="fleet")])
        await clock.advance(seconds=waits)
        crons = await servers.start(AtStart(), nothing)
        await servers.advance(seconds=2)
        assert len(await runs_of(crons, "job")) == runs
        await servers.stop(crons)
    await died.close()


@pytest.mark.parametrize("schedule", [AtStart(), VERSION])
async def test_a_run_that_was_cut_off_is_rerun_unless_the_fleet_has_started_anew(
    servers: Servers, clock: VirtualClock, schedule: AtStart
) -> None:
    died, instance = servers.locks(), Instance.of_this_process("dead")
    instance.lives_here(alive=True)
    await died.open(instance, CronConfig().namespace, LeaseTerms(60, 4), clock)
    await died.beat()
    definition = Definition("job", schedule.text, "UTC", "m:f", at_start=schedule.at_start)
    (registered,) = await died.register([definition])
    await clock.advance(seconds=2)
    (granted,) = await died.claim([ClaimRequest("job", "died", registered.start, schedule.text, "UTC", "queue")])
    assert granted.outcome == "granted"
    instance.lives_here(alive=False)
    await died.close()
    await clock.advance(seconds=5)
    crons = await servers.start(schedule, nothing)
    for _ in range(20):  # the recovery is not waited for where time is virtual
        await asyncio.sleep(0.02)
        await servers.advance(seconds=1)
    cut_off, run = sorted(await runs_of(crons, "job"), key=lambda run: run.id != "died")
    assert (cut_off.id, cut_off.status, cut_off.tick_ts) == ("died", "interrupted", registered.start)
    assert run.status == "completed"
    assert (run.attempt, run.tick_ts == cut_off.tick_ts) == ((2, True) if schedule.version else (1, False))
    assert await missed_of(crons, "job") == []


async def test_a_store_that_loses_its_records_makes_no_new_start(servers: Servers) -> None:
    if servers.kind != "memory":
        pytest.skip("taken away in memory only")
    await servers.start(AtStart(), nothing)
    await servers.advance(minutes=5)
    servers.fleet.records.clear()
    servers.fleet.living.clear()
    await servers.advance(minutes=5)
    await servers.start(AtStart(), nothing)
    await servers.advance(minutes=5)
    assert await number_of_runs(servers) == 1


async def test_a_scheduler_that_is_started_again_in_its_process_starts_its_jobs(
    make_crons: Callable[..., Crons], clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron(AtStart(), name="job")(nothing)
    for number in (1, 2, 3):
        await crons.start()
        await clock.advance(crons, seconds=2)
        assert len(await runs_of(crons, "job")) == number
        await crons.stop()


async def test_it_is_shown_and_explained(servers: Servers, clock: VirtualClock) -> None:
    crons = await servers.start(AtStart(), nothing)
    management = Management(crons)
    start = clock.now() + 1
    shown = JobModel.of(await management.job("job"), details=True)
    assert (shown.expr, shown.description) == ("AtStart()", "At the start of the fleet")
    assert shown.next_run == datetime.fromtimestamp(start, timezone.utc)
    await servers.advance(seconds=60)
    (view,) = await management.jobs()
    assert view.next_run is None
    at = datetime.fromtimestamp(start, timezone.utc)
    ran, not_due = (
        await management.explain_tick("job", at),
        await management.explain_tick("job", at + timedelta(seconds=5)),
    )
    assert (ran.fate, not_due.fate) == ("ran", "not_due")
    assert "it is due at the next start" in not_due.text


async def test_after_the_end_is_shown_and_explained(servers: Servers, clock: VirtualClock) -> None:
    async def job() -> None:
        await clock.sleep(10)

    crons = await servers.start(Every(seconds=45, after="end"), job)
    management, began = Management(crons), datetime.fromtimestamp(clock.now(), timezone.utc)

    async def next_run() -> float | None:
        (view,) = await management.jobs()
        return None if view.next_run is None else (view.next_run - began).total_seconds()

    assert await next_run() == 45
    await servers.advance(seconds=50)
    assert await next_run() is None
    running = await management.explain_tick("job", datetime.fromtimestamp(clock.now() - 1, timezone.utc))
    assert "its next tick is counted from the end of each run, and not known before" in running.text
    await servers.advance(seconds=10)
    assert await next_run() == 100
    fates = [await management.explain_tick("job", began + timedelta(seconds=each)) for each in (45, 60, 100, 200)]
    assert [fate.fate for fate in fates] == ["ran", "not_due", "not_yet", "not_due"]


def test_what_contradicts_it_is_refused_when_it_is_defined() -> None:
    with pytest.raises(JobDefinitionError, match=r"jitter of job 'job' can't be 5 with AtStart\(\)"):
        CronJob(nothing, AtStart(), "job", jitter=5)
    for version in ("", 3, "x" * 201):
        with pytest.raises(ScheduleError, match="version of AtStart can't be"):
            AtStart(version=version)  # type: ignore[arg-type]
    assert schedule_of_text(VERSION.text) == VERSION != AtStart()
    assert VERSION.text == "AtStart(version='1.4.2')"
