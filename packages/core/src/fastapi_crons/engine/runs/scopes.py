"""Scopes: enters and leaves the context managers that plugins put around a job's function (`run_scope`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any

from fastapi_crons._util.exceptions import is_a, traceback_of
from fastapi_crons._util.tasks import uncancel
from fastapi_crons._util.text import type_name
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.run import short_id

if TYPE_CHECKING:
    from fastapi_crons.plugins.calls import HookCall, HookCaller
    from fastapi_crons.plugins.registry import Plugins

logger = logging.getLogger(__name__)

_Scope = AbstractAsyncContextManager[Any] | AbstractContextManager[Any]


class Scopes:
    """The scopes of one scheduler's plugins; each is entered and left within `timeout` seconds."""

    def __init__(self, plugins: Plugins, hooks: HookCaller, timeout: float) -> None:
        self._plugins = plugins
        self._hooks = hooks
        self._timeout = timeout

    @property
    def wanted(self) -> bool:
        return bool(self._plugins.calls["run_scope"])

    async def around(self, run: ActiveRun, function: Callable[[ActiveRun], Awaitable[object]]) -> object:
        """Call the function of a run within the scopes. A scope can neither fail the run nor hide its error."""
        scopes: list[tuple[HookCall, _Scope]] = []
        raised: BaseException | None = None
        try:
            for call in self._plugins.calls["run_scope"]:
                scope = await self._enter(call, run)
                if scope is not None:
                    scopes.append((call, scope))
            return await function(run)
        except BaseException as error:
            raised = error
            raise
        finally:
            await self._leave_all(scopes, run, raised)

    async def _leave_all(
        self, scopes: list[tuple[HookCall, _Scope]], run: ActiveRun, raised: BaseException | None
    ) -> None:
        """Leave all scopes, the innermost first, also where the run is cancelled meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        for call, scope in reversed(scopes):
            try:
                await self._leave(call, scope, run, raised or cancelled)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _enter(self, call: HookCall, run: ActiveRun) -> _Scope | None:
        try:
            scope = call.invoke(job_name=run.job.name, context=run.context(), crons=self._hooks.crons)
            if isinstance(scope, AbstractAsyncContextManager):
                await self._in_time(run, scope.__aenter__())
                return scope
            if isinstance(scope, AbstractContextManager):
                scope.__enter__()
                return scope
            if asyncio.iscoroutine(scope):
                scope.close()
            if scope is not None:
                raise TypeError(f"run_scope must return a context manager, not {type_name(scope)}")
        except BaseException as error:
            if is_a(error, asyncio.CancelledError) and run.is_cancelled:
                raise
            self._hooks.report_failure(call, "failed on entering", error, {"job_name": run.job.name, "run_id": run.id})
        return None

    async def _leave(self, call: HookCall, scope: _Scope, run: ActiveRun, raised: BaseException | None) -> None:
        how = (None, None, None) if raised is None else (type(raised), raised, traceback_of(raised))
        try:
            if isinstance(scope, AbstractAsyncContextManager):
                await self._in_time(run, scope.__aexit__(*how))
            else:
                scope.__exit__(*how)
        except BaseException as error:
            if is_a(error, asyncio.CancelledError) and raised is None and run.is_cancelled:
                raise
            if error is not raised:
                self._hooks.report_failure(
                    call, "failed on leaving", error, {"job_name": run.job.name, "run_id": run.id}
                )

    async def _in_time(self, run: ActiveRun, work: Awaitable[object]) -> None:
        """Await in this task, because a scope may set context variables, within the time limit of hooks."""
        task, loop, cancelled = asyncio.current_task(), asyncio.get_running_loop(), 0

        def give_up() -> None:
            nonlocal cancelled
            if task is not None:
                if cancelled:
                    logger.error(
                        "job %r: a run_scope swallows its cancellation, and holds run %s",
                        run.job.name,
                        short_id(run.id),
                        extra=run.log_fields,
                    )
                cancelled += 1
                task.cancel()
                timers[:] = [loop.call_later(self._timeout, give_up)]

        timers = [loop.call_later(self._timeout, give_up)]
        try:
            await work
        except asyncio.CancelledError:
            if not cancelled or run.cut is not None:
                raise
            raise TimeoutError(f"did not end within {self._timeout:g} s") from None
        finally:
            timers[0].cancel()
            # Our cancellations are over, whether the scope obeyed or swallowed them.
            for _ in range(cancelled):
                uncancel()
