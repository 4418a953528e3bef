"""Late ticks that the run of a later one stands for: they are on record once, whatever happens to that run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fastapi_crons import CronConfig, Crons, SkipRun, TickRefusedError, hookimpl
from fastapi_crons.engine.backfills import Span
from fastapi_crons.locking import ClaimRequest, Definition, DistributedLockManager, LeaseTerms
from fastapi_crons.locking.instance import Instance
from fastapi_crons.management.management import Management
from fastapi_crons.run import MissedTicks, Run, RunIds, reason_in_words, short_id
from fastapi_crons.state import HistoryLimits, MemoryStateBackend, MissedQuery, StateBackend
from fastapi_crons.testing import VirtualClock
from fastapi_crons_sqlite.state import SQLiteStateBackend
from tests.conftest import MakeCrons
from tests.fleet_lock import Fleet, FleetLock
from tests.support import missed_of, nothing, runs_of
from tests.virtual_time.late.downtime import downtime
from tests.virtual_time.why.asking import MIDNIGHT, why

HOURLY = "0 * * * *"
ONE = MIDNIGHT + timedelta(hours=1)


def at(hour: int) -> int:
    return int(MIDNIGHT.timestamp()) + 3_600 * hour


async def after_an_outage(crons: Crons, clock: VirtualClock, job: Callable[[], object] = nothing) -> Run:
    """The run of 03:00, which stands for those of 01:00 and 02:00."""
    crons.cron(HOURLY, name="job")(job)
    await crons.start()
    await downtime(clock, crons, hours=3, minutes=10)
    (run,) = await runs_of(crons, "job")
    return run


async def counted(crons: Crons) -> int:
    (stats,) = await Management(crons).stats(["job"], days=2)
    return stats.whole.missed


@pytest.mark.parametrize("memory", [True, False])
async def test_they_are_on_record_with_the_run_that_stands_for_them(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture, memory: bool
) -> None:
    crons = make_crons(state_backend=MemoryStateBackend() if memory else SQLiteStateBackend("jobs.db"))
    called: list[str] = []

    class Plugin:
        @hookimpl
        def tick_missed(self, job_name: str) -> None:
            called.append(job_name)

    crons.plugins.register(Plugin())
    with caplog.at_level(logging.WARNING):
        run = await after_an_outage(crons, clock)
    (record,) = await missed_of(crons, "job")
    assert (record.id, record.reason, record.first_ts, record.last_ts, record.count) == (
        run.id,
        "coalesced",
        at(1),
        at(2),
        2,
    )
    assert f"run {short_id(run.id)} of 2026-03-01T03:00:00+00:00" in reason_in_words(record)
    assert await counted(crons) == 2
    assert await Management(crons).find_missed(MissedQuery(), only_open=True) == [], "the run made up for them"
    assert (called, [each for each in caplog.records if "not run" in each.message]) == ([], [])
    await clock.advance(crons, hours=2)
    assert await missed_of(crons, "job") == [record], "those in time have none"


async def test_why_names_the_run_and_where_that_is_gone_what_its_record_says(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(history_keep=1)
    run = await after_an_outage(crons, clock)
    fate = await why(crons, "01:00:00")
    assert (fate.fate, fate.runs) == ("covered", (run,))
    assert "the run of 2026-03-01 03:00:00 UTC stands for it and for all late ticks, 3 ticks" in fate.text
    await crons.run_job("job")
    fate = await why(crons, "01:00:00")
    assert (fate.fate, fate.runs) == ("covered", ())
    assert (
        f"the run of a later tick stands for it (coalesce): run {short_id(run.id)} of 2026-03-01 03:00:00" in fate.text
    )


async def test_a_vetoed_run_stands_for_none(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    def veto(*_: Any) -> None:
        raise SkipRun("maintenance")

    crons.add_before_run_hook(veto)
    await after_an_outage(crons, clock)
    assert [(ticks.reason, ticks.count) for ticks in await missed_of(crons, "job")] == [("vetoed", 3)]
    assert await counted(crons) == 3


@pytest.mark.parametrize("gone", [False, True])
async def test_a_backfill_runs_each_of_them_where_it_is_told_to(
    make_crons: MakeCrons, clock: VirtualClock, gone: bool
) -> None:
    crons = make_crons(history_keep=1)
    run = await after_an_outage(crons, clock)
    if gone:
        await crons.run_job("job")
    management = Management(crons)
    span = Span(management.definition("job"), at(1), at(2))
    plan = await management.backfills.plan(span)
    assert (plan.ticks, plan.to_run, plan.ran, plan.stood_for) == (2, (), 0, 2)
    with pytest.raises(TickRefusedError, match=rf"{short_id(run.id)} o.*; force=True runs it"):
        await crons.run_job("job", tick=ONE)
    plan = await management.backfills.plan(replace(span, one_by_one=True))
    assert (plan.to_run, plan.stood_for) == (((at(1), None), (at(2), None)), 0)
    made_up: list[Run] = []
    await management.backfills.start(replace(span, one_by_one=True), made_up.append)
    await clock.advance(crons, seconds=10)
    assert [(each.tick_ts, each.status) for each in made_up] == [(at(1), "completed"), (at(2), "completed")]
    assert await counted(crons) == 2


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("memory", [True, False])
async def test_a_rerun_after_a_crash_neither_loses_nor_doubles_them(
    clock: VirtualClock, memory: bool, recorded: bool
) -> None:
    fleet, state = Fleet(), MemoryStateBackend() if memory else SQLiteStateBackend("jobs.db")
    run_id = await _die_in_a_late_run(fleet, state, clock, recorded=recorded)
    config = CronConfig(heartbeat_interval=2, instance_timeout=10, lock_timeout=60, max_reruns=2)
    locks = DistributedLockManager(FleetLock(fleet), config)
    crons = Crons(state_backend=state, lock_manager=locks, config=config, clock=clock)
    crons.cron(HOURLY, name="job")(nothing)
    await crons.start()
    await clock.settle(crons)
    runs = await runs_of(crons, "job")
    assert [(run.attempt, run.status, run.missed_ticks) for run in runs] == [(1, "interrupted", 2), (2, "completed", 2)]
    (record,) = await missed_of(crons, "job")
    assert (record.id, record.reason, record.first_ts, record.last_ts, record.count) == (
        run_id,
        "coalesced",
        at(1),
        at(2),
        2,
    )
    assert await counted(crons) == 2
    assert (await why(crons, "01:00:00")).fate == "covered"
    await crons.stop()


async def _die_in_a_late_run(fleet: Fleet, state: StateBackend, clock: VirtualClock, *, recorded: bool) -> str:
    """The id of the run of 03:00, which stands for two more, of an instance that died in it."""
    locks, instance, new_id = FleetLock(fleet), Instance.of_this_process("dead"), RunIds(clock.now)
    instance.lives_here(alive=True)
    await locks.open(instance, CronConfig().namespace, LeaseTerms(60, 10), clock)
    await state.open(CronConfig().namespace, HistoryLimits(100, 30))
    await locks.beat()
    await locks.register([Definition("job", HOURLY, "UTC", "module:function")])
    await clock.advance(hours=3, minutes=10)
    await locks.beat()
    run_id = new_id()
    (result,) = await locks.claim([ClaimRequest("job", run_id, at(3), HOURLY, "UTC")])
    assert result.outcome == "granted"
    if recorded:
        now = clock.now()
        run = Run(run_id, "job", at(3), "catch_up", 1, "dead", result.token, "running", now)
        ticks = MissedTicks(run_id, "job", at(1), at(2), 2, "coalesced", now, "dead")
        await state.write([ticks, replace(run, missed_ticks=2, missed_since_ts=at(1))])
    instance.lives_here(alive=False)
    await locks.close()
    await state.close()
    await clock.advance(seconds=20)
    return run_id


async def test_they_don_t_keep_the_job_locked_while_the_state_store_is_down(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    state = _Down()
    crons = make_crons(state_backend=state)
    crons.cron(HOURLY, name="job")(nothing)
    await crons.start()
    await crons.stop()
    await clock.advance(hours=3, minutes=10)
    state.is_down = True
    await crons.start()
    await clock.advance(crons, seconds=10)
    assert crons.engine is not None
    (known,) = await crons.engine.locks.known(["job"])
    assert (known.last_handled, known.leases) == (at(3), ())
    state.is_down = False
    await clock.advance(crons, minutes=5)
    assert [ticks.count for ticks in await missed_of(crons, "job")] == [2]


class _Down(MemoryStateBackend):
    """A state store that can be down."""

    is_down = False

    async def write(self, records: Any) -> None:
        if self.is_down:
            raise ConnectionError("down")
        await super().write(records)


async def test_a_reason_that_only_a_newer_version_knows_is_read(make_crons: MakeCrons, clock: VirtualClock) -> None:
    state = SQLiteStateBackend("jobs.db")
    crons = make_crons(state_backend=state)
    crons.cron(HOURLY, name="job")(nothing)
    await crons.start()
    ticks = MissedTicks(RunIds(clock.now)(), "job", at(1), at(2), 2, "solar_eclipse", clock.now(), "newer")  # type: ignore[arg-type]
    await state.write([ticks])
    (record,) = await missed_of(crons, "job")
    assert (record.reason, record.detail, list(state.damaged())) == ("unknown", "solar_eclipse", [])
    assert "a newer version" in (await why(crons, "01:00:00")).text
