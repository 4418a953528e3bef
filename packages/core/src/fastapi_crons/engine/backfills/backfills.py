"""Backfills: runs the ticks of a span again that did not run, one after another, in the places of late ticks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from fastapi_crons._util.part import Part
from fastapi_crons._util.tasks import Background
from fastapi_crons._util.text import counted, one_line, printable
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.again import Records, TicksOnRecord
from fastapi_crons.engine.backfills.plan import BackfillPlan, Span, begun, planned
from fastapi_crons.engine.backfills.records import BackfillRecords
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.manual import Requests
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.errors import (
    CronsError,
    JobLockedError,
    StoreUnavailableError,
    TickRefusedError,
    UnknownBackfillError,
)
from fastapi_crons.job import ManualRun
from fastapi_crons.locking.instance import Instance
from fastapi_crons.run import Run
from fastapi_crons.schedule.due import TickRange
from fastapi_crons.state.backfills import KEPT, BackfillRecord, BackfillStatus

logger = logging.getLogger(__name__)

#: How often (seconds) to look whether there is room, whether the job has ended, or the store is back.
_LOOK_AGAIN = 0.25
#: For how long (seconds) a tick of the job that is due goes first, once in each backfill.
_GIVES_WAY = 10.0
#: How long (seconds) a cancelled run gets to end.
_PATIENCE = 5.0


@dataclass(slots=True, eq=False)
class Backfill:
    """A span that is being made up for, and how far that is. Written by `Backfills` only."""

    id: str
    span: Span
    plan: BackfillPlan
    on_record: BackfillRecord
    on_run: Callable[[Run], object] = lambda run: None
    status: BackfillStatus = "running"
    done: int = 0
    failed: int = 0
    skipped: int = 0
    """How many ticks were run by others in the meantime."""
    current: ActiveRun | None = None
    gave_way: int | None = None
    """The tick that was due and that it has waited for long enough."""
    ended_ts: float | None = None
    error: str | None = None
    cancel_asked: bool = False
    cancelled_by: str | None = None
    task: asyncio.Task[None] | None = None

    @property
    def total(self) -> int:
        """How many runs it has, if none is left out."""
        return len(self.plan.to_run)

    @property
    def left(self) -> int:
        """How many runs have not ended."""
        return self.total - self.done - self.failed - self.skipped

    def record(self) -> BackfillRecord:
        """What is to be on record."""
        known = self.on_record
        return known._replace(
            status=self.status,
            done=self.done,
            failed=self.failed,
            skipped=self.skipped,
            current_run=None if self.current is None else self.current.id,
            ended_ts=self.ended_ts,
            error=self.error,
            cancel_asked=known.cancel_asked or self.cancel_asked,
            cancelled_by=known.cancelled_by or self.cancelled_by,
        )


@dataclass(eq=False, repr=False)
class Backfills(Part):
    """The backfills of one scheduler."""

    _config: CronConfig
    _clock: Clock
    _records: Records
    _dispatcher: Dispatcher
    _requests: Requests
    _background: Background
    _instance: Instance

    def __post_init__(self) -> None:
        #: By id, those that this instance works on, until their end is on record.
        self._own: dict[str, Backfill] = {}
        self._on_record = BackfillRecords(self._records, self._clock, self._instance.owner, self._own.__contains__)
        self._stopping = False

    def quiesce(self) -> None:
        """Begin no run any more. The current ones are runs like all others, and are seen to by the runner."""
        self._stopping = True
        for backfill in self._running():
            if backfill.current is None and backfill.task is not None:
                backfill.task.cancel()

    async def shutdown(self, timeout: float) -> None:
        await self._clock.wait([each.task for each in self._running() if each.task is not None], timeout)

    async def plan(self, span: Span) -> tuple[BackfillPlan, TicksOnRecord]:
        """What is to be done about a span, without doing it. Raises `BackfillError` for one that can't be used."""
        on_record = await self._records.about(span.job, span.first, span.last, one_by_one=span.one_by_one)
        return planned(span, on_record, int(self._clock.now()), self._config.max_catch_up), on_record

    async def start(self, span: Span, on_run: Callable[[Run], object] = lambda run: None) -> Backfill:
        """Begin to make up for a span, in the background; `on_run` is called with each run that has ended.

        Raises `JobLockedError` where another one of the job is going on, `BackfillError` for a span that can't be used.
        """
        plan, on_record = await self.plan(span)
        if self._stopping or not self._config.enabled:
            why = "stopping, or draining" if self._stopping else "disabled (CRON_ENABLED=false)"
            raise CronsError(f"can't make up for ticks of job {span.job.name!r}: the scheduler is {why}")
        own = self._instance
        record = begun(span, plan, self._dispatcher.new_run_id(), own.owner, own.id, self._clock.now())
        backfill = Backfill(record.id, span, plan, record, on_run)
        self._own[backfill.id] = backfill
        try:
            other = await self._on_record.begin(record)
        except BaseException as error:  # it may be on record nonetheless
            backfill.status, backfill.error = "stopped", f"it could not begin: {one_line(error)}"
            self._background.start(self._end(backfill))
            raise
        if other is not None:
            del self._own[backfill.id]
            raise JobLockedError(
                f"can't make up for ticks of job {span.job.name!r}: backfill {other.id} of the job is going on, with "
                f"{counted(other.left, 'run')} left; wait for it, or cancel it"
            )
        backfill.task = asyncio.create_task(self._work(backfill, on_record))
        return backfill

    async def of_job(self, name: str) -> list[BackfillRecord]:
        """Those of a job that any instance has begun, newest first."""
        return [self._newest(each) for each in await self._on_record.of_job(name)]

    async def named(self, name: str, backfill_id: str) -> BackfillRecord:
        own = self._own.get(backfill_id)
        found = await self._on_record.one(backfill_id) if own is None else own.record()
        if found is None or found.job != name:
            raise UnknownBackfillError(
                f"job {name!r} has no backfill {printable(backfill_id)!r}; the newest {KEPT} of all jobs are on record"
            )
        return found

    def _newest(self, found: BackfillRecord) -> BackfillRecord:
        own = self._own.get(found.id)
        return found if own is None else own.record()

    async def cancel(self, found: BackfillRecord, actor: str | None) -> BackfillRecord | None:
        """Cancel the current run, and begin none of the others; None where it has ended.

        Here at once; another instance looks each second whether it is asked to.
        """
        backfill = self._own.get(found.id)
        if backfill is None:
            return await self._on_record.ask_to_cancel(found, actor)
        if backfill.status != "running" or backfill.task is None:
            return None
        backfill.cancel_asked, backfill.cancelled_by = True, actor
        backfill.task.cancel()
        return backfill.record()

    def awake(self, asleep: Collection[asyncio.Task[object]]) -> bool:
        """Whether any has something to do other than to wait for a run, or for a moment of the clock."""
        return any(
            each.task not in asleep
            and (each.current is None or each.current.ended is None or each.current.ended.is_set())
            for each in self._running()
            if each.task is not None
        )

    def _running(self) -> list[Backfill]:
        return [each for each in self._own.values() if each.status == "running"]

    async def _end(self, backfill: Backfill) -> None:
        try:
            await self._on_record.end(backfill, lambda: self._stopping)
        finally:
            self._own.pop(backfill.id, None)

    async def _work(self, backfill: Backfill, on_record: TicksOnRecord) -> None:
        following = self._background.start(
            self._on_record.follow(backfill, lambda found: self._asked_to_end(backfill, found))
        )
        try:
            for tick, others in backfill.plan.to_run:
                if self._stopping:
                    raise asyncio.CancelledError
                ended = await self._make_up(backfill, on_record, tick, others)
                if ended is None:
                    backfill.skipped += 1
                    continue
                completed = ended.status == "completed"
                backfill.done += completed
                backfill.failed += not completed
                backfill.on_run(ended)
                if not completed and backfill.span.stop_on_failure:
                    backfill.status = "stopped"
                    break
            else:
                backfill.status = "completed"
        except asyncio.CancelledError:
            backfill.status = "cancelled"
            if not backfill.cancel_asked and backfill.error is None:
                backfill.error = "its instance stopped, or drains; begin the same one again to run what is left"
        except Exception as error:
            backfill.status, backfill.error = "stopped", one_line(error)
        finally:
            backfill.current, backfill.task, backfill.ended_ts = None, None, self._clock.now()
            following.cancel()
            self._background.start(self._end(backfill))
            logger.info(
                "job %r: backfill %s %s: %d completed, %d failed, %d left",
                backfill.span.job.name,
                backfill.id,
                backfill.status,
                backfill.done,
                backfill.failed,
                backfill.left,
                extra={"job": backfill.span.job.name},
            )

    def _asked_to_end(self, backfill: Backfill, found: BackfillRecord) -> None:
        """Do as another instance has put on record: it asks to cancel this one, or has taken this instance for dead."""
        if backfill.task is not None:
            backfill.cancel_asked, backfill.cancelled_by = found.cancel_asked, found.cancelled_by
            backfill.error = None if found.cancel_asked else "another instance took this one for dead"
            backfill.task.cancel()

    async def _make_up(
        self, backfill: Backfill, on_record: TicksOnRecord, tick: int, others: TickRange | None
    ) -> Run | None:
        """Run a tick when there is room for it; None where another instance has run it."""
        span = backfill.span
        wanted = ManualRun(span.job, span.force, None, span.actor, span.note, "code", {}, tick)
        while True:
            await self._give_way(backfill, on_record)
            while not self._dispatcher.lend_late_place(span.job.run_in):
                await self._clock.sleep(_LOOK_AGAIN)
            try:
                return await self._run(backfill, wanted, on_record, others)
            except TickRefusedError:
                return None
            except (JobLockedError, StoreUnavailableError):
                pass  # it is running, or the stores are away: later
            finally:
                self._dispatcher.return_late_place()
            await self._clock.sleep(_LOOK_AGAIN)
            if not self._requests.registers:
                with suppress(StoreUnavailableError):  # it may be running no more, its instance having died
                    await on_record.look()

    async def _run(
        self, backfill: Backfill, wanted: ManualRun, on_record: TicksOnRecord, others: TickRange | None
    ) -> Run:
        starting = asyncio.ensure_future(self._requests.start_run(wanted, on_record, others))
        try:
            backfill.current = run = await asyncio.shield(starting)
            return await self._requests.finished(run, or_stopping=False)
        except asyncio.CancelledError:
            (started,) = await asyncio.gather(starting, return_exceptions=True)
            if isinstance(started, ActiveRun):
                started.cut_off("cancelled", backfill.cancelled_by)
                ended = await self._requests.finished(started, or_stopping=False, patience=_PATIENCE)
                backfill.failed += 1
                backfill.on_run(ended)
            raise
        finally:
            backfill.current = None

    async def _give_way(self, backfill: Backfill, on_record: TicksOnRecord) -> None:
        """Let a tick of the job go first that is due, where ticks are run; it may have waited for the run before."""
        until = self._clock.monotonic() + _GIVES_WAY
        while (due := on_record.due(int(self._clock.now()))) not in (None, backfill.gave_way):
            ticks_are_run = self._requests.registers or await self._records.ticks_are_run()
            if not ticks_are_run or self._clock.monotonic() >= until:
                backfill.gave_way = due
                return
            await self._clock.sleep(_LOOK_AGAIN)
            with suppress(StoreUnavailableError):  # the claim says so again
                await on_record.look()
