"""A transaction on the lock store: how job records, leases and instances lie in their tables."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

from fastapi_crons.locking import Lease, LiveInstance, LockTransaction, Pause
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.rule import JobRecord
from fastapi_crons_postgres._batch import Batch, fit
from fastapi_crons_postgres._driver import Driver

_JOB_COLUMNS = (
    "schedule, timezone, function, enabled, registrars, since, settled_at, paused_since, paused_by, paused_note, arguments, "
    "mark, token, registered_ts"
)
#: What nearly every claim changes of a record; and what few change.
_MOVING = attrgetter("last_handled", "token", "registered_at")
_SETTLED = attrgetter(
    "schedule", "timezone", "function", "enabled", "registrars", "since", "settled_at", "pause", "arguments"
)
_MOVING_COLUMNS = {"name": "text", "mark": "bigint", "token": "bigint", "registered_ts": "float8"}
_JOB_TYPES = {
    "name": "text",
    "schedule": "text",
    "timezone": "text",
    "function": "text",
    "enabled": "boolean",
    "registrars": "text",
    "since": "float8",
    "settled_at": "float8",
    "paused_since": "float8",
    "paused_by": "text",
    "paused_note": "text",
    "arguments": "text",
    **_MOVING_COLUMNS,
}
#: In the order of a `Lease`.
_LEASE_TYPES = {
    "job": "text",
    "run_id": "text",
    "tick": "bigint",
    "instance": "text",
    "token": "bigint",
    "attempt": "bigint",
    "expires": "float8",
    "after": "bigint",
    "let_go": "text",
    "schedule": "text",
    "timezone": "text",
    "cancel": "boolean",
    "cancelled_by": "text",
}
#: In the order of a `LiveInstance`.
_INSTANCE_TYPES = {
    "id": "text",
    "owner": "text",
    "host": "text",
    "boot": "text",
    "pid": "bigint",
    "pid_started": "text",
    "started_ts": "float8",
    "version": "text",
    "heartbeat_ts": "float8",
    "running": "bigint",
    "jobs": "text",
}

#: A table, its columns as they are read, and the one with what is wanted.
_Table = tuple[str, str, str]
_JOBS: _Table = ("crons_job", f"name, {_JOB_COLUMNS}", "name")
_LEASES: _Table = ("crons_lease", ", ".join(_LEASE_TYPES), "job")
_INSTANCES: _Table = ("crons_instance", ", ".join(_INSTANCE_TYPES), "owner")


class PostgresLockTransaction(LockTransaction):
    """The records of one namespace in a transaction.

    The time is asked for together with what is read first, and what is written is sent at the end: one statement each.
    """

    def __init__(self, connection: Driver, schema: str, namespace: str) -> None:
        self._connection, self._schema, self._namespace = connection, schema, namespace
        self._batch = Batch(schema, namespace)
        self._now: float | None = None
        #: What was loaded, by job: `_SETTLED` and `_MOVING` of its record, and its leases.
        self._before: dict[str, tuple[object, object]] = {}
        self._leases: dict[str, dict[str, Lease]] = {}
        #: What is to be written of instances, by owner.
        self._instances: dict[str, Sequence[object]] = {}

    async def flush(self) -> None:
        """Write everything."""
        self._batch.put("crons_instance", _INSTANCE_TYPES, ["owner"], self._instances.values())
        await self._batch.send(self._connection)

    async def now(self) -> float:
        if self._now is None:
            await self._read(None)
        assert self._now is not None
        return self._now

    async def load(self, jobs: Collection[str] | None) -> dict[str, JobRecord]:
        records = {}
        rows, leases = await self._read(jobs, _JOBS, _LEASES)
        for row in rows:
            records[row[0]] = found = _record(row)
            self._before[row[0]] = _SETTLED(found), _MOVING(found)
        for lease in (Lease(*row) for row in leases):
            record = records.get(lease.job)
            if record is not None:
                self._leases.setdefault(lease.job, {})[lease.run_id] = lease
                record.leases = {**(record.leases or {}), lease.run_id: lease}
        return records

    async def save(self, records: Mapping[str, JobRecord]) -> None:
        new: list[Sequence[object]] = []
        moved: list[Sequence[object]] = []
        for job, record in records.items():
            settled, moving = self._before.get(job, (None, None))
            if _SETTLED(record) != settled:
                new.append(_row(job, record))
            elif _MOVING(record) != moving:
                moved.append((job, *_MOVING(record)))
        self._batch.put("crons_job", _JOB_TYPES, ["name"], new)
        self._batch.update("crons_job", _MOVING_COLUMNS, "name", moved)
        self._save_leases(records)

    def _save_leases(self, records: Mapping[str, JobRecord]) -> None:
        changed: list[Sequence[object]] = []
        gone: list[str] = []
        for job, record in records.items():
            before, leases = self._leases.get(job, {}), record.leases or {}
            changed += [lease for run_id, lease in leases.items() if lease is not before.get(run_id)]
            gone += [run_id for run_id in before if run_id not in leases]
        self._batch.delete("crons_lease", "run_id", gone)
        self._batch.put("crons_lease", _LEASE_TYPES, ["run_id"], changed)

    async def delete(self, jobs: Collection[str]) -> None:
        self._batch.delete("crons_job", "name", jobs)

    async def leases(self) -> list[Lease]:
        (rows,) = await self._read(None, _LEASES)
        return [Lease(*row) for row in rows]

    async def instances_and_leases(self) -> tuple[list[LiveInstance], list[Lease]]:
        instances, leases = await self._read(None, _INSTANCES, _LEASES)
        return [_instance(row) for row in instances], [Lease(*row) for row in leases]

    async def delete_leases(self, leases: Sequence[Lease]) -> None:
        self._batch.delete("crons_lease", "run_id", [lease.run_id for lease in leases])

    async def instances(self) -> list[LiveInstance]:
        (rows,) = await self._read(None, _INSTANCES)
        return [_instance(row) for row in rows]

    async def save_instance(self, instance: LiveInstance) -> None:
        about, *rest = instance
        values = [getattr(about, column) for column in list(_INSTANCE_TYPES)[:-3]]
        self._instances[about.owner] = [*values, *rest]

    async def delete_instances(self, owners: Collection[str]) -> None:
        self._batch.delete("crons_instance", "owner", owners)

    async def touch(self, owner: str, now: float) -> None:
        self._batch.update("crons_instance", {"owner": "text", "heartbeat_ts": "float8"}, "owner", [(owner, now)])

    async def _read(self, wanted: Collection[str] | None, *tables: _Table) -> list[list[list[Any]]]:
        """The rows of tables, of the wanted jobs or of all; and the time, where it is not known yet."""
        parameters: list[object] = [fit(self._namespace)]
        if wanted is not None:
            parameters.append([*map(fit, wanted)])
        asked = ["extract(epoch FROM clock_timestamp())::float8", "$1::text"]
        for name, columns, key in tables:
            which = "" if wanted is None else f" AND {key} = ANY ($2::text[])"
            asked.append(
                f"(SELECT json_agg(json_build_array({columns})) FROM {self._schema}.{name} WHERE namespace = $1{which})"
            )
        (row,) = await self._connection.fetch(f"SELECT {', '.join(asked)}", *parameters)
        self._now = row[0] if self._now is None else self._now
        return [json.loads(rows or "[]") for rows in row[2:]]


class NoRecords(PostgresLockTransaction):
    """Reads where no tables have been made yet."""

    async def _read(self, wanted: Collection[str] | None, *tables: _Table) -> list[list[list[Any]]]:
        await super()._read(None)
        return [[] for _ in tables]


def _instance(row: list[Any]) -> LiveInstance:
    return LiveInstance(Instance(*row[:-3]), *row[-3:])


def _record(row: list[Any]) -> JobRecord:
    _, schedule, timezone, function, enabled, registrars, since, settled_at, *pause, arguments, mark, token, at = row
    return JobRecord(
        schedule,
        timezone,
        function,
        enabled,
        tuple(filter(None, registrars.split("\n"))),
        mark,
        since,
        token,
        settled_at,
        at,
        None if pause[0] is None else Pause(*pause),
        arguments=arguments,
    )


def _row(job: str, record: JobRecord) -> Sequence[object]:
    return [
        job,
        record.schedule,
        record.timezone,
        record.function,
        record.enabled,
        "\n".join(record.registrars),
        record.since,
        record.settled_at,
        *(record.pause or (None, None, None)),
        record.arguments,
        *_MOVING(record),
    ]
