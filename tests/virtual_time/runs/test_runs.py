"""What becomes of a run, whatever its function does."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from fastapi_crons import Crons, Run
from fastapi_crons.state import MemoryStateBackend
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import at, missed_of, nothing, runs_of


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
    crons.cron("* * * * *", name="good")(nothing)
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
        (b"\xff no text", "bytes"),
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
    result = run.result
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
    assert run.result == expected


async def test_sync_jobs_run_in_threads_of_their_own(make_crons: MakeCrons) -> None:
    run = await _result(make_crons, lambda: threading.current_thread().name)
    assert isinstance(run.result, str)
    assert run.result.startswith("fastapi-crons-job")


async def test_hung_threads_starve_neither_async_jobs_nor_hooks(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons(max_threads=2, shutdown_timeout=0.05)
    let_go, hooked = threading.Event(), []
    for name in ("hung-1", "hung-2", "waits"):
        crons.cron("* * * * *", name=name)(let_go.wait)
    crons.cron("* * * * *", name="async")(nothing)
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


async def test_a_disabled_job_and_a_disabled_scheduler_run_nothing(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="off", enabled=False)(nothing)
    await crons.start()
    await clock.advance(crons, minutes=5)
    assert await runs_of(crons, "off") == []
    web_only = make_crons(enabled=False)
    web_only.cron("* * * * *", name="job")(nothing)
    await web_only.start()
    assert await runs_of(web_only, "job") == []


async def test_jobs_registered_while_it_runs_are_picked_up(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    await crons.start()
    crons.cron("* * * * *", name="from the loop")(nothing)
    await asyncio.to_thread(lambda: crons.cron("* * * * *", name="from a thread")(nothing))
    await clock.advance(crons, minutes=2)
    assert len(await runs_of(crons, "from the loop")) == 2
    assert len(await runs_of(crons, "from a thread")) == 2


async def test_a_row_of_skipped_ticks_is_one_record(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="slow")(lambda: clock.sleep(630))
    await crons.start()
    await clock.advance(crons, minutes=15)
    assert [at(run) for run in await runs_of(crons, "slow")] == ["00:01:00", "00:12:00"]
    first, second = await missed_of(crons, "slow")
    assert (first.reason, first.count, first.first.minute, first.last.minute) == ("overlap", 10, 2, 11)
    assert (second.count, second.first.minute, second.last.minute) == (3, 13, 15)
    assert crons.health().findings == ("a run has taken more than 3 periods of its schedule: 'slow'",)


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


async def test_results_are_not_kept_where_a_job_says_so(make_crons: MakeCrons) -> None:
    assert (await _result(make_crons, lambda: "kept")).result == "kept"
    crons = make_crons()
    crons.cron("0 0 1 1 *", name="job", store_result=False)(lambda: "not kept")
    await crons.start()
    assert (await crons.run_job("job")).result is None


async def test_hooks_see_a_result_that_is_not_kept(make_crons: MakeCrons) -> None:
    crons = make_crons()
    seen: list[Any] = []
    crons.cron("0 0 1 1 *", name="job", store_result=False)(lambda: {"rows": 3})
    crons.add_after_run_hook(lambda job, context: seen.append(context["result"]))
    await crons.start()
    assert (await crons.run_job("job")).result is None
    assert seen == [{"rows": 3}]


def test_mocks_are_callables_like_any_other() -> None:
    crons = Crons(state_backend=MemoryStateBackend())
    crons.cron("* * * * *", name="mock")(MagicMock())
    crons.cron("* * * * *")(AsyncMock())
    crons.add_before_run_hook(MagicMock())
    assert [job.name for job in crons.get_jobs()] == ["mock", "AsyncMock"]
