"""Every(…, after="end"): counted from the end of the last run wherever in the fleet that was, by the lock store's record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from fastapi_crons import CronConfig, CronJob, Crons, JobDefinitionError
from fastapi_crons.locking import ClaimRequest, LeaseTerms
from fastapi_crons.locking.instance import Instance
from fastapi_crons.management.management import Management
from fastapi_crons.schedule.base import FROM_END
from fastapi_crons.schedules import Every
from fastapi_crons.testing import VirtualClock
from tests.support import missed_of, nothing, runs_of
from tests.virtual_time.ticks.servers import Servers

PERIOD = 45
SCHEDULE = Every(seconds=PERIOD, after="end")


class Work:
    """A job that takes a while, and notes on the virtual clock when it began and ended, wherever it runs."""

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.began_at = clock.now()
        self.runs: list[tuple[float, float]] = []
        self.running = 0

    async def __call__(self) -> None:
        began = self.clock.now() - self.began_at
        self.running += 1
        assert self.running == 1, "two at once"
        try:
            await self.clock.sleep(self.seconds)
        finally:
            self.running -= 1
            self.runs.append((began, self.clock.now() - self.began_at))

    @property
    def pauses(self) -> list[float]:
        """From the end of each run to the beginning of the next one."""
        return [following[0] - run[1] for run, following in zip(self.runs, self.runs[1:], strict=False)]


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def servers(clock: VirtualClock, request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    found = Servers(clock, request.param)
    yield found
    for crons in found.started:
        await crons.stop()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("seconds", [0.25, 10, 100])
async def test_runs_of_a_fleet_never_overlap_and_keep_their_distance(
    servers: Servers, clock: VirtualClock, number: int, seconds: float
) -> None:
    work = Work(clock, seconds)
    for _ in range(number):
        await servers.start(SCHEDULE, work)
    await servers.advance(minutes=20)
    assert PERIOD <= work.runs[0][0] < PERIOD + 1
    assert len(work.runs) >= 1_200 // (PERIOD + 1 + seconds) - 1
    assert all(PERIOD <= pause < PERIOD + 1.01 for pause in work.pauses), work.pauses
    (crons, *_) = servers.started
    assert await missed_of(crons, "job") == []
    assert {run.status for run in await runs_of(crons, "job")} <= {"completed", "running"}


async def test_a_period_goes_on_over_restarts_and_rolling_deploys(servers: Servers, clock: VirtualClock) -> None:
    work = Work(clock, 5)
    first = await servers.start(SCHEDULE, work)
    for _ in range(6):
        await servers.advance(seconds=32)
        second = await servers.start(SCHEDULE, work)
        await servers.advance(seconds=3)
        await servers.stop(first)
        first = second
    assert len(work.runs) == 4
    assert all(PERIOD <= pause < PERIOD + 1.01 for pause in work.pauses), work.pauses


async def test_a_downtime_of_hours_is_one_tick_that_runs_late(servers: Servers, clock: VirtualClock) -> None:
    work = Work(clock, 5)
    await servers.stop(await servers.start(SCHEDULE, work))
    await clock.advance(hours=7)
    crons = await servers.start(SCHEDULE, work)
    await servers.advance(seconds=PERIOD + 12)
    assert [began for began, _ in work.runs] == [7 * 3_600, 7 * 3_600 + 5 + PERIOD]
    assert await missed_of(crons, "job") == []
    late, _ = await runs_of(crons, "job")
    assert (late.trigger, late.missed_ticks) == ("catch_up", 0)


async def test_past_its_grace_time_one_tick_is_missed_and_the_period_begins_anew(
    servers: Servers, clock: VirtualClock
) -> None:
    work = Work(clock, 5)
    await servers.stop(await servers.start(SCHEDULE, work))
    await clock.advance(hours=7)
    crons = await servers.start(SCHEDULE, work, misfire_grace_time=60)
    await servers.advance(seconds=PERIOD + 5)
    (missed,) = await missed_of(crons, "job")
    assert (missed.count, missed.reason) == (1, "misfire_grace_time")
    assert [began for began, _ in work.runs] == [7 * 3_600 + PERIOD]


async def test_a_run_by_hand_counts_and_the_next_one_waits_from_its_end(servers: Servers, clock: VirtualClock) -> None:
    work = Work(clock, 5)
    first, _ = await servers.start(SCHEDULE, work), await servers.start(SCHEDULE, work)
    await servers.advance(seconds=30)
    by_hand = asyncio.create_task(first.run_job("job"))
    await servers.advance(seconds=100)
    await by_hand
    assert [began for began, _ in work.runs] == [30, 35 + PERIOD]


@pytest.mark.parametrize("catch_up", [False, True])
async def test_while_it_is_paused_it_does_not_run_and_afterwards_once(
    servers: Servers, clock: VirtualClock, catch_up: bool
) -> None:
    work = Work(clock, 5)
    first, second = await servers.start(SCHEDULE, work), await servers.start(SCHEDULE, work)
    await servers.advance(seconds=20)
    await Management(first).pause("job")
    await servers.advance(minutes=10)
    assert work.runs == []
    await Management(second).resume("job", catch_up=catch_up)
    await servers.advance(seconds=80)
    resumed = 20 + 600
    assert [began for began, _ in work.runs] == ([resumed, resumed + 50] if catch_up else [resumed + PERIOD])
    missed = await missed_of(first, "job")
    assert [(each.count, each.reason) for each in missed] == ([] if catch_up else [(1, "paused")])


@pytest.mark.parametrize("edited", [Every(seconds=60, after="end"), "0 0 1 1 *", None])
async def test_an_edit_while_it_runs_misses_nothing_since_nothing_was_due(
    servers: Servers, clock: VirtualClock, edited: Every | str | None
) -> None:
    work = Work(clock, 100)
    first = await servers.start(SCHEDULE, work)
    await servers.advance(seconds=PERIOD + 80)
    assert work.running == 1
    await servers.start(edited or SCHEDULE, work, enabled=edited is not None)
    await servers.advance(seconds=70)
    assert await missed_of(first, "job") == []
    await servers.advance(seconds=30)
    assert len(work.runs) + work.running == (2 if isinstance(edited, Every) else 1)
    assert [round(pause) for pause in work.pauses] == []


@pytest.mark.parametrize("by", [0, 1])  # one of them runs it
@pytest.mark.parametrize("catch_up", [False, True])
async def test_a_pause_that_ends_while_it_runs_misses_nothing(
    servers: Servers, clock: VirtualClock, catch_up: bool, by: int
) -> None:
    work = Work(clock, 100)
    crons = (await servers.start(SCHEDULE, work), await servers.start(SCHEDULE, work))[by]
    await servers.advance(seconds=PERIOD + 10)
    await Management(crons).pause("job")
    await servers.advance(seconds=60)
    await Management(crons).resume("job", catch_up=catch_up)
    await servers.advance(seconds=10)
    assert work.running == 1
    assert await missed_of(crons, "job") == []
    await servers.advance(seconds=200)
    assert [PERIOD <= pause < PERIOD + 1.01 for pause in work.pauses] == [True]


async def test_the_ticks_of_a_new_schedule_that_wait_for_the_last_run_of_the_old_one_are_run(
    servers: Servers, clock: VirtualClock
) -> None:
    work = Work(clock, 100)
    first = await servers.start(SCHEDULE, work)
    await servers.advance(seconds=PERIOD + 5)
    await servers.start("* * * * *", nothing, overlap="queue", coalesce=False)
    await servers.advance(seconds=PERIOD + 100)
    runs = [run for run in await runs_of(first, "job") if run.tick_ts is not None and run.tick_ts % 60 == 0]
    ticks = sorted(run.tick_ts for run in runs if run.tick_ts is not None)
    assert ticks == list(range(ticks[0], int(clock.now()) + 1, 60))
    assert len(ticks) >= 3


@pytest.mark.parametrize("rerun", [True, False])
async def test_the_run_of_a_machine_that_died_is_rerun_and_the_period_begins_after_that(
    servers: Servers, clock: VirtualClock, rerun: bool
) -> None:
    work = Work(clock, 5)
    dead, instance = servers.locks(), Instance.of_this_process("dead")
    instance.lives_here(alive=True)
    await dead.open(instance, CronConfig().namespace, LeaseTerms(60, 4), clock)
    await dead.beat()
    servers.rerun_interrupted = rerun
    crons = await servers.start(SCHEDULE, work)
    (known,) = await dead.known(["job"])
    await servers.advance(seconds=PERIOD - 0.5)
    request = ClaimRequest(
        "job", "died", known.last_handled + PERIOD, SCHEDULE.text, "UTC", "queue", after=known.last_handled
    )
    (granted,) = await dead.claim([request])
    assert granted.outcome == "granted"
    await servers.advance(seconds=0.4)
    instance.lives_here(alive=False)
    await dead.close()
    for _ in range(20):  # the recovery is not waited for where time is virtual
        await asyncio.sleep(0.02)
        await servers.advance(seconds=1)
    run, *again = sorted(await runs_of(crons, "job"), key=lambda run: run.attempt)
    assert (run.id, run.status) == ("died", "interrupted")
    assert len(again) == len(work.runs) == rerun
    assert run.ended_ts is not None
    ended = work.runs[0][1] if rerun else run.ended_ts - work.began_at
    await servers.advance(seconds=PERIOD + 6)
    assert PERIOD <= work.runs[-1][0] - ended < PERIOD + 3
    assert len(work.runs) == 1 + rerun


async def test_a_clock_that_is_set_back_or_on_costs_no_run_and_makes_none_too_early(
    make_crons: Callable[..., Crons], clock: VirtualClock
) -> None:
    crons, work = make_crons(), Work(clock, 5)
    crons.jobs.append(CronJob(work, SCHEDULE, "job"))
    await crons.start()
    await clock.advance(crons, seconds=60)
    clock.step(-30)
    await clock.advance(crons, seconds=100)
    assert [end - begin for begin, end in work.runs] == [5, 5]
    clock.step(3_000)
    await clock.advance(crons, seconds=120)
    assert len(work.runs) == 5


async def test_a_store_that_loses_its_records_gets_them_back(servers: Servers, clock: VirtualClock) -> None:
    if servers.kind != "memory":
        pytest.skip("taken away in memory only")
    work = Work(clock, 5)
    first, second = await servers.start(SCHEDULE, work), await servers.start(SCHEDULE, work)
    await servers.advance(seconds=70)
    servers.fleet.records.clear()
    servers.fleet.living.clear()
    await servers.advance(minutes=5)
    assert first.health().status == second.health().status == "ok"
    assert len(work.runs) >= 6
    assert all(PERIOD <= pause < PERIOD + 4 for pause in work.pauses), work.pauses


def test_what_contradicts_it_is_refused_when_the_job_is_defined() -> None:
    crons = Crons()
    with pytest.raises(JobDefinitionError, match=r"overlap of job 'job' can't be 'allow' with Every.*never due while"):
        crons.cron(SCHEDULE, name="job", overlap="allow")(nothing)
    with pytest.raises(JobDefinitionError, match="jitter of job 'job' can't be 5"):
        crons.cron(SCHEDULE, name="job", jitter=5)(nothing)
    assert len(crons.jobs) == 0
    crons.cron(SCHEDULE, name="job")(nothing)
    assert crons.jobs.named("job").overlap == "queue"


@pytest.mark.parametrize(
    "schedule", [SCHEDULE, Every(hours=2, after="end"), Every(days=1, after="end", timezone="Asia/Tokyo")]
)
def test_the_text_of_such_a_schedule_tells_what_its_period_is_counted_from(schedule: Every) -> None:
    assert schedule.text.endswith(FROM_END)
    assert not Every(minutes=5, anchor="2026-01-01T00:00").text.endswith(FROM_END)
