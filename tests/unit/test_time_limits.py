"""Time limits, retries and cancellations: what cuts a run off, and what it makes of that."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise

import pytest

from fastapi_crons import JobLockedError
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import at, missed_of, runs_of


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
    with pytest.raises(JobLockedError, match="running already"):
        await crons.run_job("slow")
    let_go.set()
    await clock.advance(crons, minutes=1)
    runs = await runs_of(crons, "slow")
    assert [(at(run), run.status) for run in runs] == [("00:01:00", "timed_out"), ("00:03:00", "completed")]
    (missed,) = await missed_of(crons, "slow")
    assert (missed.reason, missed.count) == ("overlap", 1)


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
    assert crons.health().findings == ("a thread goes on after its run was given up, and holds 'thread'",)
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


async def test_a_run_whose_time_is_up_before_a_thread_is_free_never_begins(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons(max_threads=1)
    begun, let_go, ran = threading.Event(), threading.Event(), []

    @crons.cron("* * * * *", name="takes the thread")
    def takes() -> None:
        begun.set()
        let_go.wait()

    crons.cron("0 0 1 1 *", name="waits", timeout=5)(lambda: ran.append(1))
    await crons.start()
    await clock.advance(crons, minutes=1, finish_runs=False)
    await asyncio.to_thread(begun.wait)
    asked = asyncio.create_task(crons.run_job("waits"))
    await clock.advance(crons, seconds=10, finish_runs=False)
    assert (await asked).status == "timed_out"
    let_go.set()
    await clock.advance(crons, seconds=10)
    assert (await crons.run_job("waits")).status == "completed"
    assert ran == [1]


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
