"""Answers: what is done about each answer of the lock store to a claim."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi_crons._util.text import one_line
from fastapi_crons.engine.dispatch.claims import Wanted, ref_of, rerun_of
from fastapi_crons.engine.dispatch.lateness import PAUSED, Delay, Delays
from fastapi_crons.engine.dispatch.queue import Lanes
from fastapi_crons.engine.dispatch.registration import EnrolledJobs, warn_put_back
from fastapi_crons.engine.dispatch.store_clock import ClaimClock
from fastapi_crons.engine.dispatch.timeline import Entry, Skipped
from fastapi_crons.engine.parts import Parts
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.locking.base import ClaimResult, Lease, LeaseRef
from fastapi_crons.run import RunIds, Trigger
from fastapi_crons.schedule.due import NOTHING, Row

logger = logging.getLogger(__name__)

#: A tick that was noticed later than this (seconds) goes through the lane of late ticks.
LATE_AFTER = 5.0
#: How long (seconds) a job waits that is to be tried again: another instance runs it, or the store's clock is behind.
RETRY_AFTER = 0.5
#: How often it is tried to run a tick again whose lease was given up here, while another run is in the way.
_RERUN_TRIES = 20


class Answers:
    """Starts the runs that were granted, writes down the ticks that were let go, and has the others tried again."""

    def __init__(
        self,
        parts: Parts,
        clock: ClaimClock,
        jobs: EnrolledJobs,
        lanes: Lanes,
        delays: Delays,
        run_ids: RunIds,
        start_run: Callable[[Entry, ActiveRun], None],
        on_early: Callable[[], None],
        wake: Callable[[], None],
    ) -> None:
        self._clock, self._owner = parts.clock, parts.instance.owner
        self._recorder, self._journal, self._runner = parts.recorder, parts.journal, parts.runner
        self._claim_clock = clock
        self._jobs = jobs
        self._lanes = lanes
        self._delays = delays
        self._run_ids = run_ids
        self._start_run = start_run
        self._on_early = on_early
        self._wake = wake

    def take(self, want: Wanted, result: ClaimResult, now: float) -> None:
        """Do what follows from an answer, `unknown` aside."""
        job = want.entry.job.name
        if result.reset_from:
            warn_put_back(job, result.reset_from)
        try:
            if result.outcome == "granted":
                self._granted(want, result, now)
            elif want.cut_off is not None:
                self._rerun_refused(want, want.cut_off, result)
            else:
                self._refused(want, result)
        except Exception as error:  # a schedule of somebody else's
            logger.error("job %r could not be claimed: %s", job, one_line(error), extra={"job": job})
            if result.token and want.request.run_id not in self._runner.active:
                self._recorder.release(_lease(want, result))

    def run_again(self, entry: Entry, lease: Lease, tries: int = 0) -> None:
        """Run the tick of a run that was cut off; that was refused `tries` times before."""
        self._lanes.put_again(lease.run_id, rerun_of(entry, lease, self._run_ids(), tries))
        self._wake()

    def goes_on(self, entry: Entry, *, late: bool) -> None:
        """What a job waited for is over."""
        entry.waiting, entry.waits_for = False, None
        self.try_again(entry, late=late)

    def try_again(self, entry: Entry, *, late: bool) -> None:
        """Have it looked again what a job has due, unless it waits."""
        if not entry.waiting:
            self._lanes.put(entry, late=late)
        self._wake()

    def end_skips(self, entry: Entry) -> None:
        """The run that ticks of a job were skipped for has ended: log how many they were."""
        skipped = entry.skipped
        if skipped is not None and skipped.untold:
            entry.skipped = skipped._replace(untold=0)
            self._journal.log_skipped(skipped.record, skipped.untold)

    def _granted(self, want: Wanted, result: ClaimResult, now: float) -> None:
        entry, tick = want.entry, want.request.tick
        assert tick is not None
        entry.in_force = True
        known_mark, entry.mark = entry.mark, max(tick, entry.mark)
        grace = entry.policy.grace
        if want.request.missed is not None:
            self._let_go(want, result)
            if want.more:
                self._queue_what_is_left(entry, now, late=want.late)
        elif grace is not None and now - tick > grace:
            self._took_too_long(want, result, tick)
        else:
            alone = want.alone and result.last_handled >= known_mark
            self._start(want, result, now, tick, alone=alone)

    def _start(self, want: Wanted, result: ClaimResult, now: float, tick: int, *, alone: bool) -> None:
        """Start the run of a tick; `alone` where it stands for no other."""
        entry, job = want.entry, want.entry.job
        self.end_skips(entry)
        trigger: Trigger = "catch_up" if want.late else "schedule"
        run = ActiveRun(job, want.request.run_id, tick, trigger, attempt=want.request.attempt)
        run.granted(result)
        if want.cut_off is not None:
            run.missed = entry.row(want.cut_off, tick - 1)
        else:
            if not alone:
                run.missed = entry.group.row(result.last_handled, tick - 1)
            if want.late or run.missed is not None or now - tick > LATE_AFTER + job.jitter:
                run.delay = self._delay_since(entry, tick if run.missed is None else run.missed.first)
        if want.more and job.overlap != "allow":
            entry.waiting, entry.waits_for = True, run.id
        self._start_run(entry, run)
        if want.more and job.overlap == "allow":
            self._lanes.put(entry, late=want.late)

    def _let_go(self, want: Wanted, result: ClaimResult) -> None:
        """Write down ticks that are not to be run."""
        entry, request = want.entry, want.request
        assert request.tick is not None
        assert request.missed is not None
        row = entry.group.row(result.last_handled, request.tick)
        if row is not None:
            why = self._delay_since(entry, row.first) if request.missed == "misfire_grace_time" else None
            self._journal.record_missed(entry.job, row, request.missed, why, record_id=request.run_id)
        self._recorder.release(_lease(want, result))

    def _took_too_long(self, want: Wanted, result: ClaimResult, tick: int) -> None:
        """The store took so long to answer that the tick is too late by now."""
        entry = want.entry
        row = entry.group.row(result.last_handled, tick) or Row(tick, tick, 1)
        why = self._delay_since(entry, row.first)
        self._journal.record_missed(entry.job, row, "misfire_grace_time", why, record_id=want.request.run_id)
        # Until the lease is given back, the store takes the job for running.
        entry.waiting = True
        self._recorder.release(_lease(want, result), lambda: self.goes_on(entry, late=want.late))

    def _queue_what_is_left(self, entry: Entry, now: float, *, late: bool) -> None:
        if not entry.waiting and entry.step(now) is not NOTHING:
            self._lanes.put(entry, late=late)

    def _refused(self, want: Wanted, result: ClaimResult) -> None:
        entry, tick = want.entry, want.request.tick
        assert tick is not None
        # One that waited for the store is not skipped for a run that is in its way: see `DistributedLockManager.claim`.
        late = want.late or (result.outcome == "busy" and not result.skipped and want.request.overlap == "skip")
        if result.outcome == "stale":
            entry.mark = result.last_handled
            self._queue_what_is_left(entry, self._claim_clock.now(), late=want.late)
        elif result.outcome == "not_in_force":
            self._jobs.refused(entry, orphaned=result.orphaned)
        elif result.outcome == "busy" and result.skipped:
            entry.mark = max(entry.mark, tick)
            self._skipped(entry, want, result)
        elif result.outcome == "busy" and entry.runs:
            entry.waiting, entry.late = True, entry.late or late
        elif result.outcome == "paused":  # it asks again when its next tick is due
            last = entry.delay
            since = last.since if last is not None and last.why == PAUSED else tick
            entry.delay = Delay(since, self._clock.now(), PAUSED)
        else:
            if result.outcome == "early":
                self._early(result.last_handled, tick)
            elif result.holder:
                entry.delay = Delay(tick, self._clock.now(), f"run {result.holder} of the job went on elsewhere")
            self._retry(entry, late=late)

    def _retry(self, entry: Entry, *, late: bool) -> None:
        """Try a job again in a moment: once, however many of its ticks are refused until then."""

        def again() -> None:
            entry.retrying = False
            self.try_again(entry, late=late)

        if not entry.retrying:
            entry.retrying = True
            self._clock.call_later(RETRY_AFTER, again)

    def _rerun_refused(self, want: Wanted, cut_off: Lease, result: ClaimResult) -> None:
        if result.outcome != "busy" or cut_off.instance != self._owner:
            return  # another instance was first to take it over, or the next heartbeat tries again
        # The lease that this instance had given up can't be had again yet. It must not hold the job for long.
        if want.tries < _RERUN_TRIES:
            self._clock.call_later(RETRY_AFTER, lambda: self.run_again(want.entry, cut_off, want.tries + 1))
        else:
            self._recorder.release(ref_of(cut_off))

    def _early(self, store_now: int, tick: int) -> None:
        """The store's clock is behind ours, or it has lost its records: either way it has the last word."""
        if self._claim_clock.refused_as_early(store_now):
            why = "the lock store's clock was behind that of this instance"
        else:
            why = "the lock store had lost its records, and waited for what all instances know of them"
        self._on_early()
        self._delays.note(tick, self._clock.now(), why)

    def _skipped(self, entry: Entry, want: Wanted, result: ClaimResult) -> None:
        """Write down ticks that were skipped: one record for all that one run is in the way of."""
        request = want.request
        assert request.tick is not None
        row = entry.group.row(result.last_handled, request.tick)
        if row is not None:
            detail = f"run {result.holder} held the job" if result.holder else None
            why = self._delay_since(entry, row.first)
            if why is not None:
                detail = why if detail is None else f"{detail}; {why}"
            before, skipped = None, entry.skipped
            if skipped is not None and skipped.holder == result.holder:
                # What became of the ticks in between, as in a pause, is told by records of their own.
                before = skipped.record if skipped.record.last_ts == result.last_handled else None
            else:
                self.end_skips(entry)
                skipped = None
            ticks = self._journal.record_missed(
                entry.job, row, "overlap", detail, record_id=request.run_id, before=before, log=skipped is None
            )
            entry.skipped = Skipped(result.holder, ticks, 0 if skipped is None else skipped.untold + row.number)
        self._recorder.release(_lease(want, result))

    def _delay_since(self, entry: Entry, tick: int) -> str | None:
        """What kept a tick of a job from being claimed before; None where nothing is known."""
        return self._delays.explain(tick, self._clock.now(), entry.delay)


def _lease(want: Wanted, result: ClaimResult) -> LeaseRef:
    """The lease that an answer gave us."""
    return LeaseRef(want.entry.job.name, want.request.run_id, result.token)
