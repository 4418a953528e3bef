"""Attempts: calls a job's function, on the loop, in a thread or in a process, within its time limit, and retries it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from copy import deepcopy
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from fastapi_crons._util.callables import is_awaitable
from fastapi_crons._util.exceptions import is_a
from fastapi_crons._util.text import cut, printable, safe_text, traceback_text, type_name
from fastapi_crons._util.threads import Ended, ThreadPool
from fastapi_crons.clock import Clock, Timer
from fastapi_crons.engine.runs.context import JobContext
from fastapi_crons.engine.runs.log import relay
from fastapi_crons.engine.runs.result_json import drained
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.scopes import Scopes
from fastapi_crons.functions.dependencies import Resolver, Served
from fastapi_crons.job import CronJob
from fastapi_crons.run import RETRY_LOGGER, short_id

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.engine.runs.processes import Processes
    from fastapi_crons.plugins.calls import HookCaller
    from fastapi_crons.plugins.registry import Plugins

logger = logging.getLogger(__name__)


class TimeLimit:
    """The time limit of one attempt. It begins when the function does, or what it depends on is opened.

    While a thread or a process is waited for, it stands still.
    """

    __slots__ = ("_began", "_clock", "_over", "_run", "_seconds", "_timer")

    def __init__(self, clock: Clock, run: ActiveRun, seconds: float) -> None:
        self._clock, self._run, self._seconds = clock, run, seconds
        self._timer: Timer | None = None
        self._began = 0.0
        self._over = False

    def begin(self) -> None:
        """Begin, or go on after a pause; no effect where it has begun."""
        if not self._over and self._timer is None:
            self._began = self._clock.monotonic()
            self._timer = self._clock.call_later(self._seconds, lambda: self._run.cut_off("timed_out"))

    def pause(self) -> None:
        """Stand still until it begins again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._seconds = max(0.0, self._seconds - (self._clock.monotonic() - self._began))

    def end(self) -> None:
        """The attempt has ended, or is no longer waited for."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()


class _Wait:
    """A run waits for a thread or a process. Its time limit stands still; how long it waits is on record."""

    __slots__ = ("_before", "_clock", "_run", "_since")

    def __init__(self, clock: Clock, run: ActiveRun, limit: TimeLimit | None) -> None:
        if limit is not None:
            limit.pause()
        self._clock, self._run = clock, run
        self._since, self._before = clock.monotonic(), run.waited
        run.waits = True

    def end(self) -> None:
        """The function begins, or is not waited for any more; no effect where it has begun."""
        run = self._run
        if run.waits:
            run.waited, run.waits = self._before + self._clock.monotonic() - self._since, False


class Attempts:
    """Calls the functions of one scheduler's jobs. Sync functions have a pool of threads to themselves."""

    def __init__(
        self,
        config: CronConfig,
        clock: Clock,
        plugins: Plugins,
        hooks: HookCaller,
        served: Callable[[], Served],
        settle_lease: Callable[[ActiveRun], Awaitable[None]],
    ) -> None:
        self._max_retry_delay = config.max_retry_delay
        self._max_result_bytes = config.max_result_bytes
        self._clock = clock
        self._hooks = hooks
        self._scopes = Scopes(plugins, hooks, config.hook_timeout)
        self._pool = ThreadPool(config.max_threads, "fastapi-crons-job")
        self._max_processes = config.max_processes
        self._processes: Processes | None = None
        self._settle_lease = settle_lease
        self._served = served
        #: By the job's name, with the definition that it was made for.
        self._resolvers: dict[str, tuple[CronJob, Resolver]] = {}
        #: Those that keep the dependencies of functions in threads open.
        self._tasks: set[asyncio.Task[Ended]] = set()

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
        text = printable(cut(self._hooks.redacted(run.job.name, "error", safe_text(raised, 10_000)), 200))
        logger.warning(
            "job %r failed (run %s), attempt %d follows in %.1f s: %s: %s",
            run.job.name,
            short_id(run.id),
            run.attempt + 1,
            delay,
            type_name(raised),
            text,
            extra=run.log_fields,
        )
        run.keep_record(
            logging.LogRecord(
                RETRY_LOGGER,
                logging.WARNING,
                __file__,
                0,
                "attempt %d failed: %s: %s; the next one follows in %.1f s",
                (run.attempt, type_name(raised), text, delay),
                None,
            )
        )
        await self._clock.sleep(delay)

    def _once(self, run: ActiveRun) -> Coroutine[Any, Any, object]:
        """Call the function once, within the plugins' scopes, and inside those within its time limit."""
        # Each layer costs every run; most jobs need none of them.
        return self._scopes.around(run, self._function) if self._scopes.wanted else self._function(run)

    async def _function(self, run: ActiveRun) -> object:
        # A copy for each attempt, which may change what it is given.
        arguments: dict[str, object] = deepcopy(dict(run.arguments)) if run.arguments else {}
        asked_for = run.job.parameters
        if asked_for.context:
            context = JobContext(run.job, run.snapshot(), run.asked_ts)
            arguments.update(dict.fromkeys(asked_for.context, context))
        limit = None if run.timeout is None else TimeLimit(self._clock, run, run.timeout)
        run.in_function = True
        try:
            begin = self._with_dependencies if asked_for.dependencies else self._begin
            value = begin(run, arguments, limit)
            if type(value) is CoroutineType or is_awaitable(value):
                value = await value
        finally:
            run.in_function = False
            if limit is not None:
                limit.end()
        if run.cut is None:
            run.function_ended = True
        return value

    async def _with_dependencies(
        self, run: ActiveRun, arguments: Mapping[str, object], limit: TimeLimit | None
    ) -> object:
        """Call the function with what it depends on. To open and to close that is part of the attempt and its time."""
        job, resolver = self._resolvers.get(run.job.name, (None, None))
        if resolver is None or job is not run.job:
            resolver = Resolver(run.job.parameters.dependencies, self._served)
            self._resolvers[run.job.name] = run.job, resolver
        if limit is not None:
            limit.begin()
        if run.job.run_in != "thread":
            return await resolver.around(lambda given: _awaited(self._begin(run, {**arguments, **given}, limit)))
        left_behind: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return await self._until_left_behind(
            run,
            resolver.around(lambda given: self._call_in_thread(run, {**arguments, **given}, limit, left_behind)),
            left_behind,
        )

    async def _until_left_behind(
        self, run: ActiveRun, call: Awaitable[object], left_behind: asyncio.Future[None]
    ) -> object:
        """What a call returns, around a thread, of a function with dependencies.

        A run that is cut off does not wait for the thread; but what the function works with stays open until it has ended.
        """
        task = asyncio.create_task(_ended(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        either: tuple[asyncio.Future[Any], ...] = (task, left_behind)
        while not task.done():
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                task.cancel()
            if left_behind.done():
                task.add_done_callback(lambda task: _log_closed(run, task.result()))
                raise asyncio.CancelledError
        return _value_of(task.result())

    def _begin(self, run: ActiveRun, arguments: Mapping[str, object], limit: TimeLimit | None) -> object:
        """Call the function, on the loop, in a thread or in a process. What can be awaited gives what it returns."""
        if run.job.run_in == "loop":
            if limit is not None:
                limit.begin()
            return run.job.func(**arguments)
        call = self._call_in_thread if run.job.run_in == "thread" else self._call_in_process
        return call(run, arguments, limit)

    async def _call_in_process(
        self, run: ActiveRun, arguments: Mapping[str, object], limit: TimeLimit | None
    ) -> object:
        """Call a function in a child process, which ends with a run that is cut off."""
        wait = _Wait(self._clock, run, limit)

        def begins() -> None:
            wait.end()
            if limit is not None:
                limit.begin()

        if self._processes is None:
            from fastapi_crons.engine.runs.processes import Processes  # few jobs need it

            self._processes = Processes(self._max_processes, self._max_result_bytes)
        try:
            return await self._processes.call(run.job.func, arguments, begins, relay)
        finally:
            wait.end()

    async def _call_in_thread(
        self,
        run: ActiveRun,
        arguments: Mapping[str, object],
        limit: TimeLimit | None,
        left_behind: asyncio.Future[None] | None = None,
    ) -> object:
        """Call a sync function in a thread. A cancelled run leaves it behind in `run.thread`.

        With `left_behind`, that is set then, and the thread is waited for all the same.
        """
        loop, wait = asyncio.get_running_loop(), _Wait(self._clock, run, limit)

        def begins() -> None:
            wait.end()
            if limit is not None:
                loop.call_soon_threadsafe(limit.begin)

        run.thread = self._pool.submit(lambda: drained(run.job.func(**arguments), self._max_result_bytes), begins)
        try:
            ended = await asyncio.shield(run.thread)
        except asyncio.CancelledError:
            if self._pool.withdraw(run.thread):
                run.thread = None
                wait.end()
            elif left_behind is not None:
                left_behind.set_result(None)
                await asyncio.wait({run.thread})
            raise
        run.thread = None
        value = _value_of(ended)
        # A plain function may return a coroutine: a lambda, a partial, a callable object.
        return await value if is_awaitable(value) else value


async def _awaited(value: object) -> object:
    return await value if is_awaitable(value) else value


async def _ended(call: Awaitable[object]) -> Ended:
    """How a call ended. A task must not raise what stops the event loop."""
    try:
        return Ended(await call, None)
    except BaseException as error:
        return Ended(None, error)


def _value_of(ended: Ended) -> object:
    if ended.error is not None:
        raise ended.error
    return ended.value


def _log_closed(run: ActiveRun, ended: Ended) -> None:
    """The dependencies of a run are closed whose thread was left behind: log what they raised."""
    if ended.error is not None and not is_a(ended.error, asyncio.CancelledError):
        logger.error(
            "job %r: what run %s depended on could not be closed\n%s",
            run.job.name,
            short_id(run.id),
            traceback_text(ended.error),
            extra=run.log_fields,
        )
