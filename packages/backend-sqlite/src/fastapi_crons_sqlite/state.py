"""The SQLite state store: job states and the history of runs in one file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fastapi_crons.locking.base import Reach
from fastapi_crons.run import MissedTicks, Run, RunStatus
from fastapi_crons.state.base import Event, HistoryLimits, JobState, Record, StateBackend
from fastapi_crons.state.checks import Damage, checked_state
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._events import clean_up, publish, subscribe
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._rows import MISSED_COLUMNS, RUN_COLUMNS, log_of, missed_of, missed_row, run_of, run_row
from fastapi_crons_sqlite._transaction import Row, Transaction, as_json

if TYPE_CHECKING:
    from fastapi_crons.locking.base import LockBackend


def _iso(column: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%f', {column}, 'unixepoch') || '+00:00'"


def _may_follow(column: str) -> str:
    """Whether any instant counts as newer than that of a column: it is not readable, or lies more than a day ahead."""
    return f"coalesce(julianday({column}) > julianday('now', '+1 day'), true)"


# A record that is closed never changes again.
_INSERT_RUNS = f"INSERT INTO job_run ({RUN_COLUMNS}, log)"
_OR_CLOSE_RUNS = """
    ON CONFLICT (id) DO UPDATE SET
        status = excluded.status, attempt = excluded.attempt, ended_ts = excluded.ended_ts,
        error_type = excluded.error_type, error_message = excluded.error_message,
        error_traceback = excluded.error_traceback, result = excluded.result, log = excluded.log,
        log_dropped = excluded.log_dropped, delay = excluded.delay, waited = excluded.waited,
        arguments_json = excluded.arguments_json
    WHERE job_run.status = 'running'"""
_INSERT_MISSED = f"INSERT OR REPLACE INTO job_missed ({MISSED_COLUMNS})"
_WRITE_STATUS = f"""
    INSERT INTO job_status (name, status, instance_id, started_at)
    SELECT run.job, run.status, run.instance, {_iso("run.started_ts")} FROM json_each(?) JOIN job_run AS run ON run.id = value
    WHERE true
    ON CONFLICT (name) DO UPDATE SET
        status = excluded.status, instance_id = excluded.instance_id, started_at = excluded.started_at
    WHERE {_may_follow("job_status.started_at")} OR excluded.started_at >= job_status.started_at"""
_WRITE_STATE = f"""
    INSERT INTO job_state (name, last_run, created_at, updated_at)
    SELECT run.job, {_iso("run.started_ts")}, {_iso("run.started_ts")}, {_iso("coalesce(run.ended_ts, run.started_ts)")}
    FROM json_each(?) JOIN job_run AS run ON run.id = value WHERE true
    ON CONFLICT (name) DO UPDATE SET last_run = excluded.last_run, updated_at = excluded.updated_at
    WHERE {_may_follow("job_state.last_run")} OR excluded.last_run >= job_state.last_run"""
# A database of fastapi-crons 2.x may have rows in only one of the tables, and times without an offset.
_STATE_COLUMNS = """
    status.name, status.status, coalesce(status.instance_id, ''),
    (coalesce(julianday(status.started_at), julianday(state.last_run)) - 2440587.5) * 86400.0"""
_STATES = """
    FROM job_status AS status LEFT JOIN job_state AS state ON state.name = status.name
    WHERE coalesce(status.started_at, state.last_run) IS NOT NULL"""
#: How many jobs are cut back in one transaction, and how many rows of old history go in one.
_PRUNE_JOBS, _PRUNE_ROWS = 200, 2_000


class SQLiteStateBackend(StateBackend):
    """Job states and history in a SQLite file (`crons.db` by default), shared by all processes of a host."""

    reach: ClassVar[Reach] = "host"

    def __init__(self, db_path: str | Path = "crons.db", *, busy_timeout: float = 4.0) -> None:
        self._database = Database(db_path, busy_timeout=busy_timeout, synchronous="NORMAL")
        self._busy_timeout = busy_timeout
        self._damage = Damage(f"history in {self._database.path}")
        self._names = Names("default")
        self._namespace = "default"
        self._limits = HistoryLimits(100, 30)
        #: Jobs with runs that were written since the history was last cut back; None for all.
        self._grown: set[str] | None = None

    @property
    def path(self) -> str:
        """The database file."""
        return self._database.path

    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        await self._open(namespace, limits, to_read=False)

    async def open_to_read(self, namespace: str, limits: HistoryLimits) -> None:
        await self._open(namespace, limits, to_read=True)

    async def _open(self, namespace: str, limits: HistoryLimits, *, to_read: bool) -> None:
        self._names, self._namespace, self._limits, self._grown = Names(namespace), namespace, limits, None
        await self._database.open(to_read=to_read)

    async def close(self) -> None:
        await self._database.close()

    def companion_lock(self) -> LockBackend:
        from fastapi_crons_sqlite.lock import SQLiteLockBackend

        return SQLiteLockBackend(self.path, busy_timeout=self._busy_timeout)

    async def write(self, records: Sequence[Record]) -> None:
        key = self._names.key
        runs: list[Row] = []
        missed: list[Row] = []
        newest: dict[str, str] = {}
        skipped: set[str] = set()
        for record in records:
            if isinstance(record, Run):
                job = key(record.job)
                runs.append(run_row(record, job))
                if record.id >= newest.get(job, ""):
                    newest[job] = record.id
            else:
                job = key(record.job)
                missed.append(missed_row(record, job))
                skipped.add(job)
        newest_ids = as_json(list(newest.values()))

        def work(transaction: Transaction) -> None:
            transaction.insert(_INSERT_RUNS, runs, _OR_CLOSE_RUNS)
            transaction.execute(_WRITE_STATUS, newest_ids)
            transaction.execute(_WRITE_STATE, newest_ids)
            transaction.insert(_INSERT_MISSED, missed)
            publish(transaction, self._namespace, [record.id for record in records])

        await self._database.write(work)
        if self._grown is not None:
            self._grown.update(newest, skipped)

    def events(self, *, records: bool = True) -> AsyncGenerator[Event, None] | None:
        return subscribe(self._database, self._namespace, self._damage) if records else None

    def damaged(self) -> Collection[str]:
        return self._damage.names()

    def obstacle(self) -> str | None:
        return self._database.obstacle()

    async def states(self, jobs: Collection[str] | None = None) -> dict[str, JobState]:
        if jobs is None:
            rows = await self._database.rows(_STATE_COLUMNS, _STATES)
        else:
            names = as_json([self._names.key(job) for job in jobs])
            rest = f"{_STATES} AND status.name IN (SELECT value FROM json_each(?))"
            rows = await self._database.rows(_STATE_COLUMNS, rest, names)
        states = (self._state_of(row, job) for row in rows if (job := self._names.own(row[0])) is not None)
        return {state.job: state for state in states if state is not None}

    def _state_of(self, row: Row, job: str) -> JobState | None:
        return self._damage.noted(f"state of job {job!r}", lambda: checked_state(JobState(job, *row[1:])))

    def _runs_of(self, rows: Sequence[Row]) -> list[Run]:
        """The runs of rows, as far as they are this namespace's, and can be read."""
        runs = (run_of(row, job, self._damage) for row in rows if (job := self._names.own(row[1])) is not None)
        return [run for run in runs if run is not None]

    async def runs(
        self, job: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        found: list[Run] = []
        # A run that can't be read must not look like the end of the list.
        while (wanted := limit - len(found)) > 0:
            rows = await self._rows_of_runs(job, wanted, before, status)
            found += self._runs_of(rows)
            if len(rows) < wanted:
                break
            before = rows[-1][0]
        return found

    async def _rows_of_runs(
        self, job: str | None, limit: int, before: str | None, status: RunStatus | None
    ) -> Sequence[Row]:
        names = self._names
        if job is None:
            # Unary plus: by the ids, which are in order, and not by an index of jobs.
            conditions, parameters = [names.condition.replace("job", "+job")], [*names.bounds]
        else:
            conditions, parameters = ["job = ?"], [names.key(job)]
        if before is not None:
            conditions.append("id < ?")
            parameters.append(before)
        if status is not None:
            conditions.append("status = ?")
            parameters.append(status)
        return await self._database.plain_rows(
            f"SELECT {RUN_COLUMNS} FROM job_run WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
            *parameters,
            limit,
        )

    async def run(self, run_id: str) -> Run | None:
        rows = await self._database.plain_rows(f"SELECT {RUN_COLUMNS}, log FROM job_run WHERE id = ?", run_id)
        for *row, log in rows:
            job = self._names.own(row[1])
            if job is not None:
                found = run_of(row, job, self._damage)
                return None if found is None else replace(found, log=log_of(log, run_id, self._damage))
        return None

    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        rows = await self._database.plain_rows(
            f"SELECT {MISSED_COLUMNS} FROM job_missed WHERE job = ? ORDER BY id DESC LIMIT ?",
            self._names.key(job),
            limit,
        )
        found = (missed_of(row, job, self._damage) for row in rows)
        return [missed for missed in found if missed is not None]

    async def runs_by_id(self, run_ids: Collection[str]) -> dict[str, Run]:
        ids = as_json(list(run_ids))
        rows = await self._database.plain_rows(
            f"SELECT {RUN_COLUMNS} FROM job_run WHERE id IN (SELECT value FROM json_each(?))", ids
        )
        return {run.id: run for run in self._runs_of(rows)}

    async def missed_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[MissedTicks]]:
        rows = await self._database.plain_rows(
            f"""SELECT {MISSED_COLUMNS} FROM job_missed WHERE id IN (
                SELECT newest.id FROM json_each(?) JOIN job_missed AS newest ON newest.id IN (
                    SELECT id FROM job_missed WHERE job = value ORDER BY id DESC LIMIT ?)) ORDER BY id DESC""",
            as_json([self._names.key(job) for job in jobs]),
            limit,
        )
        found: dict[str, list[MissedTicks]] = {job: [] for job in jobs}
        for row in rows:
            job = self._names.own(row[1])
            missed = None if job is None else missed_of(row, job, self._damage)
            if missed is not None:
                found[missed.job].append(missed)
        return found

    async def unfinished(self) -> list[Run]:
        rows = await self._database.plain_rows(f"SELECT {RUN_COLUMNS} FROM job_run WHERE status = 'running'")
        return self._runs_of(rows)

    async def prune(self, now: float) -> None:
        """Cut the history back: to `keep` records a job for jobs that have grown, and to `days` for all."""
        grown, self._grown = self._grown, set()
        try:
            await self._cut_back(grown)
        except BaseException:
            # What was not done is left to the next time.
            self._grown = None if grown is None or self._grown is None else self._grown | grown
            raise
        while await self._delete_older(now - self._limits.days * 86_400):
            pass
        await self._database.write(clean_up)

    async def _cut_back(self, grown: set[str] | None) -> None:
        """Leave so many records of each of these jobs, or of all."""
        if grown is None:
            rows = await self._database.rows("job", "FROM (SELECT job FROM job_run UNION SELECT job FROM job_missed)")
            grown = {job for (job,) in rows if self._names.own(job) is not None}
        jobs = sorted(grown)
        for start in range(0, len(jobs), _PRUNE_JOBS):
            await self._keep_newest(as_json(jobs[start : start + _PRUNE_JOBS]))

    async def _keep_newest(self, jobs: str) -> None:
        keep = self._limits.keep

        def work(transaction: Transaction) -> None:
            for table, ended in (("job_run", "AND old.status <> 'running'"), ("job_missed", "")):
                transaction.execute(
                    f"""DELETE FROM {table} WHERE id IN (
                        SELECT old.id FROM json_each(?) JOIN {table} AS old ON old.job = value
                        WHERE old.id <= (SELECT id FROM {table} WHERE job = value ORDER BY id DESC LIMIT 1 OFFSET ?)
                        {ended})""",
                    jobs,
                    keep,
                )

        await self._database.write(work)

    async def _delete_older(self, oldest: float) -> bool:
        own = self._names.condition

        def work(transaction: Transaction) -> bool:
            # Ids begin with the time they were made at, in milliseconds as hexadecimal digits.
            digits = f"{max(0, int(oldest * 1000)):012x}"
            before = f"{digits[:8]}-{digits[8:]}"
            runs = transaction.execute(
                f"""DELETE FROM job_run WHERE id IN (
                    SELECT id FROM job_run WHERE id < ? AND status <> 'running' AND {own} LIMIT ?)""",
                before,
                *self._names.bounds,
                _PRUNE_ROWS,
            )
            missed = transaction.execute(
                f"DELETE FROM job_missed WHERE id IN (SELECT id FROM job_missed WHERE id < ? AND {own} LIMIT ?)",
                before,
                *self._names.bounds,
                _PRUNE_ROWS,
            )
            return max(runs, missed) == _PRUNE_ROWS

        return await self._database.write(work)

    async def forget(self, jobs: Collection[str]) -> None:
        names = as_json([self._names.key(job) for job in jobs])

        def work(transaction: Transaction) -> None:
            for table, column in (
                ("job_run", "job"),
                ("job_missed", "job"),
                ("job_status", "name"),
                ("job_state", "name"),
            ):
                transaction.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", names)

        await self._database.write(work)
