"""Engine: starts and stops the parts of a scheduler, and waits for its stores where they are not there yet."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Literal

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.part import Finding
from fastapi_crons._util.text import one_line, span
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.drain import RunLeft, run_left
from fastapi_crons.engine.health import Health, health_of
from fastapi_crons.engine.manual import Requests
from fastapi_crons.engine.parts import Parts
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.errors import CronsError, StoreError, StoreUnavailableError
from fastapi_crons.functions.dependencies import Served
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import LiveInstance
from fastapi_crons.locking.manager import DistributedLockManager
from fastapi_crons.plugins.registry import Plugins
from fastapi_crons.registry import JobRegistry
from fastapi_crons.state.base import StateBackend

logger = logging.getLogger(__name__)

#: What is started: a scheduler; an operator, which only performs requests (manual runs, pauses); an observer, which only reads.
Role = Literal["scheduler", "operator", "observer"]

#: How long (seconds) a stop waits for a store that is known not to answer.
_IMPATIENCE = 1.0


class Engine:
    """A scheduler between its start and its stop. Made, used and stopped on one event loop.

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
        served: Callable[[], Served],
        role: Role,
    ) -> None:
        self._jobs = jobs
        self._config = config
        self.role: Role = role
        self.clock = clock
        self._plugins = plugins
        self.state = state
        self.pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        parts = Parts(
            crons,
            config,
            clock,
            plugins,
            state,
            lock_manager,
            served,
            jobs.get,
            self._registered,
            runs_ticks=self.runs_ticks,
            to_read=role == "observer",
        )
        self.instance = parts.instance
        self.locks = parts.locks
        self.leases = parts.leases
        self.hooks = parts.hooks
        self.supervisor = parts.supervisor
        self.background = parts.background
        self.recorder = parts.recorder
        self.runner = parts.runner
        self.dispatcher = parts.dispatcher
        self.membership = parts.membership
        self.feed = parts.feed
        self.log_feed = parts.log_feed
        self._requests = parts.requests
        self.backfills = parts.backfills
        self._signals = parts.signals
        self._parts = parts.in_order
        #: How many of them have started.
        self._started = 0
        #: Why the stores could not be had at the start, while they are waited for.
        self.waits_for_stores: str | None = None
        self._missing = Meter()

    @property
    def runs_ticks(self) -> bool:
        return self.role == "scheduler" and self._config.enabled

    def owners_running(self, instances: Iterable[LiveInstance]) -> set[str]:
        """The owners of those of these instances that run ticks; of this one, too, as long as it does not drain."""
        found = {each.instance.owner for each in instances if each.runs_ticks} - {self.instance.owner}
        return found | {self.instance.owner} if self.runs_ticks and not self.membership.drains else found

    async def start(self) -> None:
        """Start all parts. Raises what the stores raise when they can't be opened; then everything is stopped again."""
        # From here on jobs that another thread registers are added, too; some may come twice, none is lost.
        self.add(self._jobs)
        try:
            try:
                with self._signals.heeded(self.membership.give_up):
                    await self._start_parts()
            except StoreError as error:
                if not (self._config.start_without_store and self.role == "scheduler"):
                    raise
                self._stores_fail(error)
                self.supervisor.start("open", self._start_when_possible)
            # Hooks that were called about the jobs end before those about the scheduler itself begin.
            await self.background.drain(self._config.hook_timeout)
            await self._call_plugins("scheduler_started")
        except BaseException:
            # Also where the caller was cancelled: nothing is left running that could not be stopped.
            await asyncio.shield(asyncio.ensure_future(self.stop(call_plugins=False)))
            raise

    def quiesce(self) -> None:
        """Claim nothing more. Callers that wait for manual runs, and may stop waiting, do so; listeners are disconnected."""
        for part in reversed(self._parts):
            part.quiesce()

    async def drain(self) -> tuple[RunLeft, ...]:
        """Claim nothing more, until the process ends, and hand the ticks over to the other instances; what runs goes on."""
        self.requests_for("drain this instance")
        await asyncio.shield(self.membership.drain())
        return self.runs_left()

    def runs_left(self) -> tuple[RunLeft, ...]:
        """What runs here, oldest first, and until when at the latest."""
        active = sorted(self.runner.active.values(), key=lambda run: run.id)
        return tuple(run_left(run.snapshot(), run.job, run.timeout, self._config) for run in active)

    async def stop(self, *, call_plugins: bool = True) -> None:
        """Claim nothing more, let running jobs finish within `shutdown_timeout`, cut off the rest, flush and close.

        Bounded: by `shutdown_timeout`, by the hooks' time limit where hooks go on, and by `store_timeout` for all that is
        asked of the stores.
        """
        self.quiesce()
        await self.supervisor.cancel("open", self._store_patience())
        # A part whose start failed is stopped as well.
        for part in reversed(self._parts[: self._started + 1]):
            await part.shutdown(self._store_patience())
        if call_plugins:
            await self._call_plugins("scheduler_stopped")

    def health(self) -> Health:
        """Whether the scheduler does its work, and what an operator should look at; asks no store."""
        return health_of(self._findings())

    def add(self, jobs: Iterable[CronJob]) -> None:
        """Register jobs; one that is known already is left as it is. Safe to call from any thread."""
        self.dispatcher.add(jobs)

    def changed(self, name: str) -> None:
        """A job was removed or replaced. Safe to call from any thread."""
        self.dispatcher.changed(name)

    def heed_signals(self, heard: Callable[[], object]) -> None:
        """When the process gets a signal to end, claim nothing more, and call `heard` on the loop."""

        def stop() -> None:
            self.quiesce()
            heard()

        self._signals.on_stop(stop)

    def waits_for(self, task: asyncio.Task[object] | None, root: asyncio.Task[object] | None) -> bool:
        """Whether a stop would wait for this task: it is a call of a hook, or belongs to a run, whose task is then `root`."""
        own = {run.task for run in self.runner.active.values()} | self.background.tasks
        return (root is not None and root in own) or self.hooks.is_call(task)

    def is_at_rest(self, asleep: Collection[asyncio.Task[object]], *, finish_runs: bool) -> bool:
        """Whether everything that is due is done and recorded. See `Crons.is_at_rest`."""

        def sleeps(*tasks: str) -> bool:
            return any(task in asleep for task in self.supervisor.own_tasks(*tasks))

        if self.waits_for_stores is not None:
            return sleeps("open")
        if self._requests.starting or self.backfills.awake(asleep):
            return False
        if any(True for _ in self.runs_awake(asleep, finish_runs=finish_runs)):
            return False
        if any(task not in asleep for task in self.background.tasks):
            return False
        return (
            (not self.runs_ticks or self.membership.drains or self.dispatcher.idle or sleeps("dispatch"))
            and (self.recorder.idle or sleeps("record", "release"))
            and all(task in asleep for task in self.supervisor.own_tasks("prune"))
        )

    def runs_awake(self, asleep: Collection[asyncio.Task[object]], *, finish_runs: bool) -> Iterator[ActiveRun]:
        """The runs that are not among the tasks that sleep, without `finish_runs` only those outside of their functions."""
        for run in self.runner.active.values():
            if (finish_runs or not run.in_function) and run.task not in asleep:
                yield run

    def requests_for(self, action: str) -> Requests:
        """What performs requests.

        Raises `CronsError`, naming the action, where this was started as an observer, and `StoreUnavailableError` while the
        stores are waited for.
        """
        if self.role == "observer":
            raise CronsError(f"can't {action}: the scheduler was started as an observer; use start('operator')")
        if self.waits_for_stores is not None:
            raise StoreUnavailableError(f"can't {action}: the scheduler waits for its stores: {self.waits_for_stores}")
        return self._requests

    def _findings(self) -> Iterator[Finding]:
        if self.role != "scheduler":
            yield Finding(f"the scheduler was started as an {self.role}, so no ticks run here")
        if self.waits_for_stores is not None:
            yield Finding(
                "the scheduler waits for its stores, and runs nothing until it has them",
                failure=True,
                cause=self.waits_for_stores,
            )
        for part in self._parts[: self._started]:
            yield from part.findings()

    async def _start_parts(self) -> None:
        """Start the parts that have not started. Where a store fails, it can be called again."""
        while self._started < len(self._parts):
            await self._parts[self._started].startup()
            self._started += 1
        if not self.runs_ticks:
            self._registered(list(self._jobs))

    async def _start_when_possible(self) -> None:
        backoff, since = Backoff(), self.clock.now()
        while self.waits_for_stores is not None:
            await self.clock.sleep(backoff.next())
            self.dispatcher.delays.waited_for_stores(since, self.clock.now(), self.waits_for_stores)
            try:
                await self._start_parts()
                self.waits_for_stores = None
            except StoreError as error:
                self._stores_fail(error)
        waited = self._missing.works(self.clock.monotonic())
        logger.warning("the scheduler has its stores after %s, and has started", span(waited.seconds if waited else 0))

    def _stores_fail(self, error: StoreError) -> None:
        cause = self.waits_for_stores = one_line(error)
        lasting = self._missing.failed(self.clock.monotonic())
        if lasting is None:
            return
        if lasting.first:
            logger.error("the scheduler waits for its stores, and runs no job until it has them: %s", cause)
        else:
            logger.error("the scheduler has waited for its stores for %s: %s", span(lasting.seconds), cause)

    def _store_patience(self) -> float:
        """How long (seconds) a stop waits for a store: not long for one that is known not to answer."""
        down = self.locks.fault is not None or self.recorder.fault is not None
        return min(_IMPATIENCE, self._config.store_timeout) if down else self._config.store_timeout

    def _registered(self, jobs: list[CronJob]) -> None:
        if self.role == "scheduler" and self._plugins.calls["job_registered"]:
            self.background.start(self._call_registered(jobs))

    async def _call_registered(self, jobs: list[CronJob]) -> None:
        for job in jobs:
            await self.hooks.for_scheduler("job_registered", job=job)

    async def _call_plugins(self, hook: str) -> None:
        """Plugins hear of schedulers, and not of operators and observers."""
        if self.role == "scheduler":
            await self.hooks.for_scheduler(hook)
