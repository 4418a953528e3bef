"""Time limits, retries and cancellations: what cuts a run off, and what it makes of that."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from fastapi_crons import JobLockedError, hookimpl
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import at, missed_of, nothing, runs_of


async def test_an_async_job_past_its_timeout_is_cancelled(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="slow", timeout=90)(lambda: clock.sleep(1000))
    await crons.start()
    await clock.advance(crons, hours=1, minutes=2)
    (run,) = await runs_of(crons, "slow")
    assert (run.status, run.duration) == ("timed_out", 90)
    assert run.error is not None
    assert "90 s" in run.error.message


async def test_a_timed_out_thread_holds_the_job_until_it_ends(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    begun, let_go = threading.Event(), threading.Event()

    @crons.cron("* * * * *", name="slow", timeout=5)
    def slow() -> None:
        begun.set()
        let_go.wait()

    await crons.start()
    await clock.advance(crons, minutes=1, finish_runs=False)
    await asyncio.to_thread(begun.wait)
    await clock.advance(crons, minutes=1, seconds=30, finish_runs=False)
    (run,) = await runs_of(crons, "slow")
    assert run.status == "timed_out"
    with pytest.raises(JobLockedError, match="already running"):
        await crons.run_job("slow")
    let_go.set()
    await clock.advance(crons, minutes=1)
    runs = await runs_of(crons, "slow")
    assert [(at(run), run.status) for run in runs] == [("00:01:00", "timed_out"), ("00:03:00", "completed")]
    (missed,) = await missed_of(crons, "slow")
    assert (missed.reason, missed.count) == ("overlap", 1)


async def test_a_coroutine_that_a_thread_returns_after_its_time_limit_is_closed(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    begun, let_go = threading.Event(), threading.Event()

    @crons.cron("* * * * *", name="slow", timeout=5)
    def slow() -> object:
        begun.set()
        let_go.wait()
        return nothing()  # Python would warn that it was never awaited

    await crons.start()
    await clock.advance(crons, minutes=1, finish_runs=False)
    await asyncio.to_thread(begun.wait)
    await clock.advance(crons, seconds=30, finish_runs=False)
    let_go.set()
    await clock.advance(crons, minutes=1)
    assert [run.status for run in await runs_of(crons, "slow")] == ["timed_out", "completed"]


async def test_failures_are_retried_with_growing_delays(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    attempts: list[float] = []

    @crons.cron("0 * * * *", name="shaky", max_retries=3, retry_delay=10)
    async def shaky() -> str:
        attempts.append(clock.now())
        if len(attempts) < 4:
            raise ConnectionError("not yet")
        return "done"

    await crons.start()
    await clock.advance(crons, hours=1, minutes=10)
    (run,) = await runs_of(crons, "shaky")
    assert (run.status, run.attempt) == ("completed", 4)
    first, second, third = (later - earlier for earlier, later in pairwise(attempts))
    assert 7.5 <= first <= 12.5
    assert 15 <= second <= 25
    assert 30 <= third <= 50


async def test_retries_that_a_job_leaves_open_follow_the_settings(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(default_max_retries=2, default_retry_delay=100)
    attempts: list[float] = []

    @crons.cron("0 * * * *", name="shaky")
    async def shaky() -> None:
        attempts.append(clock.now())
        raise ConnectionError("not yet")

    await crons.start()
    await clock.advance(crons, hours=1, minutes=10)
    (run,) = await runs_of(crons, "shaky")
    assert (run.status, run.attempt) == ("failed", 3)
    first, second = (later - earlier for earlier, later in pairwise(attempts))
    assert 75 <= first <= 125
    assert 150 <= second <= 250


async def test_only_the_named_errors_are_retried(make_crons: MakeCrons) -> None:
    calls: list[int] = []

    def job() -> None:
        calls.append(1)
        raise KeyError("other")

    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job", max_retries=5, retry_on=(ConnectionError,))(job)
    await crons.start()
    assert (await crons.run_job("job")).status == "failed"
    assert len(calls) == 1


async def test_an_async_run_is_cancelled_at_once_and_says_by_whom(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("0 * * * *", name="slow")(lambda: clock.sleep(10_000))
    await crons.start()
    await clock.advance(crons, hours=1)
    (run,) = await runs_of(crons, "slow")
    assert await crons.cancel_run(run.id, actor="ops")
    await clock.settle(crons)
    (run,) = await runs_of(crons, "slow")
    assert run.status == "cancelled"
    assert run.error is not None
    assert run.error.message == "was cancelled by ops"
    assert not await crons.cancel_run(run.id)
    assert not await crons.cancel_run("no such run")


async def test_a_cancelled_thread_holds_the_job_and_the_record_and_health_say_so(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    begun, let_go = threading.Event(), threading.Event()

    @crons.cron("* * * * *", name="thread")
    def thread() -> None:
        begun.set()
        let_go.wait()

    await crons.start()
    await clock.advance(crons, minutes=1, finish_runs=False)
    await asyncio.to_thread(begun.wait)
    assert crons.health().status == "ok"
    (run,) = await runs_of(crons, "thread")
    assert await crons.cancel_run(run.id)
    await clock.advance(crons, minutes=1, finish_runs=False)
    (run,) = await runs_of(crons, "thread")
    assert run.status == "cancelled"
    assert run.error is not None
    assert "its thread can't be ended" in run.error.message
    assert crons.health().status == "degraded"
    assert crons.health().findings == ("a thread is still running after its run was abandoned, and holds 'thread'",)
    let_go.set()
    await clock.advance(crons, minutes=1)
    assert [run.status for run in await runs_of(crons, "thread")] == ["cancelled", "completed"]
    assert crons.health().status == "ok"


async def test_a_timed_out_attempt_is_retried_like_a_failed_one(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(max_retry_delay=20)
    attempts: list[float] = []

    @crons.cron("0 * * * *", name="job", max_retries=3, retry_delay=10, timeout=60)
    async def job() -> str:
        attempts.append(clock.now())
        if len(attempts) < 4:
            await clock.sleep(1000)
        return "in time"

    await crons.start()
    await clock.advance(crons, hours=1, minutes=30)
    (run,) = await runs_of(crons, "job")
    assert (run.status, run.attempt) == ("completed", 4)
    delays = [later - earlier - 60 for earlier, later in pairwise(attempts)]
    assert 7.5 <= delays[0] <= 12.5
    assert all(15 <= delay <= 20 for delay in delays[1:]), "the ceiling of the delay"


async def test_a_time_limit_begins_with_the_function_and_the_wait_for_a_thread_is_on_record(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(max_threads=1)
    begun, let_go, ran = threading.Event(), threading.Event(), []

    @crons.cron("* * * * *", name="takes the thread")
    def takes() -> None:
        begun.set()
        let_go.wait()

    crons.cron("0 0 1 1 *", name="waits", timeout=5, max_retries=3)(lambda: ran.append(1))
    await crons.start()
    await clock.advance(crons, minutes=1, finish_runs=False)
    await asyncio.to_thread(begun.wait)
    asked = asyncio.create_task(crons.run_job("waits"))
    await clock.advance(crons, seconds=10, finish_runs=False)
    assert crons.health().findings == (
        "the pool of threads for jobs is full, and 1 job waits: all 1 are taken, by 'takes the thread'",
    )
    let_go.set()
    run = await asked
    assert (run.status, run.attempt, run.waited, ran) == ("completed", 1, 10, [1])
    assert await runs_of(crons, "waits") == [run]
    assert crons.health().status == "ok"


async def test_a_thread_that_was_waited_for_is_held_to_the_time_limit(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(max_threads=1)
    let_go, let_go_too = threading.Event(), threading.Event()
    began = threading.Event()
    crons.cron("0 0 1 1 *", name="takes the thread")(let_go.wait)

    @crons.cron("0 0 1 1 *", name="waits", timeout=5)
    def waits() -> None:
        began.set()
        let_go_too.wait()

    await crons.start()
    asked = [asyncio.create_task(crons.run_job(name)) for name in ("takes the thread", "waits")]
    await clock.advance(crons, seconds=60, finish_runs=False)
    let_go.set()
    await asked[0]
    await asyncio.to_thread(began.wait)
    await clock.advance(crons, seconds=10, finish_runs=False)
    (run,) = await runs_of(crons, "waits")
    let_go_too.set()
    assert (run.status, run.waited, run.duration) == ("timed_out", 60, 65)
    assert (await asked[1]).status == "timed_out"


class _SlowScope:
    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock

    @hookimpl
    @asynccontextmanager
    async def run_scope(self) -> AsyncIterator[None]:
        await self.clock.sleep(100)
        yield
        await self.clock.sleep(100)


async def test_what_plugins_hold_around_a_function_is_no_part_of_its_time_limit(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(hook_timeout=1e6)
    crons.plugins.register(_SlowScope(clock))
    crons.add_before_run_hook(lambda job_name, context: clock.sleep(100))
    crons.cron("0 * * * *", name="in time", timeout=60)(lambda: clock.sleep(50))
    crons.cron("0 * * * *", name="too long", timeout=60)(lambda: clock.sleep(70))
    await crons.start()
    await clock.advance(crons, hours=1, minutes=10)
    (in_time,), (too_long,) = await runs_of(crons, "in time"), await runs_of(crons, "too long")
    assert (in_time.status, in_time.duration) == ("completed", 350)
    assert too_long.status == "timed_out"


async def test_a_cancel_while_a_timed_out_attempt_cleans_up_ends_the_retries(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    calls: list[int] = []

    @crons.cron("0 * * * *", name="job", timeout=60, max_retries=3)
    async def job() -> None:
        calls.append(1)
        try:
            await clock.sleep(1000)
        except asyncio.CancelledError:
            await clock.sleep(30)
            raise

    await crons.start()
    await clock.advance(crons, hours=1, seconds=70)
    (run,) = await runs_of(crons, "job")
    assert await crons.cancel_run(run.id, actor="ops")
    await clock.advance(crons, minutes=10)
    (run,) = await runs_of(crons, "job")
    assert (run.status, len(calls)) == ("cancelled", 1)


async def test_a_timed_out_attempt_is_retried_whatever_it_makes_of_its_cancellation(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()

    @crons.cron("0 * * * *", name="job", timeout=60, max_retries=2, retry_on=(TimeoutError,))
    async def job() -> None:
        try:
            await clock.sleep(1000)
        except asyncio.CancelledError:
            raise ValueError("cleaned up") from None

    await crons.start()
    await clock.advance(crons, hours=1, minutes=10)
    (run,) = await runs_of(crons, "job")
    assert (run.status, run.attempt) == ("timed_out", 3)


async def test_a_run_whose_function_has_ended_is_cancelled_no_more(make_crons: MakeCrons) -> None:
    """`attempt.py`: a function that returns without having been cut off has ended, whatever scopes do after it."""
    left, cancelled = asyncio.Event(), asyncio.Event()

    class Scoped:
        @hookimpl
        @asynccontextmanager
        async def run_scope(self) -> AsyncIterator[None]:
            yield
            left.set()
            await cancelled.wait()

    async def job() -> str:
        return "done"

    crons = make_crons()
    crons.plugins.register(Scoped())
    crons.cron("0 0 1 1 *", name="job")(job)
    await crons.start()
    asked = asyncio.create_task(crons.run_job("job"))
    await asyncio.wait_for(left.wait(), 5)
    assert crons.engine is not None
    (run_id,) = crons.engine.runner.active
    await crons.cancel_run(run_id)
    cancelled.set()
    run = await asked
    assert (run.status, run.result) == ("completed", "done")
