"""Recovery: finishes what dead processes left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.dispatch.claims import interrupted, ref_of
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.dispatch.tracked import TrackedJob
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.runner import Runs
from fastapi_crons.errors import StoreError
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import REACHES, Lease
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.leases import LeaseBook
from fastapi_crons.run import INTERRUPTED, MissedReason, MissedTicks, Run, RunError
from fastapi_crons.schedule.due import TickRange
from fastapi_crons.state.base import StateBackend
from fastapi_crons.state.client import answer_of

T = TypeVar("T")

#: For how many leases the state store is read at a time.
MAX_BATCH = 500
_PROCESS_DIED = "its process died, or lost its lease"
#: Of a lease that was granted to this instance, which never learned of it.
_NEVER_BEGAN = "the answer to its claim never arrived"


@dataclass(eq=False, repr=False)
class Recovery:
    """Closes the records of interrupted runs, records missed ticks, and reruns ticks, for one scheduler."""

    _config: CronConfig
    _clock: Clock
    _owner: str
    _state: StateBackend
    _locks: LockClient
    _leases: LeaseBook
    _runs: Runs
    _dispatcher: Dispatcher
    _job_of: Callable[[str], CronJob | None]

    def __post_init__(self) -> None:
        self._recorder, self._journal, self._runner = self._runs
        #: Runs whose records were closed here, and whose ticks are to be rerun.
        self._closed: set[str] = set()
        self._batch = MAX_BATCH
        #: Whether the history is shared by more than the lock store is; and the instances that share the lock store, or did.
        self._sees_further = REACHES.index(self._state.reach) > REACHES.index(self._locks.backend.reach)
        self._met: set[str] = set()

    def meet(self, instances: Iterable[str]) -> None:
        """These instances share the lock store."""
        self._met.update(instances)

    async def recover(self, dead: Iterable[Lease]) -> None:
        """See to the leases of dead holders: close the records of their runs, record missed ticks, and rerun ticks."""
        await self._in_batches(list(dead), self._recover_batch)

    def recover_own(self, run: ActiveRun) -> None:
        """A run of this instance that lost its lease has ended: rerun its tick, unless another instance has."""
        self._closed.add(run.id)
        lease = run.lease(self._owner, self._clock.now())
        self._rerun_or_release(self._dispatcher.jobs.get(run.job.name), lease)

    async def close_again(self, leases: Sequence[Lease]) -> None:
        """Close the runs of ticks that were run again by instances that are gone, and release their leases."""
        runs = await self._answer(self._state.runs_by_id([lease.run_id for lease in leases]))
        await self._release_unknown(leases, runs)

    async def close_orphans(self) -> None:
        """Close the records of runs without a lease: their process died after the release, before it recorded the outcome."""
        unfinished = {run.id: run for run in await self._answer(self._state.unfinished())}
        if not unfinished:
            return
        # While the state store is down, an instance releases leases before it can record how the runs ended.
        living = [found.instance for found in await self._locks.instances()]
        alive = {other.id for other in living if other.owner != self._owner}
        if self._sees_further:
            # Instances with other lock stores share this history. Their runs are left alone.
            unfinished = {run_id: run for run_id, run in unfinished.items() if run.instance in self._met}
        leased = await self._locks.leased(unfinished.keys())
        orphans = [
            run.id
            for run in unfinished.values()
            if not (run.id in leased or run.id in self._runner.active or run.id in self._closed)
            # The outcome of a run that ended here waits to be recorded, or is being recorded.
            and not (run.instance in alive or self._leases.has_ended(run.id))
        ]
        runs: dict[str, Run] = {}

        async def read(run_ids: list[str]) -> None:
            runs.update(await self._answer(self._state.runs_by_id(run_ids)))

        await self._in_batches(orphans, read)  # with what they have logged, which stays on record
        error = RunError(INTERRUPTED, "its process died before it recorded how the run ended")
        for run in runs.values():
            if run.status == "running":
                closed = replace(run, status="interrupted", ended_ts=self._clock.now(), error=error)
                self._close(run.job, closed, "its process is gone")

    async def _in_batches(self, left: list[T], work: Callable[[list[T]], Awaitable[None]]) -> None:
        while left:
            batch = left[: self._batch]
            try:
                await work(batch)
            except StoreError:
                # It may be the batch that is too large for the deadline.
                self._batch = max(1, len(batch) // 2)
                raise
            self._batch = min(MAX_BATCH, 2 * self._batch)
            del left[: len(batch)]

    async def _recover_batch(self, leases: list[Lease]) -> None:
        now = self._clock.now()
        jobs = {lease.job: self._dispatcher.jobs.get(lease.job) for lease in leases}
        # While leases of jobs that are unknown here have not expired, they are left to instances that know these jobs.
        leases = [lease for lease in leases if jobs[lease.job] is not None or lease.expires < now]
        # Read first: a state store that does not answer must not cost the leases that say what is to be recovered.
        run_ids = [lease.run_id for lease in leases if lease.missed is None]
        runs = await self._answer(self._state.runs_by_id(run_ids)) if run_ids else {}
        missed = {lease.job for lease in leases if lease.missed is not None and jobs[lease.job]}
        recorded = await self._answer(self._state.missed_by_job(missed)) if missed else {}
        unknown: list[Lease] = []
        for lease in leases:
            tracked = jobs[lease.job]
            if tracked is None:
                unknown.append(lease)
            elif lease.missed is None:
                self._recover_run(tracked, lease, runs.get(lease.run_id))
            else:
                self._record_missed(tracked, lease, lease.missed, recorded.get(lease.job, ()))
        await self._release_unknown(unknown, runs)

    def _recover_run(self, tracked: TrackedJob, lease: Lease, known: Run | None) -> None:
        """Recover the run of a dead holder; `known` is its record in the state store."""
        closed = lease.run_id in self._closed or _was_cut_off(known)
        has_ended = known is not None and known.status != "running" and not closed
        # A store that went back to an older state brings back leases of runs that ended here.
        if has_ended or self._leases.has_ended(lease.run_id):
            self._recorder.release(ref_of(lease))
            return
        if not closed:
            # At once, although the rerun may have to wait.
            self._closed.add(lease.run_id)
            covered = None if lease.tick is None or lease.again else tracked.covered_by(lease, lease.tick - 1)
            if known is None and lease.tick is not None and covered is not None:
                # The process died before it recorded the run, and what that stands for, which is recorded before it.
                self._journal.record_coalesced(lease.job, covered, lease.run_id, lease.tick)
            self._close_lease(known, lease, covered)
        self._rerun_or_release(tracked, lease)

    def _rerun_or_release(self, tracked: TrackedJob | None, lease: Lease) -> None:
        if tracked is not None and self._reruns(tracked, lease):
            self._dispatcher.results.rerun(tracked, lease)
        else:
            self._closed.discard(lease.run_id)
            self._leases.ended(lease.run_id)
            self._recorder.release(ref_of(lease))

    def _record_missed(
        self, tracked: TrackedJob, lease: Lease, reason: MissedReason, recorded: Sequence[MissedTicks]
    ) -> None:
        """Record missed ticks for a process that died before it recorded them, or before it released their lease."""
        assert lease.tick is not None
        ticks = tracked.covered_by(lease, lease.tick)
        if ticks is not None and not any(
            known.reason == reason and known.first_ts <= ticks.first and ticks.last <= known.last_ts
            for known in recorded
        ):
            self._journal.record_missed(tracked.job, ticks, reason, record_id=lease.run_id)
        self._recorder.release(ref_of(lease))

    async def _release_unknown(self, leases: Sequence[Lease], runs: Mapping[str, Run]) -> None:
        """Release leases of which no tick is rerun here, and close the records of their runs."""
        released = await self._locks.release([ref_of(lease) for lease in leases]) if leases else []
        for lease, by_us in zip(leases, released, strict=True):
            run = runs.get(lease.run_id)
            if by_us and lease.missed is None and (run is None or run.status == "running"):
                self._close_lease(run, lease, None)

    def _close_lease(self, known: Run | None, lease: Lease, covered: TickRange | None) -> None:
        """Record that the run of a lease was interrupted; `known` is its record in the state store."""
        why = _NEVER_BEGAN if lease.instance == self._owner else _PROCESS_DIED
        run = interrupted(known, lease, covered, self._clock.now(), why)
        self._close(lease.job, run, why if lease.instance == self._owner else "its process is gone")

    def _close(self, name: str, run: Run, why: str) -> None:
        job = self._job_of(name)
        if job is None:
            self._recorder.ended(run)
        else:
            self._journal.close_run(job, run, why)

    async def _answer(self, call: Awaitable[T]) -> T:
        return await answer_of(call, self._config.store_timeout)

    def _reruns(self, tracked: TrackedJob, lease: Lease) -> bool:
        grace, own = tracked.policy.grace, tracked.own_ticks
        return (
            self._config.rerun_interrupted
            and not lease.cancelled
            and lease.tick is not None
            and not lease.again
            and lease.attempt <= self._config.max_reruns
            and tracked.job.enabled
            and tracked.in_force
            # A later start of the fleet stands for one whose run was cut off.
            and (own is None or lease.tick >= own.start)
            and (grace is None or self._clock.now() - lease.tick <= grace)
        )


def _was_cut_off(run: Run | None) -> bool:
    """Whether this record was closed by another process, because the run's own had died."""
    return (
        run is not None
        and run.status in ("interrupted", "cancelled")
        and (run.error is not None and run.error.type == INTERRUPTED)
    )
