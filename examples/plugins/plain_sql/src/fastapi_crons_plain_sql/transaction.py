"""The tables, and a transaction on them: job records and instances as text, leases as rows of their own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from fastapi_crons.locking import Clock, Lease, LiveInstance, LockTransaction
from fastapi_crons.locking.rule import JobRecord
from fastapi_crons.locking.text import (
    instance_from_text,
    instance_to_text,
    lease_from_text,
    lease_to_text,
    record_from_text,
    record_to_text,
)

#: The layout that this version writes. A later one that adds to it keeps the number.
LAYOUT = 1
TABLES = (
    "CREATE TABLE IF NOT EXISTS job (namespace TEXT, name TEXT, record TEXT, PRIMARY KEY (namespace, name))",
    "CREATE TABLE IF NOT EXISTS lease (namespace TEXT, run_id TEXT, job TEXT, lease TEXT, PRIMARY KEY (namespace, run_id))",
    "CREATE INDEX IF NOT EXISTS lease_of_job ON lease (namespace, job)",
    "CREATE TABLE IF NOT EXISTS instance (namespace TEXT, owner TEXT, about TEXT, PRIMARY KEY (namespace, owner))",
    f"PRAGMA user_version = {LAYOUT}",
)
_NAMED = "IN (SELECT value FROM json_each(?))"


class PlainSqlTransaction(LockTransaction):
    """One transaction on the records of one namespace."""

    def __init__(self, connection: sqlite3.Connection, namespace: str, clock: Clock) -> None:
        self._connection, self._namespace, self._clock = connection, namespace, clock
        #: The ids of the leases that were loaded, by job.
        self._loaded: dict[str, set[str]] = {}

    async def now(self) -> float:
        return self._clock.now()

    async def load(self, jobs: Collection[str] | None) -> dict[str, JobRecord]:
        names = "" if jobs is None else f"AND name {_NAMED}"
        wanted = [] if jobs is None else [json.dumps(list(jobs))]
        rows = self._rows(f"SELECT name, record FROM job WHERE namespace = ? {names}", *wanted)
        records = {job: record_from_text(text) for job, text in rows}
        names = names.replace("name", "job")
        for (text,) in self._rows(f"SELECT lease FROM lease WHERE namespace = ? {names}", *wanted):
            lease = lease_from_text(text)
            record = records.get(lease.job)
            if record is not None:
                record.leases = {**(record.leases or {}), lease.run_id: lease}
                self._loaded.setdefault(lease.job, set()).add(lease.run_id)
        return records

    async def save(self, records: Mapping[str, JobRecord]) -> None:
        for job, record in records.items():
            leases, text = record.leases or {}, record_to_text(replace(record, leases=None))
            self._rows("INSERT OR REPLACE INTO job VALUES (?, ?, ?)", job, text)
            for run_id, lease in leases.items():
                self._rows("INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?)", run_id, job, lease_to_text(lease))
            self._delete("lease", "run_id", self._loaded.get(job, set()) - leases.keys())

    async def delete(self, jobs: Collection[str]) -> None:
        self._delete("job", "name", jobs)

    async def leases(self) -> list[Lease]:
        return [lease_from_text(text) for (text,) in self._rows("SELECT lease FROM lease WHERE namespace = ?")]

    async def delete_leases(self, leases: Sequence[Lease]) -> None:
        self._delete("lease", "run_id", [lease.run_id for lease in leases])

    async def instances(self) -> list[LiveInstance]:
        return [instance_from_text(text) for (text,) in self._rows("SELECT about FROM instance WHERE namespace = ?")]

    async def save_instance(self, instance: LiveInstance) -> None:
        about = instance_to_text(instance)
        self._rows("INSERT OR REPLACE INTO instance VALUES (?, ?, ?)", instance.instance.owner, about)

    async def delete_instances(self, owners: Collection[str]) -> None:
        self._delete("instance", "owner", owners)

    def _delete(self, table: str, column: str, values: Collection[str]) -> None:
        if values:
            self._rows(f"DELETE FROM {table} WHERE namespace = ? AND {column} {_NAMED}", json.dumps(list(values)))

    def _rows(self, sql: str, *parameters: str) -> list[tuple[str, ...]]:
        return self._connection.execute(sql, (self._namespace, *parameters)).fetchall()
