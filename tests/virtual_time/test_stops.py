"""Starts and stops of a scheduler, and what they do to runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from fastapi_crons import CronConfig, Crons, CronsError, hookimpl
from fastapi_crons.locking import ClaimRequest, ClaimResult, DistributedLockManager, LocalLockBackend
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing, runs_of, state_of


async def test_stop_lets_running_jobs_finish(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    done = asyncio.Event()

    async def job() -> str:
        await done.wait()
        return "finished"

    crons.cron("* * * * *", name="job")(job)
    await crons.start()
    await clock.advance(crons, minutes=1, finish_runs=False)
    state = crons.engine.state if crons.engine else None
    stopping = asyncio.create_task(crons.stop())
    await asyncio.sleep(0.01)
    assert not stopping.done()
    done.set()
    await stopping
    assert state is not None
    (run,) = await state.runs("job")
    assert (run.status, run.result) == ("completed", "finished")


async def test_stop_cancels_what_does_not_finish_and_is_bounded_even_then(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    crons = make_crons(shutdown_timeout=0.05)
    let_go = threading.Event()
    free = asyncio.Event()

    async def polite() -> None:
        await asyncio.Event().wait()

    async def stubborn() -> None:
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue

    for job in (polite, stubborn):
        crons.cron("* * * * *")(job)
    crons.cron("* * * * *", name="thread")(let_go.wait)
    await crons.start()
    await clock.advance(crons, minutes=1, finish_runs=False)
    assert crons.engine is not None
    state = crons.engine.state
    with caplog.at_level(logging.ERROR, "fastapi_crons"):
        await asyncio.wait_for(crons.stop(), 5)
    let_go.set()
    free.set()
    statuses = {name: (await state.runs(name))[0].status for name in ("polite", "stubborn", "thread")}
    assert statuses == {"polite": "cancelled", "stubborn": "interrupted", "thread": "interrupted"}
    assert re.search(r"job 'stubborn': run [0-9a-f]{8} did not end in time", caplog.text)


async def test_starting_twice_starts_once_and_a_stopped_scheduler_starts_again(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(nothing)
    await asyncio.gather(crons.start(), crons.start())
    await clock.advance(crons, minutes=1)
    await crons.stop()
    await crons.stop()
    await crons.start()
    await clock.advance(crons, minutes=1)
    assert len(await runs_of(crons, "job")) == 2


async def test_a_stop_that_is_given_up_goes_on(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    done = asyncio.Event()
    crons.cron("* * * * *", name="job")(done.wait)
    await crons.start()
    await clock.advance(crons, minutes=1, finish_runs=False)
    state = state_of(crons)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(crons.stop(), 0.05)
    assert crons.running
    done.set()
    await crons.stop()
    assert not crons.running
    assert [run.status for run in await state.runs("job")] == ["completed"]
    left = [task for task in asyncio.all_tasks() if "fastapi-crons" in task.get_name()]
    assert left == []


async def test_a_job_may_stop_its_own_scheduler(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()

    @crons.cron("* * * * *", name="last")
    async def last() -> str:
        await crons.stop()
        return "said"

    await crons.start()
    state = state_of(crons)
    await clock.advance(crons, minutes=1, finish_runs=False)
    await crons.stop()
    assert not crons.running
    (run,) = await state.runs("last")
    assert (run.status, run.result) == ("completed", "said")


async def test_nothing_starts_once_a_stop_has_begun(make_crons: MakeCrons) -> None:
    class Slow(LocalLockBackend):
        async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
            await asyncio.sleep(0.1)
            return await super().claim(requests)

    ran: list[int] = []
    crons = make_crons(lock_manager=DistributedLockManager(Slow(), CronConfig()))
    crons.cron("0 0 1 1 *", name="job")(lambda: ran.append(1))
    await crons.start()
    asked = asyncio.create_task(crons.run_job("job"))
    await asyncio.sleep(0.02)
    await crons.stop()
    with pytest.raises(CronsError, match="stopping"):
        await asked
    assert ran == []


def test_a_scheduler_whose_loop_ended_without_a_stop_starts_anew() -> None:
    crons = Crons(state_backend=MemoryStateBackend())
    ran: list[int] = []
    crons.cron("0 0 1 1 *", name="job")(lambda: ran.append(1))

    async def first() -> None:
        await crons.start()
        await crons.run_job("job")

    async def second() -> None:
        assert not crons.running
        await crons.start()
        await crons.run_job("job")
        await crons.stop()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(first())
        asyncio.run(second())
    assert ran == [1, 1]


async def test_a_stop_tells_the_error_hooks_of_what_it_cut_off(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(shutdown_timeout=0.05)
    heard: dict[str, str] = {}

    async def slow_alert(job: str, context: dict[str, Any]) -> None:
        await asyncio.sleep(0.05)
        heard[job] = context["status"]

    async def polite() -> None:
        await asyncio.Event().wait()

    async def stubborn() -> None:
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()

    free = asyncio.Event()
    crons.cron("* * * * *")(polite)
    crons.cron("* * * * *")(stubborn)
    crons.add_on_error_hook(slow_alert)
    await crons.start()
    await clock.advance(crons, minutes=1, finish_runs=False)
    await crons.stop()
    assert heard == {"polite": "cancelled", "stubborn": "interrupted"}
    free.set()
    await asyncio.sleep(0)


async def test_a_start_that_is_given_up_leaves_nothing_running(make_crons: MakeCrons, clock: VirtualClock) -> None:
    begun = asyncio.Event()

    class Slow:
        @hookimpl
        async def scheduler_started(self) -> None:
            begun.set()
            await asyncio.Event().wait()

    crons = make_crons()
    crons.plugins.register(Slow())
    crons.cron("* * * * *")(nothing)
    starting = asyncio.create_task(crons.start())
    await begun.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not crons.running
    assert [task for task in asyncio.all_tasks() if "fastapi-crons" in task.get_name()] == []


async def test_a_stop_from_a_hook_does_not_wait_for_itself(make_crons: MakeCrons) -> None:
    crons = make_crons()

    class Stops:
        @hookimpl
        async def scheduler_started(self, crons: Crons) -> None:
            await crons.stop()

    crons.plugins.register(Stops())
    await asyncio.wait_for(crons.start(), 2)
    await crons.stop()
    assert not crons.running


async def test_another_event_loop_is_told_so(make_crons: MakeCrons) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(nothing)
    await crons.start()
    for call in (lambda: crons.run_job("job"), crons.stop):
        with pytest.raises(CronsError, match="another event loop"):
            await asyncio.to_thread(lambda call=call: asyncio.run(call()))  # type: ignore[misc]
    assert (await crons.run_job("job")).status == "completed"


async def test_a_stop_is_waited_for_while_an_abandoned_thread_holds_its_job(make_crons: MakeCrons) -> None:
    crons = make_crons(shutdown_timeout=0.05)
    entered, leave = threading.Event(), threading.Event()

    @crons.cron("0 0 1 1 *", name="stuck")
    def stuck() -> None:
        entered.set()
        leave.wait()

    await crons.start()
    asked = asyncio.create_task(crons.run_job("stuck"))
    await asyncio.to_thread(entered.wait)
    assert crons.engine is not None
    (run_id,) = crons.engine.runner.active
    await crons.cancel_run(run_id)
    assert (await asked).status == "cancelled"
    try:
        await crons.stop()
        assert not crons.running
    finally:
        leave.set()
