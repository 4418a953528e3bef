"""Crons: the scheduler as its users see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from fastapi_crons import logs
from fastapi_crons._util.executions import Caller, Executions, caller
from fastapi_crons._util.hiding import forget_all
from fastapi_crons._util.text import counted
from fastapi_crons.clock import Clock, SystemClock, whole_seconds
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import ConfigurationError
from fastapi_crons.functions.dependencies import Served
from fastapi_crons.job import CronJob, ManualRun
from fastapi_crons.plugins.registry import Plugins
from fastapi_crons.registry import JobRegistry
from fastapi_crons.run import Run, RunStatus, Trigger
from fastapi_crons.scheduler.groups import forget_groups
from fastapi_crons.scheduler.lifespan import attach
from fastapi_crons.scheduler.placements import Placement
from fastapi_crons.scheduler.registering import Registers
from fastapi_crons.scheduler.schedulers import Arguments, Schedulers
from fastapi_crons.scheduler.start_notices import Notices
from fastapi_crons.scheduler.start_stop import StartStop
from fastapi_crons.state.client import answer_of

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fastapi_crons.engine.drain import RunLeft
    from fastapi_crons.engine.engine import Engine, Role
    from fastapi_crons.engine.health import Health
    from fastapi_crons.locking.base import Pause
    from fastapi_crons.locking.manager import DistributedLockManager
    from fastapi_crons.state.base import StateBackend


class Crons(Registers):
    """A scheduler: its jobs, its hooks, its start and its stop.

    `Crons(app)` starts and stops with the app; called again for the same app, it returns the same scheduler. `Crons()`
    without arguments is the scheduler of this process: the newest one, or a new one where there is none. A scheduler made
    without an app, whatever it was given, is adopted by each `Crons(app, …)` that follows while it is not running, unless it
    has started without one: the first app whose lifespan begins starts it, and it stops when the last one ends.
    `async with Crons() as crons:` starts and stops it as well, for use in a lifespan of your own. `state_backend` and
    `lock_manager` default to what the settings name and what is installed, `config` to the environment's settings.

    A module that is executed again (`python main.py` that serves `"main:app"`, a reload) gets the scheduler that it made
    before, unless that one is running; the jobs and hooks it registers again replace the former ones.

    Raises `ConfigurationError` where the settings can't be used, where a scheduler is given a value that differs from the
    one it was given before, and for `Crons(app)` inside the running lifespan of that app, which would come too late.
    """

    #: The app that it starts and stops with: the one whose lifespan started it, else the one it was attached to last.
    app: FastAPI | None
    #: Its settings.
    config: CronConfig
    #: Where it takes the time from: the machine's clock, unless it was given another.
    clock: Clock
    #: Its jobs, in the order they were registered; reads like a list.
    jobs: JobRegistry

    _schedulers: ClassVar[Schedulers[Crons]] = Schedulers()

    def __new__(
        cls,
        app: FastAPI | None = None,
        state_backend: StateBackend | None = None,
        lock_manager: DistributedLockManager | None = None,
        config: CronConfig | None = None,
        *,
        clock: Clock | None = None,
    ) -> Crons:
        with cls._schedulers.lock:
            given = Arguments(state_backend, lock_manager, config, clock)
            return cls._schedulers.meant_by(app, given) or super().__new__(cls)

    def __init__(
        self,
        app: FastAPI | None = None,
        state_backend: StateBackend | None = None,
        lock_manager: DistributedLockManager | None = None,
        config: CronConfig | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        schedulers = Crons._schedulers
        with schedulers.lock:
            if app is not None and schedulers.of_app(app) is self:
                return
            given, place = Arguments(state_backend, lock_manager, config, clock), caller()
            if not hasattr(self, "jobs"):
                self._set_up(given, adoptable=app is None)
            elif given.anything:
                self._take(given)
            if place not in self.made_at:
                self.made_at.append(place)
            schedulers.newest = self
            self._note_execution(place)
            if app is not None:
                if self.app is not None:
                    # A factory that is called once more registers the same jobs and hooks again.
                    self._expect_again(moved=False)
                self.app = app
                self.notices.stop_watch()
                schedulers.attach(app, self)
                attach(app, self)

    def _set_up(self, given: Arguments, *, adoptable: bool) -> None:
        logs.adopt_server_handlers()  # what is logged before the start is to show its level, too
        self.given = given
        self.adoptable = given if adoptable else None
        self.made_at: list[Caller] = []
        #: The stores it was given, or those that it used last.
        self._stores = given.state_backend, given.lock_manager
        self.config = given.settings or CronConfig()
        self.clock = given.clock or SystemClock()
        self.app = None
        self._app_state: Mapping[str, object] = {}
        self._executions = Executions()
        self.jobs = JobRegistry(
            self.config,
            before_append=lambda: self._note_execution(caller()),
            on_append=self._job_appended,
            on_change=self._job_changed,
            is_running=lambda: self.running,
        )
        self.placements: list[Placement] = []
        self._plugins: Plugins | None = None
        self.notices = Notices(self, Crons._schedulers)
        self._start_stop = StartStop(self._make_engine, self._started)
        #: A user of the scheduler for each `async with` block that is entered.
        self._entered: list[object] = []
        Crons._schedulers.add(self)

    def _take(self, given: Arguments) -> None:
        """Use what is given now in place of what was given or chosen before; the scheduler is not running."""
        both = self.given.with_newer(given)
        config = both.settings or self.config
        if self._plugins is not None and config.disabled_plugins != self.config.disabled_plugins:
            raise ConfigurationError(
                f"the scheduler made at {self.made_at[0]} has loaded its plugins already; "
                "give it the settings with other disabled_plugins there"
            )
        self.given, self.config = both, config
        self._stores = both.state_backend, both.lock_manager
        self.clock = both.clock or self.clock
        self.jobs.use_settings(config)

    def _note_execution(self, place: Caller) -> None:
        """Where a module is executed again, what it registers may replace what it registered before."""
        if self._executions.is_another(place):
            self._expect_again(moved=True)

    def _expect_again(self, *, moved: bool) -> None:
        self.jobs.expect_again(moved=moved)
        if self._plugins is not None:
            self._plugins.expect_again(moved=moved)

    @classmethod
    def current(cls) -> Crons | None:
        """The scheduler of this process; None where none was made. Makes none."""
        return Crons._schedulers.newest

    @classmethod
    def of_app(cls, app: FastAPI) -> Crons | None:
        """The scheduler that starts and stops with an app; None where it has none. Makes none."""
        return Crons._schedulers.of_app(app)

    @classmethod
    def unattached(cls) -> list[Crons]:
        """The schedulers of this process that have jobs, but no app, and that nothing has started."""
        return [each for each in Crons._schedulers if each.notices.is_unattached]

    @property
    def engine(self) -> Engine | None:
        """What runs between start and stop; None otherwise, and in a process forked from the one that started it."""
        return self._start_stop.engine

    @property
    def served(self) -> Served:
        """What the requests belong to that dependencies of its jobs are given."""
        return Served(self.app, self._app_state)

    @property
    def running(self) -> bool:
        """Whether the scheduler has started and not stopped."""
        return self.engine is not None

    @property
    def started_alone(self) -> bool:
        """Whether it has started without an app, so that no app adopts it any more."""
        return self.app is None and self.notices.has_started

    @property
    def plugins(self) -> Plugins:
        """The plugins of this scheduler, loaded at the first use. Raises `PluginError` where one can't be loaded."""
        if not self.running:
            self._note_execution(caller())
        if self._plugins is None:
            self._plugins = Plugins(self.config.disabled_plugins)
        return self._plugins

    async def __aenter__(self) -> Crons:
        user = object()
        await self.begin_for(user)
        self._entered.append(user)
        self.heed_signals()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end_for(self._entered.pop())

    async def begin_for(
        self, user: object, app: FastAPI | None = None, state: Mapping[str, object] | None = None
    ) -> None:
        """Start for a user, who calls `end_for` in the end; without effect where it has started for another.

        `state` is what the lifespan of `app` has yielded.
        """
        if app is not None and not self._start_stop.users:
            self.app, self._app_state = app, state or {}
        await self._start_stop.begin_for(user)

    async def end_for(self, user: object) -> None:
        """Stop for a user, unless others on this event loop still use the scheduler."""
        await self._start_stop.end_for(user)

    async def start(self, role: Role = "scheduler") -> None:
        """Start the scheduler on the running event loop; without effect when it has started already, in whatever role.

        An `operator` runs no ticks and registers no jobs: it runs jobs by hand, pauses and resumes them, and cancels runs. An
        `observer` only opens the stores, to read; other instances don't see it.

        Raises `ConfigurationError`, `PluginError` or a `StoreError`; then nothing was started.
        """
        await self._start_stop.start(role)

    def _make_engine(self, role: Role) -> Engine:
        from fastapi_crons.engine.engine import Engine  # most of the code: needed only where jobs run
        from fastapi_crons.plugins.choice import choose_backends
        from fastapi_crons.plugins.settings import know_secrets

        self.check_hooks()
        know_secrets(self.plugins)
        # A scheduler that is started again uses the stores it had.
        self._stores = state, locks = choose_backends(self.config, self.plugins, *self._stores)
        return Engine(self, self.jobs, self.config, self.clock, self.plugins, state, locks, lambda: self.served, role)

    def _started(self, engine: Engine) -> None:
        if engine.role == "scheduler":
            self.notices.started(waits_for_stores=engine.waits_for_stores is not None)

    def when_started(self, say: Callable[[], None]) -> None:
        """Call `say`, which logs something, at each start of a scheduler that runs jobs, and now where it is running."""
        self.notices.when_started(say)

    async def stop(self) -> None:
        """Stop gracefully: running jobs get `shutdown_timeout` seconds to finish. Without effect when it is not running.

        A caller that is cancelled does not cancel the stop. A job or a hook that stops its own scheduler does not wait for
        the stop, which waits for the job. Raises `CronsError` on another event loop than that of the start.
        """
        await self._start_stop.stop()

    def heed_signals(self) -> None:
        """Stop as soon as the process is told to end, for those who run a scheduler in a server of their own.

        SIGTERM and SIGINT also reach the handlers that were installed before; a signal without a handler is left alone.
        Call this in the main thread, after the start. The scheduler of an app does so by itself.
        """
        self._start_stop.heed_signals()

    async def run_job(
        self,
        name: str,
        force: bool = False,
        timeout: float | None = None,
        *,
        triggered_by: Trigger = "code",
        actor: str | None = None,
        note: str | None = None,
        kwargs: Mapping[str, object] | None = None,
        tick: datetime | None = None,
    ) -> Run:
        """Run a job now, in the same way as a scheduled run, and wait until it has ended and is on record; it says how it went.

        `force` runs it although it is already running; the run then names the other one. `timeout` (seconds) replaces the
        job's own, `kwargs` its arguments of the same names. `actor`, `note` and the arguments are stored with the run.

        With `tick` (aware) that tick is run again; `force` then runs one that ran already, or has yet to be run.

        Raises `UnknownJobError`, `JobLockedError` (it is running, and `force` was not given), `TickRefusedError` (the tick is
        none of the job's, ran already, or lies ahead), `NotInForceError` (running instances have registered another definition
        since), `StoreUnavailableError`, `InvalidArgumentError` for arguments that the function does not take, `ValueError` for
        a timeout or tick that can't be used, or `CronsError` where the scheduler is not running.
        """
        requests = self._start_stop.requests_for(f"run job {name!r}")
        again = None if tick is None else whole_seconds(tick, "tick")
        run = await requests.start_run(
            ManualRun(self.jobs.named(name), force, timeout, actor, note, triggered_by, kwargs or {}, again)
        )
        return await requests.finished(run, or_stopping=False)

    async def runs(
        self, name: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        """The runs of a job on record, or with None of all jobs, newest first and without their logs.

        With `before`, those that were claimed before the run of this id. A run that has just begun or ended may not be on
        record yet. Raises `UnknownJobError`, `StoreUnavailableError`, or `CronsError` where the scheduler has not started.
        """
        state = self._start_stop.engine_for("list runs").state
        if name is not None:
            self.jobs.named(name)
        found = state.runs(name, limit=limit, before=before, status=status)
        return await answer_of(found, self.config.store_timeout)

    async def pause(self, name: str, *, actor: str | None = None, note: str | None = None) -> None:
        """Run no tick of a job, on any instance and over restarts, until it is resumed. Current runs are left alone.

        `actor` and `note` are stored with the pause. Raises `UnknownJobError`, `StoreUnavailableError`, or `CronsError`
        where the scheduler is not running.
        """
        await self._start_stop.requests_for(f"pause job {name!r}").pause(self.jobs.named(name), actor, note)

    async def resume(self, name: str, *, catch_up: bool = False) -> bool:
        """Resume a paused job with its next tick; False where it is not paused.

        The ticks of the pause are recorded as missed, with the reason `paused`; with `catch_up` they are late ticks instead,
        which the job's policy decides about. Raises as `pause`.
        """
        requests = self._start_stop.requests_for(f"resume job {name!r}")
        return await requests.resume(self.jobs.named(name), catch_up=catch_up)

    async def pauses(self) -> dict[str, Pause]:
        """The jobs that are paused: since when (Unix seconds), by whom, and why. Raises as `pause`."""
        return await self._start_stop.engine_for("list pauses").locks.pauses()

    async def cancel_run(self, run_id: str, *, actor: str | None = None) -> bool:
        """Cancel a run, here or on another instance; False where no run of this id is running.

        An async function is cancelled at once, on another instance within `CRON_HEARTBEAT_INTERVAL`. A sync one can't be:
        its run is recorded as cancelled, and its thread holds the job until it ends. Raises `StoreUnavailableError`, or
        `CronsError` where the scheduler is not running.
        """
        return await self._start_stop.requests_for(f"cancel run {run_id!r}").cancel_run(run_id, actor)

    async def drain(self) -> tuple[RunLeft, ...]:
        """Claim nothing more until the process ends, hand the ticks over to other instances, and return what still runs here.

        Runs go on, and runs by hand are refused. There is no way back but a restart; called again, it returns what is left.
        Raises `CronsError` where the scheduler is not running, and `StoreUnavailableError` while it waits for its stores.
        """
        return await self._start_stop.engine_for("drain this instance").drain()

    def health(self) -> Health:
        """Whether the scheduler does its work, and what should be looked at. Asks no store."""
        from fastapi_crons.engine.health import Health

        if self.engine is None:
            return Health("unhealthy", ("the scheduler is not running",), ("the scheduler is not running",))
        return self.engine.health()

    def is_at_rest(self, asleep: Collection[asyncio.Task[object]], *, finish_runs: bool) -> bool:
        """Whether it has nothing to do before its clock moves on; for clocks of tests, which move on only then.

        `asleep` are the tasks that sleep on that clock. `finish_runs` says whether runs have to end first, unless they sleep.
        """
        return self.engine is None or self.engine.is_at_rest(asleep, finish_runs=finish_runs)

    def _job_appended(self, job: CronJob) -> None:
        engine = self.engine
        if engine is not None:
            engine.add([job])
        else:
            self.notices.watch()

    def _job_changed(self, name: str) -> None:
        if self.jobs.get(name) is None:
            self._forget_name(name)
        engine = self.engine
        if engine is not None:
            engine.changed(name)

    def __repr__(self) -> str:
        return f"<Crons with {counted(len(self.jobs), 'job')}, {'running' if self.running else 'not running'}>"


def reset() -> None:
    """Forget the schedulers of this process, and the secrets they know of. For tests."""
    Crons._schedulers.clear()
    forget_groups()
    forget_all()
