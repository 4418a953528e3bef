"""Membership: this instance among those that share its stores: its share of the ticks, and what it learns of the others."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from fastapi_crons._util.backoff import Meter
from fastapi_crons._util.part import Finding, Part
from fastapi_crons._util.tasks import Background, Supervisor
from fastapi_crons._util.text import counted, one_line, span
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.fleet.heartbeat import Heartbeat
from fastapi_crons.engine.fleet.lost import LostLeases
from fastapi_crons.engine.fleet.recovery import Recovery
from fastapi_crons.engine.fleet.signals import FleetSignals
from fastapi_crons.engine.fleet.waker import HeartbeatWaker
from fastapi_crons.engine.runs.runner import Runs
from fastapi_crons.errors import StoreError, StoreUnavailableError
from fastapi_crons.locking.base import Beat, Lease, LiveInstance
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.instance import DRAIN, DRAINING, Instance
from fastapi_crons.locking.leases import LeaseBook
from fastapi_crons.plugins.choice import reach_warning
from fastapi_crons.state.base import Signal

logger = logging.getLogger(__name__)


class Membership(Part):
    """The membership of one instance. Its heartbeat calls it, partly from another thread."""

    def __init__(
        self,
        config: CronConfig,
        clock: Clock,
        instance: Instance,
        supervisor: Supervisor,
        background: Background,
        locks: LockClient,
        leases: LeaseBook,
        runs: Runs,
        dispatcher: Dispatcher,
        recovery: Recovery,
        signals: FleetSignals,
        waker: HeartbeatWaker,
        on_drain: Callable[[], None],
        *,
        runs_ticks: bool,
    ) -> None:
        """Without `runs_ticks` the instance takes no share of the ticks, and recovers nothing. `on_drain` is called when the
        instance begins to drain, and is to begin no run by hand."""
        self._config = config
        self._clock = clock
        self._instance = instance
        self._background = background
        self._locks, self._leases = locks, leases
        self._recorder, self._runner = runs.recorder, runs.runner
        self._runs_ticks = runs_ticks
        self._on_drain = on_drain
        #: Hands the ticks over, from when this instance drains; and whether no claim of it is under way any more.
        self._draining: asyncio.Task[None] | None = None
        self._has_drained = False
        self._dispatcher = dispatcher
        self._recovery = recovery
        self._loop = asyncio.get_running_loop()
        self._shared = locks.backend.reach != "process"
        self._reach_warning = reach_warning(locks.backend.reach) if runs_ticks else None
        #: Whether a recovery is under way.
        self._recovering = False
        #: The owners of the other instances that were alive at the last heartbeat, each with the digest of its jobs; and the
        #: digests of all.
        self._others: dict[str, str] = {}
        self._digests: set[str] = set()
        #: The owners of the instances that have stopped, while what they left is to be recovered, and the task that does it.
        self._departed: set[str] = set()
        self._recovery_from_stop: asyncio.Task[None] | None = None
        #: The start, while it waits for the lock store, and whether it was given up.
        self._beginning: asyncio.Task[None] | None = None
        self._given_up = False
        self._failures: defaultdict[str, Meter] = defaultdict(Meter)
        self._blocked = Meter()
        self._signals = signals
        self._lost = LostLeases(clock, background, locks, leases, self._runner, dispatcher, waker, self._log_failure)
        self.heartbeat = Heartbeat(config, clock, instance, supervisor, locks, leases, waker, self._lost, self)

    async def announce(self) -> None:
        """Make this instance known to the lock store. Raises `StoreError`."""
        await self.heartbeat.beat_now()

    async def startup(self) -> None:
        """Register the jobs, take a share of the ticks, recover what dead instances left, and begin the heartbeat."""
        if self._runs_ticks:
            if self._reach_warning is not None:
                logger.warning("%s", self._reach_warning)
            await self._begin_unless_given_up()
        if self._shared:
            self.heartbeat.start()

    async def _begin_unless_given_up(self) -> None:
        self._beginning = asyncio.ensure_future(self._begin())
        try:
            await self._beginning
        except asyncio.CancelledError:
            if not self._given_up:
                raise
            why = self._locks.fault or "it had not answered yet"
            raise StoreUnavailableError(
                f"the start was given up, since the process was told to end; the lock store: {why}"
            ) from None
        finally:
            self._beginning = None

    async def _begin(self) -> None:
        await self._dispatcher.jobs.register_new(at_start=True)
        await self._join()

    def give_up(self) -> None:
        """Have a start that waits for the lock store raise `StoreUnavailableError`. Does nothing after the start."""
        if self._beginning is not None:
            self._given_up = True
            self._beginning.cancel()

    async def shutdown(self, timeout: float) -> None:
        await self.heartbeat.stop(timeout)

    @property
    def drains(self) -> bool:
        """Whether this instance claims nothing more, until its process ends."""
        return self._draining is not None

    def findings(self) -> Iterator[Finding]:
        if self.drains:
            yield Finding("this instance is draining: it claims nothing more, until its process ends")
        if self._reach_warning is not None:
            yield Finding(self._reach_warning)
        silent = self.heartbeat.silent_for
        if silent > 2 * self._config.heartbeat_interval + self._config.store_timeout:
            yield Finding(f"the lock store has answered no heartbeat for {silent:.0f} s")

    async def _join(self) -> None:
        beat = await self.heartbeat.beat_now()  # others learn which jobs are registered now
        self._share(beat)
        began = self._clock.now()
        self._dispatcher.delays.began(
            began, min([began, *(other.instance.started_ts for other in self._active_peers(beat))])
        )
        await self._recovery.recover(beat.dead)
        await self._recovery.close_orphans()
        self._signals.publish(Signal("join"))

    def _active_peers(self, beat: Beat) -> list[LiveInstance]:
        """The other instances with the same jobs, without those that have been silent for so long that they may be dead."""
        now = max(
            (found.heartbeat_ts for found in beat.instances), default=0.0
        )  # by the store's clock: our own heartbeat
        digest, late = self.jobs_digest(), now - 2 * self._config.heartbeat_interval
        return [
            found
            for found in beat.instances
            if found.jobs == digest and found.instance.owner != self._instance.owner and found.heartbeat_ts > late
        ]

    def drain(self) -> asyncio.Task[None]:
        """Claim nothing more, until the process ends; what runs goes on. The task hands the ticks over to other instances."""
        if self._draining is None:
            self._dispatcher.quiesce()
            self._on_drain()
            runs = counted(len(self._runner.active), "run")
            logger.info("this instance is draining: it claims nothing more, and %s may come to an end", runs)
            self._draining = self._background.start(self._hand_over())
        return self._draining

    async def _hand_over(self) -> None:
        timeout = self._config.store_timeout
        await self._dispatcher.shutdown(timeout)
        with self._logging_failures("can't hand the ticks over"):
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._dispatcher.jobs.withdraw_all(), timeout)
            self._has_drained = True  # the heartbeats say so from now on
            await self.heartbeat.beat_now()
        self._signals.publish(Signal("leave"))

    async def leave(self, timeout: float) -> None:
        """Leave the lock store, and publish that, within `timeout` seconds."""
        await self._locks.leave(timeout)
        self._signals.publish(Signal("leave"))
        await self._background.drain(timeout)

    def as_seen(self) -> LiveInstance:
        """This instance as others see it, without asking the store."""
        return LiveInstance(self._instance, self._clock.now(), len(self._leases.held()), self.jobs_digest())

    # What the heartbeat calls.

    def jobs_digest(self) -> str:
        """A digest of the jobs that run here. Safe to call from any thread."""
        if self._has_drained:
            return DRAINING
        return self._dispatcher.jobs.digest if self._runs_ticks else ""

    def beaten(self, beat: Beat) -> None:
        """The lock store has answered a heartbeat."""
        blocked = self._blocked.works(self._clock.monotonic())
        if blocked is not None:
            logger.warning("the event loop runs again, after %s", span(blocked.seconds))
        for run_id, actor in beat.cancelled:
            run = self._runner.active.get(run_id)
            if run is not None and run.cut != "cancelled":
                run.cut_off("cancelled", actor)
        if any(each.jobs == DRAIN and each.instance.owner == self._instance.owner for each in beat.instances):
            self.drain()
        if self._runs_ticks and not self.drains:
            self._share(beat)
            # After an outage, an instance that seems dead may just not have reached the store again.
            dead = () if self._leases.is_just_back else beat.dead
            abandoned = [*dead, *self._leases.strays(beat.own)]
            if abandoned and not self._recovering:
                # The heartbeat must not wait for the state store.
                self._recovering = True
                self._background.start(self._recover(abandoned))
        if self._runs_ticks and beat.unknown:
            self._background.start(self._restore_records())

    async def _restore_records(self) -> None:
        """The store did not know this instance. Where it has lost the records of our jobs, register them again."""
        jobs = self._dispatcher.jobs.all()
        handled = await self._locks.last_handled([tracked.job.name for tracked in jobs])
        lost = [tracked for tracked, tick in zip(jobs, handled, strict=True) if tick is None]
        if lost:
            self._signals.publish(Signal("lost"))
            logger.warning(
                "the lock store has lost its records of %s; they are registered again", counted(len(lost), "job")
            )
            await self._dispatcher.jobs.register_again(lost)
        # Another instance may have registered a job again first, without the leases of our runs.
        runs = [run for run in self._runner.active.values() if run.outcome is None]
        if runs:
            await self._lost.restore(runs)

    def blocked(self, seconds: float) -> None:
        """The event loop has not turned for so many seconds."""
        what = self._what_blocks()
        self._dispatcher.delays.blame(self._clock.now(), what)
        now = self._clock.monotonic()
        if self._blocked.failed(now, asked=now - seconds) is not None:
            logger.warning(
                "the event loop has been blocked for %s by %s, and no job starts meanwhile; a function that works long "
                "without awaiting should be a plain def, which runs in a thread",
                span(seconds),
                what,
            )

    def _what_blocks(self) -> str:
        try:
            task = asyncio.current_task(self._loop)
        except RuntimeError:
            task = None
        for run in list(self._runner.active.values()):
            if task is not None and run.task is task:
                return f"job {run.job.name!r}"
        return "something that is not a job of this scheduler"

    def _share(self, beat: Beat) -> None:
        digest = self.jobs_digest()
        peers = sorted(other.instance.owner for other in beat.instances if other.jobs == digest)
        self._recovery.meet(other.instance.id for other in beat.instances)
        own = self._instance.owner
        others = {other.instance.owner: other.jobs for other in beat.instances if other.instance.owner != own}
        self._departed |= self._others.keys() - others.keys()
        if self._departed and (self._recovery_from_stop is None or self._recovery_from_stop.done()):
            self._recovery_from_stop = self._background.start(self._recover_from_stop(set(self._departed)))
        digests = {other.jobs for other in beat.instances if other.runs_ticks}
        if any(others.get(owner, jobs) != jobs for owner, jobs in self._others.items()):
            self._background.start(self._recover_from_removal())
        self._others = others
        if digests - self._digests - {digest}:
            self._background.start(self._compare_functions())
        self._digests = digests
        if len(peers) == len([other for other in beat.instances if other.runs_ticks]):
            self._dispatcher.jobs.all_agree()
        self._dispatcher.share(peers)

    async def _recover(self, dead: Sequence[Lease]) -> None:
        try:
            with self._logging_failures("can't recover what dead instances left"):
                await self._recovery.recover(dead)
        finally:
            self._recovering = False

    async def _compare_functions(self) -> None:
        """Another instance has other jobs than we have, or other functions for the same jobs."""
        jobs = {tracked.job.name: tracked.job for tracked in self._dispatcher.jobs.all()}
        try:
            known = await self._locks.known(list(jobs))
        except StoreError as error:
            self._log_failure("can't compare the functions of other instances with ours", error)
            self._digests = set()  # so that they are compared again after the next heartbeat
            return
        for found in known:
            if found.function != jobs[found.job].function_name:
                self._dispatcher.jobs.has_other_function(jobs[found.job], found.function)

    async def _recover_from_stop(self, departed: set[str]) -> None:
        """Instances have stopped. Their definitions may have been in force instead of ours, and their runs may have no outcome.

        Where a store does not answer, the next heartbeat tries again.
        """
        with self._logging_failures("can't recover what a stopped instance left"):
            await self._dispatcher.jobs.register_orphaned()
            await self._recovery.close_orphans()
            self._departed -= departed

    async def _recover_from_removal(self) -> None:
        """An instance has other jobs now. It may have removed some whose definitions were in force instead of ours."""
        with self._logging_failures("can't register jobs that another instance has removed"):
            await self._dispatcher.jobs.register_orphaned()

    @contextmanager
    def _logging_failures(self, what: str) -> Iterator[None]:
        """Log, now and then, what fails because of a store, and will be tried again."""
        try:
            yield
        except StoreError as error:
            self._log_failure(what, error)
        else:
            self._failures[what].works(self._clock.monotonic())

    def _log_failure(self, what: str, error: StoreError) -> None:
        lasting = self._failures[what].failed(self._clock.monotonic())
        # That a store does not answer at all is logged already.
        if lasting is not None and self._locks.fault is None and self._recorder.fault is None:
            logger.warning("%s (%s so far): %s", what, counted(lasting.times, "time"), one_line(error))
