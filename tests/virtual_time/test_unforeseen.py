"""What nobody counts on costs nothing: errors of a kind that no store should raise, cancellations at a bad moment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

import pytest

from fastapi_crons import CronConfig, CronJob, Crons
from fastapi_crons.locking import DistributedLockManager
from fastapi_crons.state import MemoryStateBackend, Record
from fastapi_crons.state.base import Event, Signal
from fastapi_crons.testing import VirtualClock
from fastapi_crons.testing.clock import VirtualTimer
from tests.conftest import MakeCrons
from tests.fleet_lock import Fleet, FleetLock
from tests.seam import Unheard
from tests.support import nothing, runs_of


class State(MemoryStateBackend):
    """A history that raises what it is told to when it is written or asked; counts how often it was closed."""

    write_error: BaseException | None = None
    read_error: BaseException | None = None
    closed = 0

    async def write(self, records: Sequence[Record]) -> None:
        if self.write_error is not None:
            raise self.write_error
        await super().write(records)

    async def unfinished(self) -> list[object]:  # type: ignore[override]
        if self.read_error is not None:
            raise self.read_error
        return list(await super().unfinished())

    async def close(self) -> None:
        self.closed += 1
        await super().close()


def instance(fleet: Fleet, clock: VirtualClock, state: State) -> Crons:
    config = CronConfig(lock_timeout=60, heartbeat_interval=1, instance_timeout=4)
    locks = DistributedLockManager(FleetLock(fleet), config)
    return Crons(state_backend=state, lock_manager=locks, config=config, clock=clock)


async def test_a_record_that_an_instance_left_open_is_closed_once_the_history_can_be_read() -> None:
    clock, fleet, state = VirtualClock(), Fleet(), State()
    crons, other = instance(fleet, clock, state), instance(fleet, clock, state)
    for each in (crons, other):
        each.cron("0 0 1 1 *", name="job")(nothing)
        await each.start()
    run = await other.run_job("job")
    await clock.advance(crons, other, seconds=5)
    # The outcome of this one never arrived: the state store was down until its instance had stopped.
    await state.write([replace(run, id=f"{run.id}-open", status="running", ended_ts=None)])
    await other.stop()
    state.read_error = ConnectionError("no route")
    await clock.advance(crons, seconds=10)
    state.read_error = None
    await clock.advance(crons, seconds=10)
    assert [run.status for run in await runs_of(crons, "job")] == ["completed", "interrupted"]
    await crons.stop()


async def test_a_registration_that_is_cancelled_leaves_the_rest_to_the_next_one(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    await crons.start("operator")  # its dispatcher registers nothing by itself
    await clock.settle(crons)
    engine = crons.engine
    assert engine is not None
    registered = engine.dispatcher.jobs
    crons.jobs.extend(
        CronJob(nothing, f"{number % 60} {number // 60} * * *", name=f"job {number}") for number in range(1000)
    )
    registering = asyncio.ensure_future(registered.register_new())
    for _ in range(1000):
        await asyncio.sleep(0)
        if len(registered):
            break
    assert len(registered) < 1000, "all were placed in one go"
    registering.cancel()
    await asyncio.wait({registering})
    await registered.register_new()
    assert len(registered) == 1000


class FailingClock(VirtualClock):
    """Fails once in a task of this name."""

    task = ""

    def call_later(self, delay: float, callback: Callable[[], object]) -> VirtualTimer:
        task = asyncio.current_task()
        if self.task and task is not None and task.get_name() == f"fastapi-crons {self.task}":
            self.task = ""
            raise Unheard("a clock of the app's own")
        return super().call_later(delay, callback)


@pytest.mark.parametrize("task", ["dispatch", "heartbeat", "watch", "prune"])
async def test_a_task_of_the_scheduler_that_fails_is_started_again_and_health_says_so(task: str) -> None:
    clock, fleet, state = FailingClock(), Fleet(), State()
    crons = instance(fleet, clock, state)
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    clock.task = task
    await clock.advance(crons, minutes=1)
    assert not clock.task, "there is no such task"
    assert crons.health().summaries == (f"the {task} task failed and was started again",)
    await asyncio.sleep(0.2)  # the supervisor waits a moment
    await clock.advance(crons, minutes=3)
    assert [run.status for run in await runs_of(crons, "job")] == ["completed"] * 4
    (living,) = fleet.living.values()
    assert clock.now() - living.heartbeat_ts <= 1
    await crons.stop()


@pytest.mark.parametrize(
    "error",
    [
        Unheard("a driver's own"),
        pytest.param(
            asyncio.CancelledError(),
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="can't be told from a cancellation"),
        ),
    ],
    ids=repr,
)
async def test_a_stop_goes_to_its_end_whatever_a_store_raises(error: BaseException) -> None:
    clock, fleet, state = VirtualClock(), Fleet(), State()
    crons = instance(fleet, clock, state)
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    state.write_error = error
    running = asyncio.ensure_future(crons.run_job("job"))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(crons.stop(), 20)
    await asyncio.wait({running}, timeout=1)
    assert not fleet.records["job"].leases
    assert not fleet.living
    assert state.closed == 1
    assert not crons.running


class Ends(MemoryStateBackend):
    """A history whose streams of events end or fail at once, the first fifty times."""

    reach = "host"

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.asked, self._error = 0, error

    def events(self, *, records: bool = True) -> AsyncGenerator[Event, None] | None:
        self.asked += 1
        return self._first() if self.asked <= 50 else super().events(records=records)

    async def _first(self) -> AsyncGenerator[Event, None]:
        if self._error is not None:
            raise self._error
        for _ in ():
            yield Signal("join")


@pytest.mark.parametrize("error", [None, OSError("no route"), Unheard("a driver's own")], ids=repr)
async def test_a_stream_of_signals_that_ends_is_asked_for_again_after_a_while(error: BaseException | None) -> None:
    clock, state = VirtualClock(), Ends(error)
    crons = Crons(state_backend=state, clock=clock, config=CronConfig(), lock_manager=None)
    crons.cron("* * * * *", name="job")(nothing)
    await crons.start()
    for _ in range(20):
        await asyncio.sleep(0)
    assert state.asked <= 3
    await crons.stop()
