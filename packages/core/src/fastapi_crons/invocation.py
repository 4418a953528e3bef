"""How a job's function is called: on the loop or in a thread, within plugins' scopes, timed, and retried."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import sys
from collections.abc import Awaitable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any

from fastapi_crons._threads import ThreadPool
from fastapi_crons.active import ActiveRun
from fastapi_crons.clock import Clock
from fastapi_crons.context import JobContext
from fastapi_crons.outcome import cut, printable, safe_text

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.hooks import HookCall, HookCaller
    from fastapi_crons.plugins import Plugins

logger = logging.getLogger(__name__)

_Scope = AbstractAsyncContextManager[Any] | AbstractContextManager[Any]


class Invoker:
    """Calls the functions of one scheduler's jobs. Sync functions have a pool of threads to themselves."""

    def __init__(self, config: CronConfig, clock: Clock, plugins: Plugins, hooks: HookCaller) -> None:
        self._max_retry_delay = config.max_retry_delay
        self._hook_timeout = config.hook_timeout
        self._clock = clock
        self._plugins = plugins
        self._hooks = hooks
        self._pool = ThreadPool(config.max_threads, "fastapi-crons-job")

    def call(self, run: ActiveRun) -> Coroutine[Any, Any, object]:
        """Call the function of a run as its job says; gives what it returns and raises what the last attempt raises.

        A run that is cut off (`ActiveRun.cut_off`) leaves with CancelledError, unless the function swallows it.
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
                    # Whatever the function made of its cancellation.
                    raised = TimeoutError(run.cut_error("timed_out").message)
                elif run.cut is not None or isinstance(error, asyncio.CancelledError):
                    raise
                if failures == job.max_retries or not isinstance(raised, job.retry_on):
                    raise
                _take_back_cancellations(run)
            await self._wait_before_retry(run, failures, raised)
            run.attempt += 1
        raise AssertionError("unreachable")

    async def _wait_before_retry(self, run: ActiveRun, failures: int, raised: BaseException) -> None:
        delay = min(self._max_retry_delay, run.job.retry_delay * 2 ** min(failures, 60)) * random.uniform(0.75, 1.25)
        logger.warning(
            "job %r failed (%s: %s), attempt %d follows in %.1f s",
            run.job.name,
            type(raised).__name__,
            printable(cut(self._hooks.redacted(run.job.name, "error", safe_text(raised, 10_000)), 200)),
            run.attempt + 1,
            delay,
            extra=run.log_fields,
        )
        await self._clock.sleep(delay)

    def _once(self, run: ActiveRun) -> Coroutine[Any, Any, object]:
        """Call the function once, within its time limit and the plugins' scopes."""
        # Each layer costs every run; most jobs need none of them.
        return self._call(run) if run.timeout is None else self._in_time_limit(run, run.timeout)

    async def _in_time_limit(self, run: ActiveRun, seconds: float) -> object:
        timer = self._clock.call_later(seconds, lambda: run.cut_off("timed_out"))
        try:
            return await self._call(run)
        finally:
            timer.cancel()

    async def _in_scopes(self, run: ActiveRun) -> object:
        """Call the function within what plugins hold around it; they can neither fail the run nor save it."""
        scopes: list[tuple[HookCall, _Scope]] = []
        raised: BaseException | None = None
        try:
            for call in self._plugins.calls("run_scope"):
                scope = await self._enter(call, run)
                if scope is not None:
                    scopes.append((call, scope))
            return await self._function(run)
        except BaseException as error:
            raised = error
            raise
        finally:
            for call, scope in reversed(scopes):
                await self._leave(call, scope, run, raised)

    async def _enter(self, call: HookCall, run: ActiveRun) -> _Scope | None:
        try:
            scope = call.here(job_name=run.job.name, context=run.context(), crons=self._hooks.crons)
            if isinstance(scope, AbstractAsyncContextManager):
                await self._in_time(run, scope.__aenter__())
                return scope
            if isinstance(scope, AbstractContextManager):
                scope.__enter__()
                return scope
            if asyncio.iscoroutine(scope):
                scope.close()
            if scope is not None:
                raise TypeError(f"run_scope must return a context manager, not {type(scope).__name__}")
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled(run):
                raise
            self._hooks.complain(call, "failed on entering", error, {"job_name": run.job.name, "run_id": run.id})
        return None

    async def _leave(self, call: HookCall, scope: _Scope, run: ActiveRun, raised: BaseException | None) -> None:
        how = (None, None, None) if raised is None else (type(raised), raised, raised.__traceback__)
        try:
            if isinstance(scope, AbstractAsyncContextManager):
                await self._in_time(run, scope.__aexit__(*how))
            else:
                scope.__exit__(*how)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and raised is None and is_cancelled(run):
                raise
            if error is not raised:
                self._hooks.complain(call, "failed on leaving", error, {"job_name": run.job.name, "run_id": run.id})

    async def _in_time(self, run: ActiveRun, work: Awaitable[object]) -> None:
        """Await in this very task, whose context variables a scope may set, within the time limit of hooks."""
        task, loop, timed_out = asyncio.current_task(), asyncio.get_running_loop(), False

        def give_up() -> None:
            nonlocal timed_out
            if task is not None:
                if timed_out:
                    logger.error("job %r: a run_scope swallows its cancellation, and holds the run", run.job.name)
                timed_out = True
                task.cancel()
                timers[:] = [loop.call_later(self._hook_timeout, give_up)]

        timers = [loop.call_later(self._hook_timeout, give_up)]
        try:
            await work
        except asyncio.CancelledError:
            if not timed_out or run.cut is not None:
                raise
            _uncancel()
            raise TimeoutError(f"did not end within {self._hook_timeout:g} s") from None
        finally:
            timers[0].cancel()

    def _call(self, run: ActiveRun) -> Coroutine[Any, Any, object]:
        return self._in_scopes(run) if self._plugins.calls("run_scope") else self._function(run)

    async def _function(self, run: ActiveRun) -> object:
        context = {"context": JobContext(run.job, run.snapshot(), run.context())} if run.entry.takes_context else {}
        run.in_function = True
        try:
            if run.entry.is_async:
                value: object = await run.job.func(**context)
            else:
                value = await self._call_in_thread(run, context)
        finally:
            run.in_function = False
        if run.cut is None:
            run.function_ended = True
        return value

    async def _call_in_thread(self, run: ActiveRun, context: dict[str, JobContext]) -> object:
        """Call a sync function off the loop. A cancelled run leaves its thread behind in `run.thread`."""
        run.thread = self._pool.submit(run.job.func, **context)
        try:
            ended = await asyncio.shield(run.thread)
        except asyncio.CancelledError:
            if self._pool.withdraw(run.thread):
                run.thread = None
            raise
        run.thread = None
        if ended.error is not None:
            raise ended.error
        # A plain function may hand out a coroutine: a lambda, a partial, a callable object.
        return await ended.value if inspect.isawaitable(ended.value) else ended.value


def is_cancelled(run: ActiveRun) -> bool:
    """Whether somebody cancelled the run's task, as opposed to its code raising CancelledError by itself."""
    if run.cut is not None:
        return True
    if sys.version_info >= (3, 11):
        return run.task is not None and run.task.cancelling() > 0
    return False


def _take_back_cancellations(run: ActiveRun) -> None:
    """Take back those that were ours, so that time limits inside the function count rightly."""
    for _ in range(run.cuts):
        _uncancel()
    run.cut, run.cuts = None, 0


def _uncancel() -> None:
    """Take back our own cancellation, so that time limits inside the function count rightly."""
    if sys.version_info >= (3, 11):
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
