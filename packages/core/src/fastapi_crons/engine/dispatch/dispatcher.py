"""Dispatcher: takes due ticks from the timeline, claims them and starts their runs.

One task. Jobs that are due wait in the queue. As room allows, the next step of each job is decided, all claims of that moment
are made in one call, and what is granted is started.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from math import ceil, inf
from time import perf_counter

from fastapi_crons._util.part import Finding, Part, listed
from fastapi_crons._util.tasks import Background, Supervisor
from fastapi_crons._util.text import one_line
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.dispatch.claim_results import ClaimResults
from fastapi_crons.engine.dispatch.claims import Wanted, claims_of, early_claim_of
from fastapi_crons.engine.dispatch.jitter import HeldBack
from fastapi_crons.engine.dispatch.lateness import LATE_AFTER, PAUSED, Delay, Delays
from fastapi_crons.engine.dispatch.queue import JobQueue, Room
from fastapi_crons.engine.dispatch.registration import RegisteredJobs
from fastapi_crons.engine.dispatch.sharing import Due, Sharing
from fastapi_crons.engine.dispatch.store_clock import StoreClock
from fastapi_crons.engine.dispatch.timeline import Timeline
from fastapi_crons.engine.dispatch.tracked import QUEUED, TrackedJob
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.runner import Runs
from fastapi_crons.job import CronJob, Place
from fastapi_crons.locking.base import ClaimResult
from fastapi_crons.locking.client import LockClient, SupersededError
from fastapi_crons.locking.record import MAX_HANDLED_AHEAD
from fastapi_crons.run import RunIds

logger = logging.getLogger(__name__)

#: How many ticks are claimed at a time.
MAX_CLAIMS = 1_000
#: How long (seconds) steps are decided, and how many runs are started, before the event loop has its turn.
MAX_DECIDING = 0.004
MAX_STARTS = 250
#: For how many jobs the store is asked what its clock shows: it does not say so of one that is paused.
_ASKED = 5
#: The dispatcher sleeps for `max_sleep` at most. When it has not looked for ticks for this much longer (seconds), it is stuck.
_STUCK_AFTER = 15.0


class Dispatcher(Part):
    """Decides, claims and starts, for one scheduler."""

    def __init__(
        self,
        config: CronConfig,
        clock: Clock,
        owner: str,
        supervisor: Supervisor,
        background: Background,
        locks: LockClient,
        runs: Runs,
        timeline: Timeline,
        delays: Delays,
        job_of: Callable[[str], CronJob | None],
        *,
        runs_ticks: bool,
        on_registered: Callable[[list[CronJob]], None],
        on_early: Callable[[], None],
    ) -> None:
        """Without `runs_ticks` jobs are only started by hand. `on_early` is called where a claim is too early for the store."""
        self._config = config
        self._clock = clock
        self._supervisor = supervisor
        self._locks = locks
        self._runner = runs.runner
        self._runs_ticks = runs_ticks
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._store_clock = StoreClock(self._clock)
        self._timeline = timeline
        self._held_back: HeldBack[TrackedJob] = HeldBack()
        self._queue = JobQueue(lambda: runs.recorder.slow, self._store_clock.now)
        self.delays = delays
        run_ids = self.new_run_id = RunIds(clock.now)
        self.jobs = RegisteredJobs(
            config, clock, owner, locks, runs, timeline, run_ids, job_of, self._registered, on_registered
        )
        self._sharing = Sharing(owner, clock, locks, background, self.jobs, self._queue, self.wake)
        self.results = ClaimResults(
            clock,
            owner,
            runs,
            self._store_clock,
            self.jobs,
            self._queue,
            self.delays,
            self.new_run_id,
            self._run_ended,
            on_early,
            self._plan,
            self.wake,
        )
        #: Whether jobs are queued for which there was no room; and whether there was no time to decide about all.
        self._crowded = self._undecided = False
        #: How many places of late runs are lent to runs that make up for ticks.
        self._lent = 0
        #: Up to which instant (whole Unix seconds) ticks of the timeline were noticed.
        self._noticed_until = 0
        self._wake = asyncio.Event()
        self._sleeping = self._stopping = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do before the next tick."""
        return self._sleeping and not self._wake.is_set()

    def findings(self) -> Iterator[Finding]:
        if self._runs_ticks and self._locks.fault is None and not self._stopping:
            silent = self._store_clock.seconds_since_look()
            if silent > self._clock.max_sleep + _STUCK_AFTER:
                yield Finding(
                    f"the scheduler has not looked for due ticks for {silent:.0f} s",
                    failure=True,
                    cause="the event loop is blocked, or the lock store is slow",
                )
        yield from self.jobs.findings()
        names = self._timeline.unfit()
        if names:
            yield Finding(f"a schedule fails or breaks its protocol, so its job does not run: {listed(names)}")
        yield from self._full_pools()

    def _full_pools(self) -> Iterator[Finding]:
        """All threads, or processes, are taken, while something waits for one. No time limit begins before there is one."""
        sizes: tuple[tuple[Place, str, int], ...] = (
            ("thread", "threads", self._config.max_threads),
            ("process", "processes", self._config.max_processes),
        )
        for place, plural, size in sizes:
            runs = [run for run in self._runner.active.values() if run.job.run_in == place]
            held_by = [run.job.name for run in runs if not run.waits]
            waiting = len(runs) - len(held_by) + self._queue.waiting_for(place)
            if waiting and len(held_by) >= size:
                held = listed(list(dict.fromkeys(held_by)))
                wait = "1 job waits" if waiting == 1 else f"{waiting} jobs wait"
                yield Finding(f"the pool of {plural} for jobs is full, and {wait}: all {size} are taken, by {held}")

    def add(self, jobs: Iterable[CronJob]) -> None:
        """Register jobs, and run their ticks. Safe to call from any thread."""
        self.jobs.add(jobs)
        self.wake()

    def changed(self, name: str) -> None:
        """A job was removed or replaced. Safe to call from any thread."""
        self.jobs.changed(name)
        self.wake()

    def wake(self) -> None:
        """Look at once what is to be done. Safe to call from any thread."""
        if threading.get_ident() == self._thread:
            self._wake.set()
        else:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def startup(self) -> None:
        if self._runs_ticks:
            self._supervisor.start("dispatch", self._run_forever)

    async def shutdown(self, timeout: float) -> None:
        await self._supervisor.finish("dispatch", timeout)

    def quiesce(self) -> None:
        """Claim nothing more. What is claimed already is started, so that it has a record."""
        self._stopping = True
        self._sharing.stop()
        self.jobs.stop()
        self.wake()

    def share(self, peers: list[str]) -> None:
        """Share the ticks with these instances, which have the same jobs. The list is sorted, and has this instance in it."""
        self._sharing.share(peers)

    def lend_late_place(self, place: Place) -> bool:
        """Lend the place of a late run, if there is one and nothing waits for it."""
        room = Room.of(self._config, self._runner, MAX_CLAIMS, self._lent)
        lends = not self._crowded and room.has(place, late=True)
        self._lent += lends
        return lends

    def return_late_place(self) -> None:
        self._lent -= 1
        self.wake()

    def start(self, run: ActiveRun) -> None:
        """Start a manual run whose lease is held."""
        tracked = self.jobs.get(run.job.name)
        if tracked is not None:
            tracked.run_started(run)
        self._runner.start(run, self._run_ended)

    def _run_ended(self, run: ActiveRun) -> None:
        tracked = self.jobs.get(run.job.name)
        if tracked is None or run not in tracked.runs:
            return  # a manual run of a job that is not registered here, or a run from before the job was registered again
        if tracked.skipped is not None and tracked.skipped.holder == run.id:
            self.results.log_skips(tracked)
        if run.ref.until_now:
            # The store has made its own now the last handled tick. Where the two differ, it says so when it is asked.
            tracked.handled(ceil(self._store_clock.now()))
        if tracked.run_ended(run, self._store_clock.now):
            ended = run.outcome.ended_ts if run.outcome is not None else None
            tracked.delayed(Delay(run.started_ts, ended or self._clock.now(), f"run {run.id} of the job was running"))
            self.results.look_again(tracked, late=tracked.late)
        elif tracked.own_ticks is not None and not tracked.pending:
            self._plan(tracked)
            self._wake.set()
        elif self._crowded:
            self._wake.set()

    def resumed(self, job: str, last_handled: int) -> None:
        """The pause of a job has ended, and its ticks after `last_handled` may run."""
        tracked = self.jobs.get(job)
        if tracked is not None:
            tracked.handled(last_handled)
            if tracked.job.enabled:
                tracked.delayed(Delay(tracked.last_handled, self._clock.now(), PAUSED))
                self.results.look_again(tracked, late=True)

    async def _run_forever(self) -> None:
        """The scheduler's dispatch task."""
        while not self._stopping:
            self._wake.clear()
            await self.jobs.register_new()
            self._watch_clock()
            if self._store_clock.is_to_be_asked:
                await self._ask_store_clock()
            now = self._store_clock.now()
            if int(now) < self._noticed_until:
                # The store's clock was found to be behind ours: ticks were noticed that are yet to come.
                self._timeline.clock_set_back(now)
            self._noticed_until = int(now)
            self._sharing.queue_unclaimed(now)
            self._notice(now)
            wanted = self._decide(now)
            if wanted:
                await self._claim_and_start(wanted)
                # The runs that were just started have their turn.
                began = self._clock.monotonic()
                await asyncio.sleep(0)
                self.delays.event_loop_late(self._clock.now(), self._clock.monotonic() - began)
            elif self._undecided:
                await asyncio.sleep(0)
            elif not self._wake.is_set() and not self._stopping:
                await self._sleep(now)

    def _registered(self, jobs: list[TrackedJob]) -> None:
        """Jobs were registered. What they had due before is late."""
        now = self._store_clock.now()
        for tracked in jobs:
            try:
                due = tracked.job.jitter or tracked.is_due(now)
            except Exception as error:  # raised by a schedule that is not ours
                _log_failed_schedule(tracked, error)
            else:
                if due:
                    self._queue.put(tracked, late=True)
                elif tracked.own_ticks is not None:
                    self._plan(tracked)

    def _watch_clock(self) -> None:
        """After the clock was set back, handled ticks lie ahead of it, and the timeline is too late."""
        now, expected = self._store_clock.look()
        if now >= expected - 1:
            self.delays.clock_went_on(expected, now)
            return
        self._store_clock.was_set_back(now, expected)
        # When these are due has changed.
        changed = [tracked for _, tracked in self._held_back.pop_due(inf)]
        changed += [tracked for tracked, _ in self._sharing.pop_over(inf)]
        for tracked in changed:
            if not tracked.dropped:
                self._queue.put(tracked, late=False)
        for tracked in self.jobs.all():
            if tracked.last_handled > now + MAX_HANDLED_AHEAD:
                # The store decides: it resets the last handled tick where its own clock agrees.
                tracked.reset_last_handled(int(now))

    async def _ask_store_clock(self) -> None:
        """Find out whether the store's clock is still behind ours."""
        jobs = [each for each in self.jobs.all() if each.in_force and not each.dropped and each.job.enabled][:_ASKED]
        asked_ts = self._store_clock.ask()
        requests = [early_claim_of(each, self.new_run_id(), asked_ts) for each in jobs]
        results = await self._locks.claim(requests) if requests else []
        shown = (result.last_handled for result in results if result.outcome == "early")
        self._store_clock.told(next(shown, None))

    def _notice(self, now: float) -> None:
        """Queue the jobs that have become due."""
        left: list[Due] = []
        for tick, group in self._timeline.pop_due(now):
            for tracked in group.jobs:
                if self._sharing.is_ours(tracked.job, tick, now):
                    self._queue.put(tracked, late=now - tick > LATE_AFTER + tracked.job.jitter)
                elif not tracked.pending:
                    left.append((tracked, tick))
        self._sharing.leave(left, now)
        for due, tracked in self._held_back.pop_due(now):
            if not tracked.dropped:
                self._queue.put(tracked, late=now - due > LATE_AFTER)

    def _decide(self, now: float) -> list[Wanted]:
        """What to claim now, as far as there is room to run it."""
        until = perf_counter() + MAX_DECIDING
        room = Room.of(self._config, self._runner, MAX_CLAIMS, self._lent)
        wanted = self.results.take_reruns(room)
        out_of_time = False
        for tracked, late in self._queue.take(room):
            claims = self._claims(tracked, now)
            wanted += claims
            # A job whose tick is held back by jitter has nothing to claim yet, and takes no room.
            if claims and late is not None:
                room.take(tracked.job.run_in, late=late)
            out_of_time = perf_counter() >= until
            if out_of_time or len(wanted) >= MAX_CLAIMS:
                break
        self._crowded = bool(self._queue)
        self._undecided = self._crowded and out_of_time
        self.delays.waits_for_room(now, waits=self._crowded)
        return wanted

    def _claims(self, tracked: TrackedJob, now: float) -> list[Wanted]:
        """What to claim for a job whose turn has come."""
        if tracked.phase is not QUEUED:  # it has left the queue to wait for a lease's release
            return []
        if tracked.dropped:  # since it was queued
            tracked.leave_queue()
            return []
        try:
            steps = tracked.steps(now)
            due_later = tracked.due_later(now) if tracked.job.jitter else None
        except Exception as error:  # raised by a schedule that is not ours
            _log_failed_schedule(tracked, error)
            tracked.leave_queue()
            return []
        if due_later is not None:
            self._held_back.add(tracked, due_later)
        elif not steps and tracked.own_ticks is not None:
            self._plan(tracked)
        claims: list[Wanted] = []
        for step in steps:
            claims += claims_of(tracked, step, self.new_run_id)
        tracked.claim(len(claims))
        return claims

    def _plan(self, tracked: TrackedJob) -> None:
        """Look again at a job whose ticks the clock does not make, when its only one is due."""
        due = tracked.own_due(self._store_clock.now())
        if due is not None and tracked.job.enabled:
            self._held_back.add(tracked, due)

    async def _claim_and_start(self, wanted: list[Wanted]) -> None:
        asked_ts = self._store_clock.ask()
        try:
            results = await self._locks.claim(
                [want.request for want in wanted], lambda: any(self.jobs.is_outdated(want.tracked) for want in wanted)
            )
            self.delays.store_answered(asked_ts, self._clock.now())
            await self._take(wanted, results)
        except SupersededError:
            self.results.superseded(wanted)
        except BaseException:
            self._queue_again(want for want in wanted if want.tracked.claims_failed())
            raise

    async def _take(self, wanted: list[Wanted], results: list[ClaimResult]) -> None:
        """Do what follows from the store's answers, with pauses for the event loop."""
        now, began = self._store_clock.now(), perf_counter()
        unknown = []
        for number, (want, result) in enumerate(zip(wanted, results, strict=True), start=1):
            if result.outcome == "unknown":
                unknown.append(want)
            else:
                self.results.take(want, result, now)
            # Counting long ranges of ticks may have taken a while.
            if number % MAX_STARTS == 0 or perf_counter() - began > MAX_DECIDING:
                await asyncio.sleep(0)
                began = perf_counter()
        if unknown:
            await self.jobs.register_all_again()
            self._queue_again(want for want in unknown if want.tracked.claims_failed())
            self._wake.set()

    def _queue_again(self, unanswered: Iterable[Wanted]) -> None:
        for want in unanswered:
            self._queue.put(want.tracked, late=want.late)

    async def _sleep(self, now: float) -> None:
        """Sleep until the next tick or until woken, for a bounded time."""
        delay = self._clock.max_sleep
        waiting_for = (self._timeline.next_tick, self._held_back.next_due, self._sharing.next_over)
        for due in waiting_for:
            if due is not None:
                delay = min(delay, max(0.0, due - now))
        timer = self._clock.call_later(delay, self._wake.set)
        began = self._clock.monotonic()
        self._sleeping = True
        try:
            await self._wake.wait()
        finally:
            self._sleeping = False
            timer.cancel()
        self.delays.event_loop_late(self._clock.now(), self._clock.monotonic() - began - delay)


def _log_failed_schedule(tracked: TrackedJob, error: Exception) -> None:
    job = tracked.job.name
    logger.error("the schedule of job %r failed: %s", job, one_line(error), extra={"job": job})
