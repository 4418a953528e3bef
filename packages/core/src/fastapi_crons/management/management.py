"""What the management API and the command line ask for; they only translate."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from fastapi_crons._util.text import cut
from fastapi_crons.clock import utc_datetime
from fastapi_crons.engine.events import Heard
from fastapi_crons.engine.health import Health
from fastapi_crons.errors import (
    CronsError,
    RunEndedError,
    UnknownRunError,
)
from fastapi_crons.job import CronJob, ManualRun
from fastapi_crons.locking.base import REACHES, LiveInstance, LockBackend, Pause, Reach
from fastapi_crons.management.explain import TickFate, TickRecords, explain, made_at
from fastapi_crons.run import SHORTEST_ID, MissedTicks, Run, RunStatus, Trigger
from fastapi_crons.schedule.cron import Schedule
from fastapi_crons.schedule.due import tick_source
from fastapi_crons.scheduler.crons import Crons
from fastapi_crons.state.base import JobState, Record
from fastapi_crons.state.client import answer_of

if TYPE_CHECKING:
    from fastapi_crons.engine.engine import Engine

T = TypeVar("T")

JobStatus = RunStatus | Literal["pending"]
#: What a listing can be restricted to.
JobFilter = JobStatus | Literal["paused"]

_NOBODY = "no instance lives that runs jobs"
_REACHES: dict[Reach, str] = {"fleet": "Distributed", "host": "This host", "process": "This process"}
#: How many runs are read at a time when the history is searched.
_PAGE = 500
#: How many pages of the history are looked through for a part of a run's id, and how many ids an error names.
_MAX_PAGES = 20
_SHOWN = 3
#: How long the id of a run is.
_WHOLE_ID = 36
#: A run's id may be older (seconds) than its tick: clocks differ, and are stepped.
_CLOCKS_DIFFER = 3_600


class JobView(NamedTuple):
    """A job and what became of it last. Instants are aware, UTC."""

    job: CronJob
    status: JobStatus
    """Of the latest run; `pending` for a job that never ran."""
    last_run: datetime | None
    next_run: datetime | None
    """The next tick that will be run; None for a job that is paused, disabled, or never due again."""
    instance: str | None
    """Where the latest run ran."""
    pause: Pause | None


@dataclass(frozen=True, slots=True)
class SchedulerView:
    """A scheduler, the instances that share its lock store, and its jobs in figures."""

    instance_id: str | None
    """None where no scheduler runs in this process."""
    health: Health
    """Of the scheduler in this process; where there is none, whether any lives."""
    version: str
    namespace: str
    timezone: str
    state_backend: str
    lock_backend: str
    locking: str
    """How far ticks are shared, in words."""
    instances: list[LiveInstance]
    statuses: dict[JobStatus, int]
    """How many jobs have which status."""
    jobs: int
    paused: int


class Service:
    """Questions to one scheduler that has started, in whatever role, and requests to it.

    Raises `UnknownJobError` and `UnknownRunError` for names and ids that nothing has, `StoreUnavailableError` where a store
    does not answer, and `CronsError` for a scheduler that has not started.
    """

    def __init__(self, crons: Crons) -> None:
        self.crons = crons

    async def jobs(self, *, tags: Collection[str] = (), statuses: Collection[JobFilter] = ()) -> list[JobView]:
        """All jobs, or those that have all of these tags and any of these statuses.

        One query to each store, whatever their number; an observer looks too whether what is on record as running still is.
        """
        engine = self._engine()
        jobs = self.crons.get_jobs(tags or None)
        states, pauses = await asyncio.gather(self._answer(engine.state.states()), self._answer(engine.locks.pauses()))
        if engine.role == "observer":
            states = await self._as_seen_from_outside(states)
        next_runs = self._next_runs(jobs)
        views = [_view(job, states.get(job.name), pauses.get(job.name), next_runs[job.schedule]) for job in jobs]
        if not statuses:
            return views
        return [view for view in views if view.status in statuses or (view.pause is not None and "paused" in statuses)]

    async def job(self, name: str) -> JobView:
        """One job."""
        job, engine = self.crons.jobs.named(name), self._engine()
        states, pauses = await asyncio.gather(
            self._answer(engine.state.states([name])), self._answer(engine.locks.pauses())
        )
        return _view(job, states.get(name), pauses.get(name), self._next_runs([job])[job.schedule])

    async def runs(
        self, name: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        """See `Crons.runs`."""
        return await self.crons.runs(name, limit=limit, before=before, status=status)

    async def newest_runs(
        self,
        names: Collection[str],
        *,
        limit: int = 50,
        before: str | None = None,
        statuses: Collection[RunStatus] = (),
    ) -> list[Run]:
        """The runs of any of these jobs with any of these statuses, newest first; none of either stands for all."""
        found = await asyncio.gather(
            *(
                self.crons.runs(name, limit=limit, before=before, status=status)
                for name in (dict.fromkeys(names) or (None,))
                for status in (dict.fromkeys(statuses) or (None,))
            )
        )
        return sorted((run for runs in found for run in runs), key=lambda run: run.id, reverse=True)[:limit]

    async def run(self, name: str, run_id: str) -> Run:
        """One run of a job, with its log. `run_id` may be the first or last characters of its id, as people are shown them."""
        self.crons.jobs.named(name)
        return await self.find_run(name, run_id)

    async def find_run(self, name: str | None, run_id: str) -> Run:
        """As `run`, of any job where none is named."""
        run = await self._run_of_id(run_id)
        if run is None and len(run_id) < _WHOLE_ID:
            run = await self._run_of_id(await self._whole_id(name, run_id))
        if run is None or (name is not None and run.job != name):
            raise _unknown_run(name, run_id)
        return run

    async def _run_of_id(self, run_id: str) -> Run | None:
        engine = self._engine()
        # What has just begun or ended here may not be on record yet.
        return engine.recorder.noted(run_id) or await self._answer(engine.state.run(run_id))

    async def _whole_id(self, name: str | None, part: str) -> str:
        """The id of the one run that begins or ends like this, among the newest."""
        wanted = part.lower().strip()
        if len(wanted) < SHORTEST_ID:
            raise UnknownRunError(f"{part!r} is too short for a run's id; give at least {SHORTEST_ID} characters")
        noted = self._engine().recorder.noted_runs()
        found = {run.id for run in noted if name in (None, run.job) and _is_part(wanted, run.id)}
        before = None
        for _ in range(_MAX_PAGES):
            page = await self._answer(self._engine().state.runs(name, limit=_PAGE, before=before))
            found |= {run.id for run in page if _is_part(wanted, run.id)}
            if len(page) < _PAGE:
                break
            before = page[-1].id
        if not found:
            raise _unknown_run(name, part)
        if len(found) > 1:
            shown = ", ".join(sorted(found, reverse=True)[:_SHOWN])
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise UnknownRunError(f"{part!r} stands for {len(found)} runs: {shown}{more}; give more of the id")
        return found.pop()

    async def missed(self, name: str, *, limit: int = 50) -> list[MissedTicks]:
        """A job's records of ticks that were let go, newest first."""
        self.crons.jobs.named(name)
        return await self._answer(self._engine().state.missed(name, limit=limit))

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
        owned: bool = False,
    ) -> Run:
        """Run a job now; see `Crons.run_job`. A run that goes on is given back without `wait`, or when the scheduler stops.

        A run that is `owned` is cancelled with its caller, and waited for to its end, or for `CRON_SHUTDOWN_TIMEOUT` where it
        does not end when it is cut off; others outlive their callers.
        """
        job = self.crons.jobs.named(name)
        steering = self._engine().steering_for(f"run job {name!r}")
        run = await steering.start_run(ManualRun(job, force, timeout, actor, note, triggered_by))
        if not wait:
            return run.snapshot()
        try:
            patience = self.crons.config.shutdown_timeout if owned else None
            return await steering.finished(run, or_stopping=not owned, patience=patience)
        except asyncio.CancelledError:
            if owned:
                await steering.cancel_run(run.id, actor)
            raise

    async def thread_ended(self, run_id: str) -> None:
        """Wait for the thread that a run has left behind here, which holds its job."""
        active = self._engine().runner.active.get(run_id)
        if active is not None and active.thread is not None:
            await asyncio.wait({active.thread})

    async def cancel_run(self, name: str, run_id: str, *, actor: str | None = None) -> str:
        """Cancel a run that goes on, here or elsewhere, and give its id; see `Crons.cancel_run`, and `run` for `run_id`.

        Raises `RunEndedError` where it has ended.
        """
        self.crons.jobs.named(name)
        active = self._engine().runner.active.get(run_id)
        if active is None or active.job.name != name:
            run_id = (await self.run(name, run_id)).id
            active = self._engine().runner.active.get(run_id)
        run = active.snapshot() if active is not None else await self.run(name, run_id)
        if run.status != "running":
            raise RunEndedError(f"run {run_id} of job {name!r} can't be cancelled: it has {_ended(run)}")
        goes_on = active is not None or run_id in await self._living_runs([name])
        if not (goes_on and await self.crons.cancel_run(run_id, actor=actor)):
            raise RunEndedError(
                f"run {run_id} of job {name!r} can't be cancelled: no instance that shares the lock store runs it any more; "
                "where its own is gone, the next scheduler closes its record"
            )
        return run_id

    async def pause(self, name: str, *, actor: str | None = None, note: str | None = None) -> JobView:
        """Let no tick of a job run until it is resumed; see `Crons.pause`."""
        self.crons.jobs.named(name)
        await self.crons.pause(name, actor=actor, note=note)
        return await self.job(name)

    async def resume(self, name: str, *, catch_up: bool = False) -> bool:
        """Let a paused job go on; False where it is not paused. See `Crons.resume`."""
        self.crons.jobs.named(name)
        return await self.crons.resume(name, catch_up=catch_up)

    async def tick(self, name: str, instant: datetime, *, details: bool = True) -> TickFate:
        """What became of an instant (aware, in whole seconds) of a job, and why.

        `details` says whether error texts and notes may be told.
        """
        job, engine, tick = self.crons.jobs.named(name), self._engine(), int(instant.timestamp())
        known, runs, missed, instances = await asyncio.gather(
            self._answer(engine.locks.known([name])),
            self._runs_since(name, tick - _CLOCKS_DIFFER),
            self._answer(engine.state.missed(name, limit=self.crons.config.history_keep)),
            self._answer(engine.locks.instances()),
        )
        records = TickRecords(
            tick=tick,
            now=self.crons.clock.now(),
            job=job,
            known=known[0] if known else None,
            runs=tuple(runs),
            missed=tuple(missed),
            living=frozenset(found.instance.owner for found in instances),
            instances=len([found for found in instances if found.jobs or engine.runs_ticks]),
        )
        return explain(records, details=details)

    async def scheduler(self) -> SchedulerView:
        """The scheduler as a whole."""
        engine, config = self._engine(), self.crons.config
        views, instances = await asyncio.gather(self.jobs(), self.instances())
        lock = engine.locks.backend
        return SchedulerView(
            instance_id=None if engine.role == "observer" else engine.instance.id,
            health=self.crons.health() if engine.role == "scheduler" else _health_of_others(instances),
            version=engine.instance.version,
            namespace=config.namespace,
            timezone=config.timezone,
            state_backend=type(engine.state).__name__,
            lock_backend=type(lock).__name__,
            locking=_locking(lock),
            instances=instances,
            statuses=dict(Counter(view.status for view in views)),
            jobs=len(views),
            paused=sum(view.pause is not None for view in views),
        )

    async def instances(self) -> list[LiveInstance]:
        """The instances that live and share the lock store, this one among them unless it only reads; by name. One query."""
        engine = self._engine()
        found = await self._answer(engine.locks.instances())
        if engine.role != "observer":
            own = engine.membership.as_seen()
            found = [own, *(other for other in found if other.instance.owner != own.instance.owner)]
        elif engine.locks.backend.reach == "process":
            found = []
        return sorted(found, key=lambda found: (found.instance.id, found.instance.owner))

    @contextmanager
    def listening(self, jobs: Collection[str] | None = None) -> Iterator[AsyncIterator[Heard]]:
        """Runs as they start and end, without logs, and ticks that are let go, of all jobs or of some; see `Feed.listen`."""
        with self._engine().feed.listen(jobs) as records:
            yield records

    async def events(self, jobs: Collection[str] | None = None) -> AsyncGenerator[Record, None]:
        """As `listening`, from the moment that the first is asked for."""
        with self.listening(jobs) as records:
            async for heard in records:
                yield heard.record

    async def _as_seen_from_outside(self, states: dict[str, JobState]) -> dict[str, JobState]:
        """What is on record as running whose instance is gone was interrupted; a scheduler would have put that on record."""
        running = [name for name, state in states.items() if state.status == "running"]
        engine = self._engine()
        if not running or REACHES.index(engine.state.reach) > REACHES.index(engine.locks.backend.reach):
            return states
        living = set((await self._living_runs(running)).values())
        gone = {name: states[name]._replace(status="interrupted") for name in running if name not in living}
        return {**states, **gone}

    async def _living_runs(self, jobs: Sequence[str]) -> dict[str, str]:
        """The jobs of the runs that instances which live have a lease for, by run."""
        locks = self._engine().locks
        known, instances = await asyncio.gather(self._answer(locks.known(jobs)), self._answer(locks.instances()))
        owners = {found.instance.owner for found in instances}
        return {lease.run_id: job.job for job in known for lease in job.leases if lease.instance in owners}

    async def _runs_since(self, name: str, since: float) -> list[Run]:
        """The runs of a job that may have been claimed since then (Unix seconds), oldest first."""
        found: list[Run] = []
        before = None
        while True:
            page = await self._answer(self._engine().state.runs(name, limit=_PAGE, before=before))
            found += page
            if len(page) < _PAGE or made_at(page[-1].id) < since:
                return found[::-1]
            before = page[-1].id

    async def _answer(self, call: Awaitable[T]) -> T:
        """The answer of a store, which must not keep anybody waiting for longer than its deadline."""
        return await answer_of(call, self.crons.config.store_timeout, "the store")

    def _engine(self) -> Engine:
        engine = self.crons.engine
        if engine is None:
            raise CronsError("the scheduler has not started: nothing is known of any run yet")
        return engine

    def _next_runs(self, jobs: Iterable[CronJob]) -> dict[Schedule, datetime | None]:
        """The next tick of each schedule, of which many jobs may have the same."""
        now = int(self.crons.clock.now())
        return {schedule: _next_run(schedule, now) for schedule in {job.schedule for job in jobs}}


def _next_run(schedule: Schedule, now: int) -> datetime | None:
    try:
        tick = tick_source(schedule).next_tick(now)
    except Exception:  # a schedule of somebody else's, which health tells of
        return None
    return None if tick is None else utc_datetime(tick)


def _view(job: CronJob, state: JobState | None, pause: Pause | None, next_run: datetime | None) -> JobView:
    if pause is not None or not job.enabled:
        next_run = None
    if state is None:
        return JobView(job, "pending", None, next_run, None, pause)
    return JobView(job, state.status, utc_datetime(state.last_run_ts), next_run, state.instance or None, pause)


def _is_part(text: str, run_id: str) -> bool:
    """Whether an id begins or ends so, with or without its hyphens."""
    plain = run_id.replace("-", "")
    return run_id.startswith(text) or run_id.endswith(text) or plain.startswith(text) or plain.endswith(text)


def _unknown_run(name: str | None, run_id: str) -> UnknownRunError:
    whose = "no run" if name is None else f"job {name!r} has no run"
    there = "there is " if name is None else ""
    return UnknownRunError(f"{there}{whose} {cut(run_id, 100)!r} on record; old history may have been deleted")


def _health_of_others(instances: Iterable[LiveInstance]) -> Health:
    """The health of a fleet as one can see it who is none of it."""
    if any(found.jobs for found in instances):
        return Health("ok")
    return Health("unhealthy", (_NOBODY,), (_NOBODY,))


def _locking(lock: LockBackend) -> str:
    name = type(lock).__name__.removesuffix("LockBackend") or type(lock).__name__
    return f"{_REACHES[lock.reach]} ({name})"


def _ended(run: Run) -> str:
    return (
        "ended already" if run.ended is None else f"ended at {run.ended.isoformat(timespec='seconds')} ({run.status})"
    )
