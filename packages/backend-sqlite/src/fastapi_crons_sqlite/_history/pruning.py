"""Pruning: deletes what is beyond the limits of the history, in transactions so short that no writer waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from time import monotonic

from fastapi_crons.run import first_id_at
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons.state.figures import day_of
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._history.rows import NOT_COMPLETED
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Row, Transaction, Value, as_json

_DAY = 86_400
#: How many jobs, and how many old rows, are looked at in one query.
_JOBS_AT_A_TIME, _ROWS_AT_A_TIME = 100, 2_000
#: How long (seconds) a transaction that deletes is to take, and how many rows one deletes at least and at most.
_WANTED, _FEWEST, _MOST = 0.01, 10, 2_000


class Pruning:
    """Finds, by reading, what is to go, and deletes that; what it has looked through it does not look through again.

    Several processes may do so on the same file.
    """

    def __init__(self, database: Database, names: Names, limits: HistoryLimits) -> None:
        self._database = database
        self._names = names
        self._limits = limits
        #: Jobs (keys) with records that were written since they were looked at; None for all.
        self._grown: set[str] | None = None
        #: By key, where to go on: all that completed before this run is deleted. And the same for runs that are too old.
        self._seen: dict[str, str] = {}
        self._seen_by_age = ""
        self._at_a_time = 200

    def note(self, keys: Collection[str]) -> None:
        """Note that records of these jobs (keys) were written."""
        if self._grown is not None:
            self._grown.update(keys)

    async def prune(self, now: float) -> None:
        """Cut the history back to its limits."""
        grown, self._grown = self._grown, set()
        oldest = first_id_at(now - self._limits.days * _DAY)
        try:
            jobs = sorted(await self._all_jobs() if grown is None else grown)
            for start in range(0, len(jobs), _JOBS_AT_A_TIME):
                await self._cut_back(jobs[start : start + _JOBS_AT_A_TIME], oldest)
        except BaseException:
            # What was not done is left to the next time.
            self._grown = None if grown is None or self._grown is None else self._grown | grown
            raise
        await self._delete_too_old(oldest)
        await self._delete_figures(day_of(now - self._limits.figures_days * _DAY))

    async def _all_jobs(self) -> list[str]:
        rows = await self._database.rows("job", "FROM (SELECT job FROM job_run UNION SELECT job FROM job_missed)")
        return [job for (job,) in rows if self._names.own(job) is not None]

    async def _cut_back(self, jobs: Sequence[str], oldest: str) -> None:
        def look(transaction: Transaction) -> tuple[list[str], list[str]]:
            runs = [run_id for job in jobs for run_id in self._excess_runs(transaction, job, oldest)]
            return runs, [record for job in jobs for record in self._excess_missed(transaction, job)]

        runs, missed = await self._database.read(look)
        await self._delete("job_run", runs)
        await self._delete("job_missed", missed)

    def _excess_runs(self, transaction: Transaction, job: str, oldest: str) -> list[str]:
        """The runs of a job that are beyond its number of runs, or too old and not among those that are always kept."""
        found: list[str] = []
        limits, ended = self._limits, "status <> 'running'"
        last = _nth(transaction, "job_run", job, max(limits.keep, limits.keep_always))
        if last is not None:
            seen = self._seen.get(job, "")
            rest = "status = 'completed'" if limits.keep_failed else ended
            found += _ids(transaction, f"job = ? AND id >= ? AND id <= ? AND {rest}", job, seen, last)
            (running,) = _ids(transaction, "job = ? AND status = 'running'", job, what="min(id)")
            self._seen[job] = min(last, running or last)
        if last is not None and limits.keep_failed:
            last = _nth(transaction, "job_run", job, limits.keep_failed, f"AND id <= ? AND {NOT_COMPLETED}", last)
            if last is not None:
                found += _ids(transaction, f"job = ? AND id <= ? AND {NOT_COMPLETED}", job, last)
        last = _nth(transaction, "job_run", job, limits.keep_always)
        if last is not None:
            found += _ids(transaction, f"job = ? AND id <= ? AND id < ? AND {ended}", job, last, oldest)
        return found

    def _excess_missed(self, transaction: Transaction, job: str) -> list[str]:
        last = _nth(transaction, "job_missed", job, max(self._limits.keep, self._limits.keep_failed))
        return [] if last is None else _ids(transaction, "job = ? AND id <= ?", job, last, table="job_missed")

    async def _delete_too_old(self, oldest: str) -> None:
        """Delete what has become too old since the last time, of all jobs."""
        seen = self._seen_by_age
        while rows := await self._old_rows("job_run", seen, oldest, "AND status <> 'running'"):
            kept = await self._always_kept({job for _, job in rows})
            await self._delete("job_run", [run_id for run_id, job in rows if run_id <= kept.get(job, run_id)])
            seen = f"{rows[-1][0]} "  # just behind it
        ((running,),) = await self._database.plain_rows("SELECT min(id) FROM job_run WHERE status = 'running'")
        # Those that are still running come again.
        self._seen_by_age = min(oldest, running or oldest)
        while rows := await self._old_rows("job_missed", "", oldest):
            await self._delete("job_missed", [record_id for record_id, _ in rows])

    async def _old_rows(self, table: str, seen: str, oldest: str, rest: str = "") -> Sequence[Row]:
        """The ids and keys of some rows of this namespace that are too old, the oldest first."""
        own = self._names.condition.replace("job", "+job")
        return await self._database.plain_rows(
            f"SELECT id, job FROM {table} WHERE id >= ? AND id < ? AND {own} {rest} ORDER BY id LIMIT ?",
            seen,
            oldest,
            *self._names.bounds,
            _ROWS_AT_A_TIME,
        )

    async def _always_kept(self, jobs: Collection[str]) -> dict[str, str]:
        """For each of these jobs the newest run that may be deleted; "" where all of its runs are kept."""
        if not self._limits.keep_always:
            return {}
        return await self._database.read(
            lambda transaction: {job: _nth(transaction, "job_run", job, self._limits.keep_always) or "" for job in jobs}
        )

    async def _delete_figures(self, first_day: int) -> None:
        own = self._names.condition.replace("job", "+job")
        while True:
            at_a_time = self._at_a_time
            deleted = await self._change(
                "DELETE FROM job_figures WHERE (job, day) IN "
                f"(SELECT job, day FROM job_figures WHERE day < ? AND {own} LIMIT ?)",
                first_day,
                *self._names.bounds,
                at_a_time,
            )
            if deleted < at_a_time:
                break

    async def _delete(self, table: str, ids: Sequence[str]) -> None:
        """Delete rows by their ids, as many at a time as go quickly. Writers come in between."""
        done = 0
        while done < len(ids):
            part = as_json(ids[done : done + self._at_a_time])
            done += self._at_a_time
            await self._change(f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))", part)

    async def _change(self, statement: str, *parameters: Value) -> int:
        """Run a statement in a transaction of its own; returns how many rows it changed."""
        began = 0.0

        def work(transaction: Transaction) -> int:
            nonlocal began
            began = monotonic()
            return transaction.execute(statement, *parameters)

        changed = await self._database.write(work)
        took = monotonic() - began
        if took > _WANTED:
            self._at_a_time = max(_FEWEST, self._at_a_time // 2)
        elif took < _WANTED / 2:
            self._at_a_time = min(_MOST, self._at_a_time * 2)
        # SQLite gives the file to whoever asks first: leave it to the others for as long as it was ours.
        await asyncio.sleep(min(took, _WANTED))
        return changed


def _nth(transaction: Transaction, table: str, job: str, number: int, rest: str = "", *parameters: Value) -> str | None:
    """The id of a job's newest record but so many; None where it has no more than these."""
    rows = transaction.plain_rows(
        f"SELECT id FROM {table} WHERE job = ? {rest} ORDER BY id DESC LIMIT 1 OFFSET ?", job, *parameters, number
    )
    return str(rows[0][0]) if rows else None


def _ids(
    transaction: Transaction, condition: str, *parameters: Value, what: str = "id", table: str = "job_run"
) -> list[str]:
    return [row[0] for row in transaction.plain_rows(f"SELECT {what} FROM {table} WHERE {condition}", *parameters)]
