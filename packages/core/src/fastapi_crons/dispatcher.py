"""Dispatcher: takes due ticks from the timeline, claims them and starts their runs.

One task. Jobs that are due wait in lanes; as room allows, each job's next step is decided, everything wanted at that
moment is claimed in one call, and what was granted is started. Late ticks have a lane of their own.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import NamedTuple

from fastapi_crons.clock import Clock, iso_utc
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import ScheduleError
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import ClaimRequest, ClaimResult, Definition, Enrolment, Lease, LeaseRef
from fastapi_crons.locking.manager import DistributedLockManager
from fastapi_crons.recorder import Recorder
from fastapi_crons.run import Run, RunError, RunIds
from fastapi_crons.runner import ActiveRun, Runner
from fastapi_crons.schedule import cron_schedule
from fastapi_crons.state.base import StateBackend
from fastapi_crons.ticks import NOTHING, Policy, Row, Step, count_row, tick_source
from fastapi_crons.timeline import Entry, Timeline

logger = logging.getLogger(__name__)

#: A tick that was noticed later than this (seconds) goes through the lane of late ticks.
LATE_AFTER = 5.0
#: How many ticks are claimed at a time.
MAX_CLAIMS = 1_000
#: For how long (seconds) steps are decided, and how many runs are started, in one go: the event loop is never held long.
MAX_DECIDING = 0.01
MAX_STARTS = 250
#: How many jobs are registered with the store at a time.
MAX_ENROLMENTS = 5_000
#: How long (seconds) a job waits that is to be tried again: another instance runs it, or the store's clock is behind.
RETRY_AFTER = 0.5


class Wanted(NamedTuple):
    """A claim that is to be made, and what it is for."""

    entry: Entry
    step: Step
    request: ClaimRequest
    late: bool = False
    #: The lease of the run that was cut off and is to run again.
    cut_off: Lease | None = None


class Dispatcher:
    """Decides, claims and starts, for one scheduler."""

    def __init__(
        self,
        config: CronConfig,
        clock: Clock,
        locks: DistributedLockManager,
        state: StateBackend,
        recorder: Recorder,
        runner: Runner,
        on_registered: Callable[[list[CronJob]], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._locks = locks
        self._state = state
        self._recorder = recorder
        self._runner = runner
        self._on_registered = on_registered
        self._run_ids = RunIds(clock.now)
        self._timeline = Timeline()
        self._policies: dict[tuple[bool, float | None], Policy] = {}
        self.entries: dict[str, Entry] = {}
        self._new_jobs: deque[CronJob] = deque()
        # Jobs that are due: those that are running here, which are refused their tick and need no room; those that run
        # on the loop; those that need a thread; and those that are late.
        self._running: deque[Entry] = deque()
        self._on_loop: deque[Entry] = deque()
        self._in_threads: deque[Entry] = deque()
        self._late: deque[Entry] = deque()
        self._again: deque[Wanted] = deque()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._wake = asyncio.Event()
        self._waiting = False
        self._stopping = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do before the next tick."""
        return self._waiting and not self._wake.is_set()

    @property
    def next_tick(self) -> int | None:
        """The earliest tick of all jobs, in Unix seconds."""
        return self._timeline.next_tick

    def new_run_id(self) -> str:
        return self._run_ids()

    def add(self, jobs: Iterable[CronJob]) -> None:
        """Take up jobs. Safe to call from any thread."""
        self._new_jobs.extend(jobs)
        self.wake()

    def wake(self) -> None:
        """Look again what is to be done. Safe to call from any thread."""
        if threading.get_ident() == self._thread:
            self._wake.set()
        else:
            self._loop.call_soon_threadsafe(self._wake.set)

    def stop(self) -> None:
        """Claim nothing more. What was claimed already is started, so that it gets its record."""
        self._stopping = True
        self.wake()

    def released(self, run: ActiveRun) -> None:
        """A run has ended: what waited for it goes on."""
        entry = run.entry
        if entry.waiting and not entry.running:
            entry.waiting = False
            self._queue(entry, late=run.trigger == "catch_up")
        if self._running or self._on_loop or self._in_threads or self._late or self._again:
            self._wake.set()

    async def run_forever(self) -> None:
        """The scheduler's dispatch task."""
        while not self._stopping:
            self._wake.clear()
            await self.enrol_new_jobs()
            now = self._clock.now()
            self._notice(now)
            wanted = self._decide(now)
            if wanted:
                await self._claim_and_start(wanted)
                # Let the runs that were just started have the loop.
                await asyncio.sleep(0)
            elif not self._wake.is_set() and not self._stopping:
                await self._sleep(now)

    async def enrol_new_jobs(self) -> None:
        """Register jobs with the lock store and place them on the timeline."""
        while self._new_jobs and not self._stopping:
            jobs = [self._new_jobs.popleft() for _ in range(min(len(self._new_jobs), MAX_ENROLMENTS))]
            jobs = [job for job in jobs if job.name not in self.entries]
            with _without_collections():
                await self._enrol(jobs)
            await asyncio.sleep(0)

    async def _enrol(self, jobs: list[CronJob]) -> None:
        try:
            answers = await self._locks.enrol([_definition(job, 0) for job in jobs])
        except BaseException:
            self._new_jobs.extendleft(reversed(jobs))
            raise
        now = self._clock.now()
        for job, answer in zip(jobs, answers, strict=True):
            self._place(job, answer, now)
        self._on_registered(jobs)

    async def take_over(self, dead: Iterable[Lease]) -> None:
        """See to runs that were cut off because their process died: run the tick again, or only record it."""
        for lease in dead:
            entry = self.entries.get(lease.job)
            if entry is None:
                continue  # another instance may know the job; else the lease stays until the job is registered again
            known = await self._state.run(lease.run_id)
            if known is not None and known.status != "running":
                await self._locks.release([LeaseRef(lease.job, lease.run_id, lease.token)])
            elif self._reruns(entry, lease):
                self._again.append(self._rerun(entry, lease))
            elif (await self._locks.release([LeaseRef(lease.job, lease.run_id, lease.token)]))[0]:
                self._runner.closed_elsewhere(entry.job, interrupted(known, lease, self._clock.now()))
        if self._again:
            self.wake()

    def _place(self, job: CronJob, answer: Enrolment, now: float) -> None:
        entry = self.entries.get(job.name)
        if entry is None:
            policy = self._policies.get((job.coalesce is not False, job.misfire_grace_time))
            if policy is None:
                policy = Policy(job.coalesce is not False, job.misfire_grace_time, self._config.max_catch_up)
                self._policies[policy.coalesce, policy.grace] = policy
            group = self._timeline.group_of(job.schedule, now)
            entry = self.entries[job.name] = Entry(job, group, policy, answer.mark)
            if job.enabled:
                group.entries.append(entry)
        entry.mark = max(entry.mark, answer.mark)
        if answer.replaced is not None:
            self._close_past(entry, answer, now)
        if answer.other_function is not None:
            logger.warning(
                "job %r is registered for %s here and was for %s before; instances that share a store and a job name "
                "must share the function, else set CRON_NAMESPACE",
                job.name,
                job.function_name,
                answer.other_function,
            )
        if job.enabled and entry.step(now) is not NOTHING:
            self._queue(entry, late=True)

    def _close_past(self, entry: Entry, answer: Enrolment, now: float) -> None:
        """Record what an older schedule of this job had due while nobody was there to run it."""
        old = answer.replaced
        assert old is not None
        logger.info("job %r: its schedule was %r and is %r now", entry.job.name, old.schedule, entry.job.schedule.text)
        try:
            source = tick_source(cron_schedule(old.schedule, old.timezone or "UTC"))
        except ScheduleError:
            return  # a kind of schedule that is not installed any more: what it had due can't be known
        row = count_row(source, old.mark, int(now))
        if row is not None:
            self._runner.let_go(entry.job, row, "schedule_changed", f"the schedule was {old.schedule!r}")

    def _notice(self, now: float) -> None:
        """Queue the jobs that have become due."""
        for tick, group in self._timeline.pop_due(now):
            late = now - tick > LATE_AFTER
            for entry in group.entries:
                if not (entry.queued or entry.waiting) and entry.in_force:
                    self._queue(entry, late=late)

    def _queue(self, entry: Entry, *, late: bool) -> None:
        if not entry.queued:
            entry.queued, entry.late = True, late
            if entry.running and entry.job.overlap != "allow":
                self._running.append(entry)
            else:
                (self._late if late else self._on_loop if entry.is_async else self._in_threads).append(entry)

    def _decide(self, now: float) -> list[Wanted]:
        """What is to be claimed now, as far as there is room to run it."""
        room = min(MAX_CLAIMS, self._config.max_concurrent_runs - len(self._runner.active))
        threads = self._config.max_threads - self._runner.in_threads
        catch_up = self._config.catch_up_concurrency - self._runner.catching_up
        wanted: list[Wanted] = []
        until = perf_counter() + MAX_DECIDING
        while self._again and room > len(wanted) and (self._again[0].entry.is_async or threads > 0):
            again = self._again.popleft()
            threads -= not again.entry.is_async
            wanted.append(again)
        needing_room = len(wanted)
        while self._running and len(wanted) < MAX_CLAIMS and perf_counter() < until:
            self._want(self._running.popleft(), now, wanted)
        room += len(wanted) - needing_room
        for lane in (self._on_loop, self._in_threads, self._late):
            while lane and len(wanted) < room and perf_counter() < until:
                entry = lane[0]
                if not entry.is_async:
                    if threads <= 0:
                        break
                    threads -= 1
                if entry.late:
                    if catch_up <= 0:
                        break
                    catch_up -= 1
                lane.popleft()
                self._want(entry, now, wanted)
        return wanted

    def _want(self, entry: Entry, now: float, wanted: list[Wanted]) -> None:
        entry.queued = False
        step = entry.step(now)
        if step is not NOTHING:
            wanted.append(self._wanted(entry, step))

    def _wanted(self, entry: Entry, step: Step) -> Wanted:
        job = entry.job
        tick = step.missed[-1][0].last if step.run is None else step.run
        request = ClaimRequest(
            job.name, self._run_ids(), tick, job.schedule.text, _zone(job), job.overlap, False, step.run is None
        )
        return Wanted(entry, step, request, entry.late)

    async def _claim_and_start(self, wanted: list[Wanted]) -> None:
        results = await self._locks.claim([want.request for want in wanted])
        now = self._clock.now()
        unknown = []
        for number, (want, result) in enumerate(zip(wanted, results, strict=True), start=1):
            if result.outcome == "granted":
                self._granted(want, result, now)
                if number % MAX_STARTS == 0:
                    await asyncio.sleep(0)
            elif result.outcome == "unknown":
                unknown.append(want)
            else:
                self._refused(want, result)
        if unknown:
            await self._enrol_again(unknown)

    def _granted(self, want: Wanted, result: ClaimResult, now: float) -> None:
        entry, step, tick = want.entry, want.step, want.request.tick
        assert tick is not None
        if want.cut_off is None:
            if result.mark > entry.mark:
                # Other instances have handled some of these ticks: what is left lies behind the store's mark.
                step = entry.group.step(result.mark, now, entry.policy)
            entry.mark = max(entry.mark, tick)
            for row, reason in step.missed:
                self._runner.let_go(entry.job, row, reason)
            if want.request.let_go:
                if step.more or entry.step(now) is not NOTHING:
                    self._queue(entry, late=want.late)
                return
        run = ActiveRun(
            entry,
            want.request.run_id,
            tick,
            "catch_up" if want.late else "schedule",
            result.token,
            want.request.attempt,
        )
        if step.covered is not None and step.run == tick:
            run.missed = step.covered
        if step.more:
            entry.waiting = True
        if want.cut_off is not None:
            self._runner.in_background(self._record_cut_off(entry, want.cut_off))
        grace = entry.policy.grace
        if grace is not None and now - tick > grace:
            # The store took so long to answer that the tick is too late by now.
            self._runner.let_go(entry.job, Row(tick, tick, 1), "misfire_grace_time")
            self._recorder.release(LeaseRef(entry.job.name, run.id, result.token), lambda: None)
            return
        self._runner.start(run)

    def _refused(self, want: Wanted, result: ClaimResult) -> None:
        entry, tick = want.entry, want.request.tick
        assert tick is not None
        if want.cut_off is not None:
            return  # another instance was first to take it over
        if result.outcome == "stale":
            entry.mark = max(entry.mark, result.mark)
            self._queue(entry, late=want.late)
        elif result.outcome == "not_in_force":
            entry.in_force = False
            logger.warning(
                "job %r: another schedule than %r was registered since; this instance does not run it",
                entry.job.name,
                entry.job.schedule.text,
            )
        elif result.outcome == "busy" and result.skipped:
            entry.mark = max(entry.mark, tick)
            row = count_row(entry.group.source, result.mark, tick)
            if row is not None:
                self._runner.let_go(entry.job, row, "overlap", f"run {result.holder} was still going on")
        elif result.outcome == "busy" and entry.running:
            entry.waiting = True
        else:
            self._clock.call_later(RETRY_AFTER, lambda: self._try_again(entry, want.late))

    def _try_again(self, entry: Entry, late: bool) -> None:
        self._queue(entry, late=late)
        self._wake.set()

    async def _enrol_again(self, unknown: list[Wanted]) -> None:
        """The store has lost its records: register these jobs with the newest ticks that we know to be handled."""
        logger.warning("the lock store has no record of %d jobs; they are registered again", len(unknown))
        entries = list({want.entry.job.name: want.entry for want in unknown}.values())
        await self._locks.enrol([_definition(entry.job, entry.mark) for entry in entries])
        for want in unknown:
            if want.cut_off is None:
                self._queue(want.entry, late=want.late)
        self._wake.set()

    def _reruns(self, entry: Entry, lease: Lease) -> bool:
        grace = entry.policy.grace
        return (
            self._config.rerun_interrupted
            and lease.tick is not None
            and lease.attempt <= self._config.max_reruns
            and entry.job.enabled
            and entry.in_force
            and (grace is None or self._clock.now() - lease.tick <= grace)
        )

    def _rerun(self, entry: Entry, lease: Lease) -> Wanted:
        job = entry.job
        request = ClaimRequest(
            job.name,
            self._run_ids(),
            lease.tick,
            job.schedule.text,
            _zone(job),
            job.overlap,
            replaces=lease.run_id,
            attempt=lease.attempt + 1,
        )
        return Wanted(entry, NOTHING, request, True, lease)

    async def _record_cut_off(self, entry: Entry, lease: Lease) -> None:
        known = await self._state.run(lease.run_id)
        self._runner.closed_elsewhere(entry.job, interrupted(known, lease, self._clock.now()))

    async def _sleep(self, now: float) -> None:
        """Sleep until the next tick or until woken, but never for long."""
        tick = self._timeline.next_tick
        longest = self._clock.max_sleep
        delay = longest if tick is None else min(longest, max(0.0, tick - now))
        timer = self._clock.call_later(delay, self._wake.set)
        self._waiting = True
        try:
            await self._wake.wait()
        finally:
            self._waiting = False
            timer.cancel()


@contextmanager
def _without_collections() -> Iterator[None]:
    """Very many jobs are very many objects that stay; the collector would look at all of them over and over."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def interrupted(known: Run | None, lease: Lease, now: float) -> Run:
    """The closing record of a run whose process died; `known` is what the state store has of it."""
    error = RunError("Interrupted", f"its process died, or lost its lease, before {iso_utc(now)}")
    if known is None:
        return Run(
            lease.run_id,
            lease.job,
            lease.tick,
            "schedule" if lease.tick is not None else "code",
            lease.attempt,
            lease.instance,
            lease.token,
            "interrupted",
            now,
            now,
            error,
        )
    return replace(known, status="interrupted", ended_ts=now, error=error)


def manual_request(entry: Entry, run_id: str, *, force: bool) -> ClaimRequest:
    """The claim of a run that somebody asked for, which leaves the ticks alone."""
    job = entry.job
    return ClaimRequest(job.name, run_id, None, job.schedule.text, _zone(job), job.overlap, force)


def _definition(job: CronJob, mark: int) -> Definition:
    return Definition(job.name, job.schedule.text, _zone(job), job.function_name, mark)


def _zone(job: CronJob) -> str:
    zone = getattr(job.schedule, "timezone", "")
    return zone if isinstance(zone, str) else ""
