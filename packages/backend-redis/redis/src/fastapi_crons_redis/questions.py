"""What people ask of a history in Redis: states, runs, missed ticks, ids, figures. No step keeps the server busy for long."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import NamedTuple, TypeVar

from fastapi_crons._util.damage import UNREADABLE, name
from fastapi_crons._util.gc_pause import collector_paused
from fastapi_crons.run import MissedTicks, Run, RunStatus, Trigger, first_id_at
from fastapi_crons.state.base import AGAIN, JobState, MissedQuery, RunQuery, is_wanted
from fastapi_crons.state.checks import checked_figures, checked_state
from fastapi_crons.state.figures import Figures

from .connection import text_of
from .history import History, shown, texts_in
from .records import figures_of, parsed, with_success

R = TypeVar("R", Run, MissedTicks)

#: About how many runs one step reads, and of how many jobs at most.
_RUNS_AT_A_TIME, _JOBS_AT_A_TIME = 2_000, 100
#: Of so many jobs, or fewer, each job's own index is searched, and not the one across jobs.
_FEW_JOBS = 20
#: In how many jobs' indexes one step looks for ids, and how many states one step reads.
_INDEXES_AT_A_TIME, _STATES_AT_A_TIME = 100, 1_000
#: How many records of missed ticks, and how many figures, one step reads.
_MISSED_AT_A_TIME, _FIGURES_AT_A_TIME = 500, 2_000
#: Sorts behind the ids of all runs.
_LAST_ID = "g"


class _Wanted(NamedTuple):
    """Which runs the script is to look for."""

    limit: int
    before: str | None
    """Those whose ids sort before this, and behind the next."""
    after: str | None
    statuses: list[RunStatus]
    """With any of these; none for all."""
    triggers: tuple[Trigger, ...] = ()
    """Started by any of these; none for all."""
    under_way_since: float | None = None
    """Still running, or ended at this time or later."""

    @classmethod
    def by(cls, query: RunQuery) -> _Wanted:
        ends = (query.before, None if query.until is None else first_id_at(query.until))
        before = min((end for end in ends if end is not None), default=None)
        after = None if query.claimed_since is None else first_id_at(query.claimed_since)
        return cls(query.limit, before, after, list(query.statuses), query.triggers, query.under_way_since)


class Questions:
    """Answers from the history of one namespace."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._noted = history.damage.noted

    async def states(self, jobs: Collection[str] | None) -> dict[str, JobState]:
        heads, texts = await self._heads_and_successes(jobs, wants_successes=True)
        successes = dict(zip(texts[::2], texts[1::2], strict=True))
        found = {}
        for _, state in self._heads_in(heads):
            read = partial(_with_success, state, successes.get(state.job.encode()))
            found[state.job] = self._noted(f"last success of job {state.job!r}", read) or state
        return found

    async def runs(self, query: RunQuery) -> list[Run]:
        """Runs, newest first.

        Those that did not complete, or ran a tick again, have indexes. Of the others, reads the latest run of each job, then
        the runs of those jobs that ran last, until there are enough: a narrow query can lead through the runs of all jobs, in
        many steps.
        """
        wanted, jobs, statuses = _Wanted.by(query), query.jobs, set(query.statuses)
        if query.limit <= 0:
            return []
        if query.triggers == AGAIN:
            return await self._indexed_runs("again", jobs, wanted._replace(triggers=()))
        if jobs is not None and len(jobs) == 1:
            (job,) = jobs
            return await self._runs_of_one(job, wanted)
        if not statuses or "completed" in statuses or (jobs is not None and len(jobs) <= _FEW_JOBS):
            return await self._runs_of_many(jobs, wanted)
        found: list[Run] = []
        if "running" in statuses:
            found += [
                run
                for run in await self.unfinished()
                if (jobs is None or run.job in jobs)
                and (wanted.after or "") < run.id < (wanted.before or _LAST_ID)
                and (not query.triggers or run.trigger in query.triggers)
            ]
        if statuses - {"running"}:
            found += await self._indexed_runs("failed", jobs, wanted)
        return _newest(found, query.limit)

    async def runs_by_job(self, jobs: Collection[str], limit: int) -> dict[str, list[Run]]:
        """The newest runs of each of these jobs, newest first."""
        found: dict[str, list[Run]] = {job: [] for job in jobs}
        names, size = list(found), max(1, _RUNS_AT_A_TIME // max(1, limit))
        for start in range(0, len(names) if limit > 0 else 0, size):
            part = names[start : start + size]
            for run in self._history.readable_runs(await self._texts_of(part, _Wanted(limit, None, None, [])), part):
                found[run.job].append(run)
        return {job: _newest(runs, limit) for job, runs in found.items()}

    async def unfinished(self) -> list[Run]:
        """All runs that are on record as running."""
        # What is listed as running may be on record as ended.
        found = self._history.readable_runs(await self._history.ask("unfinished"))
        return [run for run in found if run.status == "running"]

    async def missed(self, query: MissedQuery) -> list[MissedTicks]:
        """Records of missed ticks, newest first."""
        if query.jobs is None or len(query.jobs) > _FEW_JOBS:
            return await self._missed_of_all(query)
        found = [ticks for job in query.jobs for ticks in await self._missed_of_one(job, query)]
        return _newest(found, query.limit)

    async def ids(self, part: str, jobs: Collection[str] | None) -> list[str]:
        """The ids of the runs of some jobs, or of all, that begin or end with a text, newest first."""
        names = [state.job for _, state in await self._heads()] if jobs is None else jobs
        # In this order: a run that did not complete may be set aside meanwhile.
        waiting = [index + job for job in names for index in ("runs:", "failed:")]
        found: set[str] = set()
        cursor = "0"
        while waiting:
            done, next_cursor, *ids = await self._history.ask("ids", [waiting[:_INDEXES_AT_A_TIME], cursor, part])
            found.update(run_id for run_id in map(text_of, ids) if run_id.startswith(part) or run_id.endswith(part))
            waiting, cursor = waiting[int(done) :], text_of(next_cursor)
        return sorted(found, reverse=True)

    async def figures(self, jobs: Collection[str] | None, since: int, until: int | None) -> list[Figures]:
        """The figures of some jobs, or of all, and of the days from one to another."""
        days = await self._days(since, until)
        if jobs is None:
            return [figures for day in days for figures in await self._figures_of_all(day)]
        names = list(jobs)
        found: list[Figures] = []
        size = max(1, _FIGURES_AT_A_TIME // max(1, len(names)))
        for start in range(0, len(days), size):
            part = days[start : start + size]
            for day, of_day in zip(part, await self._history.ask("figures", [part, names]), strict=True):
                texts = texts_in(of_day)
                found += self._figures_in(day, dict(zip(texts[::2], texts[1::2], strict=True)))
        return found

    async def sums(
        self, jobs: Collection[str] | None, since: int, until: int | None
    ) -> tuple[dict[str, Figures], list[str]]:
        """The sums of the figures of some jobs, or of all, over these days; and the jobs of which a day can't be read."""
        days = await self._days(since, until)
        names = await self._figured_jobs(days) if jobs is None else list(jobs)
        found: dict[str, Figures] = {}
        unreadable: list[str] = []
        size = max(1, _FIGURES_AT_A_TIME // max(1, len(days)))
        for start in range(0, len(names) if days else 0, size):
            texts = await self._history.ask("sums", [days, names[start : start + size]])
            for job, text in zip(map(text_of, texts[::2]), texts[1::2], strict=True):
                try:
                    found[job] = checked_figures(figures_of(job, 0, text))
                except UNREADABLE:
                    unreadable.append(job)
        return found, unreadable

    async def _days(self, since: int, until: int | None) -> list[str]:
        """The days that have figures, from one to another."""
        return list(map(text_of, await self._history.ask("days", [since, "+inf" if until is None else until])))

    async def _figured_jobs(self, days: Sequence[str]) -> list[str]:
        """The jobs that have figures of any of these days."""
        found: set[bytes] = set()
        for day in days:
            found.update(await self._history.ask("figured_jobs", day))
        return list(map(text_of, found))

    async def _figures_of_all(self, day: str) -> list[Figures]:
        by_job: dict[bytes, bytes] = {}
        cursor = None
        while cursor != "0":
            next_cursor, *texts = await self._history.ask("figures_of_all", [day, cursor or "0"])
            by_job.update(zip(texts[::2], texts[1::2], strict=True))
            cursor = text_of(next_cursor)
        return self._figures_in(day, by_job)

    def _figures_in(self, day: str, by_job: Mapping[bytes, bytes]) -> list[Figures]:
        found = (
            self._noted(f"figures of job {shown(job)!r}, day {day}", partial(_figures, job, day, text))
            for job, text in by_job.items()
        )
        with collector_paused():
            return [figures for figures in found if figures is not None]

    async def _heads(self, jobs: Collection[str] | None = None) -> list[tuple[str, JobState]]:
        heads, _ = await self._heads_and_successes(jobs, wants_successes=False)
        return self._heads_in(heads)

    async def _heads_and_successes(
        self, jobs: Collection[str] | None, *, wants_successes: bool
    ) -> tuple[list[bytes], list[bytes]]:
        """The heads of some jobs' latest runs, or of all; and these jobs' last successes, each behind its job."""
        waiting = None if jobs is None else list(jobs)
        heads: list[bytes] = []
        successes: list[bytes] = []
        cursor = None
        while waiting or (waiting is None and cursor != "0"):
            part = None if waiting is None else waiting[:_STATES_AT_A_TIME]
            next_cursor, *texts = await self._history.ask("states", [part, cursor or "0", wants_successes])
            cursor = text_of(next_cursor)
            heads, successes = heads + texts_in(texts[0]), successes + texts_in(texts[1])
            waiting = None if waiting is None else waiting[_STATES_AT_A_TIME:]
        return heads, successes

    def _heads_in(self, texts: Iterable[bytes | None]) -> list[tuple[str, JobState]]:
        """The states of jobs, without their successes, each with the id of its latest run."""

        def read(text: bytes | None) -> tuple[str, JobState]:
            run_id, status, job, instance, started = parsed(text)
            return name(run_id, "id"), checked_state(JobState(job, status, instance, started))

        found = (self._noted(f"state of a job, {shown(text)}", partial(read, text)) for text in texts)
        return [head for head in found if head is not None]

    async def _runs_of_many(self, jobs: Collection[str] | None, wanted: _Wanted) -> list[Run]:
        latest = {state.job: run_id for run_id, state in await self._heads(jobs)}
        # A job whose state is lost may have runs.
        waiting = sorted(latest if jobs is None else set(jobs), key=lambda job: latest.get(job, _LAST_ID), reverse=True)
        found: list[Run] = []
        done, size = 0, max(1, _RUNS_AT_A_TIME // wanted.limit)
        while done < len(waiting):
            if len(found) == wanted.limit:
                wanted = wanted._replace(after=found[-1].id)
            if wanted.after is not None and latest.get(waiting[done], _LAST_ID) < wanted.after:
                break
            part = waiting[done : done + size]
            more = self._history.readable_runs(await self._texts_of(part, wanted), part)
            found = _newest([*found, *more], wanted.limit)
            done, size = done + size, min(2 * size, _JOBS_AT_A_TIME)
        return found

    async def _runs_of_one(self, job: str, wanted: _Wanted) -> list[Run]:
        found: list[Run] = []
        # A run that can't be read must not look like the end of the list.
        while (left := wanted.limit - len(found)) > 0:
            texts = await self._texts_of([job], wanted._replace(limit=left))
            found += self._history.readable_runs(texts, [job])
            if len(texts) < 2 * left:
                break
            wanted = wanted._replace(before=text_of(texts[-2]))
        return found[: wanted.limit]

    async def _texts_of(self, jobs: Sequence[str], wanted: _Wanted) -> list[bytes | None]:
        """The newest runs of some jobs, about so many of each: ids, each followed by its run."""
        found: list[bytes | None] = []
        resume = ""
        while jobs:
            done, next_id, *texts = await self._history.ask("runs", [jobs, resume, *wanted])
            found += texts
            jobs, resume = jobs[int(done) :], text_of(next_id)
        return found

    async def _indexed_runs(self, index: str, jobs: Collection[str] | None, wanted: _Wanted) -> list[Run]:
        names = None if jobs is None else list(jobs)
        found: list[Run] = []
        while wanted.before != "" and (left := wanted.limit - len(found)) > 0:
            next_member, *texts = await self._history.ask("indexed", [index, names, *wanted._replace(limit=left)])
            found += self._history.readable_runs(texts, jobs)
            wanted = wanted._replace(before=text_of(next_member))
        return found[: wanted.limit]

    async def _missed_of_all(self, query: MissedQuery) -> list[MissedTicks]:
        names = None if query.jobs is None else list(query.jobs)
        found: list[MissedTicks] = []
        before = query.before
        while before != "" and len(found) < query.limit:
            batch = [before, query.since, query.until, query.limit - len(found), names]
            next_member, *texts = await self._history.ask("missed_of_all", batch)
            found += [ticks for ticks in self._history.readable_missed(texts, names) if is_wanted(ticks, query)]
            before = text_of(next_member)
        return found[: query.limit]

    async def _missed_of_one(self, job: str, query: MissedQuery) -> list[MissedTicks]:
        found: list[MissedTicks] = []
        before = query.before
        while before != "" and len(found) < query.limit:
            last_id, *texts = await self._history.ask("missed_of_one", [job, _MISSED_AT_A_TIME, before])
            found += [ticks for ticks in self._history.readable_missed(texts, [job]) if is_wanted(ticks, query)]
            before = text_of(last_id)
        return found


def _newest(records: Iterable[R], limit: int) -> list[R]:
    return sorted(records, key=attrgetter("id"), reverse=True)[:limit]


def _with_success(state: JobState, text: bytes | None) -> JobState:
    return checked_state(with_success(state, text))


def _figures(job: bytes, day: str, text: bytes) -> Figures:
    return checked_figures(figures_of(job.decode(), int(day), text))
