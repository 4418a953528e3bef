"""Runs that somebody asks for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from fastapi_crons import CronsError, JobLockedError, Run, UnknownJobError
from fastapi_crons.run import short_id
from fastapi_crons.state import MemoryStateBackend, Record
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing, runs_of


async def test_a_manual_run_takes_the_same_path_and_says_so(make_crons: MakeCrons) -> None:
    crons = make_crons()
    contexts: list[dict[str, Any]] = []
    crons.cron("0 0 1 1 *", name="job", tags=["a"])(lambda: {"rows": 3})
    crons.add_after_run_hook(lambda job, context: contexts.append(context))
    await crons.start()
    run = await crons.run_job("job", actor="ops", note="because")
    assert (run.trigger, run.tick, run.actor, run.note) == ("code", None, "ops", "because")
    (context,) = contexts
    assert (context["manual_trigger"], context["triggered_by"], context["scheduled_time"]) == (True, "code", None)
    assert context["trigger_time"] == "2026-03-01T00:00:00+00:00"
    assert [kept.id for kept in await runs_of(crons, "job")] == [run.id]
    with pytest.raises(UnknownJobError, match="no job named 'nope'"):
        await crons.run_job("nope")


class SlowToWrite(MemoryStateBackend):
    """Takes its time to write."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._virtual = clock

    async def write(self, records: Sequence[Record]) -> None:
        await self._virtual.sleep(0.2)
        await super().write(records)


async def test_a_run_is_on_record_when_its_caller_is_answered_although_the_store_is_slow(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(state_backend=SlowToWrite(clock))
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()

    async def run_and_look() -> tuple[Run, Run]:
        run = await crons.run_job("job")
        return run, (await runs_of(crons, "job"))[-1]

    for _ in range(3):
        looking = asyncio.create_task(run_and_look())
        await clock.advance(crons, seconds=2)
        run, kept = await looking
        assert (kept.id, kept.status) == (run.id, "completed")


async def test_a_manual_run_of_a_running_job_is_refused_unless_forced(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="slow")(lambda: clock.sleep(30))
    await crons.start()
    await clock.advance(crons, minutes=1)
    with pytest.raises(JobLockedError, match="force=True"):
        await crons.run_job("slow")
    forced = asyncio.create_task(crons.run_job("slow", force=True))
    await clock.advance(crons, minutes=1, seconds=30)
    assert (await forced).status == "completed"
    assert [run.trigger for run in await runs_of(crons, "slow")] == ["schedule", "code", "schedule"]


async def test_a_scheduler_that_has_not_started_runs_nothing(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    with pytest.raises(CronsError, match="is not running"):
        await crons.run_job("job")


async def test_a_forced_run_says_beside_which_other_it_ran(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="slow")(lambda: clock.sleep(30))
    await crons.start()
    await clock.advance(crons, hours=1)
    (scheduled,) = await runs_of(crons, "slow")
    forced = asyncio.create_task(crons.run_job("slow", force=True))
    await clock.advance(crons, minutes=1)
    assert (await forced).beside == scheduled.id
    assert f"was forced, and overlaps with run {short_id(scheduled.id)}" in caplog.text
    alone = asyncio.create_task(crons.run_job("slow", force=True))
    await clock.advance(crons, minutes=1)
    assert (await alone).beside is None


async def test_what_a_timed_out_or_cancelled_caller_claimed_is_not_left_locked(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    asked = asyncio.create_task(crons.run_job("job"))
    await asyncio.sleep(0)
    asked.cancel()
    await clock.settle(crons)
    assert (await crons.run_job("job")).status == "completed"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
async def test_a_time_limit_that_is_none_is_refused(make_crons: MakeCrons, timeout: float) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    with pytest.raises(ValueError, match="timeout can't be"):
        await crons.run_job("job", timeout=timeout)
    assert await runs_of(crons, "job") == []


async def test_the_time_limit_of_a_manual_run_takes_the_place_of_the_jobs(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(default_timeout=1000)
    crons.cron("0 0 1 1 *", name="job")(lambda: clock.sleep(50))
    await crons.start()
    asked = asyncio.create_task(crons.run_job("job", timeout=20))
    await clock.advance(crons, minutes=1)
    assert ((await asked).status, (await asked).duration) == ("timed_out", 20)


async def test_a_time_limit_holds_towards_who_asked_though_the_thread_goes_on(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(shutdown_timeout=0.05)
    begun, let_go = threading.Event(), threading.Event()

    @crons.cron("0 0 1 1 *", name="thread")
    def thread() -> None:
        begun.set()
        let_go.wait()

    await crons.start()
    asked = asyncio.create_task(crons.run_job("thread", timeout=5))
    await asyncio.to_thread(begun.wait)
    await clock.advance(crons, seconds=6, finish_runs=False)
    assert (await asked).status == "timed_out"
    let_go.set()


async def test_what_somebody_said_of_a_run_is_fit_to_be_kept(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    run = await crons.run_job("job", actor="a" * 5_000, note="bad \udc80 \x00")
    assert run.note == "bad \\udc80 \\x00"
    assert len(run.actor or "") < 1_100


async def test_a_job_that_was_just_registered_can_be_run(make_crons: MakeCrons) -> None:
    crons = make_crons()
    await crons.start()
    for number in range(3):
        crons.cron("0 0 1 1 *", name=f"job-{number}")(nothing)
        await asyncio.sleep(0)
        assert (await crons.run_job(f"job-{number}")).status == "completed"
