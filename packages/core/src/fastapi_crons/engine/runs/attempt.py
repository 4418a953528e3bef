"""Attempts: calls a job's function, on the loop or in a thread, within its time limit, and again after a failure."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from fastapi_crons._util.callables import is_awaitable
from fastapi_crons._util.exceptions import is_a
from fastapi_crons._util.text import cut, printable, safe_text, type_name
from fastapi_crons._util.threads import ThreadPool
from fastapi_crons.clock import Clock, Timer
from fastapi_crons.engine.runs.context import JobContext
from fastapi_crons.engine.runs.result_json import drained
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.scopes import Scopes
from fastapi_crons.run import short_id

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.plugins.calls import HookCaller
    from fastapi_crons.plugins.registry import Plugins

logger = logging.getLogger(__name__)


class TimeLimit:
    """The time limit of one call of a run's function. It begins when the function does, not while a thread is waited for."""

    __slots__ = ("_clock", "_over", "_run", "_seconds", "_timer")

    def __init__(self, clock: Clock, run: ActiveRun, seconds: float) -> None:
        self._clock, self._run, self._seconds = clock, run, seconds
        self._timer: Timer | None = None
        self._over = False

    def begin(self) -> None:
        """The function begins."""
        if not self._over:
            self._timer = self._clock.call_later(self._seconds, lambda: self._run.cut_off("timed_out"))

    def end(self) -> None:
        """The function has ended, or is no longer waited for."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()


class Attempts:
    """Calls the functions of one scheduler's jobs. Sync functions have a pool of threads to themselves."""

    def __init__(
        self,
        config: CronConfig,
        clock: Clock,
        plugins: Plugins,
        hooks: HookCaller,
        settle_lease: Callable[[ActiveRun], Awaitable[None]],
    ) -> None:
        self._max_retry_delay = config.max_retry_delay
        self._max_result_bytes = config.max_result_bytes
        self._clock = clock
        self._hooks = hooks
        self._scopes = Scopes(plugins, hooks, config.hook_timeout)
        self._pool = ThreadPool(config.max_threads, "fastapi-crons-job")
        self._settle_lease = settle_lease

    def call(self, run: ActiveRun) -> Coroutine[Any, Any, object]:
        """Call the function of a run as its job says. Returns what it returns, and raises what the last attempt raises.

        A run that is cut off (`ActiveRun.cut_off`) raises CancelledError, unless the function swallows it.
        """
        return self._with_retries(run) if run.job.max_retries else self._once(run)

    async def _with_retries(self, run: ActiveRun) -> object:
        job = run.job
        for failures in range(job.max_retries + 1):
            try:
                return await self._once(run)
            except BaseException as error:
                raised = error
                if run.cut == "timed_out" and not run.thread_lives:
                    # The function may have turned its cancellation into another error.
                    raised = TimeoutError(run.cut_error("timed_out").message)
                elif run.cut is not None or is_a(error, asyncio.CancelledError):
                    raise
                if failures == job.max_retries or not is_a(raised, job.retry_on):
                    raise
                run.take_back_cuts()
            await self._wait_before_retry(run, failures, raised)
            await self._settle_lease(run)
            run.attempt += 1
        raise AssertionError("unreachable")

    async def _wait_before_retry(self, run: ActiveRun, failures: int, raised: BaseException) -> None:
        grown: float = run.job.retry_delay * 2 ** min(failures, 60)
        delay = min(self._max_retry_delay, grown * random.uniform(0.75, 1.25))
        logger.warning(
            "job %r failed (run %s), attempt %d follows in %.1f s: %s: %s",
            run.job.name,
            short_id(run.id),
            run.attempt + 1,
            delay,
            type_name(raised),
            printable(cut(self._hooks.redacted(run.job.name, "error", safe_text(raised, 10_000)), 200)),
            extra=run.log_fields,
        )
        await self._clock.sleep(delay)

    def _once(self, run: ActiveRun) -> Coroutine[Any, Any, object]:
        """Call the function once, within the plugins' scopes, and inside those within its time limit."""
        # Each layer costs every run; most jobs need none of them.
        return self._scopes.around(run, self._function) if self._scopes.wanted else self._function(run)

    async def _function(self, run: ActiveRun) -> object:
        arguments: dict[str, object] = {}
        if run.job.takes_context:
            context = JobContext(run.job, run.snapshot(), run.asked_ts)
            arguments = dict.fromkeys(run.job.parameters.context, context)
        run.in_function = True
        try:
            value = await self._invoke(run, arguments)
        finally:
            run.in_function = False
        if run.cut is None:
            run.function_ended = True
        return value

    async def _invoke(self, run: ActiveRun, arguments: Mapping[str, object]) -> object:
        """Call the function with these arguments within its time limit, on the loop or in a thread."""
        limit = None if run.timeout is None else TimeLimit(self._clock, run, run.timeout)
        try:
            if not run.job.is_async:
                return await self._call_in_thread(run, arguments, limit)
            if limit is not None:
                limit.begin()
            return await run.job.func(**arguments)
        finally:
            if limit is not None:
                limit.end()

    async def _call_in_thread(self, run: ActiveRun, arguments: Mapping[str, object], limit: TimeLimit | None) -> object:
        """Call a sync function in a thread. A cancelled run leaves it behind in `run.thread`."""
        clock, loop = self._clock, asyncio.get_running_loop()
        waits_since, waited_before = clock.monotonic(), run.waited

        def begins() -> None:
            run.waited, run.waits = waited_before + clock.monotonic() - waits_since, False
            if limit is not None:
                loop.call_soon_threadsafe(limit.begin)

        run.waits = True
        run.thread = self._pool.submit(lambda: drained(run.job.func(**arguments), self._max_result_bytes), begins)
        try:
            ended = await asyncio.shield(run.thread)
        except asyncio.CancelledError:
            if self._pool.withdraw(run.thread):
                run.thread = None
                run.waited, run.waits = waited_before + clock.monotonic() - waits_since, False
            raise
        run.thread = None
        if ended.error is not None:
            raise ended.error
        # A plain function may return a coroutine: a lambda, a partial, a callable object.
        return await ended.value if is_awaitable(ended.value) else ended.value
