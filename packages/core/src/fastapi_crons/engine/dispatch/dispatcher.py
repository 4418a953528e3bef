"""Dispatcher: takes due ticks from the timeline, claims them and starts their runs.

One task. Jobs that are due wait in lanes; as room allows, each job's next step is decided, everything wanted at that
moment is claimed in one call, and what was granted is started.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import inf
from time import perf_counter

from fastapi_crons._util.life import Finding, Part, listed
from fastapi_crons._util.text import one_line
from fastapi_crons.clock import utc_datetime
from fastapi_crons.engine.dispatch.claims import Wanted, claims_of
from fastapi_crons.engine.dispatch.jitter import HeldBack
from fastapi_crons.engine.dispatch.lateness import NOT_TAKEN, PAUSED, Delay, Delays
from fastapi_crons.engine.dispatch.queue import Lanes, Room
from fastapi_crons.engine.dispatch.registration import EnrolledJobs
from fastapi_crons.engine.dispatch.results import LATE_AFTER, Answers
from fastapi_crons.engine.dispatch.sharing import Due, Turns
from fastapi_crons.engine.dispatch.store_clock import ClaimClock
from fastapi_crons.engine.dispatch.timeline import Entry, Timeline
from fastapi_crons.engine.parts import Parts
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import ClaimResult
from fastapi_crons.locking.rule import MAX_HANDLED_AHEAD
from fastapi_crons.run import RunIds
from fastapi_crons.schedule.due import MAX_COUNTING, NOTHING, Step, newest_tick

logger = logging.getLogger(__name__)

#: How many ticks are claimed at a time.
MAX_CLAIMS = 1_000
#: For how long (seconds) steps are decided, and how many runs are started, in one go: the event loop is never held long.
MAX_DECIDING = 2 * MAX_COUNTING
MAX_STARTS = 250
#: The dispatcher sleeps for `max_sleep` at most; when it has been silent for so much longer (seconds), it is stuck.
_STUCK_AFTER = 15.0


class Dispatcher(Part):
    """Decides, claims and starts, for one scheduler."""

    def __init__(
        self, parts: Parts, on_registered: Callable[[list[CronJob]], None], on_early: Callable[[], None]
    ) -> None:
        """`on_early` is called when the store says that a tick is claimed too early."""
        self._config, self._clock, self._owner = parts.config, parts.clock, parts.instance.owner
        self._locks, self._runner, self._background = parts.locks, parts.runner, parts.background
        self._supervisor, self._runs_ticks = parts.supervisor, parts.runs_ticks
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._claim_clock = ClaimClock(self._clock)
        self._timeline = Timeline()
        self._turns = Turns()
        self._held_back = HeldBack()
        self._lanes = Lanes(parts.recorder, self._claim_clock.now)
        self.delays = Delays()
        parts.locks.on_outage = self.delays.note
        parts.locks.count_ticks = self._count_ticks
        self.new_run_id = RunIds(self._clock.now)
        self.jobs = EnrolledJobs(parts, self._timeline, self.new_run_id, self._placed, on_registered)
        self.answers = Answers(
            parts,
            self._claim_clock,
            self.jobs,
            self._lanes,
            self.delays,
            self.new_run_id,
            self._start,
            on_early,
            self.wake,
        )
        #: The ids under which the last batch was claimed.
        self.claiming: set[str] = set()
        #: Whether somebody is due and waits for room; or to be decided about, for which there was no time.
        self._crowded = False
        self._undecided = False
        #: Looks what others have left.
        self._look: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._waiting = False
        self._stopping = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do before the next tick."""
        return self._waiting and not self._wake.is_set()

    def findings(self) -> Iterator[Finding]:
        if self._runs_ticks and self._locks.fault is None:
            silent = self._claim_clock.seconds_since_look()
            if silent > self._clock.max_sleep + _STUCK_AFTER:
                yield Finding(
                    f"no due tick was looked for in {silent:.0f} s",
                    failure=True,
                    cause="something holds the event loop, or the lock store is slow",
                )
        yield from self.jobs.findings()
        names = self._timeline.unfit()
        if names:
            yield Finding(f"the schedule fails or breaks its protocol, so nothing is run by it, of {listed(names)}")
        yield from self._full_pool()

    def _full_pool(self) -> Iterator[Finding]:
        """All threads are taken, while something waits for one. No time limit begins before there is one."""
        runs = [run for run in self._runner.active.values() if not run.job.is_async]
        held_by, size = [run.job.name for run in runs if not run.waits], self._config.max_threads
        if len(held_by) < size:
            return
        waiting = len(runs) - len(held_by) + self._lanes.waiting_for_threads
        if waiting:
            held = listed(list(dict.fromkeys(held_by)))
            wait = "1 job waits" if waiting == 1 else f"{waiting} jobs wait"
            yield Finding(f"the pool of threads for jobs is full, and {wait}: all {size} are taken, by {held}")

    def add(self, jobs: Iterable[CronJob]) -> None:
        """Take up jobs. Safe to call from any thread."""
        self.jobs.add(jobs)
        self.wake()

    def wake(self) -> None:
        """Look again what is to be done. Safe to call from any thread."""
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
        """Claim nothing more. What was claimed already is started, so that it gets its record."""
        self._stopping = True
        if self._look is not None:
            self._look.cancel()
        self.jobs.stop()
        self.wake()

    def _count_ticks(self, seconds: float) -> tuple[int, bool]:
        """How many ticks have become due in the last so many seconds, and whether there are more."""
        now = self._clock.now()
        return self._timeline.count(now - seconds - 1, now)  # a tick is claimed within a second

    def share(self, peers: list[str]) -> None:
        """Share the ticks with these instances, which are sorted and have the same jobs; this one is among them."""
        self._turns.share(self._owner, peers)

    def start(self, run: ActiveRun) -> None:
        """Start a run that was asked for by hand, and whose lease is held."""
        self._start(self.jobs.get(run.job.name) or self.jobs.unregistered(run.job), run)

    def _start(self, entry: Entry, run: ActiveRun) -> None:
        entry.started(run)
        self._runner.start(run, partial(self._ended, entry))

    def _ended(self, entry: Entry, run: ActiveRun) -> None:
        """A run has ended, and its lease is released: what waited for it goes on."""
        entry.ended(run)
        if entry.skipped is not None and entry.skipped.holder == run.id:
            self.answers.end_skips(entry)
        if entry.waiting and (not entry.runs if entry.waits_for is None else entry.waits_for == run.id):
            if entry.waits_for is None:
                entry.busy_until = int(self._claim_clock.now())
            ended = run.outcome.ended_ts if run.outcome is not None else None
            entry.delay = Delay(run.started_ts, ended or self._clock.now(), f"run {run.id} of the job went on")
            # A row of late ticks goes on to where it was to end; what falls due meanwhile is not late.
            entry.late = entry.late or run.trigger == "catch_up"
            self.answers.goes_on(entry, late=entry.late)
        elif self._crowded:
            self._wake.set()

    def resumed(self, job: str, mark: int) -> None:
        """A job was paused, and goes on with its ticks after `mark`."""
        entry = self.jobs.get(job)
        if entry is not None:
            entry.mark = max(entry.mark, mark)
            if entry.job.enabled:
                entry.delay = Delay(entry.mark, self._clock.now(), PAUSED)
                self.answers.try_again(entry, late=True)

    async def _run_forever(self) -> None:
        """The scheduler's dispatch task."""
        while not self._stopping:
            self._wake.clear()
            await self.jobs.enrol_new()
            self._watch_clock()
            now = self._claim_clock.now()
            self._look_after_others(now)
            self._notice(now)
            wanted = self._decide(now)
            if wanted:
                await self._claim_and_start(wanted)
                # Let the runs that were just started have the loop.
                began = self._clock.monotonic()
                await asyncio.sleep(0)
                self.delays.held_up(self._clock.now(), self._clock.monotonic() - began)
            elif self._undecided:
                await asyncio.sleep(0)
            elif not self._wake.is_set() and not self._stopping:
                await self._sleep(now)

    def _placed(self, entries: list[Entry]) -> None:
        """Jobs were registered: what they had due before that is late."""
        now = self._claim_clock.now()
        for entry in entries:
            try:
                due = entry.job.jitter or entry.is_due(now)
            except Exception as error:  # a schedule of somebody else's
                _complain(entry, error)
            else:
                if due:
                    self._lanes.put(entry, late=True)

    def _watch_clock(self) -> None:
        """A clock that was set back leaves ticks ahead of it that were handled already, and a timeline that is too late."""
        now, expected = self._claim_clock.look()
        if now >= expected - 1:
            self.delays.clock_went_on(expected, now)
            return
        _tell_set_back(now, expected)
        self._claim_clock.was_set_back()
        self._timeline.clock_set_back(now)
        # What becomes due when is to be found out anew.
        anew = [entry for _, entry in self._held_back.pop_due(inf)] + [entry for entry, _ in self._turns.over(inf)]
        for entry in anew:
            if self.jobs.get(entry.job.name) is entry:
                self._lanes.put(entry, late=False)
        for entry in self.jobs.all():
            if entry.mark > now + MAX_HANDLED_AHEAD:
                # The store has the last word: it puts the mark back where its own clock agrees.
                entry.mark = int(now)

    def _notice(self, now: float) -> None:
        """Queue the jobs that have become due."""
        others: list[Due] = []
        for tick, group in self._timeline.pop_due(now):
            for entry in group.entries:
                if entry.queued or entry.waiting:
                    continue
                if self._turns.is_ours(entry, tick, now):
                    self._lanes.put(entry, late=now - tick > LATE_AFTER + entry.job.jitter)
                else:
                    others.append((entry, tick))
        self._turns.leave(others, now)
        for due, entry in self._held_back.pop_due(now):
            if not entry.waiting and self.jobs.get(entry.job.name) is entry:
                self._lanes.put(entry, late=now - due > LATE_AFTER)

    def _look_after_others(self, now: float) -> None:
        """See whether the ticks were taken whose turn is over. One look at a time, however long the store takes."""
        over = self._turns.next_over
        if over is not None and over <= now and self._look is None:
            self._look = self._background.start(self._take_what_others_left(self._turns.over(now)))

    async def _take_what_others_left(self, ticks: list[Due]) -> None:
        """Take the ticks that the instance whose turn it was has not taken: it is busy, has just died, or just left."""
        try:
            for start in range(0, len(ticks), MAX_CLAIMS):
                part = ticks[start : start + MAX_CLAIMS]
                marks = await self._locks.last_handled([entry.job.name for entry, _ in part])
                for (entry, tick), mark in zip(part, marks, strict=True):
                    if mark is not None:
                        entry.mark = max(entry.mark, mark)
                    left = mark is None or mark < tick
                    if left and not (entry.queued or entry.waiting) and self.jobs.get(entry.job.name) is entry:
                        now = self._clock.now()  # the store may have taken long to answer
                        entry.delay = Delay(tick, now, NOT_TAKEN)
                        self._lanes.put(entry, late=now - tick > LATE_AFTER + entry.job.jitter)
                await asyncio.sleep(0)
        finally:
            self._look = None
            self._wake.set()

    def _decide(self, now: float) -> list[Wanted]:
        """What is to be claimed now, as far as there is room to run it."""
        until = perf_counter() + MAX_DECIDING
        room = self._room()
        wanted = self._lanes.take_again(room)
        out_of_time = False
        for entry, late in self._lanes.take(room):
            claims = self._claims(entry, now)
            wanted += claims
            # One whose tick jitter holds back has nothing to claim yet, and is in nobody's way.
            if claims and late is not None:
                room.take(late=late, on_loop=entry.job.is_async)
            out_of_time = perf_counter() >= until
            if out_of_time or len(wanted) >= MAX_CLAIMS:
                break
        self._crowded = bool(self._lanes)
        self._undecided = self._crowded and out_of_time
        self.delays.waits_for_room(now, somebody=self._crowded)
        return wanted

    def _room(self) -> Room:
        runner, config = self._runner, self._config
        return Room(
            runs=min(MAX_CLAIMS, config.max_concurrent_runs - len(runner.active)),
            threads=config.max_threads - runner.in_threads,
            late=config.catch_up_concurrency - runner.catching_up,
        )

    def _claims(self, entry: Entry, now: float) -> list[Wanted]:
        """What is to be claimed of a job that is due."""
        entry.queued = False
        if entry.waiting:
            return []
        try:
            steps = _steps(entry, now)
            if entry.job.jitter:
                self._held_back.add(entry, now)
        except Exception as error:  # a schedule of somebody else's
            _complain(entry, error)
            return []
        claims = [claim for step in steps for claim in claims_of(entry, step, self.new_run_id)]
        entry.late = False
        return claims

    async def _claim_and_start(self, wanted: list[Wanted]) -> None:
        self.claiming = {want.request.run_id for want in wanted}
        asked_ts = self._claim_clock.asked_ts = self._clock.now()
        results = await self._locks.claim([want.request for want in wanted])
        self.delays.store_answered(asked_ts, self._clock.now())
        await self._take(wanted, results)

    async def _take(self, wanted: list[Wanted], results: list[ClaimResult]) -> None:
        """Do what follows from the store's answers, with pauses for the event loop."""
        now, began = self._claim_clock.now(), perf_counter()
        unknown = []
        for number, (want, result) in enumerate(zip(wanted, results, strict=True), start=1):
            if result.outcome == "unknown":
                unknown.append(want)
            else:
                self.answers.take(want, result, now)
            # Long rows of ticks may have been counted.
            if number % MAX_STARTS == 0 or perf_counter() - began > MAX_DECIDING:
                await asyncio.sleep(0)
                began = perf_counter()
        if unknown:
            await self.jobs.enrol_all_again()
            for want in unknown:
                if want.cut_off is None:
                    self._lanes.put(want.entry, late=want.late)
            self._wake.set()

    async def _sleep(self, now: float) -> None:
        """Sleep until the next tick or until woken, but never for long."""
        delay = self._clock.max_sleep
        waiting_for = (
            self._timeline.next_tick,
            self._held_back.next_due,
            None if self._look is not None else self._turns.next_over,
        )
        for due in waiting_for:
            if due is not None:
                delay = min(delay, max(0.0, due - now))
        timer = self._clock.call_later(delay, self._wake.set)
        began = self._clock.monotonic()
        self._waiting = True
        try:
            await self._wake.wait()
        finally:
            self._waiting = False
            timer.cancel()
        self.delays.held_up(self._clock.now(), self._clock.monotonic() - began - delay)


def _tell_set_back(now: float, expected: float) -> None:
    """Say what becomes of the ticks that come again. The bound is the stores' own."""
    if expected - now <= MAX_HANDLED_AHEAD:
        logger.warning(
            "the clock was set back by %.0f s; nothing runs a second time: jobs wait until it has passed %s",
            expected - now,
            utc_datetime(expected).isoformat(timespec="seconds"),
        )
    else:
        logger.warning(
            "the clock was set back by %.0f s, which is more than an hour; where the lock store's clock was, too, jobs that "
            "are due while their newest tick lies more than an hour ahead go on, and their ticks up to %s run a second time; "
            "the others go on when their newest tick has passed",
            expected - now,
            utc_datetime(expected).isoformat(timespec="seconds"),
        )


def _steps(entry: Entry, now: float) -> list[Step]:
    """What is to be claimed next, in order.

    Ticks that were late waited for a run to end, where one went on; what fell due meanwhile overlapped with it.
    """
    if entry.late and entry.job.overlap == "skip":
        late, since = entry.late_step(now), max(entry.mark, entry.late_until)
        overlapped = None if late.more else newest_tick(entry.group.source, since, min(int(now), entry.busy_until))
        steps = [late] if late is not NOTHING else []
        if overlapped is not None:
            steps.append(Step(None, ((overlapped, "overlap"),)))
        if steps:
            return steps
    step = entry.step(now)
    return [step] if step is not NOTHING else []


def _complain(entry: Entry, error: Exception) -> None:
    logger.error("the schedule of job %r failed: %s", entry.job.name, one_line(error), extra={"job": entry.job.name})
