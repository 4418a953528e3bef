"""Pruning: deletes what is beyond the limits of the history, in short transactions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from time import monotonic

from fastapi_crons.run import first_id_at
from fastapi_crons.state.base import HistoryLimits
from fastapi_crons.state.figures import day_of
from fastapi_crons_postgres._batch import fit
from fastapi_crons_postgres._connection import Connection
from fastapi_crons_postgres._driver import Driver

_DAY = 86_400
#: How many jobs are looked at together, how many old rows are, and how many rows one transaction deletes.
_JOBS_AT_A_TIME, _ROWS_AT_A_TIME, _DELETED_AT_A_TIME = 200, 2_000, 500
#: A job is looked at when so large a part of the runs that it keeps may have come to it.
_GROWTH = 0.02
#: How long (seconds) it goes on at a time; what is left then is for the next time. And how long it waits between transactions.
_LONGEST, _BETWEEN = 15.0, 0.01


class Pruning:
    """Finds, by reading, what is to go, and deletes that. Several instances may do so in the same tables."""

    def __init__(
        self, connection: Callable[[], Connection], schema: str, namespace: str, limits: HistoryLimits
    ) -> None:
        """`connection` says which one is used for what is not urgent."""
        self._connection, self._schema = connection, schema
        self._namespace, self._limits = fit(namespace), limits
        #: How many records of each job were written here since it was looked at; None where all jobs are to be looked at.
        self._grown: Counter[str] | None = None
        #: What is older was looked at, in all jobs. And since which day there are figures.
        self._seen_by_age = ""
        self._first_day = 0
        #: When to stop, on the monotonic clock.
        self._ends = 0.0

    def note(self, jobs: Iterable[str]) -> None:
        """Note that a record of each of these jobs was written."""
        if self._grown is not None:
            self._grown.update(jobs)

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
        grown, self._grown = self._grown, Counter[str]()
        if grown is None:
            jobs = await self._all_jobs()
        else:
            # A run has two records.
            jobs = [job for job, number in grown.items() if number > 2 * _GROWTH * self._limits.keep]
        done = 0
        try:
            for start in range(0, len(jobs), _JOBS_AT_A_TIME):
                if monotonic() > self._ends:
                    break
                await self._cut_back(jobs[start : start + _JOBS_AT_A_TIME], oldest)
                done = start + _JOBS_AT_A_TIME
        finally:
            if done < len(jobs) and grown is None:
                self._grown = None
            elif grown is not None:
                for job in jobs[:done]:
                    del grown[job]
                self._grown.update(grown)

    async def _all_jobs(self) -> list[str]:
        found = set()
        for table in ("crons_run", "crons_missed"):
            # Finds each job by one look into an index.
            first, following = (
                f"SELECT min(job) FROM {self._schema}.{table} WHERE namespace = $1{rest}"
                for rest in ("", " AND job > jobs.job")
            )
            rows = await self._connection().rows(
                f"WITH RECURSIVE jobs (job) AS (({first}) UNION ALL SELECT ({following}) FROM jobs WHERE job IS NOT NULL) "
                "SELECT job FROM jobs WHERE job IS NOT NULL",
                self._namespace,
            )
            found |= {row["job"] for row in rows}
        return sorted(found)

    async def _cut_back(self, jobs: Sequence[str], oldest: str) -> None:
        """Delete what these jobs have too much of."""
        keep, always, failed = self._limits.keep, self._limits.keep_always, self._limits.keep_failed
        kept = max(keep, always)
        rows = await self._connection().rows(
            "SELECT wanted.job, coalesce(last.id, '') AS completed, coalesce(failed.id, '') AS not_completed, "
            "least(coalesce(old.id, ''), $3) AS old, coalesce(missed.id, '') AS missed "
            "FROM unnest($2::text[]) AS wanted (job) "
            f"LEFT JOIN LATERAL ({self._nth('crons_run', kept)}) AS last ON true "
            f"LEFT JOIN LATERAL ({self._nth('crons_run', failed, f'{_NOT_COMPLETED} AND id <= last.id')}) AS failed ON true "
            f"LEFT JOIN LATERAL ({self._nth('crons_run', always)}) AS old ON true "
            f"LEFT JOIN LATERAL ({self._nth('crons_missed', max(keep, failed))}) AS missed ON true",
            self._namespace,
            [*map(fit, jobs)],
            oldest,
        )
        bounds = [[row[column] for row in rows] for column in ("job", "completed", "not_completed", "old", "missed")]
        completed = "status = 'completed'" if failed else "true"
        await self._delete_found(
            "crons_run",
            "AND status <> 'running' AND id <= greatest(excess.completed, excess.old) AND (id <= excess.old "
            f"OR id <= excess.completed AND {completed} OR id <= excess.not_completed {_NOT_COMPLETED})",
            bounds,
        )
        await self._delete_found("crons_missed", "AND id <= excess.missed", bounds)

    def _nth(self, table: str, number: int, condition: str = "") -> str:
        """The query for the id of a wanted job's newest record but so many."""
        own = f"namespace = $1 AND job = wanted.job {condition}"
        return f"SELECT id FROM {self._schema}.{table} WHERE {own} ORDER BY id DESC LIMIT 1 OFFSET {number:d}"

    async def _delete_found(self, table: str, condition: str, bounds: Sequence[Sequence[str]]) -> None:
        while monotonic() < self._ends:
            rows = await self._connection().rows(
                "SELECT found.id FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) "
                "AS excess (job, completed, not_completed, old, missed) CROSS JOIN LATERAL ("
                f"SELECT id FROM {self._schema}.{table} WHERE namespace = $1 AND job = excess.job {condition} "
                f"ORDER BY id LIMIT {_DELETED_AT_A_TIME}) AS found LIMIT {_DELETED_AT_A_TIME}",
                self._namespace,
                *bounds,
            )
            await self._delete(table, [row["id"] for row in rows])
            if len(rows) < _DELETED_AT_A_TIME:
                return

    async def _delete_too_old(self, oldest: str) -> None:
        """Delete what has become too old since the last time, of all jobs."""
        for table, keep in (("crons_run", self._limits.keep_always), ("crons_missed", 0)):
            seen = self._seen_by_age
            running = "AND status <> 'running'" if table == "crons_run" else ""
            while monotonic() < self._ends:
                rows = await self._connection().rows(
                    f"SELECT id, job FROM {self._schema}.{table} WHERE namespace = $1 AND id > $2 AND id < $3 {running} "
                    f"ORDER BY id LIMIT {_ROWS_AT_A_TIME}",
                    self._namespace,
                    seen,
                    oldest,
                )
                kept = await self._newest_of(table, {row["job"] for row in rows}, keep)
                await self._delete(table, [row["id"] for row in rows if row["id"] not in kept])
                if len(rows) < _ROWS_AT_A_TIME:
                    break
                seen = rows[-1]["id"]
            else:
                return
        self._seen_by_age = oldest

    async def _newest_of(self, table: str, jobs: Iterable[str], number: int) -> set[str]:
        """The ids of the newest so many records of each of these jobs."""
        if not number:
            return set()
        rows = await self._connection().rows(
            "SELECT found.id FROM unnest($2::text[]) AS wanted (job) CROSS JOIN LATERAL ("
            f"SELECT id FROM {self._schema}.{table} WHERE namespace = $1 AND job = wanted.job ORDER BY id DESC "
            f"LIMIT {number:d}) AS found",
            self._namespace,
            [*jobs],
        )
        return {row["id"] for row in rows}

    async def _delete(self, table: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _DELETED_AT_A_TIME):
            part = ids[start : start + _DELETED_AT_A_TIME]

            async def work(driver: Driver, part: Sequence[str] = part) -> None:
                await driver.execute(
                    f"DELETE FROM {self._schema}.{table} WHERE namespace = $1 AND id = ANY ($2)",
                    self._namespace,
                    [*part],
                )

            await self._connection().write(work)
            await asyncio.sleep(_BETWEEN)

    async def _delete_figures(self, first_day: int) -> None:
        async def work(driver: Driver) -> None:
            await driver.execute(
                f"DELETE FROM {self._schema}.crons_figures WHERE namespace = $1 AND day < $2",
                self._namespace,
                first_day,
            )

        await self._connection().write(work)


_NOT_COMPLETED = "AND status <> 'running' AND status <> 'completed'"
