"""Runner: the one path of a run, whoever asked for it.

before hooks → function (retried, timed) → record → after or error hooks → lease given back
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal

from fastapi_crons._signals import InterruptWatch
from fastapi_crons._threads import Ended, ThreadPool
from fastapi_crons.clock import Clock, begin_root_task
from fastapi_crons.context import missed_context, run_context
from fastapi_crons.errors import SkipRun
from fastapi_crons.hookspecs import HookContext
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import LeaseRef
from fastapi_crons.outcome import error_of, result_json, safe_text
from fastapi_crons.run import MissedReason, MissedTicks, Run, RunError, RunStatus, Trigger
from fastapi_crons.ticks import Row

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.plugins import HookCaller, Plugins
    from fastapi_crons.recorder import Recorder
    from fastapi_crons.timeline import Entry

logger = logging.getLogger(__name__)

_VETO = SkipRun.__name__

#: Why a run is cut off from outside.
Cut = Literal["timed_out", "cancelled", "interrupted"]

_CUT_MESSAGES: dict[Cut, str] = {
    "timed_out": "did not end within its time limit",
    "cancelled": "was cancelled",
    "interrupted": "was cut off when the scheduler stopped",
}


class ActiveRun:
    """A run that goes on in this instance."""

    __slots__ = (
        "actor",
        "attempt",
        "cut",
        "ended",
        "entry",
        "function_ended",
        "id",
        "in_function",
        "instance",
        "job",
        "missed",
        "note",
        "outcome",
        "started_ts",
        "task",
        "thread",
        "tick_ts",
        "timeout",
        "token",
        "trigger",
    )

    def __init__(
        self, entry: Entry, run_id: str, tick_ts: int | None, trigger: Trigger, token: int, attempt: int
    ) -> None:
        self.entry = entry
        self.job: CronJob = entry.job
        self.id = run_id
        self.tick_ts = tick_ts
        self.trigger: Trigger = trigger
        self.token = token
        self.attempt = attempt
        self.timeout = entry.job.timeout
        self.missed: Row | None = None
        self.actor: str | None = None
        self.note: str | None = None
        self.instance = ""
        self.started_ts = 0.0
        self.task: asyncio.Task[None] | None = None
        #: The thread's future, while a sync function runs.
        self.thread: asyncio.Future[Ended] | None = None
        #: Why the run was cut off, and whether its function had ended before that.
        self.cut: Cut | None = None
        self.function_ended = False
        #: Whether the function, or the thread that it left behind, is what the run waits for.
        self.in_function = False
        self.outcome: Run | None = None
        #: Set when the run has ended and its lease is given back, for those who wait for it.
        self.ended: asyncio.Event | None = None

    def cut_off(self, reason: Cut) -> None:
        """Cancel the function; without effect once it has ended."""
        if not self.function_ended and self.task is not None:
            if self.cut is None:
                self.cut = reason
            self.task.cancel()

    def snapshot(self) -> Run:
        """The run as it is now."""
        return self.outcome or self.record("running", None)

    def record(
        self, status: RunStatus, ended_ts: float | None, error: RunError | None = None, result: str | None = None
    ) -> Run:
        missed = self.missed
        return Run(
            self.id,
            self.job.name,
            self.tick_ts,
            self.trigger,
            self.attempt,
            self.instance,
            self.token,
            status,
            self.started_ts,
            ended_ts,
            error,
            result,
            0 if missed is None else missed.number,
            None if missed is None else missed.first,
            self.actor,
            self.note,
        )


class Runner:
    """Executes runs, and tells recorder and hooks what became of them."""

    def __init__(
        self,
        config: CronConfig,
        clock: Clock,
        plugins: Plugins,
        hooks: HookCaller,
        recorder: Recorder,
        instance_id: str,
        interrupts: InterruptWatch,
        on_released: Callable[[ActiveRun], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._plugins = plugins
        self._hooks = hooks
        self._recorder = recorder
        self._instance_id = instance_id
        self._on_released = on_released
        self._pool = ThreadPool(config.max_threads, "fastapi-crons-job")
        self._interrupts = interrupts
        self._create_task = asyncio.get_running_loop().create_task
        #: Work that nobody waits for: hooks about ticks and about runs of other processes.
        self.background: set[asyncio.Task[None]] = set()
        self.active: dict[str, ActiveRun] = {}
        #: How many of these run in a thread, and how many are late ticks.
        self.in_threads = 0
        self.catching_up = 0

    def start(self, run: ActiveRun) -> None:
        """Start a run whose lease is held."""
        run.instance = self._instance_id
        run.started_ts = self._clock.now()
        run.entry.running += 1
        self.in_threads += not run.entry.is_async
        self.catching_up += run.trigger == "catch_up"
        self.active[run.id] = run
        self._recorder.started(run.id, run)
        run.task = self._create_task(self._execute(run))

    def let_go(self, job: CronJob, row: Row, reason: MissedReason, detail: str | None = None) -> None:
        """Record ticks that are not run, and tell the hooks."""
        ticks = MissedTicks(
            job.name, row.first, row.last, row.number, reason, self._clock.now(), self._instance_id, row.more, detail
        )
        self._recorder.missed(ticks)
        logger.warning(
            "job %r: %s%d tick(s) up to %s not run: %s",
            job.name,
            "at least " if row.more else "",
            row.number,
            ticks.last.isoformat(),
            reason if detail is None else f"{reason}: {detail}",
        )
        hook = "run_skipped" if reason in ("overlap", "vetoed") else "tick_missed"
        if self._hooks.wanted(hook, job.name):
            self.in_background(self._hooks.for_job(hook, job.name, missed_context(job, ticks)))

    def closed_elsewhere(self, job: CronJob, run: Run) -> None:
        """Record the outcome of a run that ended without us, because its process died, and tell the hooks."""
        self._recorder.ended(run)
        logger.error("job %r: run %s of instance %s was cut off: its process is gone", job.name, run.id, run.instance)
        if self._hooks.wanted("on_error", job.name):
            self.in_background(self._hooks.for_job("on_error", job.name, run_context(job, run)))

    def in_background(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine that nobody waits for, owned until it ends."""
        task = self._create_task(_as_root_task(work))
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def drain(self, timeout: float) -> None:
        """Wait for what runs in the background, within a bound."""
        await self._clock.wait(list(self.background), timeout)

    def abandon(self, run: ActiveRun) -> None:
        """Leave a run behind that does not end, at a stop: its record is closed and its lease given back."""
        logger.error("job %r did not end in time and is left behind", run.job.name)
        if run.outcome is None:
            self._end(run, "interrupted", RunError("CancelledError", _CUT_MESSAGES["interrupted"]), None)
        self._release(run)

    async def _execute(self, run: ActiveRun) -> None:
        begin_root_task()
        status: RunStatus = "completed"
        error: RunError | None = None
        result: str | None = None
        try:
            result = await self._call_hooked(run)
        except asyncio.CancelledError as cancelled:
            status, error = self._after_cancellation(run, cancelled)
        except SkipRun as veto:
            status, error = "cancelled", RunError(_VETO, safe_text(veto.reason, 200))
        except BaseException as raised:
            if run.cut is not None:
                status, error = self._after_cancellation(run, raised)
            else:
                status, error = "failed", error_of(raised, self._config.max_error_chars)
            if isinstance(raised, KeyboardInterrupt) and self._interrupts.seen:
                self._end(run, status, error, result)
                raise
        else:
            if run.cut is not None and not run.function_ended:
                status, error = self._after_cancellation(run, None)
        self._end(run, status, error, result)
        await self._finish(run)

    async def _call_hooked(self, run: ActiveRun) -> str | None:
        """Call the before hooks and the function; returns its result as JSON."""
        job = run.job
        if self._hooks.wanted("before_run", job.name):
            veto = await self._hooks.for_job("before_run", job.name, run_context(job, run.snapshot()))
            if veto is not None:
                raise veto
        value = await (self._with_retries(run) if job.max_retries else self._once(run))
        return None if value is None or not job.store_result else result_json(value, self._config.max_result_bytes)

    def _end(self, run: ActiveRun, status: RunStatus, error: RunError | None, result: str | None) -> None:
        """Keep the outcome. From here on nothing runs the function again."""
        run.function_ended = True
        if run.outcome is not None:
            return  # it was left behind at a stop, and that is its record
        outcome = run.outcome = run.record(status, self._clock.now(), error, result)
        self._recorder.ended(outcome)
        if error is None:
            if logger.isEnabledFor(logging.INFO):
                logger.info("job %r completed in %.3f s", run.job.name, outcome.duration)
        elif error.type != _VETO:
            logger.error("job %r %s: %s: %r", run.job.name, status, error.type, error.message)
        elif run.tick_ts is not None:
            self.let_go(run.job, Row(run.tick_ts, run.tick_ts, 1), "vetoed", error.message)

    async def _finish(self, run: ActiveRun) -> None:
        """Call the hooks; then, when the function has really ended, give the lease back."""
        outcome = run.snapshot()
        hook = "after_run" if outcome.status == "completed" else "on_error"
        vetoed = outcome.error is not None and outcome.error.type == _VETO
        try:
            if not vetoed and self._hooks.wanted(hook, run.job.name):
                await self._hooks.for_job(hook, run.job.name, run_context(run.job, outcome))
        finally:
            if run.thread is not None and not run.thread.done():
                logger.error("job %r: its thread goes on after the run: %s", run.job.name, outcome.status)
                run.in_function = True
                run.thread.add_done_callback(lambda _: self._release(run))
            else:
                self._release(run)

    def _release(self, run: ActiveRun) -> None:
        if self.active.pop(run.id, None) is None:
            return  # it was left behind at a stop
        self.in_threads -= not run.entry.is_async
        self.catching_up -= run.trigger == "catch_up"
        self._recorder.release(LeaseRef(run.job.name, run.id, run.token), lambda: self._released(run))

    def _released(self, run: ActiveRun) -> None:
        run.entry.running -= 1
        if run.ended is not None:
            run.ended.set()
        self._on_released(run)

    async def _with_retries(self, run: ActiveRun) -> object:
        job = run.job
        for failures in range(job.max_retries + 1):
            try:
                return await self._once(run)
            except asyncio.CancelledError:
                if run.cut != "timed_out" or run.thread is not None:
                    raise
                raised: BaseException = TimeoutError(_CUT_MESSAGES["timed_out"])
                if failures == job.max_retries or not isinstance(raised, job.retry_on):
                    raise
                run.cut = None
                _uncancel()
            except job.retry_on as error:
                if failures == job.max_retries or run.cut is not None or isinstance(error, SkipRun):
                    raise
                raised = error
            delay = min(self._config.max_retry_delay, job.retry_delay * 2**failures) * random.uniform(0.75, 1.25)
            logger.warning(
                "job %r failed (%s), attempt %d follows in %.1f s",
                job.name,
                safe_text(raised, 200),
                run.attempt + 1,
                delay,
            )
            await self._clock.sleep(delay)
            run.attempt += 1
        raise AssertionError("unreachable")

    async def _once(self, run: ActiveRun) -> object:
        """Call the function once, within its time limit and the plugins' scopes."""
        timer = None
        if run.timeout is not None:
            timer = self._clock.call_later(run.timeout, lambda: run.cut_off("timed_out"))
        try:
            if self._plugins.calls("run_scope"):
                return await self._in_scopes(run)
            return await self._call(run)
        finally:
            if timer is not None:
                timer.cancel()

    async def _call(self, run: ActiveRun) -> object:
        run.in_function = True
        try:
            value: object = await (run.job.func() if run.entry.is_async else self._call_in_thread(run))
        finally:
            run.in_function = False
        if run.cut is None:
            run.function_ended = True
        return value

    async def _call_in_thread(self, run: ActiveRun) -> object:
        """Call a sync function off the loop. A cancelled run leaves its thread behind in `run.thread`."""
        run.thread = self._pool.submit(run.job.func)
        ended = await asyncio.shield(run.thread)
        run.thread = None
        if ended.error is not None:
            raise ended.error
        # A plain function may hand out a coroutine: a lambda, a partial, a callable object.
        return await ended.value if inspect.isawaitable(ended.value) else ended.value

    async def _in_scopes(self, run: ActiveRun) -> object:
        async with AsyncExitStack() as stack:
            for call in self._plugins.calls("run_scope"):
                try:
                    scope = call.function(*_taken(call.arguments, run.job.name, run_context(run.job, run.snapshot())))
                    if isinstance(scope, AbstractAsyncContextManager):
                        await stack.enter_async_context(scope)
                    elif scope is not None:
                        stack.enter_context(scope)
                except Exception:
                    logger.exception("hook run_scope of plugin %r failed", call.plugin_name)
            return await self._call(run)

    def _after_cancellation(self, run: ActiveRun, raised: BaseException | None) -> tuple[RunStatus, RunError]:
        if run.cut is not None:
            message = _CUT_MESSAGES[run.cut]
            if run.cut == "timed_out" and run.timeout is not None:
                message = f"{message} of {run.timeout:g} s"
            return run.cut, RunError("TimeoutError" if run.cut == "timed_out" else "CancelledError", message)
        if raised is not None and not _cancelled_from_outside(run.task):
            return "failed", error_of(raised, self._config.max_error_chars)
        return "interrupted", RunError("CancelledError", "was cancelled from outside the scheduler")


async def _as_root_task(work: Coroutine[Any, Any, object]) -> None:
    begin_root_task()
    await work


def _taken(names: tuple[str, ...], job_name: str, context: HookContext) -> list[object]:
    given: dict[str, object] = {"job_name": job_name, "context": context}
    return [given[name] for name in names]


def _cancelled_from_outside(task: asyncio.Task[None] | None) -> bool:
    """Whether somebody cancelled the task, as opposed to its function raising CancelledError by itself."""
    if sys.version_info >= (3, 11):
        return task is not None and task.cancelling() > 0
    return False


def _uncancel() -> None:
    """Take back our own cancellation, so that time limits inside the function count rightly."""
    if sys.version_info >= (3, 11):
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
