"""Jobs that are paused, resumed, disabled and enabled again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastapi_crons import CronConfig, Crons, UnknownJobError, hookimpl
from fastapi_crons.locking import DistributedLockManager, LocalLockBackend
from fastapi_crons.state import MemoryStateBackend, SQLiteStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import at, missed_of, nothing, runs_of


async def test_a_paused_job_runs_no_tick_and_goes_on_with_its_next_one(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    missed: list[dict[str, Any]] = []

    class Plugin:
        @hookimpl
        def tick_missed(self, context: dict[str, Any]) -> None:
            missed.append(context)

    crons = make_crons()
    crons.plugins.register(Plugin())
    crons.cron("*/10 * * * *", name="sync")(nothing)
    crons.cron("*/10 * * * *", name="other")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=10)
    await crons.pause("sync", actor="ops", note="the other side is down")
    await clock.advance(crons, minutes=55)
    assert [at(run) for run in await runs_of(crons, "sync")] == ["00:10:00"]
    assert len(await runs_of(crons, "other")) == 6
    assert await crons.resume("sync")
    await clock.advance(crons, minutes=10)
    assert [at(run) for run in await runs_of(crons, "sync")] == ["00:10:00", "01:10:00"]
    assert (await runs_of(crons, "sync"))[-1].missed_ticks == 0
    (record,) = await missed_of(crons, "sync")
    assert (record.reason, record.count, record.first.minute, record.last.hour) == ("paused", 5, 20, 1)
    assert record.detail == "by ops since 2026-03-01T00:10:00+00:00: the other side is down"
    assert [context["reason"] for context in missed] == ["paused"]


@pytest.mark.parametrize(
    ("coalesce", "ticks"), [(True, ["01:00:00"]), (False, ["00:20:00", "00:30:00", "00:40:00", "00:50:00", "01:00:00"])]
)
async def test_a_pause_can_be_caught_up_with(
    make_crons: MakeCrons, clock: VirtualClock, coalesce: bool, ticks: list[str]
) -> None:
    crons = make_crons(coalesce=coalesce)
    crons.cron("*/10 * * * *", name="sync")(nothing)
    await crons.start()
    await clock.advance(crons, minutes=10)
    await crons.pause("sync")
    await clock.advance(crons, minutes=55)
    await crons.resume("sync", catch_up=True)
    await clock.settle(crons)
    runs = await runs_of(crons, "sync")
    assert [at(run) for run in runs] == ["00:10:00", *ticks]
    assert runs[-1].missed_ticks == (4 if coalesce else 0)
    missed = [(ticks.reason, ticks.count) for ticks in await missed_of(crons, "sync")]
    assert missed == ([("coalesced", 4)] if coalesce else [])


async def test_a_pause_holds_over_restarts_and_for_every_instance(clock: VirtualClock, tmp_path: Path) -> None:
    async def started() -> Crons:
        crons = Crons(state_backend=SQLiteStateBackend(tmp_path / "jobs.db"), clock=clock)
        crons.cron("*/10 * * * *", name="sync")(nothing)
        await crons.start()
        return crons

    first, second = await started(), await started()
    await first.pause("sync", actor="ops")
    await first.pause("sync", actor="somebody else")
    await clock.advance(first, second, minutes=30)
    await first.stop()
    third = await started()
    await clock.advance(second, third, minutes=30)
    assert await runs_of(third, "sync") == []
    pauses = await third.pauses()
    assert (pauses["sync"].actor, pauses["sync"].note) == ("ops", None)
    assert await third.resume("sync")
    assert not await third.resume("sync")
    await clock.advance(second, third, minutes=30)
    assert [at(run) for run in await runs_of(third, "sync")] == ["01:10:00", "01:20:00", "01:30:00"]
    (record,) = await missed_of(third, "sync")
    assert (record.reason, record.count) == ("paused", 6)
    await second.stop()
    await third.stop()


async def test_a_paused_job_still_runs_when_somebody_asks(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("*/10 * * * *", name="sync")(nothing)
    await crons.start()
    await crons.pause("sync")
    assert (await crons.run_job("sync")).status == "completed"
    with pytest.raises(UnknownJobError):
        await crons.pause("nope")


async def test_a_scheduler_that_runs_nothing_can_pause(clock: VirtualClock, tmp_path: Path) -> None:
    def made(**settings: Any) -> Crons:
        state = SQLiteStateBackend(tmp_path / "jobs.db")
        crons = Crons(state_backend=state, config=CronConfig(**settings), clock=clock)
        crons.cron("*/10 * * * *", name="sync")(nothing)
        return crons

    web_only, worker = made(enabled=False), made()
    await web_only.start()
    await web_only.pause("sync")
    await worker.start()
    await clock.advance(worker, minutes=30)
    assert await runs_of(worker, "sync") == []
    assert await web_only.resume("sync")
    await clock.advance(worker, minutes=10)
    assert [at(run) for run in await runs_of(worker, "sync")] == ["00:40:00"]
    await web_only.stop()
    assert [ticks.reason for ticks in await missed_of(worker, "sync")] == ["paused"]
    await worker.stop()


async def test_a_job_that_was_disabled_has_no_past_when_it_is_enabled_again(clock: VirtualClock) -> None:
    state, lock = MemoryStateBackend(), LocalLockBackend()

    async def deployed(**options: Any) -> Crons:
        config = CronConfig()
        crons = Crons(state_backend=state, lock_manager=DistributedLockManager(lock, config), clock=clock)
        crons.cron("0 * * * *", name="sync", **options)(nothing)
        await crons.start()
        return crons

    crons = await deployed()
    await clock.advance(crons, hours=2)
    await crons.stop()
    crons = await deployed(enabled=False)
    await clock.advance(crons, hours=5)
    await crons.stop()
    crons = await deployed()
    await clock.advance(crons, hours=1)
    assert [run.tick.hour for run in await runs_of(crons, "sync") if run.tick] == [1, 2, 8]
    assert [(ticks.reason, ticks.count) for ticks in await missed_of(crons, "sync")] == [("disabled", 5)]
    await crons.stop()


async def test_enabled_false_in_code_wins_over_resume(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("*/10 * * * *", name="off", enabled=False)(nothing)
    await crons.start()
    await crons.pause("off")
    await crons.resume("off", catch_up=True)
    await clock.advance(crons, hours=1)
    assert await runs_of(crons, "off") == []
