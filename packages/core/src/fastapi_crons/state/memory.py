"""The memory state store: a history within this process, gone with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import replace
from math import inf
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, ClassVar

from fastapi_crons.errors import StoreUnavailableError
from fastapi_crons.run import FAILED, MissedTicks, Run, RunStatus, first_id_at
from fastapi_crons.state.base import (
    AGAIN,
    Event,
    HistoryLimits,
    JobState,
    MissedQuery,
    Record,
    RunQuery,
    StateBackend,
    is_wanted,
)
from fastapi_crons.state.figures import Figures, add, day_of, of_missed, of_run

if TYPE_CHECKING:
    import asyncio

    from fastapi_crons.locking.base import LockBackend, Reach


#: How many events wait for a subscriber before it counts as too slow.
_MAX_WAITING = 10_000
#: How many runs that have ended wait to be counted.
_MAX_UNCOUNTED = 10_000


class MemoryStateBackend(StateBackend):
    """Keeps the newest runs of each job in this process's memory."""

    reach: ClassVar[Reach] = "process"
    durable: ClassVar[bool] = False

    def __init__(self) -> None:
        self._limits = HistoryLimits(100, 30)
        #: By job, each oldest first: the newest runs, and those that did not complete and are older than these.
        self._runs: dict[str, dict[str, Run]] = {}
        self._failed: dict[str, dict[str, Run]] = {}
        self._missed: dict[str, dict[str, MissedTicks]] = {}
        #: By job, the ids of runs that ran ticks again; until they are pruned, also of some that are gone.
        self._again: dict[str, set[str]] = {}
        #: The latest run of each job, the latest one that completed, and how many have failed since.
        self._latest: dict[str, Run] = {}
        self._successes: dict[str, Run] = {}
        self._failures: dict[str, int] = {}
        #: Figures by job and day, and those that are not added up yet.
        self._figures: dict[tuple[str, int], Figures] = {}
        self._ended: list[Run] = []
        self._subscribers: set[asyncio.Queue[Event]] = set()

    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        self._limits = limits

    async def close(self) -> None:
        """Keeps its history, for a scheduler that is started again."""

    async def write(self, records: Sequence[Record]) -> None:
        for record in records:
            if isinstance(record, MissedTicks):
                self._keep_missed(record)
            elif not self._keep_run(record):
                continue
            if self._subscribers:
                self._publish(record)

    def _keep_missed(self, ticks: MissedTicks) -> None:
        missed = self._missed.setdefault(ticks.job, {})
        if ticks.id in missed:
            add(self._figures, of_missed(missed[ticks.id], sign=-1))
        add(self._figures, of_missed(ticks))
        missed[ticks.id] = ticks
        if len(missed) > max(self._limits.keep, self._limits.keep_failed):
            del missed[next(iter(missed))]

    def _keep_run(self, run: Run) -> bool:
        """Keep a run; False where that is nothing new to subscribers: it is on record as ended, or as running as before."""
        runs = self._runs.get(run.job)
        if runs is None:
            runs = self._runs[run.job] = {}
        known = runs.get(run.id)
        if known is None:
            self._add(runs, run)
        elif known.status == "running":
            runs[run.id] = run
            if run.status == "running":
                if self._latest[run.job] is known:
                    self._latest[run.job] = run
                return False
        else:
            return False
        latest = self._latest.get(run.job)
        if latest is None or run.id >= latest.id:
            self._latest[run.job] = run
        if run.status != "running":
            self._ended.append(run)
            if len(self._ended) >= _MAX_UNCOUNTED:
                self._count_ended()
            if run.status == "completed":
                self._successes[run.job] = run
                self._failures.pop(run.job, None)
            elif run.status in FAILED:
                self._failures[run.job] = self._failures.get(run.job, 0) + 1
        return True

    def _add(self, runs: dict[str, Run], run: Run) -> None:
        """Add a new run to those of its job, of which the oldest may go for it."""
        runs[run.id] = run
        if run.trigger == "again":
            self._again.setdefault(run.job, set()).add(run.id)
        most = max(self._limits.keep, self._limits.keep_always)
        while len(runs) > most:
            oldest = next((each for each, known in runs.items() if known.status != "running"), run.id)
            if oldest == run.id:
                break  # all others are running
            self._set_aside(run.job, runs.pop(oldest))

    def _set_aside(self, job: str, run: Run) -> None:
        """Keep a run that did not complete beyond the number of the others."""
        keep = self._limits.keep_failed
        if keep and run.status != "completed":
            failed = self._failed.setdefault(job, {})
            failed[run.id] = run
            if len(failed) > keep:
                del failed[next(iter(failed))]

    def _count_ended(self) -> None:
        ended, self._ended = self._ended, []
        add(self._figures, map(of_run, ended))

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
        for name in self._latest if jobs is None else jobs:
            run, success = self._latest.get(name), self._successes.get(name)
            if run is None:
                continue
            state = JobState(name, run.status, run.instance, run.started_ts, failures=self._failures.get(name, 0))
            if success is not None:
                state = state._replace(
                    last_success_ts=success.ended_ts, last_success_run=success.id, last_success_took=success.duration
                )
            states[name] = state
        return states

    async def runs(
        self, job: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        jobs = None if job is None else (job,)
        return await self.find_runs(RunQuery(jobs, () if status is None else (status,), None, None, before, limit))

    async def find_runs(self, query: RunQuery) -> list[Run]:
        jobs = list(self._runs) if query.jobs is None else query.jobs
        kept = [runs for job in jobs for runs in self._kept_of(job, only_again=query.triggers == AGAIN) if runs]
        oldest = "" if query.claimed_since is None else first_id_at(query.claimed_since)
        ends_since = -inf if query.under_way_since is None else query.under_way_since
        ends = [
            end for end in (query.before, None if query.until is None else first_id_at(query.until)) if end is not None
        ]
        newest = min(ends, default=None)
        found: list[Run] = []
        # Those that ran last come first: the others are looked at only until there is enough that is newer.
        for last, runs in sorted(((max(runs), runs) for runs in kept), key=itemgetter(0), reverse=True):
            if last < oldest or (len(found) >= query.limit and (not found or found[-1].id > last)):
                break
            found += [
                run
                for run in runs.values()
                if run.id >= oldest
                and (newest is None or run.id < newest)
                and (not query.statuses or run.status in query.statuses)
                and (not query.triggers or run.trigger in query.triggers)
                and (run.ended_ts is None or run.ended_ts >= ends_since)
            ]
            found = sorted(found, key=attrgetter("id"), reverse=True)[: query.limit]
        return found

    def _kept_of(self, job: str, *, only_again: bool) -> tuple[dict[str, Run], dict[str, Run]]:
        """The runs of a job, and its older ones that did not complete; all of them, or those that ran ticks again."""
        runs, failed = self._runs.get(job, {}), self._failed.get(job, {})
        if not only_again:
            return runs, failed
        again = self._again.get(job, ())
        return {each: runs[each] for each in again if each in runs}, {
            each: failed[each] for each in again if each in failed
        }

    async def run(self, run_id: str) -> Run | None:
        return (await self.runs_by_id([run_id])).get(run_id)

    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        return await self.find_missed(MissedQuery((job,), limit=limit))

    async def find_missed(self, query: MissedQuery) -> list[MissedTicks]:
        jobs = list(self._missed) if query.jobs is None else query.jobs
        kept = [ticks for job in jobs for ticks in self._missed.get(job, {}).values() if is_wanted(ticks, query)]
        return sorted(kept, key=attrgetter("id"), reverse=True)[: query.limit]

    async def find_ids(self, part: str, job: str | None = None) -> list[str]:
        kept = [runs for by_job in (self._runs, self._failed) for name, runs in by_job.items() if job in (None, name)]
        ids = (run_id for runs in kept for run_id in runs if run_id.startswith(part) or run_id.endswith(part))
        return sorted(ids, reverse=True)

    async def figures(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> list[Figures]:
        self._count_ended()
        return [
            each
            for each in self._figures.values()
            if (jobs is None or each.job in jobs) and since <= each.day and (until is None or each.day <= until)
        ]

    async def restore(self, states: Collection[JobState], figures: Collection[Figures]) -> None:
        self._count_ended()
        self._figures.update({(each.job, each.day): each for each in figures})
        for state in states:
            run_id, ended, took = state.last_success_run, state.last_success_ts, state.last_success_took
            if run_id is not None and ended is not None:
                began = ended - (took or 0.0)
                self._successes[state.job] = Run(
                    run_id, state.job, None, "schedule", 1, state.instance, 0, "completed", began, ended
                )
            self._failures[state.job] = state.failures
            if state.job not in self._latest:
                stands_for_it = first_id_at(state.last_run_ts)
                self._latest[state.job] = Run(
                    stands_for_it, state.job, None, "schedule", 1, state.instance, 0, state.status, state.last_run_ts
                )

    async def runs_by_id(self, run_ids: Collection[str]) -> dict[str, Run]:
        wanted = set(run_ids)
        kept = (runs for by_job in (self._runs, self._failed) for runs in by_job.values())
        return {run_id: runs[run_id] for runs in kept for run_id in runs.keys() & wanted}

    async def unfinished(self) -> list[Run]:
        return [run for runs in self._runs.values() for run in runs.values() if run.status == "running"]

    async def prune(self, now: float) -> None:
        oldest = first_id_at(now - self._limits.days * 86_400)
        for job, runs in self._runs.items():
            failed = self._failed.get(job, {})
            if not runs or min(next(iter(runs)), next(iter(failed), "g")) >= oldest:
                continue
            always = set(sorted({*runs, *failed}, reverse=True)[: self._limits.keep_always])
            for kept in (runs, failed):
                for run_id in [each for each, run in kept.items() if each < oldest and run.status != "running"]:
                    if run_id not in always:
                        del kept[run_id]
        for job, again in [*self._again.items()]:
            again &= {*self._runs.get(job, ()), *self._failed.get(job, ())}
            if not again:
                del self._again[job]
        for missed in self._missed.values():
            for record_id in [each for each in missed if each < oldest]:
                del missed[record_id]
        self._count_ended()
        first_day = day_of(now - self._limits.figures_days * 86_400)
        self._figures = {key: figures for key, figures in self._figures.items() if figures.day >= first_day}

    async def forget(self, jobs: Collection[str]) -> None:
        for job in jobs:
            for kept in (
                self._runs,
                self._failed,
                self._missed,
                self._latest,
                self._successes,
                self._failures,
                self._again,
            ):
                kept.pop(job, None)
        gone = set(jobs)
        self._ended = [run for run in self._ended if run.job not in gone]
        self._figures = {key: figures for key, figures in self._figures.items() if figures.job not in gone}
        self._backfills.forget(gone)

    def companion_lock(self) -> LockBackend:
        from fastapi_crons.locking.local import LocalLockBackend

        return LocalLockBackend()
