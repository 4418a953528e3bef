"""ClaimResults: what follows from each answer of the lock store to a claim."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fastapi_crons._util.text import one_line
from fastapi_crons.clock import Clock
from fastapi_crons.engine.dispatch.claims import Wanted, ref_of, rerun_of
from fastapi_crons.engine.dispatch.lateness import LATE_AFTER, PAUSED, Delay, Delays
from fastapi_crons.engine.dispatch.queue import JobQueue, Room
from fastapi_crons.engine.dispatch.registration import RegisteredJobs
from fastapi_crons.engine.dispatch.store_clock import StoreClock, warn_of_reset
from fastapi_crons.engine.dispatch.tracked import IDLE, RETRYING, TrackedJob
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.runner import Runs
from fastapi_crons.locking.base import ClaimResult, Lease, LeaseRef
from fastapi_crons.run import RunIds, Trigger
from fastapi_crons.schedule.due import NOTHING, TickRange

logger = logging.getLogger(__name__)

#: How long (seconds) a refused claim waits until it is made again.
RETRY_AFTER = 0.5
#: How often a rerun is tried of a run whose lease was lost here, while another run holds the job.
_RERUN_TRIES = 20


@dataclass(eq=False, repr=False)
class ClaimResults:
    """Starts the runs that were granted, records missed ticks, and has refused claims made again."""

    _clock: Clock
    _owner: str
    _runs: Runs
    _store_clock: StoreClock
    _jobs: RegisteredJobs
    _queue: JobQueue
    _delays: Delays
    _run_ids: RunIds
    _on_end: Callable[[ActiveRun], None]
    _on_early: Callable[[], None]
    _plan: Callable[[TrackedJob], None]
    _wake: Callable[[], None]

    def __post_init__(self) -> None:
        self._recorder, self._journal, self._runner = self._runs
        #: The jobs for which a timer runs until they are tried again.
        self._retries: set[TrackedJob] = set()

    def take(self, want: Wanted, result: ClaimResult, now: float) -> None:
        """Do what follows from an answer other than `unknown`."""
        tracked, job = want.tracked, want.tracked.job.name
        if result.reset_from:
            warn_of_reset(job, result.reset_from)
        try:
            if result.outcome == "granted":
                self._granted(want, result, now)
            elif want.interrupted is not None:
                self._rerun_refused(want, want.interrupted, result)
            else:
                self._refused(want, result)
        except Exception as error:  # raised by a schedule that is not ours
            logger.error("job %r could not be claimed: %s", job, one_line(error), extra={"job": job})
            if result.token and want.request.run_id not in self._runner.active:
                self._recorder.release(_lease(want, result))
        if want.interrupted is None and tracked.answered():
            self._queue.put(tracked, late=tracked.late)
        elif tracked.own_ticks is not None and tracked.phase is IDLE:
            self._plan(tracked)

    def superseded(self, wanted: Iterable[Wanted]) -> None:
        """Claims waited for the store, and jobs of theirs have changed meanwhile: decide anew what to claim."""
        for want in wanted:
            if want.interrupted is not None:
                self.rerun(want.tracked, want.interrupted, want.tries)
            elif want.tracked.claims_failed():
                self._queue.put(want.tracked, late=True)

    def rerun(self, tracked: TrackedJob, interrupted: Lease, tries: int = 0) -> None:
        """Rerun the tick of an interrupted run; `tries`: how often this was refused already."""
        self._queue.put_rerun(interrupted.run_id, rerun_of(tracked, interrupted, self._run_ids(), tries))
        self._wake()

    def take_reruns(self, room: Room) -> list[Wanted]:
        """Remove the reruns for which there is room from the queue. Those of jobs that were replaced are queued once more."""
        taken = []
        for want in self._queue.take_reruns(room):
            tracked, interrupted = self._jobs.get(want.tracked.job.name), want.interrupted
            if tracked is want.tracked or interrupted is None:
                taken.append(want)
            elif tracked is not None:
                self.rerun(tracked, interrupted)
            else:  # the job was removed
                self._recorder.release(ref_of(interrupted))
        return taken

    def look_again(self, tracked: TrackedJob, *, late: bool) -> None:
        """Look again what a job has due, and whether it can be claimed."""
        self._queue.put(tracked, late=late)
        self._wake()

    def log_skips(self, tracked: TrackedJob) -> None:
        """Log how many ticks of a job were skipped for a run that has ended: log how many they were."""
        skipped = tracked.skipped
        if skipped is not None and skipped.not_logged:
            tracked.all_skips_logged()
            self._journal.log_skipped(skipped.record, skipped.not_logged)

    def _granted(self, want: Wanted, result: ClaimResult, now: float) -> None:
        tracked, tick = want.tracked, want.request.tick
        assert tick is not None
        if not tracked.in_force:
            tracked.set_in_force(True)
        known_before = tracked.last_handled
        tracked.handled(tick)
        grace = tracked.policy.grace
        if want.request.missed is not None:
            self._record_missed(want, result)
            if want.more:
                self._queue_what_is_left(tracked, now, late=want.late)
        elif grace is not None and now - tick > grace:
            self._answered_too_late(want, result, tick)
        else:
            alone = want.alone and result.last_handled >= known_before
            self._start(want, result, now, tick, alone=alone)

    def _start(self, want: Wanted, result: ClaimResult, now: float, tick: int, *, alone: bool) -> None:
        """Start the run of a tick; `alone` where it covers no other tick."""
        tracked, job = want.tracked, want.tracked.job
        if tracked.skipped is not None:
            self.log_skips(tracked)
        trigger: Trigger = "catch_up" if want.late else "schedule"
        run = ActiveRun(job, want.request.run_id, tick, trigger, want.request.attempt)
        run.granted(result)
        if want.interrupted is not None:
            run.missed = tracked.covered_by(want.interrupted, tick - 1)
        else:
            if not alone:
                run.missed = tracked.ticks.range(result.last_handled, tick - 1)
                if run.missed is not None:
                    self._journal.record_coalesced(job.name, run.missed, run.id, tick)
            if want.late or run.missed is not None or now - tick > LATE_AFTER + job.jitter:
                run.delay = self._delay_since(tracked, tick if run.missed is None else run.missed.first)
        tracked.run_started(run, more_due=want.more)
        self._runner.start(run, self._on_end)

    def _record_missed(self, want: Wanted, result: ClaimResult) -> None:
        """Record ticks that are not to be run."""
        tracked, request = want.tracked, want.request
        assert request.tick is not None
        assert request.missed is not None
        ticks = tracked.ticks.range(result.last_handled, request.tick)
        if ticks is not None:
            why = self._delay_since(tracked, ticks.first) if request.missed == "misfire_grace_time" else None
            self._journal.record_missed(tracked.job, ticks, request.missed, why, record_id=request.run_id)
        self._recorder.release(_lease(want, result))

    def _answered_too_late(self, want: Wanted, result: ClaimResult, tick: int) -> None:
        """The tick's grace time has passed while the store took long to answer."""
        tracked = want.tracked
        ticks = tracked.ticks.range(result.last_handled, tick) or TickRange(tick, tick, 1)
        why = self._delay_since(tracked, ticks.first)
        self._journal.record_missed(tracked.job, ticks, "misfire_grace_time", why, record_id=want.request.run_id)
        tracked.wait_for_release()

        def released() -> None:
            if tracked.lease_released():
                self.look_again(tracked, late=want.late)

        self._recorder.release(_lease(want, result), released)

    def _queue_what_is_left(self, tracked: TrackedJob, now: float, *, late: bool) -> None:
        if not tracked.waiting and tracked.step(now) is not NOTHING:
            self._queue.put(tracked, late=late)

    def _refused(self, want: Wanted, result: ClaimResult) -> None:
        tracked, tick = want.tracked, want.request.tick
        assert tick is not None
        if result.outcome == "stale":
            tracked.reset_last_handled(result.last_handled)
            self._queue_what_is_left(tracked, self._store_clock.now(), late=want.late)
        elif result.outcome == "not_in_force":
            self._jobs.refused(tracked, orphaned=result.orphaned)
        elif result.outcome == "busy" and result.skipped:
            tracked.handled(tick)
            self._skipped(tracked, want, result)
        elif result.outcome == "paused":  # it asks again when its next tick is due
            last = tracked.delay
            since = last.since if last is not None and last.why == PAUSED else tick
            tracked.delayed(Delay(since, self._clock.now(), PAUSED))
        else:
            # A claim that waited for the store skips nothing, and is late: see `LockClient.claim`. So is one that meets a run
            # which runs a tick again.
            late = want.late or (result.outcome == "busy" and want.request.overlap == "skip")
            if result.outcome == "busy" and tracked.runs:
                if late:
                    tracked.noticed_late(int(self._store_clock.now()))
                tracked.wait_for_runs(late=late)
            elif result.outcome == "busy" and want.request.after is not None:
                pass  # its next tick is counted from the end of that run, which is yet to come: it is asked for after that
            else:
                self._retry(want, result, tick, late=late)

    def _retry(self, want: Wanted, result: ClaimResult, tick: int, *, late: bool) -> None:
        """Claim again in a moment: once for each job, however many of its claims are refused until then."""
        tracked = want.tracked
        if result.outcome == "early":
            self._early(result.last_handled, tick)
            late = False  # that was by our clock
        elif result.holder:
            tracked.delayed(Delay(tick, self._clock.now(), f"run {result.holder} of the job was running elsewhere"))

        def again() -> None:
            self._retries.discard(tracked)
            if tracked.phase is RETRYING:
                self.look_again(tracked, late=late)

        tracked.retry()
        if tracked not in self._retries:
            self._retries.add(tracked)
            self._clock.call_later(RETRY_AFTER, again)

    def _rerun_refused(self, want: Wanted, interrupted: Lease, result: ClaimResult) -> None:
        if result.outcome != "busy" or interrupted.instance != self._owner:
            return  # another instance was first to recover the run, or the next heartbeat tries again
        # The lease that this instance lost can't be had again yet. It must not hold the job for long.
        if want.tries < _RERUN_TRIES:
            self._clock.call_later(RETRY_AFTER, lambda: self.rerun(want.tracked, interrupted, want.tries + 1))
        else:
            self._recorder.release(ref_of(interrupted))

    def _early(self, store_now: int, tick: int) -> None:
        """The store's clock is behind ours, or the store has lost its records."""
        if self._store_clock.refused_as_early(store_now):
            why = "the lock store's clock was behind ours"
        else:
            why = "the lock store had lost its records"
        self._on_early()
        self._delays.note(tick, self._clock.now(), why)

    def _skipped(self, tracked: TrackedJob, want: Wanted, result: ClaimResult) -> None:
        """Record skipped ticks: in one record for all that were skipped for the same run."""
        request = want.request
        assert request.tick is not None
        ticks = tracked.ticks.range(result.last_handled, request.tick)
        if ticks is not None:
            detail = f"run {result.holder} held the job" if result.holder else None
            why = self._delay_since(tracked, ticks.first)
            if why is not None:
                detail = why if detail is None else f"{detail}; {why}"
            before, skipped = None, tracked.skipped
            if skipped is not None and skipped.holder == result.holder:
                # Ticks in between that were missed for another reason, as in a pause, have records of their own.
                before = skipped.record if skipped.record.last_ts == result.last_handled else None
            else:
                self.log_skips(tracked)
                skipped = None
            record = self._journal.record_missed(
                tracked.job, ticks, "overlap", detail, record_id=request.run_id, before=before, log=skipped is None
            )
            tracked.skip(result.holder, record, 0 if skipped is None else skipped.not_logged + ticks.number)
        self._recorder.release(_lease(want, result))

    def _delay_since(self, tracked: TrackedJob, tick: int) -> str | None:
        """What kept a tick of a job from being claimed earlier; None where nothing is known."""
        return self._delays.explain(tick, self._clock.now(), tracked.delay)


def _lease(want: Wanted, result: ClaimResult) -> LeaseRef:
    """The lease that an answer gave us."""
    return LeaseRef(want.tracked.job.name, want.request.run_id, result.token)
