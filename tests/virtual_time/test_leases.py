"""Leases over time: renewed when they are due, doubted when the store is silent, and never at the cost of a run that ended."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

import pytest

from fastapi_crons import CronConfig, Crons
from fastapi_crons.engine.runs.context import JobContext
from fastapi_crons.locking import DistributedLockManager, LeaseRef
from fastapi_crons.run import Run
from fastapi_crons.state import MemoryStateBackend, Record
from fastapi_crons.testing import VirtualClock
from tests.fleet_lock import Fleet, FleetLock
from tests.support import runs_of


class SuspendedClock(VirtualClock):
    """A clock of a process that can be suspended: time passes, and no timer fires before it goes on."""

    def suspend(self, seconds: float) -> None:
        self._elapsed += seconds


class State(MemoryStateBackend):
    """A history that can be taken away."""

    down = False

    async def write(self, records: list[Record]) -> None:  # type: ignore[override]
        if self.down:
            raise ConnectionError("READONLY You can't write against a read only replica.")
        await super().write(records)


MakeInstance = Callable[..., Crons]


def instance(fleet: Fleet, clock: VirtualClock, state: State | None = None, **options: float) -> Crons:
    config = CronConfig(**{"lock_timeout": 60, "heartbeat_interval": 1, "instance_timeout": 4, **options})
    locks = DistributedLockManager(FleetLock(fleet), config)
    return Crons(state_backend=state or State(), lock_manager=locks, config=config, clock=clock)


def told(runs: list[Run]) -> list[tuple[int, str]]:
    return [(run.attempt, run.status) for run in runs]


@pytest.mark.parametrize("away", [0.5, 1, 2, 3, 3.5, 4, 4.5, 5, 8, 12, 40])
@pytest.mark.parametrize("what", ["both", "state", "lock"])
async def test_a_run_that_ended_while_its_stores_were_away_counts_and_is_not_run_again(what: str, away: float) -> None:
    clock, fleet, state = VirtualClock(), Fleet(), State()
    crons = instance(fleet, clock, state)
    other = instance(fleet, clock, state)
    calls = 0

    async def job() -> str:
        nonlocal calls
        calls += 1
        await clock.sleep(0.9)
        return "done"

    for each in (crons, other):
        each.cron("0 0 * * *", name="job")(job)
        await each.start()
    running = asyncio.create_task(crons.run_job("job"))
    await clock.advance(crons, other, seconds=0.5, finish_runs=False)
    fleet.down = "READONLY" if what != "state" else None
    state.down = what != "lock"
    await clock.advance(crons, other, seconds=away, finish_runs=False)
    # Whoever leaves makes the others look for records that nobody will finish.
    fleet.down, state.down = None, False
    await other.stop()
    await clock.advance(crons, seconds=30)
    assert (await running).status == "completed"
    assert (calls, told(await runs_of(crons, "job"))) == (1, [(1, "completed")])
    assert not fleet.records["job"].leases
    await crons.stop()


@pytest.mark.parametrize("away", [1, 2, 3, 4, 5, 8, 12])
async def test_a_tick_whose_run_ended_while_writes_were_refused_is_not_run_again(
    away: float, caplog: pytest.LogCaptureFixture
) -> None:
    clock, fleet, state = VirtualClock("2026-03-01T00:00:00Z"), Fleet(), State()
    crons = instance(fleet, clock, state, heartbeat_interval=0.2)
    ran: list[tuple[int, int]] = []

    @crons.cron("*/5 * * * *", name="job")
    async def job(context: object) -> None:
        ran.append((context.tick.minute, context.attempt))  # type: ignore[attr-defined]
        await clock.sleep(2)

    @crons.cron("* * * * * *", name="another")
    async def another() -> None: ...

    await crons.start()
    await clock.advance(crons, minutes=5, seconds=1.9, finish_runs=False)
    fleet.down, state.down = "READONLY", True
    await clock.advance(crons, seconds=away, finish_runs=False)
    fleet.down = None
    await clock.advance(crons, seconds=8, finish_runs=False)
    state.down = False
    await clock.advance(crons, minutes=6)
    assert ran == [(5, 1), (10, 1)]
    assert told(await runs_of(crons, "job")) == [(1, "completed"), (1, "completed")]
    assert "its process is gone" not in caplog.text
    await crons.stop()


async def test_a_process_that_was_suspended_goes_on_with_what_nobody_has_taken_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, fleet = SuspendedClock(), Fleet()
    crons = instance(fleet, clock)

    @crons.cron("0 0 * * *", name="job")
    async def job() -> str:
        await clock.sleep(3)
        await clock.sleep(3)
        return "done"

    await crons.start()
    running = asyncio.create_task(crons.run_job("job"))
    await clock.advance(crons, seconds=1, finish_runs=False)
    clock.suspend(60)
    await clock.advance(crons, seconds=10)
    assert (await running).status == "completed"
    assert "lease" not in caplog.text
    await crons.stop()


async def test_a_process_that_was_suspended_gives_up_what_another_host_has_taken_over() -> None:
    fleet, state = Fleet(), State()
    clock, elsewhere = SuspendedClock(), VirtualClock()
    crons, other = instance(fleet, clock, state), instance(fleet, elsewhere, state)
    ended: list[str] = []

    def add(crons: Crons, clock: VirtualClock, name: str) -> None:
        @crons.cron("*/5 * * * *", name="job")
        async def job() -> None:
            await clock.sleep(8)
            ended.append(name)

    add(crons, clock, "first")
    add(other, elsewhere, "other")
    await crons.start()
    await clock.advance(crons, minutes=5, seconds=1, finish_runs=False)
    elsewhere.step(clock.now() - elsewhere.now())
    await other.start()
    clock.suspend(20)
    await elsewhere.advance(other, seconds=20)
    assert ended == ["other"]
    await clock.advance(crons, seconds=10)
    assert ended == ["other"]
    assert told(await runs_of(other, "job")) == [(1, "interrupted"), (2, "completed")]
    for each in (crons, other):
        await each.stop()


async def test_what_a_thread_came_to_counts_though_the_store_was_away_for_longer_than_it_may(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, fleet, state = VirtualClock("2026-03-01T00:00:00Z"), Fleet(), State()
    crons = instance(fleet, clock, state)
    begun, free, calls = threading.Event(), threading.Event(), []

    @crons.cron("*/5 * * * *", name="job")
    def job() -> str:
        calls.append(1)
        begun.set()
        free.wait(20)
        return "done"

    @crons.cron("*/5 * * * *", name="on the loop")
    async def on_the_loop() -> None:
        await clock.sleep(7)

    await crons.start()
    await clock.advance(crons, minutes=5, seconds=1, finish_runs=False)
    assert await asyncio.to_thread(begun.wait, 20)
    fleet.down = "gone"
    await clock.advance(crons, seconds=10, finish_runs=False)
    free.set()
    await asyncio.sleep(0.05)  # the thread ends
    await clock.advance(crons, seconds=10, finish_runs=False)
    fleet.down = None
    await clock.advance(crons, seconds=60)
    assert (calls, told(await runs_of(crons, "job"))) == ([1], [(1, "completed")])
    # What can be ended is, since another host may have taken it over; nobody has, so it runs again here.
    assert told(await runs_of(crons, "on the loop")) == [(1, "interrupted"), (2, "completed")]
    assert "its outcome counts unless another instance has the lease by then" in caplog.text
    await crons.stop()


@pytest.mark.parametrize("away", [4, 25, 100])
@pytest.mark.parametrize("name", ["a", "b", "c", "d", "e"])  # whose turn a tick is follows from the name
async def test_a_tick_of_an_outage_is_not_skipped_for_a_run_that_had_ended_by_then(name: str, away: int) -> None:
    fleet, state = Fleet(), State()
    clock, elsewhere = VirtualClock("2026-03-01T00:00:30Z"), VirtualClock("2026-03-01T00:00:30Z")
    far: dict[str, float] = {"lock_timeout": 3600, "instance_timeout": 3600}
    crons, other = instance(fleet, clock, state, **far), instance(fleet, elsewhere, state, **far)
    ended: list[str] = []

    def add(crons: Crons, clock: VirtualClock) -> None:
        @crons.cron("* * * * *", name=name)
        async def job(context: JobContext) -> None:
            await clock.sleep(2)
            ended.append(context["scheduled_time"][14:16])

    add(crons, clock)
    await crons.start()
    await clock.advance(crons, seconds=31, finish_runs=False)
    add(other, elsewhere)
    elsewhere.step(31)
    await other.start()
    fleet.down = "gone"
    await clock.advance(crons, seconds=20)  # it ends, and can't say so
    assert ended == ["01"]
    await elsewhere.advance(other, seconds=59 + away)
    fleet.down = None
    await elsewhere.advance(other, seconds=6, finish_runs=False)
    clock.step(elsewhere.now() - clock.now())
    await clock.advance(crons, seconds=6)
    await elsewhere.advance(other, seconds=30)
    assert "overlap" not in [each.reason for each in await state.missed(name)]
    assert len(ended) >= 2
    for each in (crons, other):
        await each.stop()


@pytest.mark.parametrize("attempt", range(5))
async def test_after_an_outage_nobody_takes_over_from_instances_that_have_yet_to_reach_the_store(
    attempt: int, caplog: pytest.LogCaptureFixture
) -> None:
    clock, fleet, state = VirtualClock("2026-03-01T00:00:00Z"), Fleet(), State()
    crons, other = instance(fleet, clock, state), instance(fleet, clock, state)
    begun, free, calls = threading.Event(), threading.Event(), []

    def job() -> None:
        calls.append(1)
        begun.set()
        free.wait(20)

    for each in (crons, other):
        each.cron("0 0 * * *", name="job")(job)
        await each.start()
    running = asyncio.create_task(crons.run_job("job"))
    await clock.advance(crons, other, seconds=1, finish_runs=False)
    assert await asyncio.to_thread(begun.wait, 20)
    fleet.down = "gone"
    await clock.advance(crons, other, seconds=10, finish_runs=False)
    fleet.down = None
    await clock.advance(crons, other, seconds=10, finish_runs=False)
    free.set()
    await clock.advance(crons, other, seconds=10)
    assert (await running).status == "completed"
    assert (calls, told(await runs_of(crons, "job"))) == ([1], [(1, "completed")])
    assert "was cut off" not in caplog.text
    for each in (crons, other):
        await each.stop()


async def test_a_stop_takes_an_outcome_as_it_is_while_the_store_can_not_say_whose_the_lease_is() -> None:
    clock, fleet, state = VirtualClock(), Fleet(), State()
    crons = instance(fleet, clock, state, shutdown_timeout=30)
    begun, free = threading.Event(), threading.Event()

    @crons.cron("0 0 * * *", name="job")
    def job() -> str:
        begun.set()
        free.wait(20)
        return "done"

    await crons.start()
    running = asyncio.create_task(crons.run_job("job"))
    await clock.advance(crons, seconds=1, finish_runs=False)
    assert await asyncio.to_thread(begun.wait, 20)
    fleet.down = "gone"
    await clock.advance(crons, seconds=10, finish_runs=False)
    free.set()
    await asyncio.sleep(0.05)
    await crons.stop()
    assert (await running).status == "completed"
    assert told((await state.runs("job", limit=10))[::-1]) == [(1, "completed")]


class GoneAfterRefusal(FleetLock):
    """A store that is gone when it has refused a lease for the first time."""

    has_refused = False

    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        answers = await super().renew(leases)
        if not all(answers) and not self.has_refused:
            self.has_refused, self._fleet.down = True, "gone"
        return answers


@pytest.mark.parametrize("taken", [False, True])
async def test_the_outcome_of_a_run_whose_lease_was_refused_waits_until_it_is_had_back_or_lost(taken: bool) -> None:
    clock, fleet = VirtualClock(), Fleet()
    config = CronConfig(lock_timeout=20, lock_renewal_interval=1, heartbeat_interval=1, instance_timeout=60)
    locks = DistributedLockManager(GoneAfterRefusal(fleet), config)
    crons = Crons(state_backend=State(), lock_manager=locks, config=config, clock=clock)

    @crons.cron("0 0 * * *", name="job")
    async def job() -> None:
        await clock.sleep(3.5)

    await crons.start()
    running = asyncio.create_task(crons.run_job("job"))
    await clock.advance(crons, seconds=1.5, finish_runs=False)
    if taken:
        record = fleet.records["job"]
        record.leases, record.token = None, record.token + 1  # another instance has had a lease meanwhile
    else:
        fleet.records.clear()
    await clock.advance(crons, seconds=1, finish_runs=False)
    assert fleet.down == "gone"
    await clock.advance(crons, seconds=4, finish_runs=False)
    assert not running.done()
    fleet.down = None
    await clock.advance(crons, seconds=5)
    assert (await running).status == ("interrupted" if taken else "completed")
    await crons.stop()


async def test_a_retry_waits_until_the_lease_is_known_to_be_ours() -> None:
    clock, fleet, state = SuspendedClock(), Fleet(), State()
    crons = instance(fleet, clock, state)
    started: list[str | None] = []
    failed = threading.Event()

    @crons.cron("0 0 * * *", name="job", max_retries=1, retry_delay=0.1)
    def job() -> str:
        started.append(fleet.down)
        if len(started) == 1:
            fleet.down = "gone"
            clock.suspend(20)
            failed.set()
            raise ValueError("the first attempt")
        return "done"

    await crons.start()
    running = asyncio.create_task(crons.run_job("job"))
    await clock.settle(crons, finish_runs=False)
    assert await asyncio.to_thread(failed.wait, 20)
    await clock.advance(crons, seconds=0.3, finish_runs=False)
    assert started == [None]
    fleet.down = None
    await clock.advance(crons, seconds=30)
    assert started == [None, None]
    assert (await running).status == "completed"
    await crons.stop()


async def test_leases_are_renewed_when_they_are_due_and_not_when_a_heartbeat_comes_by(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    clock, fleet = VirtualClock(), Fleet()
    crons = instance(fleet, clock, lock_timeout=3, lock_renewal_interval=1, heartbeat_interval=5, instance_timeout=30)

    @crons.cron("0 0 * * *", name="job")
    async def job() -> None:
        await clock.sleep(20)

    await crons.start()
    running = asyncio.create_task(crons.run_job("job"))
    for _ in range(19):
        await clock.advance(crons, seconds=1, finish_runs=False)
        (lease,) = (fleet.records["job"].leases or {}).values()
        assert lease.expires - clock.now() > 1.5
    await clock.advance(crons, seconds=2)
    assert (await running).status == "completed"
    assert not caplog.records
    await crons.stop()
