"""Requests: performs what people ask of a scheduler: manual runs, pauses, cancellations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from fastapi_crons._util.part import Part
from fastapi_crons._util.tasks import Background
from fastapi_crons._util.text import printable, safe_text
from fastapi_crons.clock import Clock, iso_utc
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.again import Records, TicksOnRecord
from fastapi_crons.engine.dispatch.claims import definition_of, manual_request
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.fleet.recovery import Recovery
from fastapi_crons.engine.fleet.signals import FleetSignals
from fastapi_crons.engine.runs.run import ActiveRun, Asked
from fastapi_crons.engine.runs.runner import Runs
from fastapi_crons.errors import (
    CronsError,
    JobLockedError,
    NotInForceError,
    StoreUnavailableError,
    TickRefusedError,
    UnknownJobError,
)
from fastapi_crons.job import CronJob, ManualRun
from fastapi_crons.locking.base import ClaimRequest, ClaimResult, LeaseRef, Pause, PauseRequest, Resumed, ResumeRequest
from fastapi_crons.locking.client import LockClient
from fastapi_crons.run import Run, short_id
from fastapi_crons.schedule.base import FROM_END
from fastapi_crons.schedule.due import TickRange, tick_range, tick_source
from fastapi_crons.schedule.own import own_ticks
from fastapi_crons.schedules.texts import range_of_text
from fastapi_crons.state.base import Signal

logger = logging.getLogger(__name__)

#: How often (seconds) to check whether a run that was cut off has ended.
_PATIENCE_STEP = 0.2
_LATE_ALREADY = "it was already late when the pause began"


@dataclass(eq=False, repr=False)
class Requests(Part):
    """Performed by one scheduler. Raises `StoreUnavailableError` where the lock store does not answer."""

    _config: CronConfig
    _clock: Clock
    _background: Background
    _locks: LockClient
    _runs: Runs
    _dispatcher: Dispatcher
    _signals: FleetSignals
    _recovery: Recovery
    _records: Records
    #: Whether this instance registers its jobs, as every instance does that runs ticks.
    registers: bool

    def __post_init__(self) -> None:
        self._recorder, self._journal, self._runner = self._runs
        #: Set once the scheduler claims nothing more.
        self._stopping = asyncio.Event()
        self._draining = False
        #: Tasks that claim and start manual runs.
        self._starting: set[asyncio.Task[ActiveRun]] = set()
        #: How many callers wait for their run to start.
        self.starting = 0

    def drain(self) -> None:
        """Start nothing more. What was started is waited for."""
        self._draining = True

    def quiesce(self) -> None:
        """Start nothing more, and end the waits for manual runs that don't need their end."""
        self._stopping.set()

    async def shutdown(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for the manual runs that are about to start."""
        await self._clock.wait(list(self._starting), timeout)

    async def start_run(
        self,
        wanted: ManualRun,
        on_record: TicksOnRecord | None = None,
        missed: TickRange | None = None,
        on_start: Callable[[], None] | None = None,
        owned: bool = False,
    ) -> ActiveRun:
        """Start a manual run. `on_start` is called when nothing can refuse it.

        A caller that is cancelled takes a run with it that is `owned`; other runs begin nevertheless.
        Where it runs a tick again, `on_record` is what was read of that before, and `missed` are others that it stands for.
        Raises `TickRefusedError` where that tick may not be run again.
        """
        job, tick = wanted.job, wanted.tick
        if self._stopping.is_set() or not self._config.enabled:
            why = "stopping" if self._stopping.is_set() else "disabled (CRON_ENABLED=false)"
            raise CronsError(f"can't run job {job.name!r}: the scheduler is {why}")
        if self._draining:
            raise CronsError(
                f"can't run job {job.name!r} here: this instance is draining, and begins no run until its process ends; run it "
                "on another instance"
            )
        asked = Asked(self._clock.now(), _limited(wanted.actor), self._runner.note(job, wanted.note))
        self.starting += 1
        try:
            job = await self._ensure_registered(job)
            if tick is not None and on_record is None:
                on_record = await self._records.about(job, tick, tick)
                _check(on_record, wanted, tick)
            if on_record is not None and on_record.left_behind and not self.registers:
                await self._recovery.close_again(on_record.left_behind)  # maybe no scheduler lives that would
            trigger = wanted.trigger if tick is None else "again"
            run = ActiveRun(job, self._dispatcher.new_run_id(), tick, trigger, asked=asked, missed=missed)
            run.timeout = job.timeout if wanted.timeout is None else wanted.timeout
            run.override(wanted.kwargs)
            run.ended = asyncio.Event()
            starting = asyncio.create_task(self._claim_and_start(run, wanted, on_record, on_start))
            self._starting.add(starting)
            starting.add_done_callback(self._started)
            try:
                return await asyncio.shield(starting)
            except asyncio.CancelledError:
                if owned:
                    # A claim that was sent may be granted, so the run begins, and is cut off.
                    await self._clock.wait([starting], self._config.store_timeout)
                    run.cut_off("cancelled", _limited(wanted.actor))
                raise
        finally:
            self.starting -= 1

    def _started(self, starting: asyncio.Task[ActiveRun]) -> None:
        self._starting.discard(starting)
        if not starting.cancelled():
            starting.exception()  # the caller may have stopped waiting; asyncio would report it as never retrieved

    async def _ensure_registered(self, job: CronJob) -> CronJob:
        """Register a job that is new, where this instance registers its jobs; returns it as it is now."""
        if not self.registers:
            return job
        try:
            await asyncio.wait_for(self._dispatcher.jobs.register_new(), self._config.store_timeout)
        except asyncio.TimeoutError:
            raise StoreUnavailableError(f"can't register job {job.name!r}: the lock store does not answer") from None
        tracked = self._dispatcher.jobs.get(job.name)
        if tracked is None and not self._stopping.is_set():
            raise UnknownJobError(f"can't run job {job.name!r}: it was removed")
        if tracked is None:
            raise CronsError(f"can't run job {job.name!r}: the scheduler is stopping")
        return tracked.job

    async def _claim_and_start(
        self,
        run: ActiveRun,
        wanted: ManualRun,
        on_record: TicksOnRecord | None,
        on_start: Callable[[], None] | None,
    ) -> ActiveRun:
        name, tick = run.job.name, run.tick_ts
        result = await self._claim(run, manual_request(run.job, run.id, tick, force=wanted.force and tick is None))
        if self._stopping.is_set():
            self._recorder.release(LeaseRef(name, run.id, result.token))
            raise CronsError(f"can't run job {name!r}: the scheduler is stopping")
        run.granted(result)
        try:
            if tick is not None and on_record is not None:
                # Under the lease: what another instance has run meanwhile is on record by now.
                await on_record.look()
                _check(on_record, wanted, tick)
            if on_start is not None:
                on_start()
        except BaseException:
            self._recorder.release(run.ref)
            raise
        self._dispatcher.start(run)
        if run.beside is not None:
            logger.warning(
                "job %r: run %s was forced, and overlaps with run %s",
                name,
                short_id(run.id),
                printable(short_id(run.beside)),
                extra=run.log_fields,
            )
        return run

    async def _claim(self, run: ActiveRun, request: ClaimRequest) -> ClaimResult:
        """Claim a run. Raises where that is not granted."""
        name = run.job.name
        try:
            result = await self._locks.claim_now(request)
            if result.outcome == "unknown":
                jobs = self._dispatcher.jobs
                registering = jobs.register_all_again() if self.registers else jobs.register_one(run.job)
                await asyncio.wait_for(registering, self._config.store_timeout)
                result = await self._locks.claim_now(request)
            elif result.orphaned:
                # No instance that registered the definition on record is running, and a manual run needs no agreement on ticks:
                # claim under the definition on record.
                for known in await self._locks.known([name]):
                    request = request._replace(schedule=known.schedule, timezone=known.timezone, arguments=None)
                result = await self._locks.claim_now(request)
        except (StoreUnavailableError, asyncio.TimeoutError) as error:
            # The store may have granted the claim without our hearing of it.
            self._background.start(self._release_if_granted(request))
            raise StoreUnavailableError(
                f"can't run job {name!r}: {str(error) or 'the lock store does not answer'}"
            ) from error
        if result.outcome == "busy":
            advice = "force=True runs it anyway" if run.tick_ts is None else "ask again when it has ended"
            message = f"job {name!r} is already running (run {printable(result.holder or '')}); {advice}"
            raise JobLockedError(message, result.holder)
        if result.outcome == "not_in_force":
            raise NotInForceError(
                f"can't run job {name!r} here: a running instance has since registered another definition than "
                f"{run.job.schedule.text!r}; run it there, or restart that instance with this code"
            )
        if result.outcome != "granted":
            raise CronsError(f"can't run job {name!r} here: {result.outcome}")
        return result

    async def _release_if_granted(self, request: ClaimRequest) -> None:
        (result,) = await self._locks.claim([request])
        if result.outcome == "granted":
            self._recorder.release(LeaseRef(request.job, request.run_id, result.token))

    async def finished(self, run: ActiveRun, *, or_stopping: bool, patience: float | None = None) -> Run:
        """The run when it has ended, its lease is released, and it is on record, unless the state store does not answer.

        With `or_stopping`, as it is when the scheduler stops before that; with `patience`, as it is so many seconds after it
        was cut off, if it has not ended by then.
        """
        waits: list[asyncio.Task[object]] = [asyncio.create_task(self._on_record(run))]
        if or_stopping:
            waits.append(asyncio.create_task(self._stopping.wait()))
        cut_at: float | None = None
        step = None if patience is None else _PATIENCE_STEP
        try:
            while not (await asyncio.wait(waits, timeout=step, return_when=asyncio.FIRST_COMPLETED))[0]:
                now = self._clock.monotonic()
                cut_at = None if run.cut is None else now if cut_at is None else cut_at
                if patience is not None and cut_at is not None and now - cut_at >= patience:
                    break
        finally:
            for wait in waits:
                wait.cancel()
        return run.snapshot()

    async def _on_record(self, run: ActiveRun) -> None:
        assert run.ended is not None
        await run.ended.wait()
        await self._recorder.recorded(run.id)

    async def pause(self, job: CronJob, actor: str | None, note: str | None) -> Pause:
        """Let no instance claim a tick of a job until it is resumed."""
        request = PauseRequest(job.name, _limited(actor), self._runner.note(job, note))
        return await self._locks.pause(request, definition_of(job))

    async def resume(self, job: CronJob, *, catch_up: bool) -> bool:
        """End a job's pause and record its missed ticks; False where the job is not paused."""
        request = ResumeRequest(job.name, self._dispatcher.new_run_id(), catch_up)
        try:
            resumed = await self._locks.resume(request)
        except StoreUnavailableError:
            # The store may have ended the pause, and then the missed ticks have to be recorded.
            self._background.start(self._resume_again(job, request))
            raise
        if resumed is None:
            return False
        self._resumed(job, request.nonce, resumed)
        return True

    async def _resume_again(self, job: CronJob, request: ResumeRequest) -> None:
        resumed = await self._locks.resume_until_answered(request)
        if resumed is not None:
            self._resumed(job, request.nonce, resumed)

    def _resumed(self, job: CronJob, record_id: str, resumed: Resumed) -> None:
        pause = resumed.pause
        by = f"by {pause.actor} since" if pause.actor else "since"
        note = f": {pause.note}" if pause.note else ""
        detail = f"{by} {iso_utc(int(pause.since))}{note}" if pause.since else None
        # Ticks that were already late when the pause began get a record of their own.
        # Those that are counted from the end of a run are one tick, however long ago that was.
        since = resumed.after
        if not resumed.schedule.endswith(FROM_END):
            since = max(since, min(resumed.last_handled, int(pause.since)))
        late = _ticks_of(job, resumed, resumed.after, since)
        paused = _ticks_of(job, resumed, since, resumed.last_handled)
        if late is not None:
            also = f"{_LATE_ALREADY}, {detail}"
            late_id = record_id if paused is None else self._dispatcher.new_run_id()
            self._journal.record_missed(job, late, "paused", also, record_id=late_id)
        if paused is not None:
            self._journal.record_missed(job, paused, "paused", detail, record_id=record_id)
        if resumed.token:
            self._recorder.release(LeaseRef(job.name, record_id, resumed.token))
        self._dispatcher.resumed(job.name, resumed.last_handled)
        self._signals.publish(Signal("resume", job.name))

    async def drain_other(self, owner: str) -> bool:
        """Ask another instance to drain; False where it is gone, or the lock store can't pass that on."""
        found = await self._locks.drain(owner)
        self._signals.publish(Signal("drain"))
        return found

    async def cancel_run(self, run_id: str, actor: str | None) -> bool:
        """Cancel a run, here or on its instance; False where no run of this id is running."""
        run = self._runner.active.get(run_id)
        if run is None:
            found = await self._locks.cancel(run_id, _limited(actor))
            self._signals.publish(Signal("cancel", run_id=run_id, actor=_limited(actor)))
            return found
        run.cut_off("cancelled", _limited(actor))
        return True


def _check(on_record: TicksOnRecord, wanted: ManualRun, tick: int) -> None:
    refusal = on_record.refusal(tick, force=wanted.force)
    if refusal is not None:
        raise TickRefusedError(refusal)


def _ticks_of(job: CronJob, resumed: Resumed, after: int, until: int) -> TickRange | None:
    """The ticks in (after, until] of the schedule that was in force during the pause."""
    if (resumed.schedule, resumed.timezone) != (job.schedule.text, job.schedule_zone):
        return range_of_text(resumed.schedule, resumed.timezone, after, until, resumed.start)
    own = own_ticks(job.schedule, resumed.start)
    return tick_range(tick_source(job.schedule), after, until) if own is None else own.range(after, until)


def _limited(text: str | None) -> str | None:
    """An actor, fit to be stored."""
    return None if text is None else safe_text(text, 1_000)
