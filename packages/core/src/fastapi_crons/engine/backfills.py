"""Backfills: runs the ticks of a span again that did not run, one after another, in the places of late ticks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

from fastapi_crons._util.part import Part
from fastapi_crons._util.text import counted, one_line, printable
from fastapi_crons.clock import Clock, utc_datetime
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.again import Records, TicksOnRecord
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.manual import Requests
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.errors import (
    BackfillError,
    CronsError,
    JobLockedError,
    StoreUnavailableError,
    TickRefusedError,
    UnknownBackfillError,
)
from fastapi_crons.job import CronJob, ManualRun
from fastapi_crons.run import Run
from fastapi_crons.schedule._zones import FIRST, LAST
from fastapi_crons.schedule.due import MAX_COUNT, TickRange

logger = logging.getLogger(__name__)

#: How often (seconds) to look whether there is room, whether the job has ended, or the store is back.
_LOOK_AGAIN = 0.25
#: For how long (seconds) a tick of the job that is due goes first, once in each backfill.
_GIVES_WAY = 10.0
#: How long (seconds) a cancelled run gets to end.
_PATIENCE = 5.0
#: How many backfills that have ended are remembered.
_MOST_REMEMBERED = 100
#: Counting the ticks of a span that is too long stops after so many steps.
_MOST_STEPS = 2_000

BackfillStatus = Literal["running", "completed", "stopped", "cancelled"]


@dataclass(frozen=True, slots=True)
class Span:
    """The ticks from `first` to `last` (Unix seconds, both included) that are to be made up for."""

    job: CronJob
    first: int
    last: int
    one_by_one: bool = False
    """Run each tick; otherwise as the job's late ticks are run."""
    force: bool = False
    """Run those, too, that ran already."""
    stop_on_failure: bool = False
    actor: str | None = None
    note: str | None = None


class BackfillPlan(NamedTuple):
    """What is to be done about the ticks of a span."""

    ticks: int
    """How many there are, up to now."""
    to_run: tuple[tuple[int, TickRange | None], ...] = ()
    """The ticks that are run, oldest first, each with others that its run stands for."""
    ran: int = 0
    """How many ran already."""
    waiting: int = 0
    """How many have yet to be handled by the scheduler."""
    in_doubt: int = 0
    """How many may have run, because their records were deleted."""
    beyond: int = 0
    """How many are older than the newest `max_catch_up`, for a job whose late ticks are run one by one."""
    running: int = 0
    """How many are on record as running."""
    stood_for: int = 0
    """How many the run of a later tick stands for; `one_by_one` runs them."""


@dataclass(slots=True, eq=False)
class Backfill:
    """A span that is being made up for, and how far that is. Written by `Backfills` only."""

    id: str
    span: Span
    plan: BackfillPlan
    started_ts: float
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


@dataclass(eq=False, repr=False)
class Backfills(Part):
    """The backfills of one scheduler."""

    _config: CronConfig
    _clock: Clock
    _records: Records
    _dispatcher: Dispatcher
    _requests: Requests

    def __post_init__(self) -> None:
        #: By id, oldest first; those that have ended as far as they are remembered.
        self._all: dict[str, Backfill] = {}
        self._stopping = False

    def quiesce(self) -> None:
        """Begin no run any more. The current ones are runs like all others, and are seen to by the runner."""
        self._stopping = True
        for backfill in self._running():
            if backfill.current is None:
                self.cancel(backfill, None)

    async def shutdown(self, timeout: float) -> None:
        await self._clock.wait([each.task for each in self._running() if each.task is not None], timeout)

    async def plan(self, span: Span) -> tuple[BackfillPlan, TicksOnRecord]:
        """What is to be done about a span, without doing it. Raises `BackfillError` for one that can't be used."""
        on_record = await self._records.about(span.job, span.first, span.last, one_by_one=span.one_by_one)
        return _planned(span, on_record, int(self._clock.now()), self._config.max_catch_up), on_record

    async def start(self, span: Span, on_run: Callable[[Run], object] = lambda run: None) -> Backfill:
        """Begin to make up for a span, in the background; `on_run` is called with each run that has ended.

        Raises `JobLockedError` where another one of the job is going on here, `BackfillError` for a span that can't be used.
        """
        plan, on_record = await self.plan(span)
        other = next((each for each in self._running() if each.span.job.name == span.job.name), None)
        if other is not None:
            raise JobLockedError(
                f"can't make up for ticks of job {span.job.name!r}: backfill {other.id} of the job is going on, with "
                f"{counted(other.left, 'run')} left; wait for it, or cancel it"
            )
        if self._stopping or not self._config.enabled:
            why = "stopping, or draining" if self._stopping else "disabled (CRON_ENABLED=false)"
            raise CronsError(f"can't make up for ticks of job {span.job.name!r}: the scheduler is {why}")
        backfill = Backfill(self._dispatcher.new_run_id(), span, plan, self._clock.now(), on_run)
        self._all[backfill.id] = backfill
        for old in [each.id for each in self._all.values() if each.status != "running"][:-_MOST_REMEMBERED]:
            del self._all[old]
        backfill.task = asyncio.create_task(self._work(backfill, on_record))
        return backfill

    def of_job(self, name: str) -> list[Backfill]:
        """Those of a job, newest first."""
        return [each for each in reversed(self._all.values()) if each.span.job.name == name]

    def named(self, name: str, backfill_id: str) -> Backfill:
        found = self._all.get(backfill_id)
        if found is None or found.span.job.name != name:
            raise UnknownBackfillError(
                f"job {name!r} has no backfill {printable(backfill_id)!r} on this instance, which remembers those it began"
            )
        return found

    def cancel(self, backfill: Backfill, actor: str | None) -> bool:
        """Cancel the current run, and begin none of the others; False where it has ended."""
        if backfill.status != "running" or backfill.task is None:
            return False
        backfill.cancelled_by = actor
        backfill.task.cancel()
        return True

    def awake(self, asleep: Collection[asyncio.Task[object]]) -> bool:
        """Whether any has something to do other than to wait for a run, or for a moment of the clock."""
        return any(
            each.task not in asleep
            and (each.current is None or each.current.ended is None or each.current.ended.is_set())
            for each in self._running()
        )

    def _running(self) -> list[Backfill]:
        return [each for each in self._all.values() if each.status == "running"]

    async def _work(self, backfill: Backfill, on_record: TicksOnRecord) -> None:
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
        except Exception as error:
            backfill.status, backfill.error = "stopped", one_line(error)
        finally:
            backfill.current, backfill.task, backfill.ended_ts = None, None, self._clock.now()
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


def _planned(span: Span, on_record: TicksOnRecord, now: int, max_catch_up: int) -> BackfillPlan:
    job, source = span.job, on_record.source
    if source is None:
        raise BackfillError(
            f"can't make up for ticks of job {job.name!r}: its schedule is of a kind that is not installed"
        )
    if not FIRST <= span.first <= LAST or not FIRST <= span.last <= LAST:
        raise BackfillError(f"can't make up for ticks of job {job.name!r} that are so close to the year 1 or 9999")
    if span.first > span.last or span.first > now:
        why = "it ends before it begins" if span.first > span.last else "it lies in the future"
        raise BackfillError(f"can't make up for {_words(span)} of job {job.name!r}: {why}")
    until = min(span.last, now)
    ticks = list(islice(source.ticks_between(span.first - 1, until), MAX_COUNT + 1))
    if len(ticks) > MAX_COUNT:
        steps = iter(range(_MOST_STEPS))
        number, more = source.count_ticks(span.first - 1, until, 10**9, lambda: next(steps, None) is None)
        raise BackfillError(
            f"can't make up for {_words(span)} of job {job.name!r}: it has {counted(number, 'tick', more=more)}, and "
            f"{MAX_COUNT} is the most; give a shorter one"
        )
    fates: dict[str, list[int]] = {
        fate: [] for fate in ("ran", "stood_for", "running", "waiting", "in_doubt", "to_run")
    }
    for tick in ticks:
        fates[_fate(span, on_record, tick)].append(tick)
    to_run, beyond = _as_policy_says(span, fates.pop("to_run"), max_catch_up)
    numbers = {fate: len(found) for fate, found in fates.items()}
    return BackfillPlan(len(ticks), tuple(to_run), beyond=beyond, **numbers)


def _fate(span: Span, on_record: TicksOnRecord, tick: int) -> str:
    if on_record.is_to_be_run(tick):
        return "waiting"
    if span.force:
        return "to_run"
    run = on_record.ran(tick)
    if run is not None:
        return "running" if run.status == "running" else "ran" if run.tick_ts == tick else "stood_for"
    if on_record.stood_for(tick) is not None:
        return "stood_for"
    return "in_doubt" if on_record.in_doubt(tick) else "to_run"


def _as_policy_says(
    span: Span, ticks: list[int], max_catch_up: int
) -> tuple[Iterator[tuple[int, TickRange | None]], int]:
    """Which of these ticks are run, with those that each run stands for; and how many are older than that."""
    job = span.job
    if not span.one_by_one and job.coalesce and len(ticks) > 1:
        others = TickRange(ticks[0], ticks[-2], len(ticks) - 1)
        return iter([(ticks[-1], others)]), 0
    most = len(ticks) if span.one_by_one or job.coalesce else min(len(ticks), max_catch_up)
    return ((tick, None) for tick in ticks[len(ticks) - most :]), len(ticks) - most


def _words(span: Span) -> str:
    return f"the span from {utc_datetime(span.first).isoformat()} to {utc_datetime(span.last).isoformat()}"
