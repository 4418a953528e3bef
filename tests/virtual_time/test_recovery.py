"""Recovery: what a machine that died leaves behind costs a few calls, and each tick gets the fate that it had before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import pytest

from fastapi_crons import CronConfig, Crons, MissedTicks, Run
from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.locking import ClaimRequest, Definition, DistributedLockManager, LeaseTerms, LockBackend
from fastapi_crons.locking.instance import Instance
from fastapi_crons.management.management import Management
from fastapi_crons.run import FAILED, LogLine, RunError, RunIds, RunStatus
from fastapi_crons.state import HistoryLimits, MemoryStateBackend, RunQuery, StateBackend
from fastapi_crons.testing import VirtualClock
from fastapi_crons_sqlite.lock import SQLiteLockBackend
from fastapi_crons_sqlite.state import SQLiteStateBackend
from tests.fleet_lock import Fleet, FleetLock
from tests.support import kept_of, missed_of, nothing, runs_of

JOBS = 500
TERMS = LeaseTerms(60, 10)
LIMITS = HistoryLimits(100, 30)
SCHEDULE = "* * * * *"


class Calls:
    """Counts the calls that are made to stores from now on; not those that a store makes to itself."""

    def __init__(self, *stores: object) -> None:
        self.made: Counter[str] = Counter()
        self._inside: ContextVar[bool] = ContextVar("inside", default=False)
        for store in stores:
            for name in dir(store):
                if not name.startswith("_") and iscoroutinefunction(getattr(store, name)):
                    setattr(store, name, self._counted(name, getattr(store, name)))

    def _counted(self, name: str, call: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def counted(*args: object, **named: object) -> object:
            self.made[name] += not self._inside.get()
            token = self._inside.set(True)
            try:
                return await call(*args, **named)
            finally:
                self._inside.reset(token)

        return counted


class Dead:
    """An instance that claimed a tick of each job, and died in the midst of its work."""

    def __init__(self, locks: LockBackend, state: StateBackend, clock: VirtualClock) -> None:
        self._locks, self._state, self._clock = locks, state, clock
        self._ids = RunIds(clock.now)
        self._instance = Instance.of_this_process("dead")

    async def work(self, *, running: Sequence[str] = (), ended: Sequence[str] = (), missed: Sequence[str] = ()) -> None:
        """Leave runs without an outcome (of every other one not even the start is on record), runs whose leases are not
        released, and missed ticks that are not recorded."""
        self._instance.lives_here(alive=True)
        await self._locks.open(self._instance, CronConfig().namespace, TERMS, self._clock)
        await self._state.open(CronConfig().namespace, LIMITS)
        jobs = [*running, *ended, *missed]
        await self._locks.beat()
        await self._locks.register([Definition(job, SCHEDULE, "UTC", "module:function") for job in jobs])
        tick = int(self._clock.now()) + 60
        await self._clock.advance(seconds=60)
        requests = [
            ClaimRequest(job, self._ids(), tick, SCHEDULE, "UTC", missed="max_catch_up" if job in missed else None)
            for job in jobs
        ]
        results = await self._locks.claim(requests)
        assert {result.outcome for result in results} == {"granted"}
        runs = [
            Run(request.run_id, request.job, tick, "schedule", 1, "dead", result.token, "running", self._clock.now())
            for request, result in zip(requests, results, strict=True)
            if request.missed is None
        ]
        ends = [replace(run, status="completed", ended_ts=self._clock.now()) for run in runs if run.job in ended]
        await self._state.write([run for run in runs if run.job in running][::2] + ends)

    async def die(self) -> None:
        self._instance.lives_here(alive=False)
        await self._locks.close()
        await self._state.close()


def stores(kind: str, fleet: Fleet, state: MemoryStateBackend) -> tuple[LockBackend, StateBackend]:
    if kind == "memory":
        return FleetLock(fleet), state
    return SQLiteLockBackend(Path("jobs.db")), SQLiteStateBackend(Path("jobs.db"))


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("rerun", [True, False])
async def test_a_machine_that_died_with_hundreds_of_runs_costs_a_few_calls(
    clock: VirtualClock, kind: str, rerun: bool
) -> None:
    names = [f"job {number}" for number in range(JOBS)]
    running, ended, missed = names[:400], names[400:450], names[450:]
    fleet, memory = Fleet(), MemoryStateBackend()
    dead = Dead(*stores(kind, fleet, memory), clock)
    await dead.work(running=running, ended=ended, missed=missed)
    await dead.die()
    await clock.advance(seconds=20)

    locks, state = stores(kind, fleet, memory)
    config = CronConfig(
        rerun_interrupted=rerun,
        max_concurrent_runs=JOBS,
        catch_up_concurrency=JOBS,
        heartbeat_interval=2,
        instance_timeout=10,
        lock_timeout=60,
    )
    crons = Crons(state_backend=state, lock_manager=DistributedLockManager(locks, config), config=config, clock=clock)
    for name in names:
        crons.cron(SCHEDULE, name=name)(nothing)
    calls = Calls(locks, state)
    await crons.start()
    await clock.settle(crons)
    for usual in ("open", "register", "beat", "instances", "publish", "prune", "forget"):
        del calls.made[usual]
    assert calls.made["runs_by_id"] == calls.made["missed_by_job"] == 1
    assert sum(calls.made.values()) <= 30, calls.made
    for name in running:
        outcomes = [(run.attempt, run.status) for run in await runs_of(crons, name)]
        assert outcomes == ([(1, "interrupted"), (2, "completed")] if rerun else [(1, "interrupted")])
    for name in ended:
        assert [(run.attempt, run.status) for run in await runs_of(crons, name)] == [(1, "completed")]
    for name in missed:
        assert await runs_of(crons, name) == []
        assert [(ticks.reason, ticks.count) for ticks in await missed_of(crons, name)] == [("max_catch_up", 1)]
    assert not any(known.leases for known in await locks.known())
    await crons.stop()


async def test_missed_ticks_that_are_on_record_already_are_not_recorded_again(clock: VirtualClock) -> None:
    fleet, state = Fleet(), MemoryStateBackend()
    dead = Dead(FleetLock(fleet), state, clock)
    await dead.work(missed=["job"])
    tick = int(clock.now())
    recorded = MissedTicks("merged", "job", tick - 120, tick, 3, "max_catch_up", clock.now(), "dead")
    await state.write([recorded])
    await dead.die()
    await clock.advance(seconds=20)
    config = CronConfig(heartbeat_interval=2, instance_timeout=10, lock_timeout=60)
    locks = DistributedLockManager(FleetLock(fleet), config)
    crons = Crons(state_backend=state, lock_manager=locks, config=config, clock=clock)
    crons.cron(SCHEDULE, name="job")(nothing)
    await crons.start()
    await clock.settle(crons)
    assert await missed_of(crons, "job") == [recorded]
    assert not fleet.records["job"].leases
    await crons.stop()


async def test_leases_of_jobs_that_are_unknown_here_are_released_once_they_have_expired(clock: VirtualClock) -> None:
    fleet, state = Fleet(), MemoryStateBackend()
    dead = Dead(FleetLock(fleet), state, clock)
    await dead.work(running=["gone 1", "gone 2"], ended=["gone 3"], missed=["gone 4"])
    await dead.die()
    config = CronConfig(heartbeat_interval=2, instance_timeout=10, lock_timeout=60)
    locks = DistributedLockManager(FleetLock(fleet), config)
    crons = Crons(state_backend=state, lock_manager=locks, config=config, clock=clock)
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    await clock.advance(crons, seconds=50)
    assert {name for name, record in fleet.records.items() if record.leases} == {
        f"gone {number}" for number in (1, 2, 3, 4)
    }
    await clock.advance(crons, seconds=20)
    assert not any(record.leases for record in fleet.records.values())
    statuses = {name: [run.status for run in await state.runs(name)] for name in ("gone 1", "gone 2", "gone 3")}
    assert statuses == {"gone 1": ["interrupted"], "gone 2": ["interrupted"], "gone 3": ["completed"]}
    await crons.stop()


async def test_a_store_that_is_too_slow_for_many_runs_at_once_is_asked_for_fewer(clock: VirtualClock) -> None:
    class Slow(MemoryStateBackend):
        asked: list[int]

        async def runs_by_id(self, run_ids: Any) -> dict[str, Run]:
            self.asked.append(len(run_ids))
            if len(run_ids) > 8:
                raise StoreUnavailableError("no answer within 5 s")
            return await super().runs_by_id(run_ids)

    fleet, state = Fleet(), Slow()
    state.asked = []
    names = [f"job {number}" for number in range(30)]
    dead = Dead(FleetLock(fleet), state, clock)
    await dead.work(running=names)
    await dead.die()
    config = CronConfig(heartbeat_interval=2, instance_timeout=10, lock_timeout=60, rerun_interrupted=False)
    locks = DistributedLockManager(FleetLock(fleet), config)
    crons = Crons(state_backend=state, lock_manager=locks, config=config, clock=clock)
    for name in names:
        crons.cron("0 0 1 1 *", name=name)(nothing)
    await crons.start()
    await clock.advance(crons, minutes=1)
    assert state.asked[:3] == [30, 15, 7]
    assert {run.status for name in names for run in await runs_of(crons, name)} == {"interrupted"}
    assert not any(record.leases for record in fleet.records.values())
    await crons.stop()


async def test_runs_that_are_cut_off_keep_what_they_had_logged(clock: VirtualClock) -> None:
    fleet, state = Fleet(), MemoryStateBackend()
    dead = Dead(FleetLock(fleet), state, clock)
    await dead.work(running=["leased", "other"])
    line = LogLine(clock.now(), "INFO", "app", "half way")
    (leased,) = await state.unfinished()
    orphan = replace(leased, id=RunIds(clock.now)(), job="orphan", instance="gone")
    await state.write([replace(run, log=(line,), log_dropped=3) for run in (leased, orphan)])
    await dead.die()
    config = CronConfig(heartbeat_interval=2, instance_timeout=10, lock_timeout=60, rerun_interrupted=False)
    locks = DistributedLockManager(FleetLock(fleet), config)
    crons = Crons(state_backend=state, lock_manager=locks, config=config, clock=clock)
    for name in ("leased", "other", "orphan"):
        crons.cron("0 0 1 1 *", name=name)(nothing)
    await crons.start()
    await clock.advance(crons, minutes=1)
    for name in (leased.job, "orphan"):
        run = await kept_of(crons, name)
        assert (run.status, run.log, run.log_dropped) == ("interrupted", (line,), 3)
    await crons.stop()


async def test_before_any_scheduler_starts_the_runs_of_a_dead_one_are_found_as_interrupted(clock: VirtualClock) -> None:
    fleet, state = Fleet(), MemoryStateBackend()
    dead = Dead(FleetLock(fleet), state, clock)
    await dead.work(running=["cut off", "unrecorded", "long ago"])
    cut_off, long_ago = sorted(await state.unfinished(), key=lambda run: run.job)
    line = LogLine(clock.now(), "INFO", "app", "half way")
    await clock.advance(seconds=1)
    ended = replace(cut_off, id=RunIds(clock.now)(), job="ended", status="completed", ended_ts=clock.now())
    await state.write([replace(cut_off, log=(line,)), ended])
    config = CronConfig(heartbeat_interval=2, instance_timeout=10, lock_timeout=60)
    locks = DistributedLockManager(FleetLock(fleet), config)
    watching = Crons(state_backend=state, lock_manager=locks, config=config, clock=clock)
    for name in ("cut off", "long ago", "ended"):
        watching.cron("0 0 1 1 *", name=name)(nothing)
    await watching.start("observer")
    management = Management(watching)
    assert [run.job for run in await management.find_runs(RunQuery(statuses=FAILED))] == [], "it may still be running"

    await dead.die()
    await clock.advance(seconds=20)
    failed = await management.find_runs(RunQuery(statuses=FAILED))
    assert [run.job for run in failed] == ["long ago", "cut off"]
    assert {(run.status, run.ended_ts) for run in failed} == {("interrupted", None)}
    assert failed[0].error == RunError(
        "Interrupted", "its instance is gone; a scheduler that starts puts that on record"
    )
    running: tuple[RunStatus, ...] = ("running",)
    everything = await management.find_runs(RunQuery())
    assert [(run.job, run.status) for run in everything] == [
        ("ended", "completed"),
        ("long ago", "interrupted"),
        ("cut off", "interrupted"),
    ]
    for query, jobs in (
        (RunQuery(["cut off"], FAILED), ["cut off"]),
        (RunQuery(limit=1, statuses=FAILED), ["long ago"]),
        (RunQuery(statuses=FAILED, before=long_ago.id), ["cut off"]),
        (RunQuery(statuses=FAILED, since=clock.now()), []),
        (RunQuery(statuses=FAILED, until=clock.now() - 3_600), []),
        (RunQuery(statuses=FAILED, under_way_since=clock.now()), ["long ago", "cut off"]),
        (RunQuery(statuses=FAILED, under_way_since=clock.now(), limit=1), ["long ago"]),
        (RunQuery(statuses=FAILED, under_way_since=clock.now() + 86_400), []),
        (RunQuery(statuses=running), []),
        (RunQuery(statuses=FAILED[:2]), []),
        (RunQuery(statuses=FAILED, triggers=("again",)), []),
    ):
        assert [run.job for run in await management.find_runs(query)] == jobs
    run = await management.find_run(cut_off.id)
    assert (run.status, run.log) == ("interrupted", (line,))
    assert [run.status for run in await state.runs("cut off")] == ["running"], "only a scheduler records it"
    await watching.stop()
