"""Recovery: sees to what processes that died have left unfinished."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from fastapi_crons.engine.dispatch.claims import interrupted, ref_of
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.dispatch.tracked import TrackedJob
from fastapi_crons.engine.parts import Parts
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import REACHES, Lease
from fastapi_crons.run import INTERRUPTED, Run, RunError
from fastapi_crons.schedule.due import TickRange
from fastapi_crons.state.client import answer_of

T = TypeVar("T")

_PROCESS_DIED = "its process died, or lost its lease"
#: Of a lease that this instance has without knowing of it.
_NEVER_BEGAN = "the answer to its claim never arrived"


class Recovery:
    """Closes records, writes down ticks, and has cut-off runs run again, for one scheduler."""

    def __init__(self, parts: Parts, dispatcher: Dispatcher, job_of: Callable[[str], CronJob | None]) -> None:
        self._config, self._clock, self._owner = parts.config, parts.clock, parts.instance.owner
        self._state, self._locks, self._leases = parts.state, parts.locks, parts.leases
        self._recorder, self._journal, self._runner = parts.recorder, parts.journal, parts.runner
        self._dispatcher = dispatcher
        self._job_of = job_of
        #: Runs whose records were closed here, and whose ticks are still to run again.
        self._closed: set[str] = set()
        #: Whether the history is shared by more than the lock store is; and the instances that share the lock store, or did.
        self._sees_further = REACHES.index(parts.state.reach) > REACHES.index(parts.locks.backend.reach)
        self.met: set[str] = set()

    async def take_over(self, dead: Iterable[Lease]) -> None:
        """See to the leases of dead holders: run a tick again, or only write down what became of it."""
        for lease in dead:
            tracked = self._dispatcher.jobs.get(lease.job)
            if tracked is None:
                await self._forget(lease)
            elif lease.missed is not None:
                await self._write_down(tracked, lease)
            else:
                await self._take_over_run(tracked, lease)

    async def take_over_own(self, run: ActiveRun) -> None:
        """A run of this instance that lost its lease has ended: run its tick again, unless another instance has."""
        lease = run.lease(self._owner, self._clock.now())
        self._closed.add(run.id)
        tracked = self._dispatcher.jobs.get(run.job.name)
        if tracked is not None and self._reruns(tracked, lease):
            self._dispatcher.results.rerun(tracked, lease)
        else:
            await self._locks.release([ref_of(lease)])

    async def close_orphans(self) -> None:
        """Close the records of runs that nobody holds a lease for: their process died between release and record."""
        unfinished = {run.id: run for run in await self._bounded(self._state.unfinished())}
        if not unfinished:
            return
        # While its state store is down, an instance gives leases back before it can say how the runs ended.
        living = [found.instance for found in await self._locks.instances()]
        alive = {other.id for other in living if other.owner != self._owner}
        if self._sees_further:
            # Other lock stores share this history: theirs are none of our business, whether they live or not.
            unfinished = {run_id: run for run_id, run in unfinished.items() if run.instance in self.met}
        leased = await self._locks.leased(unfinished.keys())
        error = RunError(INTERRUPTED, "its process died before it could say how the run ended")
        for run in unfinished.values():
            known = run.id in leased or run.id in self._runner.active or run.id in self._closed
            # The outcome of a run that ended here waits for the state store, or is on its way.
            if not known and run.instance not in alive and not self._leases.has_ended(run.id):
                closed = replace(run, status="interrupted", ended_ts=self._clock.now(), error=error)
                self._close(run.job, closed, "its process is gone")

    async def _take_over_run(self, tracked: TrackedJob, lease: Lease) -> None:
        if self._leases.has_ended(lease.run_id):
            # A store that went back to an older state has brought the lease back. Its outcome is on record, or will be.
            self._recorder.release(ref_of(lease))
            return
        known = await self._bounded(self._state.run(lease.run_id))
        closed = lease.run_id in self._closed or _was_cut_off(known)
        if known is not None and known.status != "running" and not closed:
            await self._locks.release([ref_of(lease)])
            return
        if not closed:
            # At once, also where the tick has to wait before it can run again.
            self._closed.add(lease.run_id)
            covered = None if lease.tick is None else tracked.covered_by(lease, lease.tick - 1)
            self._close_lease(known, lease, covered)
        if self._reruns(tracked, lease):
            self._dispatcher.results.rerun(tracked, lease)
        else:
            await self._locks.release([ref_of(lease)])
            self._closed.discard(lease.run_id)

    async def _write_down(self, tracked: TrackedJob, lease: Lease) -> None:
        """Write down ticks that were let go by a process which died before it could do so itself, or before it said so."""
        assert lease.tick is not None
        assert lease.missed is not None
        row = tracked.covered_by(lease, lease.tick)
        if row is not None and not any(
            ticks.reason == lease.missed and ticks.first_ts <= row.first and row.last <= ticks.last_ts
            for ticks in await self._bounded(self._state.missed(lease.job))
        ):
            self._journal.record_missed(tracked.job, row, lease.missed, record_id=lease.run_id)
        self._recorder.release(ref_of(lease))

    async def _forget(self, lease: Lease) -> None:
        """The lease of a job that is not known here: left to others who know it, for as long as it would have lasted."""
        if lease.expires >= self._clock.now():
            return
        # Read first: a state store that does not answer must not cost the lease that says what is to be closed.
        known = await self._bounded(self._state.run(lease.run_id)) if lease.missed is None else None
        ours = (await self._locks.release([ref_of(lease)]))[0]
        if ours and lease.missed is None and (known is None or known.status == "running"):
            self._close_lease(known, lease, None)

    def _close_lease(self, known: Run | None, lease: Lease, covered: TickRange | None) -> None:
        """Record that the run of a lease was cut off; `known` is what the state store has of it."""
        why = _NEVER_BEGAN if lease.instance == self._owner else _PROCESS_DIED
        run = interrupted(known, lease, covered, self._clock.now(), why)
        self._close(lease.job, run, why if lease.instance == self._owner else "its process is gone")

    def _close(self, name: str, run: Run, why: str) -> None:
        job = self._job_of(name)
        if job is None:
            self._recorder.ended(run)
        else:
            self._journal.close_run(job, run, why)

    async def _bounded(self, call: Awaitable[T]) -> T:
        return await answer_of(call, self._config.store_timeout)

    def _reruns(self, tracked: TrackedJob, lease: Lease) -> bool:
        grace = tracked.policy.grace
        return (
            self._config.rerun_interrupted
            and not lease.cancelled
            and lease.tick is not None
            and lease.attempt <= self._config.max_reruns
            and tracked.job.enabled
            and tracked.in_force
            and (grace is None or self._clock.now() - lease.tick <= grace)
        )


def _was_cut_off(run: Run | None) -> bool:
    """Whether this is the record of a run that was closed because its process died, as opposed to one that ended."""
    return (
        run is not None
        and run.status in ("interrupted", "cancelled")
        and (run.error is not None and run.error.type == INTERRUPTED)
    )
