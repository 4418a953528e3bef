"""The memory state store: a history within this process, gone with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import replace
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, ClassVar

from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.run import MissedTicks, Run, RunStatus
from fastapi_crons.state.base import Event, HistoryLimits, JobState, Record, StateBackend

if TYPE_CHECKING:
    import asyncio

    from fastapi_crons.locking.base import LockBackend, Reach


#: How many events wait for a subscriber before it counts as too slow.
_MAX_WAITING = 10_000


class MemoryStateBackend(StateBackend):
    """Keeps the newest runs of each job in this process's memory."""

    reach: ClassVar[Reach] = "process"
    durable: ClassVar[bool] = False

    def __init__(self) -> None:
        self._limits = HistoryLimits(100, 30)
        # By job, each oldest first.
        self._runs: dict[str, dict[str, Run]] = {}
        self._missed: dict[str, dict[str, MissedTicks]] = {}
        self._subscribers: set[asyncio.Queue[Event]] = set()

    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        self._limits = limits

    async def close(self) -> None:
        """Keeps its history, for a scheduler that is started again."""

    async def write(self, records: Sequence[Record]) -> None:
        keep, by_job = self._limits.keep, self._runs
        for record in records:
            if isinstance(record, MissedTicks):
                if self._subscribers:
                    self._publish(record)
                missed = self._missed.setdefault(record.job, {})
                missed[record.id] = record
                if len(missed) > keep:
                    del missed[min(missed)]
                continue
            runs = by_job.get(record.job)
            if runs is None:
                runs = by_job[record.job] = {}
            known = runs.get(record.id)
            if known is None or known.status == "running":
                if self._subscribers:
                    self._publish(record)
                runs[record.id] = record
                if len(runs) > keep:
                    del runs[next(iter(runs))]

    def events(self, *, records: bool = True) -> AsyncGenerator[Event, None] | None:
        return self._subscribe() if records else None

    async def _subscribe(self) -> AsyncGenerator[Event, None]:
        from asyncio import Queue  # commands import this module without an event loop

        queue: Queue[Event] = Queue(_MAX_WAITING)
        self._subscribers.add(queue)
        try:
            while queue in self._subscribers:
                yield await queue.get()
            raise StoreUnavailableError(f"the subscriber was too slow: {_MAX_WAITING} events waited for it")
        finally:
            self._subscribers.discard(queue)

    def _publish(self, record: Record) -> None:
        for queue in [*self._subscribers]:
            if queue.full():
                self._subscribers.discard(queue)
            else:
                queue.put_nowait(replace(record, log=()) if isinstance(record, Run) else record)

    async def states(self, jobs: Collection[str] | None = None) -> dict[str, JobState]:
        states = {}
        for name in self._runs if jobs is None else jobs:
            runs = self._runs.get(name)
            if not runs:
                continue
            run = runs[max(runs)]
            states[name] = JobState(name, run.status, run.instance, run.started_ts)
        return states

    async def runs(
        self, job: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        of_jobs = [runs for runs in (self._runs.values() if job is None else [self._runs.get(job)]) if runs]
        found: list[Run] = []
        # Those that ran last come first: the others are looked at only until there is enough that is newer.
        for newest, runs in sorted(((max(runs), runs) for runs in of_jobs), key=itemgetter(0), reverse=True):
            if len(found) >= limit and (not found or found[-1].id > newest):
                break
            found += [
                run
                for run in runs.values()
                if (before is None or run.id < before) and (status is None or run.status == status)
            ]
            found = sorted(found, key=attrgetter("id"), reverse=True)[:limit]
        return found

    async def run(self, run_id: str) -> Run | None:
        return next((runs[run_id] for runs in self._runs.values() if run_id in runs), None)

    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        newest_first = sorted(self._missed.get(job, {}).values(), key=lambda ticks: ticks.id, reverse=True)
        return newest_first[:limit]

    async def runs_by_id(self, run_ids: Collection[str]) -> dict[str, Run]:
        return {run_id: runs[run_id] for runs in self._runs.values() for run_id in runs.keys() & set(run_ids)}

    async def unfinished(self) -> list[Run]:
        return [run for runs in self._runs.values() for run in runs.values() if run.status == "running"]

    async def prune(self, now: float) -> None:
        oldest = now - self._limits.days * 86400
        for runs in self._runs.values():
            for run_id in [run.id for run in runs.values() if run.started_ts < oldest and run.status != "running"]:
                del runs[run_id]
        for missed in self._missed.values():
            for record_id in [ticks.id for ticks in missed.values() if ticks.recorded_ts < oldest]:
                del missed[record_id]

    async def forget(self, jobs: Collection[str]) -> None:
        for job in jobs:
            self._runs.pop(job, None)
            self._missed.pop(job, None)

    def companion_lock(self) -> LockBackend:
        from fastapi_crons.locking.local import LocalLockBackend

        return LocalLockBackend()
