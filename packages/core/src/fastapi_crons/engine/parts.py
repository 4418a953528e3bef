"""Parts: makes all parts of one scheduler, from those that use none of the others to those that use most."""

from __future__ import annotations

from collections.abc import Callable, Collection

from fastapi_crons._util.os_signals import Signals
from fastapi_crons._util.part import Part
from fastapi_crons._util.tasks import Background, Supervisor
from fastapi_crons._util.threads import ThreadPool
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.again import Records
from fastapi_crons.engine.backfills import Backfills
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.dispatch.lateness import Delays
from fastapi_crons.engine.dispatch.timeline import Timeline
from fastapi_crons.engine.events import Feed
from fastapi_crons.engine.fleet.membership import Membership
from fastapi_crons.engine.fleet.recovery import Recovery
from fastapi_crons.engine.fleet.signals import FleetSignals
from fastapi_crons.engine.fleet.waker import HeartbeatWaker
from fastapi_crons.engine.log_feed import LogFeed
from fastapi_crons.engine.log_writer import LogWriter
from fastapi_crons.engine.maintenance import Maintenance
from fastapi_crons.engine.manual import Requests
from fastapi_crons.engine.runs.journal import Journal
from fastapi_crons.engine.runs.recorder import Recorder
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.runner import Runner, Runs
from fastapi_crons.engine.stores import Stores
from fastapi_crons.functions.dependencies import Served
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import LeaseTerms
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.leases import LeaseBook
from fastapi_crons.locking.manager import DistributedLockManager
from fastapi_crons.plugins.calls import HookCaller
from fastapi_crons.plugins.registry import Plugins
from fastapi_crons.run import Run
from fastapi_crons.state.base import StateBackend
from fastapi_crons.state.client import answer_of

#: How many plain functions of hooks are called at a time.
_HOOK_THREADS = 8


class Parts:
    """The parts of one scheduler. Made on the event loop that it runs on."""

    def __init__(
        self,
        crons: object,
        config: CronConfig,
        clock: Clock,
        plugins: Plugins,
        state: StateBackend,
        lock_manager: DistributedLockManager,
        served: Callable[[], Served],
        job_of: Callable[[str], CronJob | None],
        on_registered: Callable[[list[CronJob]], None],
        *,
        runs_ticks: bool,
        to_read: bool,
    ) -> None:
        """With `to_read` only the stores are opened; without `runs_ticks` jobs are only started by hand."""
        self.config, self.clock = config, clock
        self.state = state
        self.instance = Instance.of_this_process(config.given_instance_id)
        self.supervisor = Supervisor()
        self.background = Background(clock, config.hook_timeout)
        self.signals = Signals(watch_interrupts=config.enabled and not to_read)
        pool = ThreadPool(_HOOK_THREADS, "fastapi-crons-hook")
        self.hooks = HookCaller(crons, clock, plugins.calls, pool, config.hook_timeout)
        self.timeline, self.delays = Timeline(), Delays()
        self._make_locks(lock_manager)
        self._make_runs(plugins, served)
        self._make_dispatch(job_of, on_registered, runs_ticks=runs_ticks)
        self._make_fleet(job_of, runs_ticks=runs_ticks)
        self.feed = Feed(state, config.max_event_streams)
        self.log_feed = LogFeed(clock, self.feed, lambda: self.runner.active, self._recorded)
        self.in_order = self._in_order(runs_ticks=runs_ticks, to_read=to_read)

    def _make_locks(self, manager: DistributedLockManager) -> None:
        config, clock, given = self.config, self.clock, manager.config
        terms = LeaseTerms(given.lock_timeout, given.instance_timeout)
        self.leases = LeaseBook(manager.backend.reach, terms, config.heartbeat_interval, clock.monotonic)
        self.locks = LockClient(
            manager.backend, given, clock, self.leases, count_ticks=self._count_ticks, on_outage=self.delays.note
        )

    def _make_runs(self, plugins: Plugins, served: Callable[[], Served]) -> None:
        config, clock = self.config, self.clock
        self.waker = HeartbeatWaker(clock.monotonic)
        self.recorder = Recorder(
            self.state,
            self.locks,
            self.leases,
            clock,
            self.supervisor,
            store_timeout=config.store_timeout,
            max_buffered=config.max_buffered_records,
        )
        self.log_writer = LogWriter(clock, self.supervisor, self.recorder, self._active_runs)
        self.journal = Journal(clock, self.hooks, self.recorder, self.background, self.instance.id)
        self.runner = Runner(
            config,
            clock,
            plugins,
            self.hooks,
            self.recorder,
            self.journal,
            self.leases,
            self.background,
            self.instance.id,
            self.signals.interrupts,
            served,
            self.waker.renew,
            self._on_lost,
            self.log_writer.has_grown,
        )
        self.runs = Runs(self.recorder, self.journal, self.runner)

    def _make_dispatch(
        self,
        job_of: Callable[[str], CronJob | None],
        on_registered: Callable[[list[CronJob]], None],
        *,
        runs_ticks: bool,
    ) -> None:
        self.dispatcher = Dispatcher(
            self.config,
            self.clock,
            self.instance.owner,
            self.supervisor,
            self.background,
            self.locks,
            self.runs,
            self.timeline,
            self.delays,
            job_of,
            runs_ticks=runs_ticks,
            on_registered=on_registered,
            on_early=self.waker.beat_for_early_tick,
        )

    def _make_fleet(self, job_of: Callable[[str], CronJob | None], *, runs_ticks: bool) -> None:
        self.recovery = Recovery(
            self.config,
            self.clock,
            self.instance.owner,
            self.state,
            self.locks,
            self.leases,
            self.runs,
            self.dispatcher,
            job_of,
        )
        self.fleet_signals = FleetSignals(
            self.clock,
            self.supervisor,
            self.background,
            self.state,
            self.dispatcher,
            self.waker,
            store_timeout=self.config.store_timeout,
            publishes=self.locks.backend.reach != "process",
            listens=runs_ticks,
        )
        self.membership = Membership(
            self.config,
            self.clock,
            self.instance,
            self.supervisor,
            self.background,
            self.locks,
            self.leases,
            self.runs,
            self.dispatcher,
            self.recovery,
            self.fleet_signals,
            self.waker,
            self._on_drain,
            runs_ticks=runs_ticks,
        )
        self.records = Records(self.state, self.locks, self.recorder, self.clock, self.config.store_timeout)
        self.requests = Requests(
            self.config,
            self.clock,
            self.background,
            self.locks,
            self.runs,
            self.dispatcher,
            self.fleet_signals,
            self.recovery,
            self.records,
            registers=runs_ticks,
        )

        self.backfills = Backfills(
            self.config, self.clock, self.records, self.dispatcher, self.requests, self.background, self.instance
        )

    def _in_order(self, *, runs_ticks: bool, to_read: bool) -> list[Part]:
        """Those to be started, in the order in which they are; they are stopped in the reverse one."""
        config, clock, state, locks = self.config, self.clock, self.state, self.locks
        stores = Stores(config, clock, self.instance, state, locks, self.membership, self.recorder, to_read=to_read)
        parts: list[Part] = [self.supervisor, self.hooks, stores, self.feed, self.log_feed, self.signals]
        if not to_read:
            parts += [self.recorder, self.log_writer, self.membership, self.fleet_signals, self.background]
            # Backfills are stopped after the runner, which ends the runs that they wait for.
            parts += [self.backfills, self.runner, self.dispatcher, self.requests]
        if runs_ticks:
            parts.append(Maintenance(config, clock, self.supervisor, state, locks, self.recorder))
        return parts

    def _active_runs(self) -> Collection[ActiveRun]:
        return self.runner.active.values()

    async def _recorded(self, run_id: str) -> Run | None:
        """A run as it is on record, or is about to be."""
        return self.recorder.noted(run_id) or await answer_of(self.state.run(run_id), self.config.store_timeout)

    def _on_drain(self) -> None:
        self.requests.drain()
        self.backfills.quiesce()

    def _on_lost(self, run: ActiveRun) -> None:
        self.recovery.recover_own(run)

    def _count_ticks(self, seconds: float) -> tuple[int, bool]:
        """How many ticks became due in the last so many seconds, and whether there are more."""
        now = self.clock.now()
        return self.timeline.count(now - seconds - 1, now)  # a tick is claimed within a second
