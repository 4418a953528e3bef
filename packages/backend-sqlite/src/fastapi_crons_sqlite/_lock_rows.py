"""How job records, leases and instances lie in their tables, and how batches of them are read and written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from fastapi_crons.instance import Instance
from fastapi_crons.locking.base import KnownJob, Lease, LeaseRef, LiveInstance, Pause
from fastapi_crons.locking.records import JobRecord
from fastapi_crons_sqlite._transaction import Row, Transaction, as_json

#: In the order of a `JobRecord`'s arguments, behind the name.
_JOB_COLUMNS = (
    "name, schedule, timezone, function, enabled, registrars, mark, since, token, settled_at, "
    "paused_since, paused_by, paused_note"
)
#: In the order of a `Lease`.
_LEASE_COLUMNS = "job, run_id, tick, instance, token, attempt, expires, after, let_go, schedule, timezone"
_INSTANCE_COLUMNS = "id, owner, host, boot, pid, pid_started, started_ts, version"
#: What `live_instance` takes.
LIVE_COLUMNS = f"{_INSTANCE_COLUMNS}, heartbeat_ts, running, jobs"
_NAMED = "IN (SELECT value FROM json_each(?))"

_READ_JOBS = f"SELECT json_group_array(json_array({_JOB_COLUMNS})) FROM lock_job WHERE name {_NAMED}"
_INSERT_JOBS = f"INSERT INTO lock_job ({_JOB_COLUMNS})"
_OR_UPDATE_JOBS = "ON CONFLICT (name) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in _JOB_COLUMNS.split(", ")[1:]
)
_READ_LEASES = f"SELECT json_group_array(json_array({_LEASE_COLUMNS})) FROM lock_lease WHERE job {_NAMED}"
_INSERT_LEASES = f"INSERT INTO lock_lease ({_LEASE_COLUMNS}, namespace)"
#: The rows that `known_job` takes; a condition on the name may follow.
KNOWN = f"""SELECT json_group_array(json_array(
    name, schedule, timezone, function, enabled, mark, since, paused_since, paused_by, paused_note,
    json((SELECT json_group_array(json_array({_LEASE_COLUMNS}, cancel)) FROM lock_lease WHERE job = lock_job.name))))
    FROM lock_job"""

_MARK, _TOKEN = (_JOB_COLUMNS.split(", ").index(column) for column in ("mark", "token"))
_LEASE_LENGTH = len(_LEASE_COLUMNS.split(", "))

#: By the job's key.
Records = dict[str, JobRecord]


def read_records(transaction: Transaction, names: str) -> tuple[Records, dict[str, Row], set[str]]:
    """The records of jobs, the rows that they were made of, and the ids of all their leases."""
    rows = {row[0]: row for row in transaction.rows(_READ_JOBS, names)}
    records = {name: _record(row) for name, row in rows.items()}
    leased = set()
    for row in transaction.rows(_READ_LEASES, names):
        lease = Lease(*row)
        record = records.get(lease.job)
        if record is not None:
            record.leases = {**(record.leases or {}), lease.run_id: lease}
            leased.add(lease.run_id)
    return records, rows, leased


def write_records(transaction: Transaction, records: Records, before: dict[str, Row]) -> None:
    """Write the records that are not as they were; leases aside."""
    changed = [row for name, record in records.items() if (row := _job_row(name, record)) != before.get(name)]
    transaction.insert(_INSERT_JOBS, changed, _OR_UPDATE_JOBS)


def write_marks(transaction: Transaction, records: Records, before: dict[str, Row]) -> None:
    """Write what claims change of records. Most jobs of a batch have the same tick, and are given the same token."""
    changed: dict[tuple[int, int], list[str]] = {}
    for name, record in records.items():
        if record.token != before[name][_TOKEN] or record.mark != before[name][_MARK]:
            changed.setdefault((record.mark, record.token), []).append(name)
    for (mark, token), names in changed.items():
        transaction.execute(f"UPDATE lock_job SET mark = ?, token = ? WHERE name {_NAMED}", mark, token, as_json(names))


def write_leases(transaction: Transaction, records: Records, before: Collection[str], namespace: str) -> None:
    """Write the leases that are new, and delete those that are gone."""
    gone, new = set(before), []
    for record in records.values():
        for run_id, lease in (record.leases or {}).items():
            if run_id in gone:
                gone.remove(run_id)
            else:
                new.append((*lease[:_LEASE_LENGTH], namespace))
    delete_leases(transaction, gone)
    transaction.insert(_INSERT_LEASES, new)


def delete_leases(transaction: Transaction, run_ids: Iterable[str]) -> None:
    """Take leases off the record."""
    ids = list(run_ids)
    if ids:
        transaction.execute(f"DELETE FROM lock_lease WHERE run_id {_NAMED}", as_json(ids))


def are_held(transaction: Transaction, leases: Sequence[LeaseRef]) -> list[bool]:
    """For each lease whether it is on record with this token."""
    found = transaction.rows(
        f"SELECT json_group_array(json_array(run_id, token)) FROM lock_lease WHERE run_id {_NAMED}",
        as_json([lease.run_id for lease in leases]),
    )
    on_record = {(run_id, token) for run_id, token in found}
    return [(lease.run_id, lease.token) in on_record for lease in leases]


def leases_of(transaction: Transaction, namespace: str) -> list[Lease]:
    """All leases of a namespace, under their jobs' keys, and whether they are to be cancelled."""
    rows = transaction.rows(
        f"SELECT json_group_array(json_array({_LEASE_COLUMNS}, cancel)) FROM lock_lease WHERE namespace = ?", namespace
    )
    return [_cancellable(row) for row in rows]


def instances_of(transaction: Transaction, namespace: str) -> dict[str, LiveInstance]:
    """What is known of the instances of a namespace, by owner, whether they live or not."""
    rows = transaction.rows(
        f"SELECT json_group_array(json_array({LIVE_COLUMNS})) FROM lock_instance WHERE namespace = ?", namespace
    )
    return {found.instance.owner: found for found in map(live_instance, rows)}


def write_instance(transaction: Transaction, found: LiveInstance, namespace: str) -> None:
    """Write down that an instance lives."""
    about = found.instance
    transaction.insert(
        f"INSERT OR REPLACE INTO lock_instance ({LIVE_COLUMNS}, namespace)",
        [
            (
                about.id,
                about.owner,
                about.host,
                about.boot,
                about.pid,
                about.pid_started,
                about.started_ts,
                about.version,
                found.heartbeat_ts,
                found.running,
                found.jobs,
                namespace,
            )
        ],
    )


def live_instance(row: Row) -> LiveInstance:
    """The instance of a row of `LIVE_COLUMNS`."""
    *about, heartbeat, running, jobs = row
    return LiveInstance(Instance(*about), heartbeat, running, jobs)


def known_job(row: Row, job: str) -> KnownJob:
    """What is on record of a job, of a row of `KNOWN`; `job` is the name that its key stands for."""
    _, schedule, timezone, function, enabled, mark, since, *pause, leases = row
    return KnownJob(
        job,
        schedule,
        timezone,
        function,
        bool(enabled),
        mark,
        since,
        None if pause[0] is None else Pause(*pause),
        tuple(_cancellable(lease)._replace(job=job) for lease in leases),
    )


def _record(row: Row) -> JobRecord:
    _, schedule, timezone, function, enabled, registrars, mark, since, token, settled_at, *pause = row
    return JobRecord(
        schedule,
        timezone,
        function,
        bool(enabled),
        tuple(registrars.split("\n")),
        mark,
        since,
        token,
        settled_at,
        None if pause[0] is None else Pause(*pause),
    )


def _job_row(name: str, record: JobRecord) -> Row:
    return [
        name,
        record.schedule,
        record.timezone,
        record.function,
        int(record.enabled),
        "\n".join(record.registrars),
        record.mark,
        record.since,
        record.token,
        record.settled_at,
        *(record.pause or (None, None, None)),
    ]


def _cancellable(row: Row) -> Lease:
    *lease, cancel = row
    return Lease(*lease)._replace(cancelled=bool(cancel))
