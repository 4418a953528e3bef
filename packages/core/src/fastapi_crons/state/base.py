"""The contract of state stores: the states of jobs, and the history of their runs.

Every write is a batch. A backend raises `StoreUnavailableError` when it does not answer and `StoreUnusableError` when it
can't be used as it is; anything else that it raises counts as unavailable.

The fields of named tuples are append only, and a new one has a default: stores in other languages take them by position.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Sequence
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from fastapi_crons.run import FAILED, MissedTicks, Run, RunStatus, Trigger, first_id_at
from fastapi_crons.state.backfills import BackfillRecord, KeptBackfills
from fastapi_crons.state.figures import Figures, of_missed, of_run, together, total

if TYPE_CHECKING:
    from fastapi_crons.locking.base import LockBackend, Reach

Record = Run | MissedTicks

#: How many runs are read at a time where a store is searched that has no way of its own.
_PAGE = 500
#: The sums of how many jobs are made without letting others have a turn.
_SUMS_A_TURN = 100
#: Stands for any number of records: stores in other languages have no larger integers.
_ALL = 2**31 - 1
#: Sorts behind the ids of all runs.
_LAST_ID = "g"
#: How long (seconds) before `RunQuery.under_way_since` runs may have been claimed.
LONGEST_UNDER_WAY = 86_400


class Signal(NamedTuple):
    """What all instances, or the one that runs something, are to know at once."""

    kind: Literal["resume", "cancel", "join", "leave", "lost", "drain"]
    """A paused job was resumed, a run is to be cancelled, an instance has started or stops, records were lost, an instance is
    to drain."""
    job: str | None = None
    run_id: str | None = None
    actor: str | None = None


#: What a state store publishes.
Event = Record | Signal


class HistoryLimits(NamedTuple):
    """How much history is kept. A run that is not over is never deleted."""

    keep: int
    """The newest so many runs of each job are kept for `days`."""
    days: float
    """How long runs and missed ticks are kept."""
    keep_failed: int = 0
    """The newest so many runs of each job that did not complete are kept for `days`, too, beyond `keep`; and so many records of
    missed ticks, where that is more than `keep`."""
    keep_always: int = 0
    """The newest so many runs of each job are kept however old they are."""
    figures_days: float = 365
    """How long the figures of each job and day are kept."""


class JobState(NamedTuple):
    """What a listing shows of a job. Instants in Unix seconds (UTC)."""

    job: str
    status: RunStatus
    instance: str
    last_run_ts: float
    """When the job's latest run began."""
    last_success_ts: float | None = None
    """When the latest run that completed ended; None where none is known. It stays when that run is deleted."""
    last_success_run: str | None = None
    """The id of that run."""
    last_success_took: float | None = None
    """How long (seconds) it took."""
    failures: int = 0
    """How many runs have failed, exceeded their time limit, or were interrupted since a run completed last."""


class RunQuery(NamedTuple):
    """Which runs are wanted. Instants in Unix seconds (UTC); `since` is included, `until` is not."""

    jobs: Collection[str] | None = None
    """Of these jobs; None for all."""
    statuses: Collection[RunStatus] = ()
    """With any of these statuses; none for all."""
    since: float | None = None
    """Claimed at this time or later, as their ids say."""
    until: float | None = None
    """Claimed before this time."""
    before: str | None = None
    """Older than the run with this id, which need not be on record."""
    limit: int = 50
    triggers: tuple[Trigger, ...] = ()
    """Started by any of these; none for all."""
    under_way_since: float | None = None
    """Still running, or ended at this time or later. Of runs claimed more than a day before it none is wanted, whenever they
    ended, so that no store needs an index for this."""

    @property
    def claimed_since(self) -> float | None:
        """Before when no run that is wanted was claimed; None where that is not said."""
        if self.under_way_since is None:
            return self.since
        oldest = self.under_way_since - LONGEST_UNDER_WAY
        return oldest if self.since is None else max(self.since, oldest)


#: The triggers of a query for ticks that were run again.
AGAIN: tuple[Trigger, ...] = ("again",)


class MissedQuery(NamedTuple):
    """Which records of missed ticks are wanted. Instants in Unix seconds (UTC); `since` is included, `until` is not."""

    jobs: Collection[str] | None = None
    """Of these jobs; None for all that have run."""
    since: float | None = None
    """With a tick at this time or later."""
    until: float | None = None
    """With a tick before this time."""
    before: str | None = None
    """Older than the record with this id, which need not be on record."""
    limit: int = 50


def is_wanted_run(run: Run, query: RunQuery) -> bool:
    """Whether a query asks for this run, its limit aside."""
    return (
        (query.jobs is None or run.job in query.jobs)
        and (not query.statuses or run.status in query.statuses)
        and (query.claimed_since is None or run.id >= first_id_at(query.claimed_since))
        and (query.until is None or run.id < first_id_at(query.until))
        and (query.before is None or run.id < query.before)
        and (not query.triggers or run.trigger in query.triggers)
        and (query.under_way_since is None or run.ended_ts is None or run.ended_ts >= query.under_way_since)
    )


def is_wanted(ticks: MissedTicks, query: MissedQuery) -> bool:
    """Whether a query asks for this record, its limit aside."""
    return (
        (query.jobs is None or ticks.job in query.jobs)
        and (query.since is None or ticks.last_ts >= query.since)
        and (query.until is None or ticks.first_ts < query.until)
        and (query.before is None or ticks.id < query.before)
    )


def state_after(state: JobState | None, run: Run) -> JobState:
    """The state of a job after a record of one of its runs, which is newer than those before, or ends later."""
    known = state or JobState(run.job, run.status, run.instance, run.started_ts)
    found = known._replace(status=run.status, instance=run.instance, last_run_ts=run.started_ts)
    if run.status == "completed":
        return found._replace(
            last_success_ts=run.ended_ts, last_success_run=run.id, last_success_took=run.duration, failures=0
        )
    return found._replace(failures=found.failures + 1) if run.status in FAILED else found


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

        A run that is on record as ended never changes again. One that is running is written again as it logs: what is written
        takes the place of what was there, its log included. Missed ticks take the place of those with the same id.
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

    async def find_runs(self, query: RunQuery) -> list[Run]:
        """The runs that a query asks for, newest first, without their logs. One query, however many jobs it names.

        The time it takes must not grow with the runs that are on record, where it asks for runs that did not complete, or for
        those with the trigger `again` alone: indexes of these are small.
        """
        found: list[Run] = []
        before = query.before
        if query.until is not None:
            before = min(before or _LAST_ID, first_id_at(query.until))
        oldest = "" if query.claimed_since is None else first_id_at(query.claimed_since)
        while len(found) < query.limit:
            page = await self.runs(None, limit=_PAGE, before=before)
            found += [run for run in page if is_wanted_run(run, query)]
            if len(page) < _PAGE or page[-1].id < oldest:
                break
            before = page[-1].id
        return found[: query.limit]

    async def find_missed(self, query: MissedQuery) -> list[MissedTicks]:
        """The records of missed ticks that a query asks for, newest first. One query, however many jobs it names."""
        jobs = list(await self.states()) if query.jobs is None else query.jobs
        by_job = await self.missed_by_job(jobs, limit=_ALL)
        found = [ticks for records in by_job.values() for ticks in records if is_wanted(ticks, query)]
        return sorted(found, key=attrgetter("id"), reverse=True)[: query.limit]

    async def find_ids(self, part: str, job: str | None = None) -> list[str]:
        """The ids of the runs of a job, or of all, that begin or end with a text (lower case; empty for all), newest first."""
        runs = await self.runs(job, limit=_ALL)
        return [run.id for run in runs if run.id.startswith(part) or run.id.endswith(part)]

    async def figures(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> list[Figures]:
        """The figures of each of these jobs, or of all, and of each day from `since` to `until`, both included. One query.

        Days are counted from 1970-01-01, in UTC. A run counts from when it is first on record as ended, and never twice. By
        default those of what is on record.
        """
        runs = [run for run in await self.runs(None, limit=_ALL) if run.ended_ts is not None]
        names = {run.job for run in runs} if jobs is None else set(jobs)
        missed = await self.missed_by_job(names, limit=_ALL)
        found = total(
            [
                *(of_run(run) for run in runs if run.job in names),
                *(each for records in missed.values() for ticks in records for each in of_missed(ticks)),
            ]
        )
        return [each for each in found.values() if since <= each.day <= (_ALL if until is None else until)]

    async def sums(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> dict[str, Figures]:
        """The sum of the figures of each of these jobs, or of all, over these days; jobs without figures are left out.

        One query. By default that of `figures`, made in short turns.
        """
        of_job: dict[str, list[Figures]] = {}
        for each in await self.figures(jobs, since=since, until=until):
            of_job.setdefault(each.job, []).append(each)
        found: dict[str, Figures] = {}
        for number, (job, figures) in enumerate(of_job.items(), start=1):
            found[job] = together(figures)._replace(job=job)
            if number % _SUMS_A_TURN == 0:
                await asyncio.sleep(0)
        return found

    async def states(self, jobs: Collection[str] | None = None) -> dict[str, JobState]:
        """The states of the named jobs, or of all, by name; jobs that never ran are left out. One query.

        By default those that the runs on record show.
        """
        states: dict[str, JobState] = {}
        for run in reversed(await self.runs(None, limit=_ALL)):
            if jobs is None or run.job in jobs:
                states[run.job] = state_after(states.get(run.job), run)
        return states

    async def runs_by_id(self, run_ids: Collection[str]) -> dict[str, Run]:
        """The runs with these ids, with their logs; those that are not on record are left out. One query."""
        found = [await self.run(run_id) for run_id in run_ids]
        return {run.id: run for run in found if run is not None}

    async def runs_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[Run]]:
        """The newest runs of each of these jobs, newest first, without their logs. One query."""
        return {job: await self.runs(job, limit=limit) for job in jobs}

    async def missed_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[MissedTicks]]:
        """The records of missed ticks of each of these jobs, as `missed` returns them. One query."""
        return {job: await self.missed(job, limit=limit) for job in jobs}

    async def unfinished(self) -> list[Run]:
        """All runs that are on record as running."""
        return await self.runs(None, limit=_ALL, status="running")

    async def restore(self, states: Collection[JobState], figures: Collection[Figures]) -> None:  # noqa: B027 - see below
        """Put states and figures in place of those of the same jobs and days, once the runs of another store are on record.

        By default nothing: states and figures are those of the runs on record.
        """

    async def begin_backfill(self, record: BackfillRecord) -> BackfillRecord | None:
        """Keep a new backfill, unless one of the same job is on record as running, which is returned then. To be done at once.

        Of each namespace at least the newest hundred are kept, and those that are running. By default in this process only.
        """
        return self._backfills.begin(record)

    async def change_backfill(self, record: BackfillRecord) -> bool:
        """Put a backfill in the place of the one on record whose `revision` is one less; False where there is none. At once."""
        return self._backfills.change(record)

    async def backfill(self, backfill_id: str) -> BackfillRecord | None:
        """One backfill, or None."""
        return self._backfills.one(backfill_id)

    async def backfills(self, job: str | None = None) -> list[BackfillRecord]:
        """The backfills of a job, or of all, newest first."""
        return self._backfills.of_job(job)

    @cached_property
    def _backfills(self) -> KeptBackfills:
        """Backfills of this process, for a store that does not keep them."""
        return KeptBackfills()

    async def publish(self, signal: Signal) -> None:  # noqa: B027 - a store need not be able to
        """Send a signal to all who read `events`. Without effect in a store that can't: heartbeats bring it, too."""

    def events(self, *, records: bool = True) -> AsyncGenerator[Event, None] | None:
        """What all instances write and publish, from the moment that the first event is asked for.

        Without `records` only signals; None in a store that can't. Runs come without their logs: as they start and as they end,
        not each time that they are written in between. Where states of a run follow each other quickly, only the newest need
        come; one may come twice. Events may be lost while the connection is broken.
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
