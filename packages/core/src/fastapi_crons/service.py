"""What the management API and the command line ask for; they only translate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fastapi_crons.clock import utc_datetime
from fastapi_crons.errors import CronsError, UnknownJobError
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import LiveInstance
from fastapi_crons.run import MissedTicks, Run, RunStatus, Trigger
from fastapi_crons.scheduler import Crons
from fastapi_crons.state.base import JobState, StateBackend


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and what became of it last. Instants are aware, UTC."""

    job: CronJob
    status: RunStatus | None
    """None for a job that never ran."""
    last_run: datetime | None
    next_run: datetime | None
    instance: str | None


class Service:
    """Questions to one scheduler, and requests to it.

    Raises `UnknownJobError` for names that no job has, and `StoreError` where the state store does not answer.
    """

    def __init__(self, crons: Crons) -> None:
        self.crons = crons

    async def jobs(self, *, tag: str | None = None) -> list[JobView]:
        """All jobs, or those with a tag. One query, whatever their number."""
        jobs = self.crons.get_jobs(None if tag is None else [tag])
        states = await self._state().states()
        return [self._view(job, states.get(job.name)) for job in jobs]

    async def job(self, name: str) -> JobView:
        """One job."""
        job = self._job(name)
        return self._view(job, (await self._state().states([name])).get(name))

    async def runs(
        self, name: str, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        """A job's runs, newest first; those older than the run `before` where it is given."""
        self._job(name)
        return await self._state().runs(name, limit=limit, before=before, status=status)

    async def run(self, name: str, run_id: str) -> Run | None:
        """One run of a job, or None."""
        self._job(name)
        run = await self._state().run(run_id)
        return run if run is not None and run.job == name else None

    async def missed(self, name: str, *, limit: int = 50) -> list[MissedTicks]:
        """A job's records of ticks that were let go, newest first."""
        self._job(name)
        return await self._state().missed(name, limit=limit)

    async def run_job(
        self,
        name: str,
        *,
        force: bool,
        triggered_by: Trigger,
        timeout: float | None = None,
        wait: bool = True,
        actor: str | None = None,
        note: str | None = None,
    ) -> Run:
        """Run a job now; see `Crons.run_job`. A run that goes on is given back without `wait`, or when the scheduler stops."""
        run, engine = await self.crons._start_run(
            name, force=force, timeout=timeout, triggered_by=triggered_by, actor=actor, note=note
        )
        return await engine.steering.finished(run, or_stopping=True) if wait else run.snapshot()

    async def instances(self) -> list[LiveInstance]:
        """The instances that live and share this one's lock store, this one among them, by name. One query."""
        engine = self.crons.engine
        if engine is None:
            raise CronsError("the scheduler has not started: it shares nothing with others yet")
        own = engine.membership.as_seen()
        others = [found for found in await engine.locks.instances() if found.instance.owner != own.instance.owner]
        return sorted([own, *others], key=lambda found: (found.instance.id, found.instance.owner))

    def _job(self, name: str) -> CronJob:
        job = self.crons.get_job(name)
        if job is None:
            raise UnknownJobError(f"there is no job named {name!r}")
        return job

    def _state(self) -> StateBackend:
        engine = self.crons.engine
        if engine is None:
            raise CronsError("the scheduler has not started: nothing is known of any run yet")
        return engine.state

    def _view(self, job: CronJob, state: JobState | None) -> JobView:
        next_run = job.schedule.next_after(utc_datetime(self.crons.clock.now())) if job.enabled else None
        if state is None:
            return JobView(job, None, None, next_run, None)
        return JobView(job, state.status, utc_datetime(state.last_run_ts), next_run, state.instance)
