"""ManagedBackfills: what the management API and the command line ask about backfills."""

from __future__ import annotations

from collections.abc import Callable

from fastapi_crons.engine.backfills import Backfill, BackfillPlan, Backfills, Span
from fastapi_crons.errors import NotRunningError, RunEndedError
from fastapi_crons.run import Run
from fastapi_crons.scheduler.crons import Crons
from fastapi_crons.state.backfills import BackfillRecord


class ManagedBackfills:
    """The backfills of a scheduler that has started. Raises `UnknownJobError` for names that don't exist."""

    def __init__(self, crons: Crons) -> None:
        self._crons = crons

    async def plan(self, span: Span) -> BackfillPlan:
        """What `start` would do about a span of ticks, without doing it."""
        return (await self._engine("read the stores").plan(span))[0]

    async def start(self, span: Span, on_run: Callable[[Run], object] = lambda run: None) -> Backfill:
        """Begin to run the ticks of a span again that did not run; `on_run` is called with each run that has ended.

        In the background, until the `task` of the backfill has ended. Raises `BackfillError`, or `JobLockedError` where another
        one of the job is going on, on any instance.
        """
        return await self._engine(f"make up for ticks of job {span.job.name!r}", to_change=True).start(span, on_run)

    async def of_job(self, name: str) -> list[BackfillRecord]:
        """Those that any instance has begun, newest first."""
        return await self._engine("list backfills").of_job(self._crons.jobs.named(name).name)

    async def one(self, name: str, backfill_id: str) -> BackfillRecord:
        """Raises `UnknownBackfillError` where no such one is on record."""
        return await self._engine("read a backfill").named(self._crons.jobs.named(name).name, backfill_id)

    async def cancel(self, name: str, backfill_id: str, *, actor: str | None = None) -> BackfillRecord:
        """Cancel the current run, and begin none of the others. Raises `RunEndedError` where the backfill has ended."""
        found = await self.one(name, backfill_id)
        cancelled = await self._engine("cancel a backfill", to_change=True).cancel(found, actor)
        if cancelled is None:
            raise RunEndedError(f"can't cancel backfill {backfill_id} of job {name!r}: it has ended")
        return cancelled

    def _engine(self, action: str, *, to_change: bool = False) -> Backfills:
        engine = self._crons.engine
        if engine is None:
            raise NotRunningError(
                f"can't {action}: the scheduler is not running; it runs between crons.start() and crons.stop()"
            )
        if to_change:
            engine.requests_for(action)
        return engine.backfills
