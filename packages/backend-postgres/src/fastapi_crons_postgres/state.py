"""The PostgreSQL state store: job states and the history of runs in tables."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, ClassVar, TypeVar

import asyncpg
from pydantic import SecretStr

from fastapi_crons.config import CronConfig
from fastapi_crons.locking.base import Reach
from fastapi_crons.run import MissedTicks, Run, RunStatus
from fastapi_crons.state.backfills import BackfillRecord
from fastapi_crons.state.base import Event, HistoryLimits, JobState, MissedQuery, Record, RunQuery, Signal, StateBackend
from fastapi_crons.state.checks import Damage, checked_state
from fastapi_crons.state.figures import Figures
from fastapi_crons_postgres._batch import Batch, fit
from fastapi_crons_postgres._connection import Connection
from fastapi_crons_postgres._driver import Driver
from fastapi_crons_postgres._findings import obstacle
from fastapi_crons_postgres._history import backfills
from fastapi_crons_postgres._history.counting import (
    FIGURES_COLUMNS,
    SUMS_COLUMNS,
    compact,
    count_missed,
    count_runs,
    figures_of,
    put_states_and_figures,
)
from fastapi_crons_postgres._history.events import Events, clean_up, to_be_told
from fastapi_crons_postgres._history.pruning import Pruning
from fastapi_crons_postgres._history.queries import Sql, Wanted, figures_wanted, ids_wanted, missed_wanted, runs_wanted
from fastapi_crons_postgres._history.rows import (
    MISSED_COLUMNS,
    MISSED_TYPES,
    RUN_COLUMNS,
    WRITTEN_TYPES,
    missed_of,
    missed_row,
    run_of,
    run_row,
    runs_of,
)
from fastapi_crons_postgres._layout import is_made, prepare
from fastapi_crons_postgres.settings import PostgresSettings
from fastapi_crons_postgres.url import place_of

if TYPE_CHECKING:
    from fastapi_crons.locking.base import LockBackend

#: What a later record of a run that is not over changes.
_CLOSING = (
    "status",
    "attempt",
    "ended_ts",
    "error_type",
    "error_message",
    "error_traceback",
    "result",
    "log",
    "log_dropped",
    "delay",
    "waited",
    "arguments_json",
)
_CLOSED = ", ".join(f"{column} = excluded.{column}" for column in _CLOSING) + " WHERE old.status = 'running'"
_STATE_COLUMNS = "job, status, instance, last_run_ts, success_ts, success_run, success_took, failures"
AnyRecord = TypeVar("AnyRecord", Run, MissedTicks)
#: After so many writes, durations are added up.
_COMPACTED = 16
#: How long (seconds) the connection beside the one for claims is kept.
_KEPT = 30.0
#: The tables with what is kept of a job.
_OF_JOBS = ("crons_run", "crons_missed", "crons_backfill", "crons_state", "crons_figures")


class PostgresStateBackend(StateBackend):
    """Job states and history in a PostgreSQL database, for a fleet.

    `url` is that of the database, as in `CRON_POSTGRES_URL`; what the other settings `CRON_POSTGRES_…` say holds besides.
    """

    reach: ClassVar[Reach] = "fleet"

    def __init__(self, url: str) -> None:
        self._set_up(PostgresSettings(url=SecretStr(url)), CronConfig().store_timeout)

    @classmethod
    def by_settings(cls, settings: PostgresSettings, timeout: float) -> PostgresStateBackend:
        """A state store as the settings say; no call takes longer than `timeout` seconds."""
        backend = cls.__new__(cls)
        backend._set_up(settings, timeout)
        return backend

    def _set_up(self, settings: PostgresSettings, timeout: float) -> None:
        self._settings, self._timeout = settings, timeout
        #: Closes what was opened.
        self._open = AsyncExitStack()
        #: Numbers what is written.
        self._written = count()
        self._obstacle: str | None = None
        self._damage = Damage(f"history in {place_of(settings.url.get_secret_value())}")

    async def open(self, namespace: str, limits: HistoryLimits) -> None:
        self._set_open(namespace, limits)
        await prepare(self._connection, may_change=self._settings.migrate)
        self._has_tables = True

    async def open_to_read(self, namespace: str, limits: HistoryLimits) -> None:
        self._set_open(namespace, limits)
        self._has_tables = await is_made(self._connection)
        self._obstacle = await obstacle(self._connection, migrates=self._settings.migrate)

    def _set_open(self, namespace: str, limits: HistoryLimits) -> None:
        patience = self._timeout * 0.9
        self._namespace = namespace
        # The lock has named it before, where that is in the same database.
        self._connection = Connection.shared(self._settings, patience, CronConfig().instance_id)
        self._open.push_async_callback(self._connection.leave)
        # What people ask takes its time, which claims have not.
        self._aside = Connection(self._settings, patience, name=self._connection.name, kept=_KEPT)
        self._open.push_async_callback(self._aside.close)
        self._schema = self._connection.schema
        self._events = Events(self._connection, namespace, self._damage)
        self._pruning = Pruning(self._unhurried, self._schema, namespace, limits)

    def _unhurried(self) -> Connection:
        """The connection for what is not urgent: not that of claims where they would wait for round trips."""
        return self._aside if self._connection.is_far or self._aside.is_far else self._connection

    async def close(self) -> None:
        await self._open.aclose()

    def obstacle(self) -> str | None:
        return self._obstacle

    def companion_lock(self) -> LockBackend:
        from fastapi_crons_postgres.lock import PostgresLockBackend

        return PostgresLockBackend.by_settings(self._settings, self._timeout)

    def damaged(self) -> Collection[str]:
        return self._damage.names()

    async def write(self, records: Sequence[Record]) -> None:
        runs: dict[str, Run] = {}
        for record in records:
            # Of a run that was written twice the end counts, and otherwise what is newer.
            if isinstance(record, Run) and (record.id not in runs or runs[record.id].status == "running"):
                runs[record.id] = record
        missed = {record.id: record for record in records if isinstance(record, MissedTicks)}
        # Everywhere in the same order, so that two instances never wait for each other.
        in_order = [runs[run_id] for run_id in sorted(runs)]

        async def work(driver: Driver) -> None:
            known = await self._write_runs(driver, in_order)
            batch = Batch(self._schema, self._namespace)
            figures = count_runs(batch, [run for run in in_order if run.id in known])
            if figures or missed:
                await count_missed(
                    driver, batch, figures, missed.values(), await self._missed_on_record(driver, missed)
                )
            batch.put("crons_missed", MISSED_TYPES, ["id"], [missed_row(missed[each]) for each in sorted(missed)])
            is_wanted = await batch.send(driver, self._events.are_wanted)
            if figures and next(self._written) % _COMPACTED == 0:
                await compact(driver, batch)
            if is_wanted:
                on_record = {run_id for run_id, is_new in known.items() if not is_new}
                written = [each for each in records if isinstance(each, MissedTicks) or each.id in known]
                await self._events.publish(driver, to_be_told(written, on_record))

        await self._unhurried().write(work)
        self._pruning.note([record.job for record in records])

    async def _write_runs(self, driver: Driver, runs: Sequence[Run]) -> dict[str, bool]:
        """Write runs, but for those that are on record as ended; returns the ids of the others, and whether they are new."""
        if not runs:
            return {}
        batch = Batch(self._schema, self._namespace)
        insert = batch.insertion("crons_run", WRITTEN_TYPES, ["id"], [run_row(run) for run in runs], _CLOSED)
        # A row that was changed has a transaction that did so.
        rows = await driver.fetch(f"{insert} RETURNING old.id, old.xmax = 0", *batch.values)
        return dict(map(tuple, rows))

    async def _missed_on_record(self, driver: Driver, ids: Collection[str]) -> list[MissedTicks]:
        if not ids:
            return []
        rows = await driver.fetch(
            f"SELECT {MISSED_COLUMNS} FROM {self._schema}.crons_missed WHERE namespace = $1 AND id = ANY ($2) FOR UPDATE",
            fit(self._namespace),
            sorted(ids),
        )
        return missed_of(rows, self._damage)

    async def publish(self, signal: Signal) -> None:
        await self._connection.write(lambda driver: self._events.publish(driver, (), signal))

    def events(self, *, records: bool = True) -> AsyncGenerator[Event, None] | None:
        return self._events.subscribe(records=records)

    async def states(self, jobs: Collection[str] | None = None) -> dict[str, JobState]:
        wanted = Wanted(self._namespace)
        if jobs is not None:
            wanted.and_also("job = ANY ({}::text[])", [*jobs])
        where = " AND ".join(wanted.conditions)
        rows = await self._rows(
            (f"SELECT {_STATE_COLUMNS} FROM {self._schema}.crons_state WHERE {where}", wanted.parameters)
        )
        states = (self._damage.noted(f"state of job {row[0]!r}", partial(_state_of, row)) for row in rows)
        return {state.job: state for state in states if state is not None}

    async def runs(
        self, job: str | None, *, limit: int = 50, before: str | None = None, status: RunStatus | None = None
    ) -> list[Run]:
        jobs = None if job is None else (job,)
        return await self.find_runs(RunQuery(jobs, () if status is None else (status,), None, None, before, limit))

    async def find_runs(self, query: RunQuery) -> list[Run]:
        found: list[Run] = []
        # A run that can't be read must not look like the end of the list.
        while (wanted := query.limit - len(found)) > 0:
            rows = await self._rows(runs_wanted(self._schema, self._namespace, query._replace(limit=wanted)))
            found += runs_of(rows, self._damage)
            if len(rows) < wanted:
                break
            query = query._replace(before=rows[-1]["id"], limit=query.limit)
        return found

    async def find_ids(self, part: str, job: str | None = None) -> list[str]:
        return [row["id"] for row in await self._rows(ids_wanted(self._schema, self._namespace, part, job))]

    async def run(self, run_id: str) -> Run | None:
        return (await self.runs_by_id([run_id])).get(run_id)

    async def runs_by_id(self, run_ids: Collection[str]) -> dict[str, Run]:
        wanted = Wanted(self._namespace)
        wanted.and_also("id = ANY ({}::text[])", [*run_ids])
        where = " AND ".join(wanted.conditions)
        rows = await self._rows(
            (f"SELECT {RUN_COLUMNS}, log FROM {self._schema}.crons_run WHERE {where}", wanted.parameters)
        )
        found = (run_of(row, self._damage) for row in rows)
        return {run.id: run for run in found if run is not None}

    async def runs_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[Run]]:
        records = runs_of(await self._newest_of_each("crons_run", RUN_COLUMNS, jobs, limit), self._damage)
        return _by_job(jobs, records)

    async def unfinished(self) -> list[Run]:
        wanted = Wanted(self._namespace)
        wanted.and_also("status = 'running'")
        return runs_of(
            await self._rows(wanted.newest(f"{self._schema}.crons_run", RUN_COLUMNS, None, 2**31)), self._damage
        )

    async def missed(self, job: str, *, limit: int = 50) -> list[MissedTicks]:
        return await self.find_missed(MissedQuery((job,), limit=limit))

    async def find_missed(self, query: MissedQuery) -> list[MissedTicks]:
        return missed_of(await self._rows(missed_wanted(self._schema, self._namespace, query)), self._damage)

    async def missed_by_job(self, jobs: Collection[str], *, limit: int = 50) -> dict[str, list[MissedTicks]]:
        records = missed_of(await self._newest_of_each("crons_missed", MISSED_COLUMNS, jobs, limit), self._damage)
        return _by_job(jobs, records)

    async def _newest_of_each(
        self, table: str, columns: str, jobs: Collection[str], limit: int
    ) -> list[asyncpg.Record]:
        wanted = Wanted(self._namespace)
        return await self._rows(
            wanted.newest_of_each(f"{self._schema}.{table}", columns, jobs, limit, "ORDER BY found.id DESC")
        )

    async def figures(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> list[Figures]:
        source, parameters = figures_wanted(self._schema, self._namespace, jobs, since, until)
        return figures_of(await self._rows((f"SELECT {FIGURES_COLUMNS} FROM {source}", parameters)), self._damage)

    async def sums(self, jobs: Collection[str] | None, *, since: int, until: int | None = None) -> dict[str, Figures]:
        source, parameters = figures_wanted(self._schema, self._namespace, jobs, since, until)
        rows = await self._rows((f"SELECT {SUMS_COLUMNS} FROM {source} GROUP BY figures.job", parameters))
        return {figures.job: figures for figures in figures_of(rows, self._damage)}

    async def restore(self, states: Collection[JobState], figures: Collection[Figures]) -> None:
        batch = Batch(self._schema, self._namespace)
        put_states_and_figures(batch, states, figures)
        await self._connection.write(batch.send)

    async def begin_backfill(self, record: BackfillRecord) -> BackfillRecord | None:
        return await self._connection.write(
            lambda driver: backfills.begin(driver, self._backfill_table, fit(self._namespace), record, self._damage)
        )

    async def change_backfill(self, record: BackfillRecord) -> bool:
        return await self._connection.write(
            lambda driver: backfills.change(driver, self._backfill_table, fit(self._namespace), record)
        )

    async def backfill(self, backfill_id: str) -> BackfillRecord | None:
        wanted = Wanted(self._namespace)
        wanted.and_also("id = {}", backfill_id)
        found = await self._backfills_where(wanted)
        return found[0] if found else None

    async def backfills(self, job: str | None = None) -> list[BackfillRecord]:
        wanted = Wanted(self._namespace)
        if job is not None:
            wanted.and_also("job = {}", job)
        return await self._backfills_where(wanted)

    async def _backfills_where(self, wanted: Wanted) -> list[BackfillRecord]:
        sql = f"SELECT id, record FROM {self._backfill_table} WHERE {' AND '.join(wanted.conditions)} ORDER BY id DESC"
        return backfills.read(await self._rows((sql, wanted.parameters)), self._damage)

    @property
    def _backfill_table(self) -> str:
        return f"{self._schema}.crons_backfill"

    async def prune(self, now: float) -> None:
        await self._pruning.prune(now)
        await self._unhurried().write(lambda driver: clean_up(driver, self._schema))

    async def forget(self, jobs: Collection[str]) -> None:
        async def work(driver: Driver) -> None:
            batch = Batch(self._schema, self._namespace)
            for table in _OF_JOBS:
                batch.delete(table, "job", jobs)
            await batch.send(driver)

        await self._connection.write(work)

    async def _rows(self, sql: Sql) -> list[asyncpg.Record]:
        # One that is opened to read makes no tables. They may be made at any time.
        self._has_tables = self._has_tables or await is_made(self._aside)
        if not self._has_tables:
            return []
        statement, parameters = sql
        return await self._aside.rows(statement, *parameters)


def _state_of(row: asyncpg.Record) -> JobState:
    return checked_state(JobState(*row))


def _by_job(jobs: Collection[str], records: Sequence[AnyRecord]) -> dict[str, list[AnyRecord]]:
    """Records by the names that were asked for, as which they are not always written."""
    found: dict[object, list[AnyRecord]] = {fit(job): [] for job in jobs}
    for record in records:
        found[record.job].append(record)
    return {job: found[fit(job)] for job in jobs}
