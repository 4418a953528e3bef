"""The SQLite state store: job states and the history of runs in one file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from sys import maxsize
from typing import TYPE_CHECKING, ClassVar

from fastapi_crons._util.gc_pause import collector_paused
from fastapi_crons.locking.base import Reach
from fastapi_crons.run import MissedTicks, Run, RunStatus
from fastapi_crons.state.backfills import BackfillRecord
from fastapi_crons.state.base import Event, HistoryLimits, JobState, MissedQuery, Record, RunQuery, StateBackend
from fastapi_crons.state.checks import Damage, checked_state
from fastapi_crons.state.figures import Figures
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._history import backfills
from fastapi_crons_sqlite._history.counting import (
    FIGURES_COLUMNS,
    SUMS_COLUMNS,
    count,
    figures_of,
    newly_ended,
    sums_of,
)
from fastapi_crons_sqlite._history.events import clean_up, publish, subscribe
from fastapi_crons_sqlite._history.pruning import Pruning
from fastapi_crons_sqlite._history.queries import ids_wanted, missed_wanted, runs_wanted
from fastapi_crons_sqlite._history.restoring import restore
from fastapi_crons_sqlite._history.rows import (
    MISSED_COLUMNS,
    RUN_COLUMNS,
    log_of,
    missed_of,
    missed_row,
    run_of,
    run_row,
)
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Row, Transaction, Value, as_json

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
    WHERE excluded.started_at >= job_status.started_at OR {_may_follow("job_status.started_at")}"""
# The limit keeps SQLite from working out the time of the start twice.
_WRITE_STATE = f"""
    INSERT INTO job_state (name, last_run, created_at, updated_at)
    SELECT job, started, started, CASE WHEN ended_ts IS NULL THEN started ELSE {_iso("ended_ts")} END
    FROM (SELECT run.job, {_iso("run.started_ts")} AS started, run.ended_ts
        FROM json_each(?) JOIN job_run AS run ON run.id = value LIMIT -1 OFFSET 0) WHERE true
    ON CONFLICT (name) DO UPDATE SET last_run = excluded.last_run, updated_at = excluded.updated_at
    WHERE excluded.last_run >= job_state.last_run OR {_may_follow("job_state.last_run")}"""
# A database of fastapi-crons 2.x may have rows in only one of the tables, and times without an offset.
_STATE_COLUMNS = """
    status.name, status.status, coalesce(status.instance_id, ''),
    round((coalesce(julianday(status.started_at), julianday(state.last_run)) - 2440587.5) * 86400.0, 3),
    success.ended_ts, success.run, success.took, coalesce(success.failures, 0)"""
_STATES = """
    FROM job_status AS status LEFT JOIN job_state AS state ON state.name = status.name
    LEFT JOIN job_success AS success ON success.name = status.name
    WHERE coalesce(status.started_at, state.last_run) IS NOT NULL"""
# Finds each day by one look into the index, however many jobs have figures of it.
_DAYS = """
    WITH RECURSIVE days (day) AS (
        SELECT min(day) FROM job_figures WHERE day >= ?
        UNION ALL SELECT (SELECT min(day) FROM job_figures WHERE day > days.day) FROM days WHERE day IS NOT NULL)
    SELECT day FROM days WHERE day <= ?"""


class SQLiteStateBackend(StateBackend):
    """Job states and history in a SQLite file (`crons.db` by default), shared by all processes of a host."""

    reach: ClassVar[Reach] = "host"

    def __init__(self, db_path: str | Path = "crons.db", *, busy_timeout: float = 4.0) -> None:
        self._database = Database(db_path, busy_timeout=busy_timeout, synchronous="NORMAL")
        self._busy_timeout = busy_timeout
        self._damage = Damage(f"history in {self._database.path}")
        self._names = Names("default")
        self._namespace = "default"
        self._pruning = Pruning(self._database, self._names, HistoryLimits(100, 30))

    @property
    def path(self) -> str:
        """The database file."""
        return self._database.path

    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        await self._open(namespace, limits, to_read=False)

    async def open_to_read(self, namespace: str, limits: HistoryLimits) -> None:
        await self._open(namespace, limits, to_read=True)

    async def _open(self, namespace: str, limits: HistoryLimits, *, to_read: bool) -> None:
        self._names, self._namespace = Names(namespace), namespace
        self._pruning = Pruning(self._database, self._names, limits)
        await self._database.open(to_read=to_read)

    async def close(self) -> None:
        await self._database.close()

    def companion_lock(self) -> LockBackend:
        from fastapi_crons_sqlite.lock import SQLiteLockBackend

        return SQLiteLockBackend(self.path, busy_timeout=self._busy_timeout)

    async def write(self, records: Sequence[Record]) -> None:
        names = self._names
        runs = [record for record in records if isinstance(record, Run)]
        missed = [record for record in records if isinstance(record, MissedTicks)]
        run_rows = [run_row(run, names.key(run.job)) for run in runs]
        missed_rows = [missed_row(ticks, names.key(ticks.job)) for ticks in missed]
        newest: dict[str, str] = {}
        for run in runs:
            if run.id >= newest.get(run.job, ""):
                newest[run.job] = run.id
        newest_ids = as_json(list(newest.values()))

        def work(transaction: Transaction) -> None:
            count(transaction, names, newly_ended(transaction, runs), missed, self._damage)
            publish(transaction, self._namespace, records)
            transaction.insert(_INSERT_RUNS, run_rows, _OR_CLOSE_RUNS)
            transaction.execute(_WRITE_STATUS, newest_ids)
            transaction.execute(_WRITE_STATE, newest_ids)
            transaction.insert(_INSERT_MISSED, missed_rows)

        await self._database.write(work)
        self._pruning.note([names.key(record.job) for record in records])

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
        jobs = None if job is None else (job,)
        return await self.find_runs(RunQuery(jobs, () if status is None else (status,), None, None, before, limit))

    async def find_runs(self, query: RunQuery) -> list[Run]:
        found: list[Run] = []
        before = query.before
        # A run that can't be read must not look like the end of the list.
        while (wanted := query.limit - len(found)) > 0:
            sql, parameters = runs_wanted(self._names, query._replace(before=before, limit=wanted))
            rows = await self._database.plain_rows(sql, *parameters)
            found += self._runs_of(rows)
            if len(rows) < wanted:
                break
            before = rows[-1][0]
        return found

    async def find_ids(self, part: str, job: str | None = None) -> list[str]:
        sql, parameters = ids_wanted(self._names, part, job)
        return [run_id for (run_id,) in await self._database.rows("id", f"FROM ({sql})", *parameters)]

    async def figures(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> list[Figures]:
        def read(transaction: Transaction) -> list[Figures]:
            # In the thread: there may be many.
            with collector_paused():
                source, parameters = self._figures(jobs, since, until)
                rows = transaction.rows(FIGURES_COLUMNS, source, *parameters)
                found = (
                    figures_of(row, job, self._damage) for row in rows if (job := self._names.own(row[1])) is not None
                )
                return [figures for figures in found if figures is not None]

        return await self._database.read(read)

    async def sums(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> dict[str, Figures]:
        def read(transaction: Transaction) -> dict[str, Figures] | None:
            with collector_paused():
                source, parameters = self._figures(jobs, since, until)
                rows = transaction.rows(SUMS_COLUMNS, f"{source} GROUP BY job", *parameters)
                own = [(row, job) for row in rows if (job := self._names.own(row[1])) is not None]
                return sums_of(own)

        found = await self._database.read(read)
        # Where a row is damaged, those that are not are added up.
        return await super().sums(jobs, since=since, until=until) if found is None else found

    def _figures(self, jobs: Collection[str] | None, since: int, until: int | None) -> tuple[str, list[Value]]:
        """Where the figures of these jobs and days are, with the parameters."""
        last = maxsize if until is None else until
        if jobs is None:
            source, parameters = (
                f"job_figures WHERE day BETWEEN ? AND ? AND {self._names.condition}",
                self._names.bounds,
            )
        else:
            source = f"({_DAYS}) CROSS JOIN json_each(?) CROSS JOIN job_figures USING (day) WHERE job = value"
            parameters = (as_json([self._names.key(job) for job in jobs]),)
        return f"FROM {source} AND (runs <> 0 OR missed <> 0)", [since, last, *parameters]

    async def run(self, run_id: str) -> Run | None:
        rows = await self._database.plain_rows(f"SELECT {RUN_COLUMNS}, log FROM job_run WHERE id = ?", run_id)
        return self._run_with_log(rows[0]) if rows else None

    def _run_with_log(self, row: Row) -> Run | None:
        *columns, log = row
        job = self._names.own(columns[1])
        found = None if job is None else run_of(columns, job, self._damage)
        return None if found is None else replace(found, log=log_of(log, found.id, self._damage))

    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        return await self.find_missed(MissedQuery((job,), limit=limit))

    async def find_missed(self, query: MissedQuery) -> list[MissedTicks]:
        sql, parameters = missed_wanted(self._names, query)
        rows = await self._database.plain_rows(sql, *parameters)
        found = (missed_of(row, job, self._damage) for row in rows if (job := self._names.own(row[1])) is not None)
        return [missed for missed in found if missed is not None]

    async def runs_by_id(self, run_ids: Collection[str]) -> dict[str, Run]:
        ids = as_json(list(run_ids))
        rows = await self._database.plain_rows(
            f"SELECT {RUN_COLUMNS}, log FROM job_run WHERE id IN (SELECT value FROM json_each(?))", ids
        )
        found = (self._run_with_log(row) for row in rows)
        return {run.id: run for run in found if run is not None}

    async def _newest_of_each(self, table: str, columns: str, jobs: Collection[str], limit: int) -> list[Row]:
        """The newest rows of each of these jobs, newest first."""
        return await self._database.plain_rows(
            f"""SELECT {columns} FROM {table} WHERE id IN (
                SELECT newest.id FROM json_each(?) JOIN {table} AS newest ON newest.id IN (
                    SELECT id FROM {table} WHERE job = value ORDER BY id DESC LIMIT ?)) ORDER BY id DESC""",
            as_json([self._names.key(job) for job in jobs]),
            limit,
        )

    async def runs_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[Run]]:
        rows = await self._newest_of_each("job_run", RUN_COLUMNS, jobs, limit)
        found: dict[str, list[Run]] = {job: [] for job in jobs}
        for run in self._runs_of(rows):
            found[run.job].append(run)
        return found

    async def missed_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[MissedTicks]]:
        rows = await self._newest_of_each("job_missed", MISSED_COLUMNS, jobs, limit)
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

    async def restore(self, states: Collection[JobState], figures: Collection[Figures]) -> None:
        await self._database.write(lambda transaction: restore(transaction, self._names, states, figures))

    async def begin_backfill(self, record: BackfillRecord) -> BackfillRecord | None:
        return await self._database.write(
            lambda transaction: backfills.begin(transaction, self._names, record, self._damage)
        )

    async def change_backfill(self, record: BackfillRecord) -> bool:
        return await self._database.write(lambda transaction: backfills.change(transaction, self._names, record))

    async def backfill(self, backfill_id: str) -> BackfillRecord | None:
        sql = f"SELECT id, record FROM job_backfill WHERE id = ? AND {self._names.condition}"
        found = backfills.read(await self._database.plain_rows(sql, backfill_id, *self._names.bounds), self._damage)
        return found[0] if found else None

    async def backfills(self, job: str | None = None) -> list[BackfillRecord]:
        sql, parameters = backfills.wanted(self._names, job)
        return backfills.read(await self._database.plain_rows(sql, *parameters), self._damage)

    async def prune(self, now: float) -> None:
        await self._pruning.prune(now)
        await self._database.write(clean_up)

    async def forget(self, jobs: Collection[str]) -> None:
        names = as_json([self._names.key(job) for job in jobs])

        def work(transaction: Transaction) -> None:
            for table, column in (
                ("job_run", "job"),
                ("job_missed", "job"),
                ("job_backfill", "job"),
                ("job_status", "name"),
                ("job_state", "name"),
                ("job_success", "name"),
            ):
                transaction.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", names)
            transaction.execute(
                f"DELETE FROM job_figures WHERE (day, job) IN (SELECT day, value FROM ({_DAYS}), json_each(?))",
                *(-maxsize, maxsize, names),
            )

        await self._database.write(work)
