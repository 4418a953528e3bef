"""Jobs that run in processes of their own."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import Depends

from fastapi_crons import CronConfig, CronJob, Crons, JobDefinitionError, LogLine, Run
from fastapi_crons.state import MemoryStateBackend
from tests.integration import process_jobs
from tests.support import runs_of, state_of, until_async

pytestmark = pytest.mark.leaves("task", "anyio keeps children for the next calls, until the event loop ends")


async def _ran(function: Callable[..., object], timeout: float | None = None, **options: object) -> Run:
    """A run by hand of a job in a process, with its log."""
    async with Crons(state_backend=MemoryStateBackend()) as crons:
        crons.cron("0 0 1 1 *", name="job", run_in="process", kwargs=options)(function)
        run = await crons.run_job("job", timeout=timeout)
        found = await until_async(lambda: state_of(crons).run(run.id))
        return found if found is not None and found.ended_ts is not None else run


async def test_it_runs_elsewhere_with_its_context_and_context_variables() -> None:
    process_jobs.tenant.set("of the app")
    run = await _ran(process_jobs.where)
    assert run.status == "completed"
    assert isinstance(run.result, list)
    pid, *rest = run.result
    assert pid != os.getpid()
    assert rest == ["job", "job", "of the app"]


async def test_a_coroutine_function_has_an_event_loop_of_its_own() -> None:
    assert (await _ran(process_jobs.on_a_loop, times=3)).result == 63


async def test_its_time_limit_ends_what_never_ends() -> None:
    began = time.monotonic()
    run = await _ran(process_jobs.busy, timeout=0.5)
    assert run.status == "timed_out"
    assert run.duration is not None
    assert run.duration - run.waited < time.monotonic() - began
    assert not _children()


async def test_what_it_logs_is_on_record_while_it_runs() -> None:
    async with Crons(state_backend=MemoryStateBackend()) as crons:
        crons.cron("0 0 1 1 *", name="job", run_in="process")(process_jobs.busy)
        running = asyncio.ensure_future(crons.run_job("job"))

        async def logged() -> list[str]:
            runs = await state_of(crons).unfinished()
            found = await state_of(crons).run(runs[0].id) if runs else None
            return [] if found is None or found.ended is not None else [line.message for line in found.log]

        assert await until_async(logged) == ["busy from now on"]
        (run,) = await state_of(crons).unfinished()
        await crons.cancel_run(run.id)
        assert (await running).status == "cancelled"


async def test_a_cancellation_ends_what_never_ends(caplog: pytest.LogCaptureFixture) -> None:
    async with Crons(state_backend=MemoryStateBackend()) as crons:
        crons.cron("0 0 1 1 *", name="job", run_in="process")(process_jobs.busy)
        running = asyncio.create_task(crons.run_job("job"))
        await until_async(lambda: "busy from now on" in caplog.messages)
        (begun,) = await until_async(lambda: runs_of(crons, "job"))
        assert await crons.cancel_run(begun.id)
        cut_off = await running
        assert cut_off.status == "cancelled"
        assert [line.message for line in cut_off.log] == ["busy from now on"]
        assert not _children()


async def test_a_cancellation_while_its_process_starts_leaves_none_behind_and_calls_no_function(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    async with Crons(state_backend=MemoryStateBackend()) as crons:
        crons.cron("0 0 1 1 *", name="job", run_in="process", kwargs={"path": str(ran)})(process_jobs.touch)
        begun = asyncio.create_task(crons.run_job("job"))
        await until_async(lambda: bool(_children()))
        (run,) = await runs_of(crons, "job")
        assert await crons.cancel_run(run.id)
        assert (await begun).status == "cancelled"
        assert not ran.exists()
        assert (await crons.run_job("job")).status == "completed"
        assert ran.exists()
        assert len(_children()) == 1, "the one that is kept for the next runs"


async def test_its_error_comes_back_with_its_traceback_and_can_be_retried() -> None:
    async with Crons(state_backend=MemoryStateBackend()) as crons:
        crons.cron("0 0 1 1 *", name="job", run_in="process", max_retries=1, retry_delay=0, retry_on=LookupError)(
            process_jobs.fails
        )
        run = await crons.run_job("job")
    assert (run.status, run.attempt) == ("failed", 2)
    assert run.error is not None
    assert (run.error.type, run.error.message) == ("LookupError", "no such report")
    assert "process_jobs.py" in run.error.traceback
    assert "in fails" in run.error.traceback


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (process_jobs.fails_unreadably, "one"),
        (process_jobs.fails_locally, "LocalError: known nowhere else"),
        (process_jobs.fails_to_be_made, "UnmakeableError: 7"),
        (process_jobs.dies, "the process of the run died before the function had ended"),
    ],
)
async def test_what_can_not_come_back_fails_the_run(function: Callable[..., object], said: str) -> None:
    run = await _ran(function)
    assert run.status == "failed"
    assert run.error is not None
    assert said in run.error.message


async def test_an_error_with_arguments_of_its_own_is_retried() -> None:
    async with Crons(state_backend=MemoryStateBackend()) as crons:
        crons.cron(
            "0 0 1 1 *", name="job", run_in="process", max_retries=1, retry_delay=0, retry_on=process_jobs.CodedError
        )(process_jobs.fails_once)
        run = await crons.run_job("job")
    assert (run.status, run.attempt, run.result) == ("completed", 2, "ok")


async def test_what_it_starts_has_no_part_in_how_its_process_is_called() -> None:
    for _ in range(2):
        assert (await _ran(process_jobs.uses_the_streams)).result == [0, "", ""]


async def test_what_it_has_started_ends_with_a_run_that_is_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "child"
    async with Crons(state_backend=MemoryStateBackend()) as crons:
        crons.cron("0 0 1 1 *", name="job", run_in="process", kwargs={"file": str(file)})(process_jobs.leaves_a_child)
        running = asyncio.create_task(crons.run_job("job"))
        await until_async(lambda: file.exists() and file.read_text() != "")
        pid = file.read_text()
        (begun,) = await runs_of(crons, "job")
        assert await crons.cancel_run(begun.id)
        assert (await running).status == "cancelled"
    await until_async(lambda: not Path(f"/proc/{pid}").exists() or _is_dead(int(pid)))


def _is_dead(pid: int) -> bool:
    """Whether a process has ended, and only waits to be asked how."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


async def test_what_it_logs_is_kept_and_reaches_the_handlers_here(caplog: pytest.LogCaptureFixture) -> None:
    run = await _ran(process_jobs.says)
    assert [_line(line) for line in run.log] == [
        ("WARNING", "tests.integration.process_jobs", "a warning of the module"),
        ("INFO", "fastapi_crons.job", "a word of the context"),
    ]
    assert "a warning of the module" in caplog.messages


def _line(line: LogLine) -> tuple[str, str, str]:
    return line.level, line.logger, line.message


async def test_a_result_that_is_too_large_or_no_json_is_described() -> None:
    assert isinstance((await _ran(process_jobs.large)).result, dict)
    assert (await _ran(process_jobs.lock)).status == "completed"


async def test_no_more_run_at_a_time_than_there_is_room_for() -> None:
    async with Crons(state_backend=MemoryStateBackend(), config=CronConfig(max_processes=1)) as crons:
        crons.cron("0 0 1 1 *", name="job", run_in="process", overlap="allow", kwargs={"seconds": 0.3})(
            process_jobs.sleeps
        )
        runs = await asyncio.gather(*(crons.run_job("job") for _ in range(3)))
    assert [run.status for run in runs] == ["completed"] * 3
    assert sum(run.waited >= 0.3 for run in runs) >= 2


async def test_a_job_may_have_children_of_its_own_and_end_them() -> None:
    assert (await _ran(process_jobs.has_children)).result == [[2, 4], -15]


async def test_nothing_is_left_of_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    await _ran(process_jobs.busy, timeout=0.2)
    await _ran(process_jobs.on_a_loop)
    assert not list(tmp_path.glob("fastapi-crons-*"))


async def _depends(number: Annotated[int, Depends(lambda: 1)]) -> None: ...


def _local() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


async def test_a_process_of_a_coroutine_or_a_loop_for_a_function_is_a_choice() -> None:
    async with Crons(state_backend=MemoryStateBackend()) as crons:
        crons.cron("0 0 1 1 *", name="job", run_in="loop")(threading.get_ident)
        assert (await crons.run_job("job")).result == threading.get_ident()


@pytest.mark.parametrize(
    ("function", "run_in", "said"),
    [
        (_local(), "process", "another process can't find _local.<locals>.inner"),
        (lambda: None, "process", "another process can't find <lambda>"),
        (
            functools.partial(process_jobs.takes_anything, threading.Lock()),
            "process",
            "another process can't be passed it",
        ),
        (_depends, "process", "dependencies can't be passed to another process"),
        (process_jobs.on_a_loop, "thread", "a coroutine function runs on the event loop, or in a process"),
        (process_jobs.fails, "elsewhere", "choose one of loop, thread, process"),
        (process_jobs.fails, "", "choose one of loop, thread, process"),
    ],
)
def test_what_can_not_run_there_is_refused_when_the_job_is_defined(
    function: Callable[..., object], run_in: str, said: str
) -> None:
    with pytest.raises(JobDefinitionError) as refused:
        CronJob(function, "0 * * * *", "job", run_in=run_in)  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert "'job'" in str(refused.value)


def _children() -> list[int]:
    """The processes that this one has started and that are busy."""
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found if b"anyio" in Path(f"/proc/{pid}/cmdline").read_bytes()]
