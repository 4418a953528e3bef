"""A transaction on the lock store: how job records, leases and instances lie in their tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter

from fastapi_crons._util.damage import DamagedError
from fastapi_crons.clock import Clock
from fastapi_crons.locking import Lease, LeaseRef, LiveInstance, LockTransaction, Pause
from fastapi_crons.locking.checks import checked_lease
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.rule import JobRecord
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Row, Transaction, Value, as_json

_JOB_COLUMNS = (
    "name, schedule, timezone, function, enabled, registrars, since, settled_at, paused_since, paused_by, paused_note, "
    "arguments, mark, token, registered_ts"
)
#: What nearly every claim or registration changes of a record, to the same for many jobs at a time; and what few change.
_MOVING = attrgetter("last_handled", "token", "registered_at")
_SETTLED = attrgetter(
    "schedule", "timezone", "function", "enabled", "registrars", "since", "settled_at", "pause", "arguments"
)
#: In the order of a `Lease`.
_LEASE_COLUMNS = (
    "job, run_id, tick, instance, token, attempt, expires, after, let_go, schedule, timezone, cancel, cancelled_by"
)
_INSTANCE_COLUMNS = "id, owner, host, boot, pid, pid_started, started_ts, version, heartbeat_ts, running, jobs"
NAMED = "IN (SELECT value FROM json_each(?))"

_INSERT_JOBS = f"INSERT INTO lock_job ({_JOB_COLUMNS})"
_OR_UPDATE_JOBS = "ON CONFLICT (name) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in _JOB_COLUMNS.split(", ")[1:]
)
_MOVE_JOBS = f"UPDATE lock_job SET mark = ?, token = ?, registered_ts = ? WHERE name {NAMED}"
# One that can't be read, and so is not known here, gives way.
_INSERT_LEASES = f"INSERT OR REPLACE INTO lock_lease ({_LEASE_COLUMNS}, namespace)"


class SQLiteLockTransaction(LockTransaction):
    """The records of one namespace in a transaction on the file."""

    def __init__(self, transaction: Transaction, namespace: str, clock: Clock) -> None:
        self._transaction, self._namespace, self._clock = transaction, namespace, clock
        self._names = Names(namespace)
        #: What was loaded, by job: `_SETTLED` and `_MOVING` of its record, and its leases.
        self._before: dict[str, tuple[object, object]] = {}
        self._leases: dict[str, dict[str, Lease]] = {}

    async def now(self) -> float:
        return self._clock.now()

    async def load(self, jobs: Collection[str] | None) -> dict[str, JobRecord]:
        names, rows_of = self._names, self._transaction.rows
        if jobs is None:
            rows = rows_of(_JOB_COLUMNS, f"FROM lock_job WHERE {names.condition.replace('job', 'name')}", *names.bounds)
            leases = await self.leases()
        else:
            wanted = as_json([names.key(job) for job in jobs])
            rows = rows_of(_JOB_COLUMNS, f"FROM lock_job WHERE name {NAMED}", wanted)
            leases = self._leases_of(rows_of(_LEASE_COLUMNS, f"FROM lock_lease WHERE job {NAMED}", wanted))
        records = {}
        for row in rows:
            job = names.own(row[0])
            if job is not None:
                records[job] = found = _record(row)
                self._before[job] = _SETTLED(found), _MOVING(found)
        for lease in leases:
            record = records.get(lease.job)
            if record is not None:
                self._leases.setdefault(lease.job, {})[lease.run_id] = lease
                record.leases = {**(record.leases or {}), lease.run_id: lease}
        return records

    async def save(self, records: Mapping[str, JobRecord]) -> None:
        new: list[Row] = []
        moved: dict[tuple[Value, ...], list[str]] = {}
        for job, record in records.items():
            settled, moving = self._before.get(job, (None, None))
            if _SETTLED(record) != settled:
                new.append(_row(self._names.key(job), record))
            elif (now := _MOVING(record)) != moving:
                moved.setdefault(now, []).append(self._names.key(job))
        self._transaction.insert(_INSERT_JOBS, new, _OR_UPDATE_JOBS)
        # Most jobs of a batch have the same tick, and are given the same token.
        for values, keys in moved.items():
            self._transaction.execute(_MOVE_JOBS, *values, as_json(keys))
        self._save_leases(records)

    def _save_leases(self, records: Mapping[str, JobRecord]) -> None:
        changed: list[Row] = []
        gone: list[str] = []
        for job, record in records.items():
            before, leases = self._leases.get(job, {}), record.leases or {}
            for run_id, lease in leases.items():
                if lease is not before.get(run_id):
                    key, cancelled = self._names.key(job), int(lease.cancelled)
                    changed.append((key, *lease[1:-2], cancelled, lease.cancelled_by, self._namespace))
            for run_id, lease in before.items():
                # One that can't be read was left out, and is on record as long as its holder may still release it.
                if run_id not in leases and _can_be_read(lease):
                    gone.append(run_id)
        self._delete_leases(gone)
        self._transaction.insert(_INSERT_LEASES, changed)

    async def delete(self, jobs: Collection[str]) -> None:
        if jobs:
            keys = as_json([self._names.key(job) for job in jobs])
            self._transaction.execute(f"DELETE FROM lock_job WHERE name {NAMED}", keys)

    async def leases(self) -> list[Lease]:
        rows = self._transaction.rows(_LEASE_COLUMNS, "FROM lock_lease WHERE namespace = ?", self._namespace)
        return self._leases_of(rows)

    def _leases_of(self, rows: Sequence[Row]) -> list[Lease]:
        leases = (Lease(*row) for row in rows)
        return [
            lease._replace(job=self._names.own(lease.job) or "", cancelled=bool(lease.cancelled)) for lease in leases
        ]

    async def delete_leases(self, leases: Sequence[Lease]) -> None:
        self._delete_leases([lease.run_id for lease in leases if isinstance(lease.run_id, str)])
        self._transaction.execute("DELETE FROM lock_lease WHERE typeof(run_id) <> 'text'")

    def _delete_leases(self, run_ids: Sequence[str]) -> None:
        if run_ids:
            self._transaction.execute(f"DELETE FROM lock_lease WHERE run_id {NAMED}", as_json(run_ids))

    def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        """Delete leases; False for one that is not on record with this token."""
        held = self._held(leases)
        self._delete_leases(_ids_of(leases, held))
        return held

    def renew(self, leases: Sequence[LeaseRef], now: float, term: float, longest: float) -> list[bool]:
        """Extend leases; False for one that is not on record with this token."""
        held = self._held(leases)
        # An end later than any that can have been granted is none.
        self._transaction.execute(
            "UPDATE lock_lease SET expires = max(CASE WHEN typeof(expires) IN ('real', 'integer') AND expires < ? "
            f"THEN expires ELSE 0 END, ?) WHERE run_id {NAMED}",
            now + longest,
            now + term,
            as_json(_ids_of(leases, held)),
        )
        return held

    def _held(self, leases: Sequence[LeaseRef]) -> list[bool]:
        found = self._transaction.rows(
            "run_id, token", f"FROM lock_lease WHERE run_id {NAMED}", as_json([lease.run_id for lease in leases])
        )
        on_record = {(run_id, token) for run_id, token in found}
        return [(lease.run_id, lease.token) in on_record for lease in leases]

    async def instances(self) -> list[LiveInstance]:
        rows = self._transaction.rows(_INSTANCE_COLUMNS, "FROM lock_instance WHERE namespace = ?", self._namespace)
        return [LiveInstance(Instance(*row[:-3]), *row[-3:]) for row in rows]

    async def save_instance(self, instance: LiveInstance) -> None:
        about, *rest = instance
        values = [getattr(about, column) for column in _INSTANCE_COLUMNS.split(", ")[:-3]]
        self._transaction.insert(
            f"INSERT OR REPLACE INTO lock_instance ({_INSTANCE_COLUMNS}, namespace)",
            [[*values, *rest, self._namespace]],
        )

    async def delete_instances(self, owners: Collection[str]) -> None:
        self._transaction.execute(f"DELETE FROM lock_instance WHERE owner {NAMED}", as_json([*owners]))

    async def touch(self, owner: str, now: float) -> None:
        self._transaction.execute("UPDATE lock_instance SET heartbeat_ts = ? WHERE owner = ?", now, owner)


def _ids_of(leases: Sequence[LeaseRef], held: Sequence[bool]) -> list[str]:
    return [lease.run_id for lease, is_held in zip(leases, held, strict=True) if is_held]


def _can_be_read(lease: Lease) -> bool:
    try:
        checked_lease(lease, 0, 0)
    except DamagedError:
        return False
    return True


def _record(row: Row) -> JobRecord:
    _, schedule, timezone, function, enabled, registrars, since, settled_at, *pause, arguments, mark, token, at = row
    return JobRecord(
        schedule,
        timezone,
        function,
        bool(enabled),
        tuple(filter(None, str(registrars).split("\n"))),
        mark,
        since,
        token,
        settled_at,
        at,
        None if pause[0] is None else Pause(*pause),
        arguments=arguments,
    )


def _row(key: str, record: JobRecord) -> list[Value]:
    return [
        key,
        record.schedule,
        record.timezone,
        record.function,
        int(record.enabled),
        "\n".join(record.registrars),
        record.since,
        record.settled_at,
        *(record.pause or (None, None, None)),
        record.arguments,
        record.last_handled,
        record.token,
        record.registered_at,
    ]
