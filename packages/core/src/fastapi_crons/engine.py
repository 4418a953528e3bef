"""Engine: a scheduler from its start to its stop: its stores, its tasks, its runs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from math import inf
from typing import TYPE_CHECKING

from fastapi_crons._signals import InterruptWatch, StopSignals
from fastapi_crons._threads import ThreadPool
from fastapi_crons.active import ActiveRun
from fastapi_crons.backoff import Backoff
from fastapi_crons.claims import definition_of, manual_request
from fastapi_crons.clock import Clock, Timer, iso_utc
from fastapi_crons.config import CronConfig
from fastapi_crons.dispatcher import Dispatcher
from fastapi_crons.errors import CronsError, JobLockedError, StoreError, StoreUnavailableError
from fastapi_crons.hooks import HookCaller
from fastapi_crons.instance import Instance
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import Beat, ClaimRequest, Lease, LeaseRef, Pause, PauseRequest, Resumed, ResumeRequest
from fastapi_crons.locking.keeper import LeaseKeeper
from fastapi_crons.locking.manager import DistributedLockManager
from fastapi_crons.outcome import one_line, safe_text
from fastapi_crons.plugins import Plugins
from fastapi_crons.recorder import Recorder
from fastapi_crons.recovery import Recovery
from fastapi_crons.run import Run, Trigger
from fastapi_crons.run_log import capture_records
from fastapi_crons.runner import Runner
from fastapi_crons.state.base import HistoryLimits, Signal, StateBackend
from fastapi_crons.supervisor import Supervisor
from fastapi_crons.surroundings import findings
from fastapi_crons.ticks import count_row, old_row, tick_source

if TYPE_CHECKING:
    from fastapi_crons.scheduler import Crons
    from fastapi_crons.timeline import Entry

logger = logging.getLogger(__name__)

#: How long (seconds) cancelled runs get to end at a stop before they are left behind.
CANCEL_GRACE = 1.0
#: How long (seconds) a stop waits for a store that did not answer before.
_IMPATIENCE = 1.0
#: How often (seconds) the history is cut back to its limits.
PRUNE_INTERVAL = 60.0
#: How often (seconds) it is looked for jobs that nobody registers any more.
FORGET_INTERVAL = 3_600.0
#: How many calls to the store that may take, of many small ones.
_PRUNE_STEPS = 12
#: When (seconds after the start) it is looked again what this process is one of.
_LOOK_AROUND_AGAIN = 10.0


class Engine:
    """Everything that lives between `start()` and `stop()`. Made, used and stopped on one event loop."""

    def __init__(
        self,
        crons: Crons,
        config: CronConfig,
        clock: Clock,
        plugins: Plugins,
        state: StateBackend,
        locks: DistributedLockManager,
    ) -> None:
        self._crons = crons
        self._config = config
        self.clock = clock
        self._plugins = plugins
        self.state = state
        self.locks = locks
        self.instance = Instance.of_this_process(config.instance_id)
        self.pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.supervisor = Supervisor()
        self._interrupts = InterruptWatch()
        self._stop_signals: StopSignals | None = None
        self.hooks = HookCaller(plugins.calls, ThreadPool(8, "fastapi-crons-hook"), config.hook_timeout)
        self.recorder = Recorder(
            state, locks, clock, store_timeout=config.store_timeout, max_buffered=config.max_buffered_records
        )
        self.keeper = LeaseKeeper(locks, config, clock, self.instance, self)
        self.runner = Runner(
            config,
            clock,
            plugins,
            self.hooks,
            self.recorder,
            self.instance.id,
            self._interrupts,
            self.keeper.holds,
            self._released,
            self._lost,
        )
        self.dispatcher = Dispatcher(
            config, clock, locks, self.recorder, self.runner, self.instance.owner, self._registered
        )
        self._recovery = Recovery(
            config,
            clock,
            locks,
            state,
            self.recorder,
            self.runner,
            self.dispatcher,
            self.instance.owner,
            crons.get_job,
        )
        self._taking_over = False
        self._left_behind = Beat()
        #: What is to be said about the place that this runs in.
        self.surroundings: list[str] = []
        self._look_again: Timer | None = None
        #: Why the stores could not be had at the start, while they are waited for.
        self.waits_for_stores: str | None = None
        #: Set once nothing more is claimed.
        self.stopping = asyncio.Event()
        #: Manual runs that are about to start, owned until they have.
        self._starting: set[asyncio.Task[ActiveRun]] = set()
        #: How many callers wait for theirs to start.
        self.starting = 0

    @property
    def enabled(self) -> bool:
        """Whether jobs run here at all."""
        return self._config.enabled

    @property
    def patience(self) -> float:
        """For how long (seconds) no heartbeat need be answered before something is wrong."""
        return 2 * self._config.heartbeat_interval + self._config.store_timeout

    @property
    def max_threads(self) -> int:
        """How many sync functions run at a time."""
        return self._config.max_threads

    async def start(self) -> None:
        """Open the stores, register the jobs, see to what the last process left behind, and begin.

        Raises what the stores raise when they can't be opened; then everything is closed again.
        """
        self.supervisor.start("record", self.recorder.write_forever)
        self.supervisor.start("release", self.recorder.release_forever)
        try:
            try:
                await self._open_stores()
                await self._go_on()
            except StoreError as error:
                if not self._config.start_without_store:
                    raise
                self._wait_for_stores(error)
            # What was begun about the jobs is told before the scheduler itself.
            await self.runner.drain(self._config.hook_timeout)
            await self.hooks.for_scheduler("scheduler_started", crons=self._crons)
        except BaseException:
            # Also where the caller gave up waiting: nothing is left behind that nobody can stop.
            await asyncio.shield(asyncio.ensure_future(self.stop(told=False)))
            raise

    def waits_for(self, task: asyncio.Task[object] | None, root: asyncio.Task[object] | None) -> bool:
        """Whether a stop would wait for this task: it is part of a run (of which `root` is the task), or a hook."""
        own = {run.task for run in self.runner.active.values()} | self.runner.background
        return root in own or self.hooks.is_call(task)

    def heed_signals(self, heard: Callable[[], object]) -> None:
        """From the moment that the process is told to end, claim nothing more; and call `heard` on the loop."""

        def quiesce() -> None:
            self.quiesce()
            heard()

        if self._stop_signals is not None:
            self._stop_signals.stop()
        self._stop_signals = StopSignals(lambda: self.loop.call_soon_threadsafe(quiesce))
        self._stop_signals.start()

    def quiesce(self) -> None:
        """Claim nothing more. Whoever waits for a manual run, and can, stops waiting."""
        self.stopping.set()
        self.dispatcher.stop()

    async def stop(self, *, told: bool = True) -> None:
        """Claim nothing more, let running jobs finish within `shutdown_timeout`, cut off the rest, flush and close.

        Bounded: by `shutdown_timeout`, by the hooks' time limit where hooks go on, and by `store_timeout` for all that is
        asked of the stores. `told` says whether plugins hear of it.
        """
        self.quiesce()
        await self.supervisor.stop("open", self._store_patience())
        await self.supervisor.finish("dispatch", self._store_patience())
        await self.clock.wait(list(self._starting), self._store_patience())
        await self._end_runs()
        await self.runner.drain(self._config.hook_timeout)
        for task in self.runner.background:
            task.cancel()
        self._interrupts.stop()
        if self._look_again is not None:
            self._look_again.cancel()
        if self._stop_signals is not None:
            self._stop_signals.stop()
        await self.keeper.stop(self._store_patience())
        for name in ("listen", "prune", "record", "release"):
            await self.supervisor.stop(name, self._store_patience())
        await self.recorder.flush(self._store_patience())
        await self.locks.leave(self._store_patience())
        self._tell(Signal("leave"))
        await self.runner.drain(self._store_patience())
        await self._close_stores()
        self.instance.lives_here(alive=False)
        if told:
            await self.hooks.for_scheduler("scheduler_stopped", crons=self._crons)

    def _store_patience(self) -> float:
        """How long (seconds) a stop waits for a store: not long for one that is known not to answer."""
        down = self.locks.fault is not None or self.recorder.fault is not None
        return min(_IMPATIENCE, self._config.store_timeout) if down else self._config.store_timeout

    def add(self, jobs: Iterable[CronJob]) -> None:
        """Take up jobs; one that is known already is left as it is. Safe to call from any thread."""
        self.dispatcher.add(jobs)

    async def start_run(
        self,
        job: CronJob,
        *,
        force: bool,
        timeout: float | None,
        triggered_by: Trigger,
        actor: str | None,
        note: str | None,
    ) -> ActiveRun:
        """Start a run that somebody asked for. A caller that goes away cancels nothing."""
        if self.stopping.is_set() or not self.enabled:
            why = "stopping" if self.stopping.is_set() else "disabled (CRON_ENABLED=false)"
            raise CronsError(f"job {job.name!r} can't be run: this scheduler is {why}")
        asked_ts = self.clock.now()
        self.starting += 1
        try:
            run = ActiveRun(await self._registered_entry(job), self.dispatcher.new_run_id(), None, triggered_by, 0, 1)
            run.asked_ts = asked_ts
            run.timeout = job.timeout if timeout is None else timeout
            run.actor, run.note = _kept(actor), _kept(note)
            run.ended = asyncio.Event()
            starting = asyncio.create_task(self._claim_and_start(run, force=force))
            self._starting.add(starting)
            starting.add_done_callback(self._starting.discard)
            return await asyncio.shield(starting)
        finally:
            self.starting -= 1

    async def _registered_entry(self, job: CronJob) -> Entry:
        """What is known of a job, which is registered first where it is new."""
        try:
            await asyncio.wait_for(self.dispatcher.jobs.enrol_new(), self._config.store_timeout)
        except asyncio.TimeoutError:
            raise StoreUnavailableError(
                f"job {job.name!r} can't be registered: the lock store does not answer"
            ) from None
        entry = self.dispatcher.jobs.get(job.name)
        if entry is None:
            raise CronsError(f"job {job.name!r} can't be run: this scheduler is stopping")
        return entry

    async def _claim_and_start(self, run: ActiveRun, *, force: bool) -> ActiveRun:
        name, request = run.job.name, manual_request(run.job, run.id, force=force)
        try:
            result = await self.locks.claim_now(request)
            if result.outcome == "unknown":
                await asyncio.wait_for(self.dispatcher.jobs.enrol_all_again(), self._config.store_timeout)
                result = await self.locks.claim_now(request)
        except (StoreUnavailableError, asyncio.TimeoutError) as error:
            # The claim may have been granted all the same.
            self.runner.in_background(self._give_back(request))
            raise StoreUnavailableError(
                f"job {name!r} can't be run: {str(error) or 'the lock store does not answer'}"
            ) from error
        if result.outcome == "busy":
            raise JobLockedError(
                f"job {name!r} is running already (run {result.holder}); force=True runs it all the same"
            )
        if result.outcome != "granted":
            raise CronsError(f"job {name!r} can't be run by this instance: {result.outcome.replace('_', ' ')}")
        if self.stopping.is_set():
            self.recorder.release(LeaseRef(name, run.id, result.token))
            raise CronsError(f"job {name!r} can't be run: this scheduler is stopping")
        run.token, run.after = result.token, result.mark
        if result.holder:
            run.beside = result.holder
            logger.warning(
                "job %r: run %s was forced, and overlaps with run %s", name, run.id, result.holder, extra=run.log_fields
            )
        self.runner.start(run)
        return run

    async def _give_back(self, request: ClaimRequest) -> None:
        (result,) = await self.locks.claim([request])
        if result.outcome == "granted":
            self.recorder.release(LeaseRef(request.job, request.run_id, result.token))

    async def finished(self, run: ActiveRun, *, or_stopping: bool) -> Run:
        """The run when it has ended and its lease is given back; as it is then, where this scheduler stops before."""
        assert run.ended is not None
        waits = [asyncio.create_task(run.ended.wait())]
        if or_stopping:
            waits.append(asyncio.create_task(self.stopping.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return run.snapshot()

    async def pause(self, job: CronJob, actor: str | None, note: str | None) -> Pause:
        """Let no tick of a job be claimed, by any instance, until it is resumed."""
        pause = await self.locks.pause(PauseRequest(job.name, _kept(actor), _kept(note)), definition_of(job))
        self._tell(Signal("pause", job.name, actor=pause.actor))
        return pause

    async def resume(self, job: CronJob, *, catch_up: bool) -> bool:
        """End a job's pause; False where it is not paused. The ticks of the pause are written down."""
        request = ResumeRequest(job.name, self.dispatcher.new_run_id(), catch_up)
        try:
            resumed = await self.locks.resume(request)
        except StoreUnavailableError:
            # It may have been done all the same, and then what it let go has to be written down.
            self.runner.in_background(self._resume_again(job, request))
            raise
        if resumed is None:
            return False
        self._resumed(job, request.nonce, resumed)
        return True

    async def _resume_again(self, job: CronJob, request: ResumeRequest) -> None:
        resumed = await self.locks.resume_until_answered(request)
        if resumed is not None:
            self._resumed(job, request.nonce, resumed)

    def _resumed(self, job: CronJob, record_id: str, resumed: Resumed) -> None:
        pause, row = resumed.pause, old_row(resumed.schedule, resumed.timezone, resumed.after, resumed.mark)
        if resumed.schedule == job.schedule.text:  # of whatever kind it is
            row = count_row(tick_source(job.schedule), resumed.after, resumed.mark)
        if row is not None:
            by = f"by {pause.actor}" if pause.actor else "since"
            detail = (
                None if not pause.since else f"{by} {iso_utc(pause.since)}" + (f": {pause.note}" if pause.note else "")
            )
            self.runner.let_go(job, row, "paused", detail, record_id=record_id)
        if resumed.token:
            self.recorder.release(LeaseRef(job.name, record_id, resumed.token))
        self.dispatcher.resumed(job.name, resumed.mark)
        self._tell(Signal("resume", job.name))

    async def cancel_run(self, run_id: str, actor: str | None) -> bool:
        """Cancel a run, here or where it goes on; False where it does not go on."""
        run = self.runner.active.get(run_id)
        if run is None:
            found = await self.locks.cancel(run_id, _kept(actor))
            self._tell(Signal("cancel", run_id=run_id, actor=_kept(actor)))
            return found
        run.cut_off("cancelled", _kept(actor))
        return True

    async def _open_stores(self) -> None:
        self.instance.lives_here(alive=True)
        await self.locks.open(self.instance, self.clock)
        limits = HistoryLimits(self._config.history_keep, self._config.history_days)
        try:
            await asyncio.wait_for(self.state.open(self._config.namespace, limits), self._config.store_timeout)
            self._left_behind = await self.keeper.first_beat()
        except asyncio.TimeoutError:
            await self._close_stores()
            raise StoreUnavailableError(
                f"the state store gave no answer within {self._config.store_timeout:g} s"
            ) from None
        except StoreError:
            await self._close_stores()
            raise

    def _wait_for_stores(self, error: StoreError) -> None:
        self.waits_for_stores = one_line(error)
        logger.error(
            "the scheduler waits for its stores, and runs nothing until it has them: %s", self.waits_for_stores
        )
        self.supervisor.start("open", self._open_when_possible)

    async def _open_when_possible(self) -> None:
        backoff = Backoff()
        while True:
            await self.clock.sleep(backoff.next())
            try:
                await self._open_stores()
                break
            except StoreError as error:
                self.waits_for_stores = one_line(error)
        self.waits_for_stores = None
        logger.warning("the scheduler has its stores, and begins")
        await self._go_on()

    async def _go_on(self) -> None:
        """What comes once the stores are open."""
        if self.locks.backend.reach != "process":
            self.keeper.start()
        if not self.enabled:
            self._registered(list(self._crons.jobs))
            return
        self._interrupts.start()
        if self._config.max_log_chars:
            capture_records()
        await self.dispatcher.jobs.enrol_new()
        self._share(self._left_behind)
        await self._recovery.take_over(self._left_behind.dead)
        await self._recovery.close_orphans()
        self.supervisor.start("dispatch", self.dispatcher.run_forever)
        self.supervisor.start("prune", self._prune_forever)
        self.supervisor.start("listen", self._listen)
        self._tell(Signal("join"))
        self._look_around()
        # The other workers of a server may start a little later.
        self._look_again = self.clock.call_later(_LOOK_AROUND_AGAIN, self._look_around)

    def _look_around(self) -> None:
        found = findings(self.locks.backend.reach)
        for finding in found:
            if finding not in self.surroundings:
                logger.warning("%s", finding)
        self.surroundings = found

    def _tell(self, signal: Signal) -> None:
        """Let the other instances know at once; those that don't hear it learn of it from the lock store."""

        async def tell() -> None:
            try:
                await asyncio.wait_for(self.state.tell(signal), self._config.store_timeout)
            except (StoreError, asyncio.TimeoutError) as error:
                logger.debug("signal %s was not told: %s", signal.kind, one_line(error))

        if self.locks.backend.reach != "process":
            self.runner.in_background(tell())

    async def _listen(self) -> None:
        backoff = Backoff()
        while (events := self.state.events(records=False)) is not None:
            try:
                async with aclosing(events):
                    async for event in events:
                        backoff = Backoff()
                        if isinstance(event, Signal):
                            self._signalled(event)
            except StoreUnavailableError as error:
                logger.debug("signals are not heard: %s", one_line(error))
                await self.clock.sleep(backoff.next())

    def _signalled(self, signal: Signal) -> None:
        # The store has the last word: what is heard here only says that there is something to ask it.
        if signal.kind in ("cancel", "join", "leave"):
            self.keeper.beat_soon()
        elif signal.kind == "resume" and signal.job is not None:
            self.dispatcher.resumed(signal.job, 0)

    # What the keeper of the leases asks and tells.

    def leases(self) -> list[LeaseRef]:
        """The leases of all runs that go on. Safe to call from any thread."""
        return [run.ref for run in list(self.runner.active.values())]

    def jobs_digest(self) -> str:
        """A digest of the jobs that run here. Safe to call from any thread."""
        return self.dispatcher.jobs.digest if self.enabled else ""

    def heard(self, beat: Beat) -> None:
        """The lock store has answered a heartbeat."""
        for run_id, actor in beat.cancelled:
            run = self.runner.active.get(run_id)
            if run is not None and run.cut != "cancelled":
                run.cut_off("cancelled", actor)
        if self.enabled:
            self._share(beat)
            if beat.dead and not self._taking_over:
                # Beating must not wait for the state store.
                self._taking_over = True
                self.runner.in_background(self._take_over(beat.dead))

    def refused(self, leases: Sequence[LeaseRef]) -> None:
        """The lock store does not know these leases as ours."""
        runs = [run for lease in leases if (run := self.runner.active.get(lease.run_id)) is not None]
        if runs:
            self.runner.in_background(self._take_back(runs))

    def gave_up(self) -> None:
        """The lock store was out of reach for so long that others may have taken over what runs here."""
        for run in list(self.runner.active.values()):
            if run.outcome is None and not self.keeper.holds(run.held_since):
                self._cut_off_without_lease(run)

    def blocked(self, seconds: float) -> None:
        """The event loop has not turned for so long."""
        logger.warning(
            "the event loop has been blocked for %.0f s by %s: nothing starts in time; a function that takes long without "
            "awaiting is to be a plain one, which runs in a thread",
            seconds,
            self._what_blocks(),
        )

    def _what_blocks(self) -> str:
        try:
            task = asyncio.current_task(self.loop)
        except RuntimeError:
            task = None
        for run in list(self.runner.active.values()):
            if task is not None and run.task is task:
                return f"job {run.job.name!r}"
        return "something that is no job of this scheduler"

    def _share(self, beat: Beat) -> None:
        digest = self.jobs_digest()
        peers = sorted(other.instance.owner for other in beat.instances if other.jobs == digest)
        self.dispatcher.share(self.instance.owner, peers)

    async def _take_over(self, dead: Sequence[Lease]) -> None:
        try:
            await self._recovery.take_over(dead)
        except StoreError as error:
            logger.warning("what dead instances left behind has to wait: %s", one_line(error))
        finally:
            self._taking_over = False

    async def _take_back(self, runs: list[ActiveRun]) -> None:
        """A store that lost its records takes leases back, unless it gave out later ones."""
        await self.dispatcher.jobs.enrol_again({run.entry for run in runs if run.entry.in_force})
        renewed = await self.locks.renew([run.ref for run in runs])
        for run, ours in zip(runs, renewed, strict=True):
            if not ours and run.id in self.runner.active:
                self._cut_off_without_lease(run)

    def _cut_off_without_lease(self, run: ActiveRun) -> None:
        logger.error("job %r: its lease was lost, and its run is cancelled", run.job.name, extra=run.log_fields)
        run.cut_off("lease_lost")

    def _lost(self, run: ActiveRun) -> None:
        """A run has ended that had lost its lease."""
        self.runner.in_background(self._recovery.take_over_own(run))

    async def _prune_forever(self) -> None:
        forgotten_at = -inf
        while True:
            try:
                await asyncio.wait_for(self.state.prune(self.clock.now()), _PRUNE_STEPS * self._config.store_timeout)
                if self.clock.monotonic() - forgotten_at >= FORGET_INTERVAL:
                    forgotten_at = self.clock.monotonic()
                    await self._forget_jobs()
            except (StoreError, asyncio.TimeoutError) as error:
                logger.warning("the history could not be cut back: %s", one_line(error))
            await self.clock.sleep(PRUNE_INTERVAL)

    async def _forget_jobs(self) -> None:
        names = await self.locks.forget(self._config.forget_after_days * 86_400)
        if names:
            logger.info(
                "%d jobs that nobody has registered for long are forgotten: %s", len(names), ", ".join(names[:10])
            )
            await asyncio.wait_for(self.state.forget(names), _PRUNE_STEPS * self._config.store_timeout)

    async def _end_runs(self) -> None:
        await self._wait_for_runs(self._config.shutdown_timeout)
        for run in list(self.runner.active.values()):
            run.cut_off("cancelled" if run.entry.is_async else "interrupted", "the stop of its scheduler")
        await self._wait_for_runs(CANCEL_GRACE)
        for run in list(self.runner.active.values()):
            if run.outcome is None:
                self.runner.abandon(run)
        # What is left has ended, and tells its hooks.
        await self._wait_for_runs(self._config.hook_timeout)
        for run in list(self.runner.active.values()):
            self.runner.abandon(run)

    async def _wait_for_runs(self, timeout: float) -> None:
        tasks = {run.task for run in self.runner.active.values() if run.task is not None}
        await self.clock.wait(tasks, timeout)

    async def _close_stores(self) -> None:
        await asyncio.gather(self._close_state(), self.locks.close(self._store_patience()))

    async def _close_state(self) -> None:
        try:
            await asyncio.wait_for(self.state.close(), self._store_patience())
        except Exception as error:
            logger.warning("the state store did not close cleanly: %s", one_line(error))

    def _released(self, run: ActiveRun) -> None:
        self.dispatcher.released(run)

    def _registered(self, jobs: list[CronJob]) -> None:
        if self._plugins.calls("job_registered"):
            self.runner.in_background(self._tell_registered(jobs))

    async def _tell_registered(self, jobs: list[CronJob]) -> None:
        for job in jobs:
            await self.hooks.for_scheduler("job_registered", crons=self._crons, job=job)


def _kept(text: str | None) -> str | None:
    """What somebody said, fit to be kept."""
    return None if text is None else safe_text(text, 1_000)
