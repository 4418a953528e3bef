"""Calling hooks: each implementation isolated from the others, bounded in time, and given what it asks for."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pluggy

from fastapi_crons._util.backoff import Lasting, Meter
from fastapi_crons._util.callables import is_awaitable, is_coroutine_function, label
from fastapi_crons._util.exceptions import exact_text, is_a
from fastapi_crons._util.part import Finding, Part
from fastapi_crons._util.text import (
    counted,
    one_line,
    printable,
    span,
    storable,
    traceback_text,
    type_name,
    where_raised,
)
from fastapi_crons.errors import SkipRun
from fastapi_crons.plugins.added import AddedHook, Bind, HookFunc, bind_added
from fastapi_crons.plugins.markers import HookContext
from fastapi_crons.run import short_id

if TYPE_CHECKING:
    import asyncio

    from fastapi_crons._util.threads import ThreadPool
    from fastapi_crons.clock import Clock

# A stable name for log configurations, wherever this module is.
logger = logging.getLogger("fastapi_crons.hooks")

#: The end of a plugin's name that tells apart plugins of one class which were registered without a name.
_ADDRESS = re.compile(r"#[0-9a-f]+(/\d+)?$")
#: How many kinds of failures of one implementation are counted.
_MAX_KINDS = 20
#: How many calls of one implementation may hang; with so many, it is not called until one of them ends.
_MAX_HANGING = 4


class HookCall:
    """One implementation of one hook."""

    def __init__(self, hook: str, implementation: pluggy.HookImpl) -> None:
        plugin = implementation.plugin
        self.hook = hook
        self.plugin_name = implementation.plugin_name
        self._added: AddedHook | None = None
        self._bind: Bind
        #: How messages name it.
        self.shown = f"hook {hook} of plugin {_ADDRESS.sub('', self.plugin_name)!r}"
        if isinstance(plugin, AddedHook):
            self.function: HookFunc = plugin.function
            self._added = plugin
            self._bind = bind_added(plugin.function)
            self.shown = f"hook {hook} {label(plugin.function)}"
        else:
            self.function = implementation.function
            names = implementation.argnames  # pluggy has refused others than those of the specification
            self._bind = lambda arguments: ([arguments[name] for name in names], {})
        self._is_coroutine_function = is_coroutine_function(self.function)
        #: How many of its calls have exceeded their time limit and are still running.
        self.hanging = 0
        #: By kind: the recent failures, and the job of the last one.
        self._failures: dict[object, tuple[Meter, object]] = {}

    def failed(self, now: float, kind: object, job: object) -> Lasting | None:
        """Note a failure of some kind; returns what to log about it now."""
        if len(self._failures) > _MAX_KINDS:
            self._failures.clear()
        meter, _ = self._failures.get(kind, (Meter(), None))
        self._failures[kind] = meter, job
        return meter.failed(now)

    def worked(self, now: float, job: object) -> Lasting | None:
        """Note a success for a job; returns what to log where a failure was logged before."""
        over = [meter.works(now) for meter, failed in self._failures.values() if failed == job]
        return next((lasting for lasting in over if lasting is not None), None)

    @property
    def has_failed(self) -> bool:
        return bool(self._failures)

    def concerns(self, job_name: str) -> bool:
        return self._added is None or self._added.concerns(job_name)

    def invoke(self, **arguments: object) -> object:
        """Call it in this thread, with those of the arguments that it takes."""
        positional, named = self._bind(arguments)
        return self.function(*positional, **named)

    async def run(
        self, pool: ThreadPool, arguments: Mapping[str, object], on_start: Callable[[], object] = lambda: None
    ) -> object:
        """Call it: on the loop when it is a coroutine function, else in the pool; await what can be awaited.

        `on_start` is called when the call begins: in a pool that may be later, and in its thread.
        """
        positional, named = self._bind(arguments)
        if self._is_coroutine_function:
            on_start()
            result = self.function(*positional, **named)
        else:
            result = await self._in_thread(pool, partial(self.function, *positional, **named), on_start)
        return await result if is_awaitable(result) else result

    def hangs(self, call: asyncio.Future[Any]) -> None:
        """Count a call that is still running after its time limit, until it ends."""

        def ended(_: asyncio.Future[Any]) -> None:
            self.hanging -= 1

        self.hanging += 1
        call.add_done_callback(ended)

    async def _in_thread(
        self, pool: ThreadPool, function: Callable[[], object], on_start: Callable[[], object]
    ) -> object:
        import asyncio  # imported where hooks run

        future = pool.submit(function, on_start)
        try:
            ended = await asyncio.shield(future)
        except asyncio.CancelledError:
            if not pool.withdraw(future):
                pool.leave_behind(future)
                self.hangs(future)
            raise
        if ended.error is None:
            return ended.value
        if type(ended.error) is StopIteration:
            raise RuntimeError("StopIteration left a function") from ended.error
        raise ended.error


@dataclass(eq=False, repr=False)
class HookCaller(Part):
    """Calls the hooks of one scheduler. `crons` is only passed on: hooks get it under this name.

    `calls` has the implementations of each hook, in the order they are called.
    """

    crons: object
    _clock: Clock
    _calls: Mapping[str, tuple[HookCall, ...]]
    _pool: ThreadPool
    _timeout: float

    def __post_init__(self) -> None:
        self._running: set[asyncio.Task[BaseException | None]] = set()
        self.failures = 0

    def findings(self) -> Iterator[Finding]:
        waiting = self._pool.waiting
        if waiting:
            wait = "1 call waits" if waiting == 1 else f"{waiting} calls wait"
            yield Finding(f"the pool of threads for hooks is full, and {wait}: all {self._pool.size} are taken")

    def implemented(self, hook: str, job_name: str) -> bool:
        calls = self._calls[hook]
        return any(call.concerns(job_name) for call in calls) if calls else False

    def is_call(self, task: asyncio.Task[Any] | None) -> bool:
        return task in self._running

    async def for_job(self, hook: str, job_name: str, context: HookContext) -> SkipRun | None:
        """Call a hook about a job, one implementation after another; returns the first veto of a `before_run`."""
        for call in self._calls[hook]:
            if not call.concerns(job_name):
                continue
            # Copied as JSON, which is right however deeply it is nested.
            own = {
                key: json.loads(json.dumps(value)) if type(value) in (dict, list) else value
                for key, value in context.items()
            }
            veto = await self._guarded(call, {"job_name": job_name, "context": own, "crons": self.crons})
            if veto is not None and hook == "before_run":
                return veto
            if veto is not None:
                self.report_failure(call, "raised SkipRun, which only a before_run hook may", context=context)
        return None

    async def for_scheduler(self, hook: str, **arguments: object) -> None:
        for call in self._calls[hook]:
            veto = await self._guarded(call, {**arguments, "crons": self.crons})
            if veto is not None:
                self.report_failure(call, "raised SkipRun, which only a before_run hook may")

    def redacted(self, job_name: str, field: str, value: str) -> str:
        """A text as the `redact` hooks return it."""
        for call in self._calls["redact"]:
            try:
                kept = call.invoke(job_name=job_name, field=field, value=value)
                if kept is not None and not isinstance(kept, str):
                    raise TypeError(f"redact must return text or None, not {type_name(kept)}")
                value = value if kept is None else storable(exact_text(kept))
            except BaseException as error:
                self.report_failure(call, "failed, so the text is not kept", error, {"job_name": job_name})
                return f"<not kept: the redact hook of plugin {call.plugin_name!r} failed>"
            if call.has_failed:
                self._works(call, job_name)
        return value

    def report_failure(
        self, call: HookCall, what: str, error: BaseException | None = None, context: Mapping[str, object] | None = None
    ) -> None:
        """Log what an implementation did wrong, in one line: at once, and where it repeats only now and then.

        `context` is the one that it was called with, if any.
        """
        self.failures += 1
        job_context = context or {}
        where = "" if error is None else where_raised(error)
        lasting = call.failed(
            self._clock.monotonic(),
            (what, None if error is None else type_name(error), where),
            job_context.get("job_name"),
        )
        if lasting is None:
            return
        fields = {
            "job": job_context.get("job_name"),
            "run_id": job_context.get("run_id"),
            "tick": job_context.get("scheduled_time"),
            "attempt": job_context.get("attempt"),
        }
        about = f" about job {job_context['job_name']!r}" if "job_name" in job_context else ""
        if job_context.get("run_id"):
            about += f" (run {short_id(str(job_context['run_id']))})"
        why = "" if error is None else f": {one_line(error)} ({printable(where)})"
        often = "" if lasting.times == 1 else f"; {lasting.times} times in {span(lasting.since)}"
        logger.error("%s%s %s%s%s", call.shown, about, what, why, often, extra=fields)
        if error is not None:
            logger.debug("%s\n%s", call.shown, traceback_text(error), extra=fields)

    def _works(self, call: HookCall, job: object) -> None:
        lasting = call.worked(self._clock.monotonic(), job)
        if lasting is not None:
            logger.warning("%s works again, after %s", call.shown, counted(lasting.times, "failure"))

    async def _guarded(self, call: HookCall, arguments: Mapping[str, object]) -> SkipRun | None:
        import asyncio

        context = arguments.get("context")
        job_context = dict(context) if isinstance(context, dict) else None
        if call.hanging >= _MAX_HANGING:
            self.report_failure(call, f"is not called: {call.hanging} of its calls hang", context=job_context)
            return None

        loop = asyncio.get_running_loop()
        started: asyncio.Future[None] = loop.create_future()

        async def contained() -> BaseException | None:
            # SystemExit and KeyboardInterrupt would leave the task, and end the loop.
            try:
                await call.run(self._pool, arguments, lambda: loop.call_soon_threadsafe(_done, started))
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                return error
            return None

        task = asyncio.ensure_future(contained())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            # All threads may be taken: like that of a job, a hook's time limit begins with its function.
            await asyncio.wait(cast("set[asyncio.Future[Any]]", {task, started}), return_when=asyncio.FIRST_COMPLETED)
            done, _ = await asyncio.wait({task}, timeout=self._timeout)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            await asyncio.wait({task}, timeout=0)
            if not task.done():
                call.hangs(task)
            self.report_failure(
                call, f"did not end within {self._timeout:g} s and was left behind", context=job_context
            )
            return None
        if task.cancelled():
            self.report_failure(call, "was cancelled", context=job_context)
            return None
        error = task.result()
        if error is None or is_a(error, SkipRun):
            if call.has_failed:
                self._works(call, (job_context or {}).get("job_name"))
            return cast("SkipRun | None", error)
        self.report_failure(call, "failed", error, job_context)
        return None


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
