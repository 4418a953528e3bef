"""Engine: a scheduler from its start to its stop: its stores, its tasks, its runs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from typing import Literal

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.signals import InterruptWatch, StopSignals
from fastapi_crons._util.tasks import Background, Supervisor
from fastapi_crons._util.text import one_line, span
from fastapi_crons._util.threads import ThreadPool
from fastapi_crons.clock import Clock, Timer
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.dispatch.lateness import Delays
from fastapi_crons.engine.dispatch.timeline import Timeline
from fastapi_crons.engine.events import Feed
from fastapi_crons.engine.fleet.heartbeat import Prompt
from fastapi_crons.engine.fleet.membership import Membership
from fastapi_crons.engine.fleet.recovery import Recovery
from fastapi_crons.engine.maintenance import prune_forever
from fastapi_crons.engine.manual import Requests
from fastapi_crons.engine.parts import Parts
from fastapi_crons.engine.runs.journal import Journal
from fastapi_crons.engine.runs.log import capture_records
from fastapi_crons.engine.runs.recorder import Recorder
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.runner import Runner
from fastapi_crons.errors import CronsError, StoreError
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import LeaseTerms
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.host import findings
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.leases import LeaseBook
from fastapi_crons.locking.manager import DistributedLockManager
from fastapi_crons.plugins.calls import HookCaller
from fastapi_crons.plugins.registry import Plugins
from fastapi_crons.registry import JobRegistry
from fastapi_crons.state.base import HistoryLimits, StateBackend
from fastapi_crons.state.client import answer_of

logger = logging.getLogger(__name__)

#: What is started: a scheduler; what only steers others (runs by hand, pauses); or what only reads their stores.
Role = Literal["scheduler", "operator", "observer"]

#: How long (seconds) cancelled runs get to end at a stop before they are left behind.
CANCEL_GRACE = 1.0
#: How long (seconds) a stop waits for a store that did not answer before.
_IMPATIENCE = 1.0
#: When (seconds after the start) it is looked again what this process is one of.
_LOOK_AROUND_AGAIN = 10.0


class Engine:
    """Everything that lives between `start()` and `stop()`. Made, used and stopped on one event loop.

    `crons` is only passed on: it is what hooks get under this name.
    """

    def __init__(
        self,
        crons: object,
        jobs: JobRegistry,
        config: CronConfig,
        clock: Clock,
        plugins: Plugins,
        state: StateBackend,
        lock_manager: DistributedLockManager,
        role: Role,
    ) -> None:
        self._jobs = jobs
        self._config = config
        self.role: Role = role
        self.clock = clock
        self._plugins = plugins
        self.state = state
        terms = LeaseTerms(lock_manager.config.lock_timeout, lock_manager.config.instance_timeout)
        leases = LeaseBook(lock_manager.backend.reach, terms, config.heartbeat_interval, clock.monotonic)
        self._timeline, delays = Timeline(), Delays()
        self.locks = LockClient(
            lock_manager.backend,
            lock_manager.config,
            clock,
            leases,
            count_ticks=self._count_ticks,
            on_outage=delays.note,
        )
        self.instance = Instance.of_this_process(config.given_instance_id)
        self.pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.supervisor = Supervisor()
        self._interrupts = InterruptWatch()
        self._stop_signals: StopSignals | None = None
        self.hooks = HookCaller(crons, clock, plugins.calls, ThreadPool(8, "fastapi-crons-hook"), config.hook_timeout)
        self.background = Background(clock)
        self.recorder = Recorder(
            state,
            self.locks,
            leases,
            clock,
            store_timeout=config.store_timeout,
            max_buffered=config.max_buffered_records,
        )
        journal = Journal(clock, self.hooks, self.recorder, self.background, self.instance.id)
        prompt = Prompt(clock.monotonic)
        self.runner = Runner(
            config,
            clock,
            plugins,
            self.hooks,
            self.recorder,
            journal,
            leases,
            self.background,
            self.instance.id,
            self._interrupts,
            ask_about_leases=prompt.renew,
            on_lost=self._lost,
        )
        parts = self._parts = Parts(
            config,
            clock,
            self.instance,
            self.runs_ticks,
            state,
            self.locks,
            leases,
            self.recorder,
            journal,
            self.runner,
            self.background,
        )
        self.leases = leases
        self.dispatcher = Dispatcher(
            parts, self._timeline, delays, on_registered=self._registered, on_early=prompt.beat_for_early_tick
        )
        self.membership = Membership(parts, self.dispatcher, Recovery(parts, self.dispatcher, jobs.get), prompt)
        self._requests = Requests(parts, self.dispatcher, self.membership)
        self.feed = Feed(state, config.max_event_streams)
        #: What is to be said about the place that this runs in.
        self.surroundings: list[str] = []
        self._look_again: Timer | None = None
        #: Why the stores could not be had at the start, while they are waited for.
        self.waits_for_stores: str | None = None
        self._missing = Meter()

    def _lost(self, run: ActiveRun) -> None:
        self.membership.lost(run)

    def _count_ticks(self, seconds: float) -> tuple[int, bool]:
        """How many ticks became due in the last so many seconds, and whether there are more."""
        now = self.clock.now()
        return self._timeline.count(now - seconds - 1, now)  # a tick is claimed within a second

    @property
    def runs_ticks(self) -> bool:
        """Whether ticks are run here."""
        return self.role == "scheduler" and self._config.enabled

    @property
    def max_threads(self) -> int:
        """How many sync functions run at a time."""
        return self._config.max_threads

    async def start(self) -> None:
        """Open the stores, register the jobs, see to what the last process left behind, and begin.

        Raises what the stores raise when they can't be opened; then everything is closed again.
        """
        # From here on jobs that another thread registers are added, too; some may come twice, none is lost.
        self.add(self._jobs)
        if self.role == "observer":
            await self._observe()
            return
        self.supervisor.start("record", self.recorder.write_forever)
        self.supervisor.start("release", self.recorder.release_forever)
        try:
            try:
                await self._begin()
            except StoreError as error:
                if not (self._config.start_without_store and self.role == "scheduler"):
                    raise
                self._wait_for_stores(error)
            # What was begun about the jobs is told before the scheduler itself.
            await self.background.drain(self._config.hook_timeout)
            await self._tell_plugins("scheduler_started")
        except BaseException:
            # Also where the caller gave up waiting: nothing is left behind that nobody can stop.
            await asyncio.shield(asyncio.ensure_future(self.stop(told=False)))
            raise

    def waits_for(self, task: asyncio.Task[object] | None, root: asyncio.Task[object] | None) -> bool:
        """Whether a stop would wait for this task: it is part of a run (of which `root` is the task), or a hook."""
        own = {run.task for run in self.runner.active.values()} | self.background.tasks
        return root in own or self.hooks.is_call(task)

    def requests_for(self, action: str) -> Requests:
        """What performs requests. Raises `CronsError`, naming the action, where this was started as an observer."""
        if self.role == "observer":
            raise CronsError(f"can't {action}: the scheduler was started as an observer; use start('operator')")
        return self._requests

    @property
    def starting(self) -> int:
        """How many callers wait for a run by hand to start."""
        return self._requests.starting

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
        """Claim nothing more. Whoever waits for a manual run, and can, stops waiting; whoever listens hears no more."""
        self._requests.stop()
        self.feed.stop()
        self.dispatcher.stop()

    async def stop(self, *, told: bool = True) -> None:
        """Claim nothing more, let running jobs finish within `shutdown_timeout`, cut off the rest, flush and close.

        Bounded: by `shutdown_timeout`, by the hooks' time limit where hooks go on, and by `store_timeout` for all that is
        asked of the stores. `told` says whether plugins hear of it.
        """
        self.quiesce()
        if self.role == "observer":
            await self.feed.close(self._store_patience())
            await self._close_stores()
            self.instance.lives_here(alive=False)
            return
        await self.supervisor.stop("open", self._store_patience())
        await self.supervisor.finish("dispatch", self._store_patience())
        await self._requests.settle(self._store_patience())
        self.leases.stop()
        await self._end_runs()
        await self.background.drain(self._config.hook_timeout)
        self.background.cancel()
        self._interrupts.stop()
        if self._look_again is not None:
            self._look_again.cancel()
        if self._stop_signals is not None:
            self._stop_signals.stop()
        await self.membership.heartbeat.stop(self._store_patience())
        await self.feed.close(self._store_patience())
        for name in ("listen", "prune", "record", "release"):
            await self.supervisor.stop(name, self._store_patience())
        await self.recorder.flush(self._store_patience())
        await self.membership.leave(self._store_patience())
        await self._close_stores()
        self.instance.lives_here(alive=False)
        if told:
            await self._tell_plugins("scheduler_stopped")

    def _store_patience(self) -> float:
        """How long (seconds) a stop waits for a store: not long for one that is known not to answer."""
        down = self.locks.fault is not None or self.recorder.fault is not None
        return min(_IMPATIENCE, self._config.store_timeout) if down else self._config.store_timeout

    def add(self, jobs: Iterable[CronJob]) -> None:
        """Take up jobs; one that is known already is left as it is. Safe to call from any thread."""
        self.dispatcher.add(jobs)

    async def _observe(self) -> None:
        try:
            await self._open_stores()
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self.stop()))
            raise

    async def _tell_plugins(self, hook: str) -> None:
        """Plugins hear of schedulers, and not of those who only steer them."""
        if self.role == "scheduler":
            await self.hooks.for_scheduler(hook)

    async def _open_stores(self) -> None:
        self.instance.lives_here(alive=True)
        to_read = self.role == "observer"
        await self.locks.open(self.instance, to_read=to_read)
        limits = HistoryLimits(self._config.history_keep, self._config.history_days)
        connect = self.state.open_to_read if to_read else self.state.open
        try:
            await answer_of(connect(self._config.namespace, limits), self._config.store_timeout)
            if not to_read:
                asked = self.clock.monotonic()
                await self.membership.announce()
                self.recorder.expect(self.clock.monotonic() - asked)
        except StoreError:
            await self._close_stores()
            raise

    def _wait_for_stores(self, error: StoreError) -> None:
        self.waits_for_stores = one_line(error)
        self._stores_missing(self.clock.monotonic())
        self.supervisor.start("open", self._open_when_possible)

    async def _open_when_possible(self) -> None:
        backoff, since = Backoff(), self.clock.now()
        while True:
            await self.clock.sleep(backoff.next())
            await self._close_stores()
            self.dispatcher.delays.waited_for_stores(since, self.clock.now(), self.waits_for_stores or "")
            try:
                await self._begin()
                break
            except StoreError as error:
                self.waits_for_stores = one_line(error)
                self._stores_missing(self.clock.monotonic())
        self.waits_for_stores = None
        waited = self._missing.works(self.clock.monotonic())
        logger.warning("the scheduler has its stores after %s, and has started", span(waited.seconds if waited else 0))

    def _stores_missing(self, now: float) -> None:
        lasting = self._missing.failed(now)
        if lasting is None:
            return
        if lasting.first:
            logger.error(
                "the scheduler waits for its stores, and runs no job until it has them: %s", self.waits_for_stores
            )
        else:
            logger.error(
                "the scheduler has waited for its stores for %s: %s", span(lasting.seconds), self.waits_for_stores
            )

    async def _begin(self) -> None:
        """Open the stores, and begin. Where a store fails, it can be tried again once they are closed."""
        await self._open_stores()
        if self._config.enabled and self.role != "observer":
            self._interrupts.start()
            if self._config.max_log_chars:
                capture_records()
        if not self.runs_ticks:
            self.membership.keep_leases()
            self._registered(list(self._jobs))
            return
        await self.dispatcher.jobs.enrol_new()
        await self.membership.join()
        # From here on nothing fails.
        self.membership.keep_leases()
        self.supervisor.start("dispatch", self.dispatcher.run_forever)
        self.supervisor.start("prune", lambda: prune_forever(self._parts))
        self.supervisor.start("listen", self.membership.listen_forever)
        self._look_around()
        # The other workers of a server may start a little later.
        self._look_again = self.clock.call_later(_LOOK_AROUND_AGAIN, self._look_around)

    def _look_around(self) -> None:
        found = findings(self.locks.backend.reach)
        for finding in found:
            if finding not in self.surroundings:
                logger.warning("%s", finding)
        self.surroundings = found

    async def _end_runs(self) -> None:
        await self._wait_for_runs(self._config.shutdown_timeout)
        for run in list(self.runner.active.values()):
            run.cut_off("cancelled" if run.job.is_async else "interrupted", "the stop of its scheduler")
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

    def _registered(self, jobs: list[CronJob]) -> None:
        if self.role == "scheduler" and self._plugins.calls("job_registered"):
            self.background.start(self._tell_registered(jobs))

    async def _tell_registered(self, jobs: list[CronJob]) -> None:
        for job in jobs:
            await self.hooks.for_scheduler("job_registered", job=job)
