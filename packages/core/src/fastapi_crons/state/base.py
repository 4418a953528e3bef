"""The contract of state stores: what has become of jobs, and the history of their runs.

Every write is a batch. A backend raises `StoreUnavailableError` when it does not answer and `StoreUnusableError` when it
can't be used as it is; anything else it raises counts as unavailable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from fastapi_crons.run import MissedTicks, Run, RunStatus

if TYPE_CHECKING:
    from fastapi_crons.locking.base import LockBackend, Reach

Record = Run | MissedTicks


class Signal(NamedTuple):
    """Something that somebody asked of all instances, or of the one that runs something."""

    kind: Literal["pause", "resume", "cancel", "join", "leave", "lost"]
    """A job was paused or resumed, a run is to be cancelled, an instance has started or stops, records were lost."""
    job: str | None = None
    run_id: str | None = None
    actor: str | None = None


#: What a state store tells those who listen.
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
    """A state store. `open` is called before, `close` after everything else; both on the loop that makes the calls."""

    #: How far the store is shared.
    reach: ClassVar[Reach]
    #: Whether what is written outlives the process.
    durable: ClassVar[bool] = True

    @abstractmethod
    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        """Connect and prepare the store."""

    async def open_to_read(self, namespace: str, limits: HistoryLimits) -> None:
        """Connect for somebody who only reads, instead of `open`: make and change nothing.

        What is not there yet reads as empty. Without an implementation of its own a store is opened as ever.
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
    async def states(self, jobs: Collection[str] | None = None) -> dict[str, JobState]:
        """The states of the named jobs, or of all, by name; jobs that never ran are left out. One query."""

    @abstractmethod
    async def runs(
        self, job: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        """The runs of a job, or with None of all jobs, newest first, without their logs.

        Where `before` is given, those older than the run with this id, which need not be on record. The runs of all jobs
        cost no more than a look at the newest ones, unless many have to be passed over that `before` or `status` leave out.
        """

    @abstractmethod
    async def run(self, run_id: str) -> Run | None:
        """One run with its log, or None."""

    @abstractmethod
    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        """A job's records of ticks that were let go, newest first."""

    @abstractmethod
    async def unfinished(self) -> list[Run]:
        """All runs that are on record as running."""

    @abstractmethod
    async def prune(self, now: float) -> None:
        """Delete what is beyond the limits. Called every minute or so; to be done in small transactions."""

    @abstractmethod
    async def forget(self, jobs: Collection[str]) -> None:
        """Delete all that is kept of jobs that nobody has registered for a long time."""

    async def tell(self, signal: Signal) -> None:  # noqa: B027 - a store need not be able to
        """Let all who listen know at once. Without effect in a store that can't: heartbeats bring it, too."""

    def events(self, *, records: bool = True) -> AsyncGenerator[Event, None] | None:
        """What is written and told by all instances that the store reaches, from the moment that the first is asked for.

        Without `records` only signals; None in a store that can't tell. Runs come without their logs. Of states of a run
        that follow each other quickly only the newest need come, and one may come twice. What happens while the connection
        is broken may be left out. It ends only when it is closed, and raises `StoreUnavailableError` where the store does not
        answer, or where what comes was not asked for in time. Waits in real time.
        """
        return None

    def damaged(self) -> Collection[str]:
        """What was met on record in the last hour that can't be read, and was left out, by name. Asks nobody."""
        return ()

    def obstacle(self) -> str | None:
        """What keeps this process from writing here, as far as one that only reads can tell; None where nothing does.

        A text for people that says what to do about it. Asks nobody.
        """
        return None

    def companion_lock(self) -> LockBackend | None:
        """A lock store that lives in the same place, for a scheduler that was given only this state store; None: there is none.

        Where another distribution brings it, and that is not installed, it raises `MissingDistributionError`, which says what
        to install: the scheduler takes another lock, and shows the text in a warning where that one reaches less far.
        """
        return None
