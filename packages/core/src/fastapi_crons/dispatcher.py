"""Dispatcher: takes due ticks from the timeline, claims them and starts their runs.

One task. Jobs that are due wait in lanes; as room allows, each job's next step is decided, everything wanted at that
moment is claimed in one call, and what was granted is started. Late ticks have a lane of their own.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from math import inf
from time import perf_counter

from fastapi_crons.active import ActiveRun
from fastapi_crons.claims import Wanted, claims_of, ref_of, rerun_of
from fastapi_crons.clock import utc_datetime
from fastapi_crons.delays import NOT_TAKEN, PAUSED, Delay, Delays
from fastapi_crons.enrolment import EnrolledJobs, warn_put_back
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import ClaimResult, Lease, LeaseRef
from fastapi_crons.locking.records import MAX_AHEAD, MAX_MARK_AHEAD
from fastapi_crons.parts import Parts
from fastapi_crons.run import RunIds, Trigger
from fastapi_crons.ticks import NOTHING, Row, Step, newest_ticks, old_row
from fastapi_crons.timeline import Entry, Timeline
from fastapi_crons.turns import Due, Turns

logger = logging.getLogger(__name__)

#: A tick that was noticed later than this (seconds) goes through the lane of late ticks.
LATE_AFTER = 5.0
#: How many ticks are claimed at a time.
MAX_CLAIMS = 1_000
#: For how long (seconds) steps are decided, and how many runs are started, in one go: the event loop is never held long.
MAX_DECIDING = 0.01
MAX_STARTS = 250
#: How long (seconds) a job waits that is to be tried again: another instance runs it, or the store's clock is behind.
RETRY_AFTER = 0.5
#: For how long (seconds) it is taken for granted that the store's clock is behind ours.
_BEHIND_LASTS = 60.0
#: How often it is tried to run a tick again whose lease was given up here, while another run is in the way.
_RERUN_TRIES = 20


class Dispatcher:
    """Decides, claims and starts, for one scheduler."""

    def __init__(
        self, parts: Parts, on_registered: Callable[[list[CronJob]], None], on_early: Callable[[], None]
    ) -> None:
        self._on_early = on_early
        self._config, self._clock, self._owner = parts.config, parts.clock, parts.instance.owner
        self._locks, self._recorder, self._runner = parts.locks, parts.recorder, parts.runner
        self._run_ids = RunIds(self._clock.now)
        self._timeline = Timeline()
        self.jobs = EnrolledJobs(parts, self._timeline, self._run_ids, self._placed, on_registered)
        # Jobs that are due: those that are running here, which are refused their tick and need no room; and the others
        # by whether they are late and whether they run on the loop. Ordinary ticks go first, and none waits for a thread
        # that it does not need.
        self._running: deque[Entry] = deque()
        self._lanes: dict[tuple[bool, bool], deque[Entry]] = {
            (late, on_loop): deque() for late in (False, True) for on_loop in (True, False)
        }
        #: Jobs whose jitter holds a tick back, by when it becomes due.
        self._held_back: list[tuple[float, int, Entry]] = []
        self._turns = Turns()
        #: Whether it is being looked what others have left.
        self._looking = False
        self._sequence = count()
        #: Runs that were cut off and are to run again, by the run that was cut off.
        self._again: dict[str, Wanted] = {}
        #: The ids under which the last batch was claimed, and when (Unix seconds by our clock).
        self.claiming: set[str] = set()
        self._claimed_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        #: Whether somebody is due and waits for room; or to be decided about, for which there was no time.
        self._crowded = False
        self._undecided = False
        self._wake = asyncio.Event()
        self._waiting = False
        self._stopping = False
        #: By how much (seconds) our clock is ahead of the store's, and until when (monotonic) that is taken for granted.
        self._behind = self._behind_until = 0.0
        self._latest = self._clock.now()
        self._latest_turn = self._clock.monotonic()
        self.delays = Delays()
        parts.locks.on_outage = self.delays.note

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do before the next tick."""
        return self._waiting and not self._wake.is_set()

    def new_run_id(self) -> str:
        return self._run_ids()

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

    def stop(self) -> None:
        """Claim nothing more. What was claimed already is started, so that it gets its record."""
        self._stopping = True
        self.jobs.stop()
        self.wake()

    def share(self, peers: list[str]) -> None:
        """Share the ticks with these instances, which are sorted and have the same jobs; this one is among them."""
        self._turns.share(self._owner, peers)

    def released(self, run: ActiveRun) -> None:
        """A run has ended: what waited for it goes on."""
        entry = run.entry
        over = not entry.running if entry.waits_for is None else entry.waits_for == run.id
        if entry.waiting and over:
            if entry.waits_for is None:
                entry.busy_until = int(self._now())
            ended = run.outcome.ended_ts if run.outcome is not None else None
            entry.delay = Delay(run.started_ts, ended or self._clock.now(), f"run {run.id} of the job went on")
            # A row of late ticks goes on to where it was to end; what falls due meanwhile is not late.
            entry.late = entry.late or run.trigger == "catch_up"
            self._goes_on(entry, late=entry.late)
        elif self._crowded:
            self._wake.set()

    async def run_forever(self) -> None:
        """The scheduler's dispatch task."""
        while not self._stopping:
            self._wake.clear()
            await self.jobs.enrol_new()
            self._watch_clock(self._clock.now())
            now = self._now()
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

    def run_again(self, entry: Entry, lease: Lease, tries: int = 0) -> None:
        """Run the tick of a run that was cut off; that was refused `tries` times before."""
        self._again.setdefault(lease.run_id, rerun_of(entry, lease, self._run_ids(), tries))
        self.wake()

    def row(self, entry: Entry, lease: Lease, until: int) -> Row | None:
        """The ticks that a lease answers for, up to `until`, by the schedule that they are ticks of."""
        if (lease.schedule, lease.timezone) == (entry.job.schedule.text, entry.job.schedule_zone):
            return entry.group.row(lease.after, until)
        return old_row(lease.schedule, lease.timezone, lease.after, until)

    def waiting_for_threads(self) -> int:
        """How many jobs are due and wait for a thread."""
        return sum(len(lane) for (_, on_loop), lane in self._lanes.items() if not on_loop)

    def resumed(self, job: str, mark: int) -> None:
        """A job was paused, and goes on with its ticks after `mark`."""
        entry = self.jobs.get(job)
        if entry is not None:
            entry.mark = max(entry.mark, mark)
            if entry.job.enabled:
                entry.delay = Delay(entry.mark, self._clock.now(), PAUSED)
                self._try_again(entry, late=True)

    def silent_for(self) -> float:
        """For how long (seconds) nobody has looked whether a tick is due."""
        return self._clock.monotonic() - self._latest_turn

    def _placed(self, entry: Entry) -> None:
        """A job was registered: what it had due before that is late."""
        try:
            due = entry.job.jitter or entry.step(self._now()) is not NOTHING
        except Exception as error:  # a schedule of somebody else's
            logger.error("the schedule of job %r failed: %r", entry.job.name, error, extra={"job": entry.job.name})
            return
        if due:
            self._queue(entry, late=True)

    def _watch_clock(self, now: float) -> None:
        """A clock that was set back leaves ticks ahead of it that were handled already, and a timeline that is too late."""
        turn = self._clock.monotonic()
        expected = self._latest + turn - self._latest_turn
        if now < expected - 1:
            self._behind = 0.0
            logger.warning(
                "the clock was set back by %.0f s; nothing runs a second time, so jobs go on when it has passed %s",
                expected - now,
                utc_datetime(self._latest).isoformat(timespec="seconds"),
            )
            self._timeline.clock_set_back(now)
            # What becomes due when is to be found out anew.
            for _, _, entry in self._held_back:
                entry.wakes_at = None
                self._queue(entry, late=False)
            self._held_back.clear()
            for entry, _ in self._turns.over(inf):
                self._queue(entry, late=False)
            for entry in self.jobs.all():
                if entry.mark > now + MAX_MARK_AHEAD:
                    # The store has the last word: it puts the mark back where its own clock agrees.
                    entry.mark = int(now)
        else:
            self.delays.clock_went_on(expected, now)
        self._latest, self._latest_turn = now, turn

    def _notice(self, now: float) -> None:
        """Queue the jobs that have become due."""
        others: list[Due] = []
        for tick, group in self._timeline.pop_due(now):
            for entry in group.entries:
                if entry.queued or entry.waiting:
                    continue
                if self._turns.is_ours(entry, tick, now):
                    self._queue(entry, late=now - tick > LATE_AFTER + entry.job.jitter)
                else:
                    others.append((entry, tick))
        self._turns.leave(others, now)
        while self._held_back and self._held_back[0][0] <= now:
            due, _, entry = heapq.heappop(self._held_back)
            entry.wakes_at = None
            if not entry.waiting and self.jobs.get(entry.job.name) is entry:
                self._queue(entry, late=now - due > LATE_AFTER)

    def _look_after_others(self, now: float) -> None:
        """See whether the ticks were taken whose turn is over. One look at a time, however long the store takes."""
        over = self._turns.next_over
        if over is not None and over <= now and not self._looking:
            self._looking = True
            self._runner.in_background(self._take_what_others_left(self._turns.over(now)))

    async def _take_what_others_left(self, ticks: list[Due]) -> None:
        """Take the ticks that the instance whose turn it was has not taken: it is busy, has just died, or just left."""
        try:
            for start in range(0, len(ticks), MAX_CLAIMS):
                part = ticks[start : start + MAX_CLAIMS]
                marks = await self._locks.marks([entry.job.name for entry, _ in part])
                for (entry, tick), mark in zip(part, marks, strict=True):
                    if mark is not None:
                        entry.mark = max(entry.mark, mark)
                    left = mark is None or mark < tick
                    if left and not (entry.queued or entry.waiting) and self.jobs.get(entry.job.name) is entry:
                        entry.delay = Delay(tick, self._clock.now(), NOT_TAKEN)
                        self._queue(entry, late=False)
                await asyncio.sleep(0)
        finally:
            self._looking = False
            self._wake.set()

    def _queue(self, entry: Entry, *, late: bool) -> None:
        if late and not entry.late:
            entry.late_until = int(self._now())
        ends = entry.running and entry.running == entry.releasing and entry.job.overlap != "allow"
        if ends and not self._recorder.slow:
            # The store is behind: asked now, it would say that the job still runs.
            entry.waiting, entry.late = True, entry.late or late
        elif not entry.queued:
            entry.queued, entry.late = True, entry.late or late
            if entry.running and entry.job.overlap != "allow":
                self._running.append(entry)
            else:
                self._lanes[late, entry.is_async].append(entry)

    def _decide(self, now: float) -> list[Wanted]:
        """What is to be claimed now, as far as there is room to run it."""
        room = min(MAX_CLAIMS, self._config.max_concurrent_runs - len(self._runner.active))
        threads = self._config.max_threads - self._runner.in_threads
        catch_up = self._config.catch_up_concurrency - self._runner.catching_up
        wanted: list[Wanted] = []
        until = perf_counter() + MAX_DECIDING
        for run_id, again in list(self._again.items()):
            if room <= len(wanted):
                break
            if catch_up > 0 and (again.entry.is_async or threads > 0):
                threads -= not again.entry.is_async
                catch_up -= 1
                wanted.append(self._again.pop(run_id))
        needing_room = len(wanted)
        while self._running and len(wanted) < MAX_CLAIMS and perf_counter() < until:
            self._want(self._running.popleft(), now, wanted)
        room += len(wanted) - needing_room
        for (late, on_loop), lane in self._lanes.items():
            while lane and len(wanted) < room and perf_counter() < until:
                if (late and catch_up <= 0) or (not on_loop and threads <= 0):
                    break
                threads -= not on_loop
                catch_up -= late
                self._want(lane.popleft(), now, wanted)
        self._crowded = bool(self._again or self._running) or any(self._lanes.values())
        self._undecided = self._crowded and perf_counter() >= until
        self.delays.waits_for_room(now, somebody=self._crowded)
        return wanted

    def _delay_since(self, entry: Entry, tick: int) -> str | None:
        """What kept a tick of a job from being claimed before; None where nothing is known."""
        return self.delays.explain(tick, self._clock.now(), entry.delay)

    def _want(self, entry: Entry, now: float, wanted: list[Wanted]) -> None:
        entry.queued = False
        if entry.waiting:
            return
        try:
            steps = self._steps(entry, now)
            due = entry.due_later(now) if entry.job.jitter else None
        except Exception as error:  # a schedule of somebody else's
            logger.error("the schedule of job %r failed: %r", entry.job.name, error, extra={"job": entry.job.name})
            return
        for step in steps:
            wanted.extend(claims_of(entry, step, self._run_ids))
        entry.late = False
        if due is not None and due != entry.wakes_at:
            entry.wakes_at = due
            heapq.heappush(self._held_back, (due, next(self._sequence), entry))

    def _steps(self, entry: Entry, now: float) -> list[Step]:
        """What is to be claimed next, in order.

        Ticks that were late waited for a run to end, where one went on; what fell due meanwhile overlapped with it.
        """
        if entry.late and entry.job.overlap == "skip":
            late, since = entry.late_step(now), max(entry.mark, entry.late_until)
            overlapped = (
                [] if late.more else newest_ticks(entry.group.source, since, min(int(now), entry.busy_until), 1)
            )
            steps = [late, *(Step(None, ((tick, "overlap"),)) for tick in overlapped)]
        else:
            steps = [entry.step(now)]
        steps = [step for step in steps if step is not NOTHING]
        return steps or [step for step in (entry.step(now),) if step is not NOTHING]

    async def _claim_and_start(self, wanted: list[Wanted]) -> None:
        self.claiming = {want.request.run_id for want in wanted}
        self._claimed_at = self._clock.now()
        results = await self._locks.claim([want.request for want in wanted])
        self.delays.store_answered(self._claimed_at, self._clock.now())
        now, held_since = self._now(), perf_counter()
        unknown = []
        for number, (want, result) in enumerate(zip(wanted, results, strict=True), start=1):
            if result.outcome == "unknown":
                unknown.append(want)
            else:
                self._answered(want, result, now)
            # Long rows of ticks may have been counted.
            if number % MAX_STARTS == 0 or perf_counter() - held_since > MAX_DECIDING:
                await asyncio.sleep(0)
                held_since = perf_counter()
        if unknown:
            await self._enrol_again(unknown)

    def _answered(self, want: Wanted, result: ClaimResult, now: float) -> None:
        job = want.entry.job.name
        if result.put_back_from:
            warn_put_back(job, result.put_back_from)
        try:
            if result.outcome == "granted":
                self._granted(want, result, now)
            else:
                self._refused(want, result)
        except Exception as error:  # a schedule of somebody else's
            logger.error("the claim of job %r came to nothing: %r", job, error, extra={"job": job})
            if result.token and want.request.run_id not in self._runner.active:
                self._recorder.release(LeaseRef(job, want.request.run_id, result.token))

    def _granted(self, want: Wanted, result: ClaimResult, now: float) -> None:
        entry, request = want.entry, want.request
        entry.in_force = True
        tick, job, lease = request.tick, entry.job, LeaseRef(entry.job.name, request.run_id, result.token)
        assert tick is not None
        known_mark, entry.mark = entry.mark, max(tick, entry.mark)
        if request.let_go is not None:
            row = entry.group.row(result.mark, tick)
            if row is not None:
                why = self._delay_since(entry, row.first) if request.let_go == "misfire_grace_time" else None
                self._runner.let_go(job, row, request.let_go, why, record_id=request.run_id)
            self._recorder.release(lease)
            if want.more:
                self._queue_what_is_left(entry, now, late=want.late)
            return
        grace = entry.policy.grace
        if grace is not None and now - tick > grace:
            # The store took so long to answer that the tick is too late by now.
            row = entry.group.row(result.mark, tick) or Row(tick, tick, 1)
            why = self._delay_since(entry, row.first)
            self._runner.let_go(job, row, "misfire_grace_time", why, record_id=request.run_id)
            # Until the lease is given back, the store takes the job for running.
            entry.waiting = True
            self._recorder.release(lease, lambda: self._goes_on(entry, late=want.late))
            return
        trigger: Trigger = "catch_up" if want.late else "schedule"
        run = ActiveRun(entry, request.run_id, tick, trigger, result.token, request.attempt)
        run.after = result.mark
        if want.cut_off is not None:
            run.missed = self.row(entry, want.cut_off, tick - 1)
        elif not want.alone or result.mark < known_mark:
            run.missed = entry.group.row(result.mark, tick - 1)
        if want.cut_off is None and (want.late or run.missed is not None or now - tick > LATE_AFTER + job.jitter):
            run.delay = self._delay_since(entry, tick if run.missed is None else run.missed.first)
        if want.more and job.overlap != "allow":
            entry.waiting, entry.waits_for = True, run.id
        self._runner.start(run)
        if want.more and job.overlap == "allow":
            self._queue(entry, late=want.late)

    def _queue_what_is_left(self, entry: Entry, now: float, *, late: bool) -> None:
        if not entry.waiting and entry.step(now) is not NOTHING:
            self._queue(entry, late=late)

    def _refused(self, want: Wanted, result: ClaimResult) -> None:
        entry, tick = want.entry, want.request.tick
        assert tick is not None
        if want.cut_off is not None:
            if result.outcome == "busy" and want.cut_off.instance == self._owner:
                self._own_rerun_refused(want, want.cut_off)
            return  # another instance was first to take it over, or the next heartbeat tries again
        if result.outcome == "stale":
            entry.mark = result.mark
            self._queue_what_is_left(entry, self._now(), late=want.late)
        elif result.outcome == "not_in_force":
            self.jobs.refused(entry, orphaned=result.orphaned)
        elif result.outcome == "busy" and result.skipped:
            entry.mark = max(entry.mark, tick)
            self._skipped(entry, want, result)
        elif result.outcome == "busy" and entry.running:
            entry.waiting, entry.late = True, entry.late or want.late
        elif result.outcome == "paused":  # it asks again when its next tick is due
            last = entry.delay
            since = last.since if last is not None and last.why == PAUSED else tick
            entry.delay = Delay(since, self._clock.now(), PAUSED)
        else:
            if result.outcome == "early":
                self._early(result.mark, tick)
            elif result.holder:
                entry.delay = Delay(tick, self._clock.now(), f"run {result.holder} of the job went on elsewhere")
            self._clock.call_later(RETRY_AFTER, lambda: self._try_again(entry, late=want.late))

    def _own_rerun_refused(self, want: Wanted, cut_off: Lease) -> None:
        """The lease that this instance had given up can't be had again yet. It must not hold the job for long."""
        if want.tries < _RERUN_TRIES:
            self._clock.call_later(RETRY_AFTER, lambda: self.run_again(want.entry, cut_off, want.tries + 1))
        else:
            self._recorder.release(ref_of(cut_off))

    def _early(self, store_now: int, tick: int) -> None:
        """The store's clock is behind ours, or it has lost its records: either way it has the last word."""
        why = "the lock store had lost its records, and waited for what all instances know of them"
        # From before the request was sent: the answer may have taken long. What the store allows for is nearly used up.
        behind = self._claimed_at - store_now - 0.9 * MAX_AHEAD
        if behind > MAX_AHEAD / 2:
            self._behind, self._behind_until = behind, self._clock.monotonic() + _BEHIND_LASTS
            why = "the lock store's clock was behind that of this instance"
        self._on_early()
        self.delays.note(tick, self._clock.now(), why)

    def _now(self) -> float:
        """Now (Unix seconds); not further ahead of the store's clock than it allows."""
        if self._behind and self._clock.monotonic() >= self._behind_until:
            self._behind = 0.0
        return self._clock.now() - self._behind

    def _skipped(self, entry: Entry, want: Wanted, result: ClaimResult) -> None:
        """Write down ticks that were skipped: one record for all that one run is in the way of."""
        request, tick = want.request, want.request.tick
        assert tick is not None
        row = entry.group.row(result.mark, tick)
        if row is not None:
            detail = f"run {result.holder} held the job" if result.holder else None
            why = self._delay_since(entry, row.first)
            if why is not None:
                detail = why if detail is None else f"{detail}; {why}"
            before = None
            if entry.skipped is not None and entry.skipped[0] == result.holder:
                # What became of the ticks in between, as in a pause, is told by records of their own.
                before = entry.skipped[1] if entry.skipped[1].last_ts == result.mark else None
            ticks = self._runner.let_go(entry.job, row, "overlap", detail, record_id=request.run_id, before=before)
            entry.skipped = (result.holder, ticks)
        self._recorder.release(LeaseRef(entry.job.name, request.run_id, result.token))

    def _goes_on(self, entry: Entry, *, late: bool) -> None:
        """What an entry waited for is over."""
        entry.waiting, entry.waits_for = False, None
        self._queue(entry, late=late)
        self._wake.set()

    def _try_again(self, entry: Entry, *, late: bool) -> None:
        if not entry.waiting:
            self._queue(entry, late=late)
        self._wake.set()

    async def _enrol_again(self, unknown: list[Wanted]) -> None:
        await self.jobs.enrol_all_again()
        for want in unknown:
            if want.cut_off is None:
                self._queue(want.entry, late=want.late)
        self._wake.set()

    async def _sleep(self, now: float) -> None:
        """Sleep until the next tick or until woken, but never for long."""
        delay = self._clock.max_sleep
        waiting_for = (
            self._timeline.next_tick,
            self._held_back[0][0] if self._held_back else None,
            None if self._looking else self._turns.next_over,
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
