"""The contract of state stores: the states of jobs, and the history of their runs.

Every write is a batch. A backend raises `StoreUnavailableError` when it does not answer and `StoreUnusableError` when it
can't be used as it is; anything else that it raises counts as unavailable.

The fields of named tuples are append only, and a new one has a default: stores in other languages take them by position.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Sequence
from sys import maxsize
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from fastapi_crons.run import MissedTicks, Run, RunStatus

if TYPE_CHECKING:
    from fastapi_crons.locking.base import LockBackend, Reach

Record = Run | MissedTicks


class Signal(NamedTuple):
    """What all instances, or the one that runs something, are to know at once."""

    kind: Literal["resume", "cancel", "join", "leave", "lost"]
    """A paused job was resumed, a run is to be cancelled, an instance has started or stops, records were lost."""
    job: str | None = None
    run_id: str | None = None
    actor: str | None = None


#: What a state store publishes.
Event = Record | Signal


class HistoryLimits(NamedTuple):
    """How much history is kept: so many runs per job, none older than so many days."""

    keep: int
    days: float


class JobState(NamedTuple):
    """What a listing shows of a job. Instants in Unix seconds (UTC)."""

    job: str
    status: RunStatus
    instance: str
    last_run_ts: float
    """When the job's latest run began."""


class StateBackend(ABC):
    """A state store. `open` is called first, `close` last, both on the event loop of the calls in between.

    The abstract methods are those that each store must think about. The others have a body that is right for every store; it is
    overridden to be faster, or where a store can do more.
    """

    #: How far the store is shared.
    reach: ClassVar[Reach]
    #: Whether what is written outlives the process.
    durable: ClassVar[bool] = True

    @abstractmethod
    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        """Connect and prepare the store."""

    async def open_to_read(self, namespace: str, limits: HistoryLimits) -> None:
        """Connect only to read, instead of `open`: make and change nothing. What is not there reads as empty.

        By default the same as `open`.
        """
        await self.open(namespace, limits)

    @abstractmethod
    async def close(self) -> None:
        """Disconnect. Never raises for a store that does not answer."""

    @abstractmethod
    async def write(self, records: Sequence[Record]) -> None:
        """Keep records, all or none.

        A run that is on record as ended never changes again. Missed ticks take the place of those with the same id.
        """

    @abstractmethod
    async def runs(
        self, job: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        """The runs of a job, or with None of all jobs, newest first, without their logs.

        With `before`, only those older than the run with this id, which need not be on record. The runs of all jobs must cost
        no more than a look at the newest ones, unless `before` or `status` leave many out.
        """

    @abstractmethod
    async def run(self, run_id: str) -> Run | None:
        """One run with its log, or None."""

    @abstractmethod
    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        """A job's records of missed ticks, newest first."""

    @abstractmethod
    async def prune(self, now: float) -> None:
        """Delete what exceeds the limits. Called about once a minute; to be done in small transactions."""

    @abstractmethod
    async def forget(self, jobs: Collection[str]) -> None:
        """Delete the states and the history of jobs that have not been registered for a long time."""

    async def states(self, jobs: Collection[str] | None = None) -> dict[str, JobState]:
        """The states of the named jobs, or of all, by name; jobs that never ran are left out. One query."""
        states: dict[str, JobState] = {}
        for run in await self.runs(None, limit=maxsize):
            if run.job not in states and (jobs is None or run.job in jobs):
                states[run.job] = JobState(run.job, run.status, run.instance, run.started_ts)
        return states

    async def runs_by_id(self, run_ids: Collection[str]) -> dict[str, Run]:
        """The runs with these ids, with or without their logs; those that are not on record are left out. One query."""
        found = [await self.run(run_id) for run_id in run_ids]
        return {run.id: run for run in found if run is not None}

    async def missed_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[MissedTicks]]:
        """The records of missed ticks of each of these jobs, as `missed` returns them. One query."""
        return {job: await self.missed(job, limit=limit) for job in jobs}

    async def unfinished(self) -> list[Run]:
        """All runs that are on record as running."""
        return await self.runs(None, limit=maxsize, status="running")

    async def publish(self, signal: Signal) -> None:  # noqa: B027 - a store need not be able to
        """Send a signal to all who read `events`. Without effect in a store that can't: heartbeats bring it, too."""

    def events(self, *, records: bool = True) -> AsyncGenerator[Event, None] | None:
        """What all instances write and publish, from the moment that the first event is asked for.

        Without `records` only signals; None in a store that can't. Runs come without their logs. Where states of a run follow
        each other quickly, only the newest need come; one may come twice. Events may be lost while the connection is broken.
        The generator ends only when it is closed. It raises `StoreUnavailableError` where the store does not answer, or where
        the caller was too slow to ask for what came. Waits in real time.
        """
        return None

    def damaged(self) -> Collection[str]:
        """The records met in the last hour that can't be read, and were left out, by name. Makes no query."""
        return ()

    def obstacle(self) -> str | None:
        """Why this process can't write here, as far as a backend opened to read can tell; None where nothing prevents it.

        A text for people that says what to do. Makes no query.
        """
        return None

    def companion_lock(self) -> LockBackend | None:
        """A lock store in the same place, for a scheduler that is given only this state store; None where there is none.

        Where another distribution brings it, and is not installed, it raises `MissingDistributionError`, which says what to
        install: the scheduler takes another lock, and shows the text in a warning where that one reaches less far.
        """
        return None
