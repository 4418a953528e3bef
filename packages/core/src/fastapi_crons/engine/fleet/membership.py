"""Membership: this instance among those that share its stores: its leases, its share of the ticks, what it hears."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.life import Finding, Part
from fastapi_crons._util.tasks import Background, Supervisor
from fastapi_crons._util.text import counted, one_line, span
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.fleet.heartbeat import Heartbeat, Prompt
from fastapi_crons.engine.fleet.recovery import Recovery
from fastapi_crons.engine.runs.recorder import Recorder
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.runner import Runner
from fastapi_crons.errors import StoreError
from fastapi_crons.locking.base import Beat, Lease, LeaseRef, LiveInstance
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.leases import LeaseBook
from fastapi_crons.plugins.choice import reach_warning
from fastapi_crons.run import short_id
from fastapi_crons.state.base import Signal, StateBackend
from fastapi_crons.state.client import answer_of

logger = logging.getLogger(__name__)

#: How long (seconds) until leases that could not be taken back are asked about again.
_RETRY_AFTER = 1.0


class Membership(Part):
    """What one scheduler has to do with others. Its heartbeat calls it, partly from a thread of its own."""

    def __init__(
        self,
        config: CronConfig,
        clock: Clock,
        instance: Instance,
        supervisor: Supervisor,
        background: Background,
        state: StateBackend,
        locks: LockClient,
        leases: LeaseBook,
        recorder: Recorder,
        runner: Runner,
        dispatcher: Dispatcher,
        recovery: Recovery,
        prompt: Prompt,
        *,
        runs_ticks: bool,
    ) -> None:
        """Without `runs_ticks` the instance takes no share of the ticks, and recovers nothing."""
        self._config = config
        self._clock = clock
        self._instance = instance
        self._supervisor, self._background = supervisor, background
        self._state = state
        self._locks, self._leases = locks, leases
        self._recorder, self._runner = recorder, runner
        self._runs_ticks = runs_ticks
        self._dispatcher = dispatcher
        self._recovery = recovery
        self._loop = asyncio.get_running_loop()
        self._shared = locks.backend.reach != "process"
        self._reach_warning = reach_warning(locks.backend.reach) if runs_ticks else None
        self._recovering = False
        #: The instances that lived at the last heartbeat, by owner.
        self._others: set[str] = set()
        #: The lists of jobs that they had.
        self._digests: set[str] = set()
        self._failures: defaultdict[str, Meter] = defaultdict(Meter)
        self._blocked = Meter()
        self._prompt = prompt
        self.heartbeat = Heartbeat(config, clock, instance, locks, leases, prompt, listener=self)

    async def announce(self) -> None:
        """Make this instance known to the lock store. Raises `StoreError`."""
        await self.heartbeat.beat_now()

    async def startup(self) -> None:
        """Register the jobs, take a share of the ticks, recover what dead instances left, and begin the heartbeat."""
        if self._runs_ticks:
            if self._reach_warning is not None:
                logger.warning("%s", self._reach_warning)
            await self._dispatcher.jobs.register_new()
            await self._join()
            self._supervisor.start("listen", self._listen_forever)
        if self._shared:
            self.heartbeat.start()

    async def shutdown(self, timeout: float) -> None:
        await self.heartbeat.stop(timeout)
        await self._supervisor.cancel("listen", timeout)

    def findings(self) -> Iterator[Finding]:
        if self._reach_warning is not None:
            yield Finding(self._reach_warning)
        silent = self.heartbeat.silent_for
        if silent > 2 * self._config.heartbeat_interval + self._config.store_timeout:
            yield Finding(f"the lock store has answered no heartbeat for {silent:.0f} s")

    async def _join(self) -> None:
        beat = await self.heartbeat.beat_now()  # now that the jobs are registered, others are to know which
        self._share(beat)
        began = self._clock.now()
        self._dispatcher.delays.began(
            began, min([began, *(other.instance.started_ts for other in self._active_peers(beat))])
        )
        await self._recovery.recover(beat.dead)
        await self._recovery.close_orphans()
        self.tell(Signal("join"))

    def _active_peers(self, beat: Beat) -> list[LiveInstance]:
        """The others that have the same jobs, but for those who have been silent for so long that they may be dead."""
        now = max((found.heartbeat_ts for found in beat.instances), default=0.0)  # by the store's clock: that is ours
        digest, late = self.jobs_digest(), now - 2 * self._config.heartbeat_interval
        return [
            found
            for found in beat.instances
            if found.jobs == digest and found.instance.owner != self._instance.owner and found.heartbeat_ts > late
        ]

    async def leave(self, timeout: float) -> None:
        """Leave the others to it, within so many seconds."""
        await self._locks.leave(timeout)
        self.tell(Signal("leave"))
        await self._background.drain(timeout)

    def as_seen(self) -> LiveInstance:
        """This instance as others see it, without asking the store."""
        return LiveInstance(self._instance, self._clock.now(), len(self._leases.held()), self.jobs_digest())

    def tell(self, signal: Signal) -> None:
        """Let the other instances know at once; those that don't hear it learn of it from the lock store."""

        async def tell() -> None:
            try:
                await answer_of(self._state.publish(signal), self._config.store_timeout)
            except StoreError as error:
                logger.debug("signal %s was not told: %s", signal.kind, one_line(error))

        if self._shared:
            self._background.start(tell())

    async def _listen_forever(self) -> None:
        """Hear what other instances tell, where the state store brings it."""
        backoff = Backoff()
        while (events := self._state.events(records=False)) is not None:
            try:
                async with aclosing(events):
                    async for event in events:
                        backoff = Backoff()
                        if isinstance(event, Signal):
                            self._signalled(event)
            except Exception as error:  # whatever a store raises
                logger.debug("signals are not heard: %s", one_line(error))
                await self._clock.sleep(backoff.next())

    def _signalled(self, signal: Signal) -> None:
        # The store has the last word: what is heard here only says that there is something to ask it.
        if signal.kind in ("cancel", "join", "leave", "lost"):
            self._prompt.beat()
        elif signal.kind == "resume" and signal.job is not None:
            self._dispatcher.resumed(signal.job, 0)

    # What the heartbeat calls.

    def jobs_digest(self) -> str:
        """A digest of the jobs that run here. Safe to call from any thread."""
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
        if self._runs_ticks:
            self._share(beat)
            # Who seems dead after an outage may only not have reached the store yet.
            dead = () if self._leases.is_just_back else beat.dead
            abandoned = [*dead, *self._leases.strays(beat.own)]
            if abandoned and not self._recovering:
                # Beating must not wait for the state store.
                self._recovering = True
                self._background.start(self._recover(abandoned))
            if beat.unknown:
                self._background.start(self._restore_records())

    async def _restore_records(self) -> None:
        """The store did not know this instance: where it has lost the records of its jobs, they are registered again."""
        jobs = self._dispatcher.jobs.all()
        handled = await self._locks.last_handled([tracked.job.name for tracked in jobs])
        lost = [tracked for tracked, tick in zip(jobs, handled, strict=True) if tick is None]
        if lost:
            self.tell(Signal("lost"))
            logger.warning(
                "the lock store has lost its records of %s; they are registered again", counted(len(lost), "job")
            )
            await self._dispatcher.jobs.register_again(lost)
        # Another instance may have been first to register a job, and knows nothing of our runs.
        runs = [run for run in self._runner.active.values() if run.outcome is None]
        if runs:
            await self._take_back(runs)

    def refused(self, leases: Sequence[LeaseRef]) -> None:
        """The lock store does not know leases as ours."""
        runs = [run for lease in leases if (run := self._runner.active.get(lease.run_id)) is not None]
        if runs:
            self._background.start(self._take_back(runs))

    def trust_lost(self) -> None:
        """The lock store was out of reach for so long that others may have taken over what runs here."""
        for run in list(self._runner.active.values()):
            if run.outcome is None and not self._leases.trusts(run.id):
                self._end_without_trust(run)

    def _end_without_trust(self, run: ActiveRun) -> None:
        if run.function_ended or run.cut is not None:
            return
        if run.thread_lives and not run.waits:
            logger.error(
                "job %r: whether its lease still holds is not known, since the lock store does not answer; its thread can't "
                "be ended, so its outcome counts if nobody has taken the lease over by then",
                run.job.name,
                extra=run.log_fields,
            )
            return
        logger.error(
            "job %r: whether its lease still holds is not known, since the lock store does not answer; its run is cancelled",
            run.job.name,
            extra=run.log_fields,
        )
        run.cut_off("lease_lost")

    def blocked(self, seconds: float) -> None:
        """The event loop has not turned for so long."""
        what = self._what_blocks()
        self._dispatcher.delays.blame(self._clock.now(), what)
        now = self._clock.monotonic()
        if self._blocked.failed(now, asked=now - seconds) is not None:
            logger.warning(
                "the event loop has been blocked for %s by %s, and no job starts meanwhile; make a function that takes "
                "long without awaiting a plain def: it then runs in a thread",
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
        return "something that is no job of this scheduler"

    def _share(self, beat: Beat) -> None:
        digest = self.jobs_digest()
        peers = sorted(other.instance.owner for other in beat.instances if other.jobs == digest)
        self._recovery.meet(other.instance.id for other in beat.instances)
        owners = {other.instance.owner for other in beat.instances}
        if self._others - owners:
            self._background.start(self._see_to_what_is_left())
        self._others = owners
        digests = {other.jobs for other in beat.instances if other.jobs}
        if digests - self._digests - {digest}:
            self._background.start(self._compare_functions())
        self._digests = digests
        if len(peers) == len([other for other in beat.instances if other.jobs]):
            self._dispatcher.jobs.all_agree()
        self._dispatcher.share(peers)

    async def _recover(self, dead: Sequence[Lease]) -> None:
        try:
            with self._logging_failures("can't recover the runs of dead instances"):
                await self._recovery.recover(dead)
        finally:
            self._recovering = False

    async def _compare_functions(self) -> None:
        """Another instance has other jobs, or other functions for them."""
        jobs = {tracked.job.name: tracked.job for tracked in self._dispatcher.jobs.all()}
        try:
            known = await self._locks.known(list(jobs))
        except StoreError as error:
            self._failed("the functions of other instances could not be compared with ours", error)
            self._digests = set()  # the next heartbeat finds the others new, and they are compared again
            return
        for found in known:
            if found.function != jobs[found.job].function_name:
                self._dispatcher.jobs.has_other_function(jobs[found.job], found.function)

    async def _see_to_what_is_left(self) -> None:
        """An instance is gone: with it may have gone a definition that was in force instead of ours, and ends of records."""
        with self._logging_failures("what a stopped instance left behind could not be taken over"):
            await self._dispatcher.jobs.register_orphaned()
            await self._recovery.close_orphans()

    async def _take_back(self, runs: list[ActiveRun]) -> None:
        """A store that lost its records takes leases back, unless it gave out later ones."""
        try:
            runs = await self._renew(runs)
            if not runs:
                return
            await self._dispatcher.jobs.register_jobs_of(runs)
            lost = await self._renew(runs)
        except StoreError as error:
            self._failed("leases could not be renewed, and are tried again in a moment", error)
            self._clock.call_later(_RETRY_AFTER, self._prompt.renew)
            return
        for run in lost:
            if run.id in self._runner.active:
                self._cut_off_without_lease(run)

    async def _renew(self, runs: Sequence[ActiveRun]) -> list[ActiveRun]:
        """Renew the leases of runs; returns those whose leases the store does not know as ours."""
        refused = {lease.run_id for lease in await self._locks.renew([run.ref for run in runs])}
        return [run for run in runs if run.id in refused]

    @contextmanager
    def _logging_failures(self, what: str) -> Iterator[None]:
        """Log, now and then, that a store does not let something be done that is tried again."""
        try:
            yield
        except StoreError as error:
            self._failed(what, error)
        else:
            self._failures[what].works(self._clock.monotonic())

    def _failed(self, what: str, error: StoreError) -> None:
        lasting = self._failures[what].failed(self._clock.monotonic())
        # Where a store does not answer at all, that is logged already.
        if lasting is not None and self._locks.fault is None and self._recorder.fault is None:
            logger.warning("%s, %s so far: %s", what, counted(lasting.times, "time"), one_line(error))

    def _cut_off_without_lease(self, run: ActiveRun) -> None:
        self._leases.lose(run.id)
        if not run.function_ended:
            logger.error(
                "job %r: run %s lost its lease, and is cancelled", run.job.name, short_id(run.id), extra=run.log_fields
            )
            run.cut_off("lease_lost")

    def lost(self, run: ActiveRun) -> None:
        """A run has ended that had lost its lease."""
        self._recovery.recover_own(run)
