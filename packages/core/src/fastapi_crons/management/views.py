"""What the management API and the command line show: a job, and the scheduler as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from fastapi_crons.clock import utc_datetime
from fastapi_crons.engine.health import Health
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import LiveInstance, LockBackend, Pause, Reach
from fastapi_crons.run import RunStatus
from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.schedule.due import tick_source
from fastapi_crons.state.base import JobState

if TYPE_CHECKING:
    from fastapi_crons.config import CronConfig
    from fastapi_crons.engine.engine import Engine

JobStatus = RunStatus | Literal["pending"]
#: What a listing can be restricted to.
JobFilter = JobStatus | Literal["paused"]

_NO_INSTANCE = "no instance that runs jobs is running"
_REACHES: dict[Reach, str] = {"fleet": "Distributed", "host": "This host", "process": "This process"}


class JobView(NamedTuple):
    """A job and its latest run. Instants are aware, UTC."""

    job: CronJob
    status: JobStatus
    """Of the latest run; `pending` for a job that never ran."""
    last_run: datetime | None
    next_run: datetime | None
    """The next tick that will be run; None for a job that is paused, disabled, or never due again."""
    instance: str | None
    """Where the latest run ran."""
    pause: Pause | None
    last_success: datetime | None = None
    """When the latest run that completed ended; None where none is known."""
    last_success_run: str | None = None
    """The id of that run."""
    last_success_took: float | None = None
    """How long (seconds) it took."""
    failures: int = 0
    """How many runs have failed, exceeded their time limit, or were interrupted since."""

    @classmethod
    def of(cls, job: CronJob, state: JobState | None, pause: Pause | None, next_tick: int | None) -> JobView:
        """`state` is None for a job that never ran."""
        next_run = None if next_tick is None or pause is not None or not job.enabled else utc_datetime(next_tick)
        if state is None:
            return cls(job, "pending", None, next_run, None, pause)
        return cls(
            job,
            state.status,
            utc_datetime(state.last_run_ts),
            next_run,
            state.instance or None,
            pause,
            None if state.last_success_ts is None else utc_datetime(state.last_success_ts),
            state.last_success_run,
            state.last_success_took,
            state.failures,
        )

    @property
    def schedule_in_words(self) -> str:
        """When the job is due: in words where its schedule has some."""
        schedule = self.job.schedule
        return schedule.words if isinstance(schedule, ZonedSchedule) else schedule.text

    def matches(self, filters: Iterable[JobFilter]) -> bool:
        """Whether any of the filters applies."""
        return any(each == self.status or (each == "paused" and self.pause is not None) for each in filters)


@dataclass(frozen=True, slots=True)
class SchedulerView:
    """A scheduler, the instances that share its lock store, and its jobs in figures."""

    instance_id: str | None
    """None where no scheduler runs in this process."""
    health: Health
    """Of the scheduler in this process; where there is none, whether any instance runs jobs."""
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

    @classmethod
    def of(
        cls, engine: Engine, config: CronConfig, instances: list[LiveInstance], views: Sequence[JobView]
    ) -> SchedulerView:
        lock = engine.locks.backend
        return cls(
            instance_id=None if engine.role == "observer" else engine.instance.id,
            health=engine.health() if engine.role == "scheduler" else health_of_others(instances),
            version=engine.instance.version,
            namespace=config.namespace,
            timezone=config.timezone,
            state_backend=type(engine.state).__name__,
            lock_backend=type(lock).__name__,
            locking=locking_in_words(lock),
            instances=instances,
            statuses=dict(Counter(view.status for view in views)),
            jobs=len(views),
            paused=sum(view.pause is not None for view in views),
        )


def next_ticks(jobs: Iterable[CronJob], now: int) -> dict[Schedule, int | None]:
    """The next tick of each schedule; many jobs may share one."""
    return {schedule: _next_tick(schedule, now) for schedule in {job.schedule for job in jobs}}


def _next_tick(schedule: Schedule, now: int) -> int | None:
    try:
        return tick_source(schedule).next_tick(now)
    except Exception:  # a faulty schedule of a plugin or app, which health reports
        return None


def health_of_others(instances: Iterable[LiveInstance]) -> Health:
    """The health of the other instances, for a process that runs no jobs itself."""
    if any(found.runs_ticks for found in instances):
        return Health("ok")
    return Health("unhealthy", (_NO_INSTANCE,), (_NO_INSTANCE,))


def locking_in_words(lock: LockBackend) -> str:
    """How far ticks are shared, and by what: `Distributed (Redis)`."""
    name = type(lock).__name__.removesuffix("LockBackend") or type(lock).__name__
    return f"{_REACHES[lock.reach]} ({name})"
