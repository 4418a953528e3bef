"""Crons: the scheduler as its users see it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable
from datetime import tzinfo
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, TypedDict, TypeVar, overload
from weakref import ref

from fastapi_crons import logs
from fastapi_crons._util.executions import Caller, Executions, caller
from fastapi_crons._util.hiding import forget_all
from fastapi_crons._util.text import counted
from fastapi_crons.clock import Clock, SystemClock, root_task
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import ConfigurationError, CronsError
from fastapi_crons.job import CronJob, JobFunc, ManualRun, Overlap, check_expression
from fastapi_crons.plugins.calls import HookFunc
from fastapi_crons.plugins.registry import Plugins
from fastapi_crons.registry import JobRegistry
from fastapi_crons.run import Run, RunStatus, Trigger
from fastapi_crons.schedule.cron import Schedule
from fastapi_crons.scheduler.former_variables import warn_of_former_variables
from fastapi_crons.scheduler.given import Given, Schedulers
from fastapi_crons.scheduler.lifespan import attach, refuse_inside_lifespan, scheduler_of
from fastapi_crons.scheduler.serving import Cancellable, in_tests, when_serving
from fastapi_crons.scheduler.variables import warn_of_unread_variables
from fastapi_crons.state.client import answer_of

if TYPE_CHECKING:
    from fastapi import FastAPI
    from typing_extensions import Unpack

    from fastapi_crons.engine.engine import Engine, Role
    from fastapi_crons.engine.health import Health
    from fastapi_crons.engine.manual import Steering
    from fastapi_crons.locking.base import Pause
    from fastapi_crons.locking.manager import DistributedLockManager
    from fastapi_crons.state.base import StateBackend

logger = logging.getLogger(__name__)


FuncT = TypeVar("FuncT", bound=JobFunc)
HookT = TypeVar("HookT", bound=HookFunc)


class _Later(Enum):
    """Stands for a hook that a decorator is still to be given; None would hide a mistake."""

    LATER = "the decorated function"


_LATER = _Later.LATER


class JobOptions(TypedDict, total=False):
    """What `cron()` takes besides expression, name and tags; see `CronJob`."""

    timezone: str | tzinfo | None
    coalesce: bool | None
    misfire_grace_time: float | None
    overlap: Overlap
    max_retries: int
    retry_delay: float
    retry_on: type[BaseException] | Iterable[type[BaseException]]
    timeout: float | None
    jitter: float
    enabled: bool
    store_result: bool


class Crons:
    """A scheduler: its jobs, its hooks, its start and its stop.

    `Crons(app)` starts and stops with the app; asked again for the same app, it is the same. `Crons()` with no arguments is
    the scheduler of this process: the one made last, or a new one where there is none. One that was made without an app,
    whatever it was given, becomes that of each `Crons(app, …)` that follows as long as it does not run: the first app whose
    lifespan begins starts it, and it stops when the last one ends. `async with Crons() as crons:` starts and stops it, too;
    that is for a lifespan of one's own. `state_backend` and `lock_manager` default to what the settings name and what is
    installed; `config` to the environment's.

    A module that is executed again (`python main.py` that serves `"main:app"`, a reload) makes no second one where its first
    execution made one that does not run, and its jobs and hooks take the place of those they were before.

    Raises `ConfigurationError` where the settings can't be used, where a scheduler is given what differs from what it was
    given already, and for `Crons(app)` inside the running lifespan of that app, which would come too late.
    """

    #: The app that it starts and stops with: the one whose lifespan started it, else the last that it was attached to.
    app: FastAPI | None
    #: Its settings.
    config: CronConfig
    #: What it takes the time from: the machine's, unless another one was given.
    clock: Clock
    #: Its jobs, in the order they were registered; reads like a list.
    jobs: JobRegistry

    _of_process: ClassVar[Crons | None] = None
    _all: ClassVar[Schedulers] = Schedulers()
    _making: ClassVar[threading.RLock] = threading.RLock()

    def __new__(
        cls,
        app: FastAPI | None = None,
        state_backend: StateBackend | None = None,
        lock_manager: DistributedLockManager | None = None,
        config: CronConfig | None = None,
        *,
        clock: Clock | None = None,
    ) -> Crons:
        given = Given(state_backend, lock_manager, config, clock)
        with cls._making:
            of_app = None if app is None else scheduler_of(app)
            if of_app is not None:
                of_app._given.check_holds(given)
                return of_app
            if app is not None:
                refuse_inside_lifespan(app)
            current = Crons._of_process
            if app is None and not given.anything:
                return current or super().__new__(cls)
            former = Crons._all.made_before(caller())
            if former is not None:
                return former
            if app is not None and current is not None and current._made_without_app and not current.running:
                current._first_given.check_same(
                    given, f"the scheduler that was made without an app ({current.made_at[0]})"
                )
                return current
            return super().__new__(cls)

    def __init__(
        self,
        app: FastAPI | None = None,
        state_backend: StateBackend | None = None,
        lock_manager: DistributedLockManager | None = None,
        config: CronConfig | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        with Crons._making:
            if app is not None and scheduler_of(app) is self:
                return
            given, place = Given(state_backend, lock_manager, config, clock), caller()
            if not hasattr(self, "jobs"):
                self._set_up(given, without_app=app is None)
            elif given.anything:
                self._take(given)
            if place not in self.made_at:
                self.made_at.append(place)
            Crons._of_process = self
            self._notice(place)
            if app is not None:
                if self.app is not None:
                    # What a factory registers each time that it makes an app is the same once more.
                    self._expect_again(moved=False)
                self.app = app
                self._stop_watch()
                attach(app, self)

    def _set_up(self, given: Given, *, without_app: bool) -> None:
        logs.adopt_server_handlers()  # what is logged before the start is to show its level, too
        self._given = self._first_given = given
        self._made_without_app = without_app
        self._given_state: StateBackend | None = given.state_backend
        self._given_locks: DistributedLockManager | None = given.lock_manager
        self.config = given.settings or CronConfig()
        self.clock = given.clock or SystemClock()
        self.app = None
        #: Where in people's code it was made, and attached to apps.
        self.made_at: list[Caller] = []
        self._executions = Executions()
        self.jobs = JobRegistry(
            self.config,
            before_append=lambda: self._notice(caller()),
            on_append=self._job_appended,
            is_running=lambda: self.running,
        )
        self._plugins: Plugins | None = None
        self._engine: Engine | None = None
        self._was_started = self._told_of_unattached = False
        self._watch: Cancellable | None = None
        self._turn: asyncio.Lock | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._sayings: list[Callable[[], None]] = []
        #: What it was started for, each with the event loop of its life.
        self._holders: dict[object, asyncio.AbstractEventLoop] = {}
        self._entered: list[object] = []
        Crons._all.add(self)

    def _take(self, given: Given) -> None:
        """Use what was given now, in place of what was given or chosen before; it does not run."""
        both = self._given.with_newer(given)
        config = both.settings or self.config
        if self._plugins is not None and config.disabled_plugins != self.config.disabled_plugins:
            raise ConfigurationError(
                f"plugins were loaded already for the scheduler that was made at {self.made_at[0]}; "
                "give settings with other disabled_plugins there"
            )
        self._given, self.config = both, config
        self._given_state, self._given_locks = both.state_backend, both.lock_manager
        self.clock = both.clock or self.clock
        self.jobs.use_settings(config)

    def _notice(self, place: Caller) -> None:
        """What a module registers that is executed again may take the place of what it registered before."""
        if self._executions.is_another(place):
            self._expect_again(moved=True)

    def _expect_again(self, *, moved: bool) -> None:
        self.jobs.expect_again(moved=moved)
        if self._plugins is not None:
            self._plugins.expect_again(moved=moved)

    @classmethod
    def unattached(cls) -> list[Crons]:
        """The schedulers of this process that hold jobs, and that no app and no start of their own makes run."""
        return [each for each in Crons._all if each._is_unattached()]

    def _is_unattached(self) -> bool:
        return self.app is None and len(self.jobs) > 0 and not (self._was_started or self.running)

    def watch_unattached(self) -> None:
        """Where this holds jobs and nothing has made it run when the process has served for a while, say so once."""
        if self._watch is None and self._is_unattached() and isinstance(self.clock, SystemClock):
            held = ref(self)
            self._watch = when_serving(lambda: _warn_of_unattached(held))

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    def warn_of_unattached(self) -> None:
        """Log, once, that this holds jobs and that nothing makes it run."""
        if self._is_unattached() and self.config.enabled and not (self._told_of_unattached or in_tests()):
            self._told_of_unattached = True
            logs.adopt_server_handlers()
            logger.error(
                "the scheduler made at %s holds %s and is attached to nothing, so no job runs: attach it with Crons(app), or "
                "start it in a lifespan with 'async with crons'",
                self.made_at[0],
                counted(len(self.jobs), "job"),
            )

    @classmethod
    def current(cls) -> Crons | None:
        """The scheduler of this process; None where none was made, and nothing is."""
        return Crons._of_process

    @property
    def engine(self) -> Engine | None:
        """What runs between start and stop; None otherwise, and in a process forked from the one that started it."""
        engine = self._engine
        if engine is None or engine.pid != os.getpid():
            return None
        if engine.loop.is_closed():
            # Its loop ended without a stop, and nothing of it runs any more.
            engine.instance.lives_here(alive=False)
            return None
        return engine

    @property
    def running(self) -> bool:
        """Whether the scheduler has started and not stopped."""
        return self.engine is not None

    @property
    def plugins(self) -> Plugins:
        """The plugins of this scheduler, loaded at the first use. Raises `PluginError` where one can't be loaded."""
        if not self.running:
            self._notice(caller())
        if self._plugins is None:
            self._plugins = Plugins(self.config.disabled_plugins)
        return self._plugins

    def cron(
        self,
        expr: str | Schedule,
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        **options: Unpack[JobOptions],
    ) -> Callable[[FuncT], FuncT]:
        """Decorator that registers a function as a job and gives it back unchanged. Parameters as for `CronJob`."""

        check_expression(expr)

        def register(func: FuncT) -> FuncT:
            self.jobs.append(CronJob(func, expr, name, tags, **options))
            return func

        return register

    def get_jobs(self, tags: Collection[str] | None = None) -> list[CronJob]:
        """All jobs in the order they were registered; with `tags`, those that have every one of these tags."""
        if tags is None:
            return list(self.jobs)
        wanted = {tags} if isinstance(tags, str) else set(tags)
        return [job for job in self.jobs if wanted.issubset(job.tags)]

    def get_job(self, name: str) -> CronJob | None:
        """The job of this name, or None."""
        return self.jobs.get(name)

    @overload
    def add_before_run_hook(self, hook: HookT, job_name: str | None = None) -> HookT: ...
    @overload
    def add_before_run_hook(self, *, job_name: str | None = None) -> Callable[[HookT], HookT]: ...
    def add_before_run_hook(
        self, hook: HookT | _Later = _LATER, job_name: str | None = None
    ) -> HookT | Callable[[HookT], HookT]:
        """Call `hook(job_name, context)` before each run, of one job or of all. It may raise `SkipRun` to veto the run.

        Gives the hook back, so that it is a decorator as well: `@crons.add_before_run_hook`, or with a job
        `@crons.add_before_run_hook(job_name="backup")`. Raises `PluginError` for what can't be called as a hook.
        """
        return self._add_hook("before_run", hook, job_name)

    @overload
    def add_after_run_hook(self, hook: HookT, job_name: str | None = None) -> HookT: ...
    @overload
    def add_after_run_hook(self, *, job_name: str | None = None) -> Callable[[HookT], HookT]: ...
    def add_after_run_hook(
        self, hook: HookT | _Later = _LATER, job_name: str | None = None
    ) -> HookT | Callable[[HookT], HookT]:
        """Call `hook(job_name, context)` after each run that succeeded, of one job or of all. A decorator, too."""
        return self._add_hook("after_run", hook, job_name)

    @overload
    def add_on_error_hook(self, hook: HookT, job_name: str | None = None) -> HookT: ...
    @overload
    def add_on_error_hook(self, *, job_name: str | None = None) -> Callable[[HookT], HookT]: ...
    def add_on_error_hook(
        self, hook: HookT | _Later = _LATER, job_name: str | None = None
    ) -> HookT | Callable[[HookT], HookT]:
        """Call `hook(job_name, context)` after each run that did not succeed, of one job or of all. A decorator, too."""
        return self._add_hook("on_error", hook, job_name)

    async def __aenter__(self) -> Crons:
        holder = object()
        await self.begin_for(holder)
        self._entered.append(holder)
        self.heed_signals()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end_for(self._entered.pop())

    async def begin_for(self, holder: object, app: FastAPI | None = None) -> None:
        """Start for somebody who says when it is over; without effect where it has started for another."""
        self._holders[holder] = asyncio.get_running_loop()
        try:
            await self.start()
        except BaseException:
            self._holders.pop(holder, None)
            raise
        if app is not None and len(self._holders) == 1:
            self.app = app

    async def end_for(self, holder: object) -> None:
        """Stop, unless it was started on this event loop for others, too, who have not ended."""
        here = self._holders.pop(holder, None)
        engine = self.engine
        if here is None or (engine is not None and engine.loop is not here) or here in self._holders.values():
            return
        if self._holders:
            logger.warning(
                "Cron scheduler stops with the event loop that it runs on, although an app on another one uses it"
            )
        await self.stop()

    async def start(self, role: Role = "scheduler") -> None:
        """Start the scheduler on the running event loop; without effect when it has started already, in whatever role.

        An `operator` runs no ticks and registers no jobs: it runs jobs by hand, pauses and resumes them, and cancels runs. An
        `observer` only opens the stores, to read; other instances don't see it.

        Raises `ConfigurationError`, `PluginError` or a `StoreError`; then nothing was started.
        """
        from fastapi_crons.engine.engine import Engine  # most of the code: wanted only where jobs run
        from fastapi_crons.plugins.backends import choose_backends
        from fastapi_crons.plugins.settings import know_secrets

        async with self._one_at_a_time():
            if self.engine is not None:
                return
            if self._engine is not None and self._engine.pid != os.getpid():
                raise CronsError(
                    "this process was forked from one whose scheduler had started, and can't use its connections; fork first, "
                    "and start in each process"
                )
            self._check_hook_names(self.plugins.jobs_named_by_functions())
            know_secrets(self.plugins)
            state, locks = choose_backends(self.config, self.plugins, self._given_state, self._given_locks)
            # A scheduler that is started again goes on with the stores it had.
            self._given_state, self._given_locks = state, locks
            engine = self._engine = Engine(self, self.jobs, self.config, self.clock, self.plugins, state, locks, role)
            # From here on another thread's new jobs go to the engine by themselves; some may come twice, none is lost.
            engine.add(self.jobs)
            try:
                await engine.start()
            except BaseException:
                self._engine = None
                raise
            if role != "scheduler":
                return
            self._was_started = True
            self._stop_watch()
            for other in Crons.unattached():
                other.watch_unattached()
            logs.adopt_server_handlers()
            warn_of_former_variables()
            warn_of_unread_variables(self.plugins)
            if engine.waits_for_stores is not None:
                logger.warning(
                    "Cron scheduler waits for its stores: %s will run when it has them", counted(len(self.jobs), "job")
                )
            elif self.config.enabled:
                if not self._jobs_are_elsewhere():
                    logger.info("Cron scheduler started with %s", counted(len(self.jobs), "job"))
            else:
                logger.warning(
                    "Cron scheduler is disabled (CRON_ENABLED=false): %s will not run here",
                    counted(len(self.jobs), "job"),
                )
            for say in self._sayings:
                say()

    def when_started(self, say: Callable[[], None]) -> None:
        """Call this, which logs something, at each start of a scheduler that runs jobs, and now where it has started."""
        self._sayings.append(say)
        if self.engine is not None:
            say()

    async def stop(self) -> None:
        """Stop gracefully: running jobs get `shutdown_timeout` seconds to finish. Without effect when it is not running.

        A caller that is cancelled does not cancel the stop. A job or a hook that stops its own scheduler does not wait for
        it, or each would wait for the other. Raises `CronsError` on another event loop than that of the start.
        """
        engine = self.engine
        if engine is not None:
            self._check_loop(engine, "stopped")
        stopping = self._stop_soon()
        if stopping is None or (engine is not None and engine.waits_for(asyncio.current_task(), root_task.get())):
            return
        await asyncio.shield(stopping)

    async def _stop(self) -> None:
        async with self._one_at_a_time():
            engine = self.engine
            try:
                if engine is not None:
                    await engine.stop()
                    if engine.role == "scheduler":
                        logger.info("Cron scheduler stopped")
            finally:
                self._engine = self._stopping = None

    async def run_job(
        self,
        name: str,
        force: bool = False,
        timeout: float | None = None,
        *,
        triggered_by: Trigger = "code",
        actor: str | None = None,
        note: str | None = None,
    ) -> Run:
        """Run a job now, on the same path as a scheduled run, and wait for its end; the run says how it went.

        `force` runs it although it is running already; the run then says beside which other. `timeout` (seconds) takes the
        place of the job's own. `actor` and `note` are kept with the run.

        Raises `UnknownJobError`, `JobLockedError` (it is running, and `force` was not given), `NotInForceError` (living
        instances have registered another definition since), `StoreUnavailableError`, `ValueError` for a timeout that is
        none, or `CronsError` where the scheduler is not running.
        """
        steering = self._steering("be run", f"job {name!r}")
        run = await steering.start_run(ManualRun(self.jobs.named(name), force, timeout, actor, note, triggered_by))
        return await steering.finished(run, or_stopping=False)

    async def runs(
        self, name: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        """The runs of a job on record, or with None of all jobs, newest first and without their logs.

        Where `before` is given, those that were claimed before the run of this id. What has just begun or ended may not be on
        record yet. Raises `UnknownJobError`, `StoreUnavailableError`, or `CronsError` where the scheduler has not started.
        """
        state = self._open_engine("be asked for", "runs").state
        if name is not None:
            self.jobs.named(name)
        found = state.runs(name, limit=limit, before=before, status=status)
        return await answer_of(found, self.config.store_timeout)

    def heed_signals(self) -> None:
        """Stop as soon as the process is told to end, for those who run a scheduler in a server of their own.

        SIGTERM and SIGINT are heard before the handlers that are there, which are called as ever; signals that nobody
        handles are left alone. Call it in the main thread, after the start. An app's scheduler does so by itself.
        """
        if self.engine is not None:
            self.engine.heed_signals(self._stop_soon)

    def _stop_soon(self) -> asyncio.Task[None] | None:
        """Begin to stop, in a task of its own; None where nothing runs."""
        if (self._stopping is None or self._stopping.done()) and (
            self.engine is not None or self._one_at_a_time().locked()
        ):
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
        return self._stopping

    def health(self) -> Health:
        """Whether the scheduler does its work, and what is to be looked at. Asks no store."""
        from fastapi_crons.engine.health import Health, health_of

        engine = self.engine
        if engine is None:
            return Health("unhealthy", ("the scheduler is not running",), ("the scheduler is not running",))
        return health_of(engine)

    async def pause(self, name: str, *, actor: str | None = None, note: str | None = None) -> None:
        """Let no tick of a job run, on any instance and over restarts, until it is resumed; runs that go on are left alone.

        `actor` and `note` are kept with the pause. Raises `UnknownJobError`, `StoreUnavailableError`, or `CronsError` where
        the scheduler is not running.
        """
        await self._steering("be paused", f"job {name!r}").pause(self.jobs.named(name), actor, note)

    async def resume(self, name: str, *, catch_up: bool = False) -> bool:
        """Let a paused job go on with its next tick; False where it is not paused.

        The ticks of the pause are put on record as missed, reason `paused`; with `catch_up` they are late ticks instead,
        and treated by the job's policy. Raises as `pause`.
        """
        return await self._steering("be resumed", f"job {name!r}").resume(self.jobs.named(name), catch_up=catch_up)

    async def pauses(self) -> dict[str, Pause]:
        """The jobs that are paused: since when (Unix seconds), by whom, and why. Raises as `pause`."""
        return await self._open_engine("be asked for", "pauses").locks.pauses()

    async def cancel_run(self, run_id: str, *, actor: str | None = None) -> bool:
        """Cancel a run that goes on, here or on another instance; False where there is none.

        An async function is cancelled at once, on another instance within `CRON_HEARTBEAT_INTERVAL`. A sync one can't be:
        its run is recorded as cancelled, and its thread holds the job until it ends. Raises `StoreUnavailableError`, or
        `CronsError` where the scheduler is not running.
        """
        return await self._steering("be cancelled", f"run {run_id!r}").cancel_run(run_id, actor)

    def _steering(self, what: str, name: str) -> Steering:
        return self._open_engine(what, name).steers(what, name)

    def _open_engine(self, what: str, name: str) -> Engine:
        if self.engine is None:
            raise CronsError(f"{name} can't {what}: the scheduler has not started; await crons.start() first")
        self._check_loop(self.engine, "used")
        return self.engine

    @staticmethod
    def _check_loop(engine: Engine, what: str) -> None:
        if engine.loop is not asyncio.get_running_loop():
            raise CronsError(
                f"this scheduler runs on another event loop and can't be {what} from here; "
                "use asyncio.run_coroutine_threadsafe(…, loop) with the loop that it was started on"
            )

    def _job_appended(self, job: CronJob) -> None:
        engine = self.engine
        if engine is not None:
            engine.add([job])
        elif self._watch is None:
            self.watch_unattached()

    def _one_at_a_time(self) -> asyncio.Lock:
        # Made anew for each event loop: a scheduler may be started and stopped on several, one after another.
        if self._turn is None or (self.engine is None and not self._turn.locked()):
            self._turn = asyncio.Lock()
        return self._turn

    def _jobs_are_elsewhere(self) -> bool:
        """Warn where this one has no jobs and another one has: whoever started it meant that one."""
        other = None if len(self.jobs) else Crons._all.another_with_jobs(self)
        if other is None:
            return False
        names = [job.name for job in other.jobs]
        logger.warning(
            "Cron scheduler made at %s started with 0 jobs, while the one made at %s has %d (%s)%s: make one for both, by "
            "Crons() where the jobs are and Crons(app) where the app is",
            self.made_at[0],
            other.made_at[0],
            len(names),
            ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else ""),
            "" if other.running else " and does not run",
        )
        return True

    def _add_hook(self, kind: str, hook: HookT | _Later, job_name: str | None) -> HookT | Callable[[HookT], HookT]:
        def add(hook: HookT) -> HookT:
            if self.running and isinstance(job_name, str):
                self._check_hook_names(frozenset({job_name}))
            self.plugins.add_function(kind, hook, job_name)
            return hook

        return add if isinstance(hook, _Later) else add(hook)

    def _check_hook_names(self, names: frozenset[str]) -> None:
        unknown = names - self.jobs.names()
        if unknown:
            raise ConfigurationError(
                f"hooks were added for jobs that do not exist: {', '.join(map(repr, sorted(unknown)))}; "
                f"check job_name, or register the job"
            )

    def __repr__(self) -> str:
        return f"<Crons with {counted(len(self.jobs), 'job')}, {'running' if self.running else 'not running'}>"


def _warn_of_unattached(crons: ref[Crons]) -> None:
    held = crons()
    if held is not None:
        held.warn_of_unattached()


def reset() -> None:
    """Forget the schedulers of this process, and the secrets they know of. For tests."""
    Crons._of_process = None
    Crons._all.clear()
    forget_all()
