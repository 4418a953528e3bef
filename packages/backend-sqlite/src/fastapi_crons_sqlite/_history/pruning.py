"""Pruning: deletes what is beyond the limits of the history, in transactions so short that no writer waits for long."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from time import monotonic
from typing import NamedTuple

from fastapi_crons.run import first_id_at
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons.state.figures import day_of
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._history.rows import NOT_COMPLETED
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Row, Transaction, Value, as_json

_DAY = 86_400
#: How many jobs are cut back together, how many of them are looked at in one query, and how many rows of each are deleted
#: before those of the others: rows of the same time lie side by side.
_JOBS_TOGETHER, _JOBS_AT_A_TIME, _ROWS_OF_A_JOB = 1_000, 100, 20
#: How many old rows are looked at in one query.
_ROWS_AT_A_TIME = 2_000
#: A job is looked at when so large a part of the runs that it keeps may have come to it.
_GROWTH = 0.02
#: How long (seconds) a transaction that deletes is to take, and how many rows one deletes at least and at most.
_WANTED, _FEWEST, _MOST = 0.005, 20, 500
#: How long (seconds) it goes on at a time; what is left then is for the next time.
_LONGEST = 15.0
#: For how many times as long the file is left to the others after each: who finds it taken tries again later and later.
_LEFT_ALONE = 4
#: Every job with records of runs, or of missed ticks, is found by one look into an index.
_JOBS = """
    WITH RECURSIVE jobs (job) AS (
        SELECT min(job) FROM {table}
        UNION ALL SELECT (SELECT min(job) FROM {table} WHERE job > jobs.job) FROM jobs WHERE job IS NOT NULL)
    SELECT job FROM jobs WHERE job IS NOT NULL"""


class _Excess(NamedTuple):
    """What is beyond the limits of a job: for each of these the newest id that is to go; empty where all are kept."""

    completed: str
    """Of the runs that completed, or of all that ended where no more of the others are kept."""
    not_completed: str
    old: str
    """Of the runs that are too old, whatever became of them."""
    missed: str
    """Of the records of missed ticks."""
    seen: str
    """The oldest run that is to be looked at the next time."""


class Pruning:
    """Finds, by reading, what is to go, and deletes that; what it has looked through it does not look through again.

    Several processes may do so on the same file.
    """

    def __init__(self, database: Database, names: Names, limits: HistoryLimits) -> None:
        self._database = database
        self._names = names
        self._limits = limits
        #: How many records of each job (key) were written since it was looked at; None where all jobs are to be looked at.
        self._grown: Counter[str] | None = None
        #: By key, where to go on: all that completed before this run is deleted.
        self._seen: dict[str, str] = {}
        #: What is older was looked at, in all jobs. And which days still have figures.
        self._seen_by_age = ""
        self._first_day = 0
        self._at_a_time = 200
        #: When to stop, on the monotonic clock.
        self._ends = 0.0

    def note(self, keys: Iterable[str]) -> None:
        """Note that a record of each of these jobs (keys) was written."""
        if self._grown is not None:
            self._grown.update(keys)

    async def prune(self, now: float) -> None:
        """Cut the history back to its limits."""
        self._ends = monotonic() + _LONGEST
        oldest = first_id_at(now - self._limits.days * _DAY)
        await self._cut_back_grown(oldest)
        await self._delete_too_old(oldest)
        first_day = day_of(now - self._limits.figures_days * _DAY)
        if first_day != self._first_day:
            await self._delete_figures(first_day)
            self._first_day = first_day

    async def _cut_back_grown(self, oldest: str) -> None:
        grown, since, done = self._grown, Counter[str](), False
        self._grown = since
        try:
            if grown is None:
                # This looks at what is too old, too.
                jobs, self._seen_by_age = await self._all_jobs(), max(self._seen_by_age, oldest)
            else:
                # A run has two records.
                jobs = [job for job, number in grown.items() if number > 2 * _GROWTH * self._limits.keep]
            for start in range(0, len(jobs), _JOBS_TOGETHER):
                await self._cut_back(jobs[start : start + _JOBS_TOGETHER], oldest)
            done = not self._is_late()
        finally:
            if not done:
                # All of them are looked at again the next time.
                self._grown = None if grown is None else since + grown
        if done and grown is not None:
            for job in jobs:
                del grown[job]
            since.update(grown)

    def _is_late(self) -> bool:
        return monotonic() > self._ends

    async def _all_jobs(self) -> list[str]:
        def jobs(transaction: Transaction) -> set[object]:
            return {
                row[0]
                for table in ("job_run", "job_missed")
                for row in transaction.plain_rows(_JOBS.format(table=table))
            }

        return [
            job for job in await self._database.read(jobs) if isinstance(job, str) and self._names.own(job) is not None
        ]

    async def _cut_back(self, jobs: Sequence[str], oldest: str) -> None:
        found = {
            job: excess
            for start in range(0, len(jobs), _JOBS_AT_A_TIME)
            for job, excess in (await self._look(jobs[start : start + _JOBS_AT_A_TIME], oldest)).items()
        }
        left = list(jobs)
        while left and not self._is_late():
            runs: list[str] = []
            missed: list[str] = []
            more = []
            for start in range(0, len(left), _JOBS_AT_A_TIME):
                for job, some in (await self._some(left[start : start + _JOBS_AT_A_TIME], found)).items():
                    runs += some[0]
                    missed += some[1]
                    if max(map(len, some)) >= _ROWS_OF_A_JOB:
                        more.append(job)
            await self._delete("job_run", sorted({*runs}))
            await self._delete("job_missed", sorted(missed))
            if not self._is_late():
                left = more
        self._seen.update({job: excess.seen for job, excess in found.items() if job not in left})

    async def _look(self, jobs: Sequence[str], oldest: str) -> dict[str, _Excess]:
        return await self._database.read(
            lambda transaction: {job: self._excess(transaction, job, oldest) for job in jobs}
        )

    def _excess(self, transaction: Transaction, job: str, oldest: str) -> _Excess:
        limits = self._limits
        last = _nth(transaction, "job_run", job, max(limits.keep, limits.keep_always))
        failed, seen = "", ""
        if last:
            running = transaction.plain_rows("SELECT min(id) FROM job_run WHERE job = ? AND status = 'running'", job)
            seen = min(last, _text(running) or last)
            if limits.keep_failed:
                failed = _nth(transaction, "job_run", job, limits.keep_failed, f"AND id <= ? AND {NOT_COMPLETED}", last)
        old = min(oldest, _nth(transaction, "job_run", job, limits.keep_always))
        missed = _nth(transaction, "job_missed", job, max(limits.keep, limits.keep_failed))
        return _Excess(last, failed, old, missed, seen)

    async def _some(self, jobs: Sequence[str], found: dict[str, _Excess]) -> dict[str, tuple[list[str], list[str]]]:
        """Some of each job's runs, and of its records of missed ticks, that are to go: the oldest."""
        return await self._database.read(
            lambda transaction: {job: self._ids_of(transaction, job, found[job]) for job in jobs}
        )

    def _ids_of(self, transaction: Transaction, job: str, excess: _Excess) -> tuple[list[str], list[str]]:
        runs: list[str] = []
        ended = "status <> 'running'"
        if excess.completed:
            rest = "status = 'completed'" if self._limits.keep_failed else ended
            runs += _ids(
                transaction, "job_run", job, f"id >= ? AND id <= ? AND {rest}", self._seen.get(job, ""), excess[0]
            )
        if excess.not_completed:
            runs += _ids(transaction, "job_run", job, f"id <= ? AND {NOT_COMPLETED}", excess.not_completed)
        if excess.old:
            runs += _ids(transaction, "job_run", job, f"id <= ? AND {ended}", excess.old)
        return runs, _ids(transaction, "job_missed", job, "id <= ?", excess.missed) if excess.missed else []

    async def _delete_too_old(self, oldest: str) -> None:
        """Delete what has become too old since the last time, of all jobs."""
        async for rows in self._too_old("job_run", self._seen_by_age, oldest, "AND status <> 'running'"):
            kept = await self._always_kept({job for _, job in rows})
            await self._delete("job_run", [run_id for run_id, job in rows if run_id <= kept[job]])
            if self._is_late():
                self._seen_by_age = rows[0][0] if rows else self._seen_by_age
                return
        async for rows in self._too_old("job_missed", "", oldest):
            await self._delete("job_missed", [record_id for record_id, _ in rows])
        self._seen_by_age = oldest

    async def _too_old(self, table: str, seen: str, oldest: str, rest: str = "") -> AsyncIterator[Sequence[Row]]:
        """The ids and keys of this namespace's rows that are too old, some at a time, the oldest first."""
        own = self._names.condition.replace("job", "+job")
        while rows := await self._database.plain_rows(
            f"SELECT id, job FROM {table} WHERE id >= ? AND id < ? AND {own} {rest} ORDER BY id LIMIT ?",
            seen,
            oldest,
            *self._names.bounds,
            _ROWS_AT_A_TIME,
        ):
            yield [row for row in rows if isinstance(row[0], str)]
            seen = f"{rows[-1][0]} "  # just behind it

    async def _always_kept(self, jobs: Collection[str]) -> dict[str, str]:
        """For each of these jobs the newest run that may be deleted; "" where all of its runs are kept."""
        keep = self._limits.keep_always
        return await self._database.read(
            lambda transaction: {job: _nth(transaction, "job_run", job, keep) for job in jobs}
        )

    async def _delete_figures(self, first_day: int) -> None:
        own = self._names.condition
        statement = (
            "DELETE FROM job_figures WHERE (day, job) IN "
            f"(SELECT day, job FROM job_figures WHERE day < ? AND {own} LIMIT ?)"
        )
        while await self._change(statement, first_day, *self._names.bounds, self._at_a_time):
            pass

    async def _delete(self, table: str, ids: Sequence[str]) -> None:
        """Delete rows by their ids, as many at a time as go quickly. Writers come in between."""
        done = 0
        while done < len(ids) and not self._is_late():
            part = as_json(ids[done : done + self._at_a_time])
            done += self._at_a_time
            await self._change(f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))", part)

    async def _change(self, statement: str, *parameters: Value) -> int:
        """Run a statement in a transaction of its own; returns how many rows it changed."""
        changed, took = await self._database.write_timed(
            lambda transaction: transaction.execute(statement, *parameters)
        )
        if took > _WANTED:
            self._at_a_time = max(_FEWEST, self._at_a_time // 2)
        elif took < _WANTED / 2:
            self._at_a_time = min(_MOST, self._at_a_time * 2)
        await asyncio.sleep(min(took, _WANTED) * _LEFT_ALONE)
        return changed


def _nth(transaction: Transaction, table: str, job: str, number: int, rest: str = "", *parameters: Value) -> str:
    """The id of a job's newest record but so many; empty where it has no more than these."""
    return _text(
        transaction.plain_rows(
            f"SELECT id FROM {table} WHERE job = ? {rest} ORDER BY id DESC LIMIT 1 OFFSET ?", job, *parameters, number
        )
    )


def _ids(transaction: Transaction, table: str, job: str, condition: str, *parameters: Value) -> list[str]:
    rows = transaction.plain_rows(
        f"SELECT id FROM {table} WHERE job = ? AND {condition} ORDER BY id LIMIT ?", job, *parameters, _ROWS_OF_A_JOB
    )
    return [run_id for (run_id,) in rows if isinstance(run_id, str)]


def _text(rows: Sequence[Row]) -> str:
    """The one value of a query; empty where there is none, or none that can be an id."""
    return rows[0][0] if rows and isinstance(rows[0][0], str) else ""
