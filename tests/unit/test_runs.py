"""What becomes of a run, whatever its function does."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from fastapi_crons import CronConfig, Crons, CronsError, JobLockedError, Run, UnknownJobError, hookimpl
from fastapi_crons.locking import ClaimRequest, ClaimResult, DistributedLockManager, LocalLockBackend
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import at, missed_of, runs_of, state_of


class _Unprintable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def _result(make_crons: MakeCrons, func: Callable[..., Any], **options: Any) -> Run:
    crons = make_crons(**options)
    crons.cron("0 0 1 1 *", name="job")(func)
    await crons.start()
    return await crons.run_job("job")


def _raiser(error: BaseException) -> Callable[[], None]:
    def job() -> None:
        raise error

    return job


def _async_raiser(error: BaseException) -> Callable[[], Any]:
    async def job() -> None:
        raise error

    return job


@pytest.mark.parametrize("make", [_raiser, _async_raiser], ids=["in a thread", "on the loop"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(1),
        StopAsyncIteration(),
        asyncio.CancelledError(),
        BaseException("base"),
        _Unprintable(),
        ValueError("x" * 10_000_000),
        ValueError("nul \x00 surrogate \ud800"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_job_raises_is_a_failed_run_and_nothing_else(
    make_crons: MakeCrons, clock: VirtualClock, make: Callable[[BaseException], Any], error: BaseException
) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="bad")(make(error))
    crons.cron("* * * * *", name="good")(_raiser_free)
    await crons.start()
    await clock.advance(crons, minutes=3)
    bad, good = await runs_of(crons, "bad"), await runs_of(crons, "good")
    assert [run.status for run in bad] == ["failed"] * 3
    assert [run.status for run in good] == ["completed"] * 3
    assert bad[0].error is not None
    assert bad[0].error.type in (type(error).__name__, "RuntimeError")  # PEP 479 makes StopIteration one
    assert len(bad[0].error.message) < 9_000
    bad[0].error.message.encode()
    assert "\x00" not in bad[0].error.message


async def _raiser_free() -> None: ...


def _cyclic() -> list[object]:
    loop: list[object] = []
    loop.append(loop)
    return loop


def _deep() -> list[object]:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        ({"rows": [1, 2.5, "ü", None, True]}, {"rows": [1, 2.5, "ü", None, True]}),
        ("text", "text"),
        (float("nan"), "float"),
        ({"a": float("inf")}, "dict"),
        (b"bytes", "bytes"),
        (object(), "object"),
        ("x" * 50_000_000, "str"),
        (["x" * 1000] * 1000, "list"),
        (_cyclic(), "list"),
        (_deep(), "list"),
        ("lone \ud800", "lone \\ud800"),
        ({"\udc80": ["\\ud800", "🚀"]}, {"\\udc80": ["\\ud800", "🚀"]}),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_result_is_kept_as_json_or_named(make_crons: MakeCrons, value: object, kept: object) -> None:
    run = await _result(make_crons, lambda: value)
    assert run.status == "completed"
    result = None if run.result is None else json.loads(run.result)
    if isinstance(result, dict) and result.get("stored") is False:
        assert result["type"] == kept
    else:
        assert result == kept


class _Callable:
    async def __call__(self) -> str:
        return "object"

    async def method(self) -> str:
        return "method"


async def _coroutine(value: str = "function") -> str:
    return value


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (_coroutine, "function"),
        (lambda: "lambda", "lambda"),
        (lambda: _coroutine("made by a lambda"), "made by a lambda"),
        (functools.partial(_coroutine, "partial"), "partial"),
        (functools.partial(str.upper, "sync partial"), "SYNC PARTIAL"),
        (_Callable(), "object"),
        (_Callable().method, "method"),
    ],
)
async def test_every_kind_of_callable_runs(make_crons: MakeCrons, func: Callable[..., Any], expected: str) -> None:
    run = await _result(make_crons, func)
    assert run.result == json.dumps(expected)


async def test_sync_jobs_run_in_threads_of_their_own(make_crons: MakeCrons) -> None:
    run = await _result(make_crons, lambda: threading.current_thread().name)
    assert run.result is not None
    assert run.result.startswith('"fastapi-crons-job')


async def test_hung_threads_starve_neither_async_jobs_nor_hooks(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(max_threads=2, shutdown_timeout=0.05)
    let_go, hooked = threading.Event(), []
    for name in ("hung-1", "hung-2", "waits"):
        crons.cron("* * * * *", name=name)(let_go.wait)
    crons.cron("* * * * *", name="async")(_raiser_free)
    crons.add_after_run_hook(lambda job, context: hooked.append(job))
    await crons.start()
    await clock.advance(crons, minutes=2, finish_runs=False)
    try:
        assert hooked == ["async", "async"]
        assert await runs_of(crons, "waits") == []
        (missed,) = await missed_of(crons, "hung-1")
        assert (missed.reason, missed.count) == ("overlap", 1)
    finally:
        await crons.stop()
        let_go.set()


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


async def test_overlap_is_skipped_queued_or_allowed(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    for overlap in ("skip", "queue", "allow"):
        crons.cron("* * * * *", name=overlap, overlap=overlap)(lambda: clock.sleep(90))
    await crons.start()
    await clock.advance(crons, minutes=6)
    starts = {
        name: [run.started.strftime("%M:%S") for run in await runs_of(crons, name)] for name in crons.jobs.names()
    }
    assert starts["skip"] == ["01:00", "03:00", "05:00"]
    assert starts["queue"] == ["01:00", "02:30", "04:00", "05:30"]
    assert starts["allow"] == [f"0{minute}:00" for minute in range(1, 7)]
    assert sum(missed.count for missed in await missed_of(crons, "skip")) == 3


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
    crons.cron("* * * * *", name="job")(_raiser_free)
    with pytest.raises(CronsError, match="has not started"):
        await crons.run_job("job")


async def test_a_disabled_job_and_a_disabled_scheduler_run_nothing(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="off", enabled=False)(_raiser_free)
    await crons.start()
    await clock.advance(crons, minutes=5)
    assert await runs_of(crons, "off") == []
    web_only = make_crons(enabled=False)
    web_only.cron("* * * * *", name="job")(_raiser_free)
    await web_only.start()
    assert await runs_of(web_only, "job") == []


async def test_jobs_registered_while_it_runs_are_picked_up(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    await crons.start()
    crons.cron("* * * * *", name="from the loop")(_raiser_free)
    await asyncio.to_thread(lambda: crons.cron("* * * * *", name="from a thread")(_raiser_free))
    await clock.advance(crons, minutes=2)
    assert len(await runs_of(crons, "from the loop")) == 2
    assert len(await runs_of(crons, "from a thread")) == 2


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
    assert (run.status, run.result) == ("completed", '"finished"')


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
    assert "'stubborn' did not end in time" in caplog.text


async def test_starting_twice_starts_once_and_a_stopped_scheduler_starts_again(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="job")(_raiser_free)
    await asyncio.gather(crons.start(), crons.start())
    await clock.advance(crons, minutes=1)
    await crons.stop()
    await crons.stop()
    await crons.start()
    await clock.advance(crons, minutes=1)
    assert len(await runs_of(crons, "job")) == 2


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
    assert f"was forced, and overlaps with run {scheduled.id}" in caplog.text
    alone = asyncio.create_task(crons.run_job("slow", force=True))
    await clock.advance(crons, minutes=1)
    assert (await alone).beside is None


async def test_a_row_of_skipped_ticks_is_one_record(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="slow")(lambda: clock.sleep(630))
    await crons.start()
    await clock.advance(crons, minutes=15)
    assert [at(run) for run in await runs_of(crons, "slow")] == ["00:01:00", "00:12:00"]
    first, second = await missed_of(crons, "slow")
    assert (first.reason, first.count, first.first.minute, first.last.minute) == ("overlap", 10, 2, 11)
    assert (second.count, second.first.minute, second.last.minute) == (3, 13, 15)
    assert crons.health().findings == ("a run goes on for more than 3 periods of 'slow'",)


async def test_what_a_timed_out_or_cancelled_caller_claimed_is_not_left_locked(
    make_crons: MakeCrons, clock: VirtualClock
) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(_raiser_free)
    await crons.start()
    asked = asyncio.create_task(crons.run_job("job"))
    await asyncio.sleep(0)
    asked.cancel()
    await clock.settle(crons)
    assert (await crons.run_job("job")).status == "completed"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
async def test_a_time_limit_that_is_none_is_refused(make_crons: MakeCrons, timeout: float) -> None:
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job")(_raiser_free)
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


async def test_at_most_max_concurrent_runs_go_on_at_a_time(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(max_concurrent_runs=3)
    running: list[int] = [0, 0]

    async def job() -> None:
        running[0] += 1
        running[1] = max(running)
        await clock.sleep(1)
        running[0] -= 1

    for number in range(10):
        crons.cron("0 * * * *", name=f"job-{number}")(job)
    await crons.start()
    await clock.advance(crons, hours=1, minutes=1)
    assert running == [0, 3]
    assert all([len(await runs_of(crons, f"job-{number}")) == 1 for number in range(10)])


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
    assert all(15 <= delay <= 25 for delay in delays[1:]), "the ceiling of the delay"


async def test_results_are_not_kept_where_a_job_says_so(make_crons: MakeCrons) -> None:
    assert (await _result(make_crons, lambda: "kept")).result == '"kept"'
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job", store_result=False)(lambda: "not kept")
    await crons.start()
    assert (await crons.run_job("job")).result is None


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
    assert (run.status, run.result) == ("completed", '"said"')


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
    crons.cron("0 0 1 1 *", name="job")(_raiser_free)
    await crons.start()
    run = await crons.run_job("job", actor="a" * 5_000, note="bad \udc80 \x00")
    assert run.note == "bad \\udc80 \\x00"
    assert len(run.actor or "") < 1_100


async def test_a_job_that_was_just_registered_can_be_run(make_crons: MakeCrons) -> None:
    crons = make_crons()
    await crons.start()
    for number in range(3):
        crons.cron("0 0 1 1 *", name=f"job-{number}")(_raiser_free)
        await asyncio.sleep(0)
        assert (await crons.run_job(f"job-{number}")).status == "completed"


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


async def test_hooks_see_a_result_that_is_not_kept(make_crons: MakeCrons) -> None:
    crons = make_crons()
    seen: list[Any] = []
    crons.cron("0 0 1 1 *", name="job", store_result=False)(lambda: {"rows": 3})
    crons.add_after_run_hook(lambda job, context: seen.append(context["result"]))
    await crons.start()
    assert (await crons.run_job("job")).result is None
    assert seen == [{"rows": 3}]


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
    class Slow:
        @hookimpl
        async def scheduler_started(self) -> None:
            await asyncio.sleep(60)

    crons = make_crons()
    crons.plugins.register(Slow())
    crons.cron("* * * * *")(_raiser_free)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(crons.start(), 0.1)
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
    crons.cron("0 0 1 1 *", name="job")(_raiser_free)
    await crons.start()
    for call in (lambda: crons.run_job("job"), crons.stop):
        with pytest.raises(CronsError, match="another event loop"):
            await asyncio.to_thread(lambda call=call: asyncio.run(call()))  # type: ignore[misc]
    assert (await crons.run_job("job")).status == "completed"


def test_mocks_are_callables_like_any_other() -> None:
    crons = Crons(state_backend=MemoryStateBackend())
    crons.cron("* * * * *", name="mock")(MagicMock())
    crons.cron("* * * * *")(AsyncMock())
    crons.add_before_run_hook(MagicMock())
    assert [job.name for job in crons.get_jobs()] == ["mock", "AsyncMock"]
