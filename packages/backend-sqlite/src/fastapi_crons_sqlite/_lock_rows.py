"""How job records, leases and instances lie in their tables, and how batches of them are read and written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from fastapi_crons._util.damage import Damage, is_number, text
from fastapi_crons.locking.base import KnownJob, Lease, LeaseRef, LiveInstance
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.rule import MAX_HANDLED_AHEAD, JobRecord
from fastapi_crons.locking.sound import (
    sound_instance,
    sound_known,
    sound_last_handled,
    sound_lease,
    sound_pause,
    sound_token,
)
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

_INSERT_JOBS = f"INSERT INTO lock_job ({_JOB_COLUMNS})"
_OR_UPDATE_JOBS = "ON CONFLICT (name) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in _JOB_COLUMNS.split(", ")[1:]
)
# One that is damaged, and so is not known here, gives way.
_INSERT_LEASES = f"INSERT OR REPLACE INTO lock_lease ({_LEASE_COLUMNS}, namespace)"
#: The columns of rows that `known_job` takes, and of the leases that go with them.
KNOWN = "name, schedule, timezone, function, enabled, mark, since, paused_since, paused_by, paused_note"
KNOWN_LEASES = f"{_LEASE_COLUMNS}, cancel"

_MARK, _TOKEN = (_JOB_COLUMNS.split(", ").index(column) for column in ("mark", "token"))
_LEASE_LENGTH = len(_LEASE_COLUMNS.split(", "))

#: By the job's key.
Records = dict[str, JobRecord]


class Reading:
    """How rows of the lock store are read at an instant: what is damaged is noted, and mended or passed over."""

    def __init__(self, damage: Damage, now: float, term: float) -> None:
        self.damage = damage
        self.now = now
        self.term = term

    def record(self, row: Row) -> JobRecord | None:
        """The record of a job, without its leases."""
        return self.damage.sound(f"record of job {row[0]!r}", lambda: self._record(row))

    def _record(self, row: Row) -> JobRecord:
        name, schedule, timezone, function, enabled, registrars, mark, since, token, settled_at, *pause = row
        record = JobRecord(
            text(schedule, "schedule"),
            text(timezone, "timezone"),
            text(function, "function"),
            bool(enabled),
            tuple(text(registrars, "registrars").split("\n")),
            sound_last_handled(mark),
            since if is_number(since) else 0.0,
            sound_token(token),
            settled_at if is_number(settled_at) else 0.0,
            pause=None if pause[0] is None else sound_pause(*pause),
        )
        mended = (record.last_handled, record.since, record.token, record.settled_at, *(record.pause or (None,) * 3))
        read = (mark, since, token, settled_at, *(pause if pause[0] is not None else (None,) * 3))
        if mended != read:
            fields = ("mark", "since", "token", "settled_at", "paused_since", "paused_by", "paused_note")
            wrong = [field for field, now, was in zip(fields, mended, read, strict=True) if now != was]
            self.damage.note(f"record of job {name!r}", f"{', '.join(wrong)} can't be what is on record")
        return record

    def lease(self, row: Row) -> Lease | None:
        """A lease of a row of `_LEASE_COLUMNS`, or of `KNOWN_LEASES`."""
        lease = Lease(*row[:_LEASE_LENGTH])._replace(cancelled=any(row[_LEASE_LENGTH:]))
        found = self.damage.sound(f"lease {row[1]!r}", lambda: sound_lease(lease, self.now, self.term))
        if found is not None and found.expires != lease.expires:
            self.damage.note(f"lease {row[1]!r}", "its end can't be what is on record")
        return found

    def instance(self, row: Row) -> LiveInstance | None:
        """The instance of a row of `LIVE_COLUMNS`."""
        *about, heartbeat, running, jobs = row
        read = LiveInstance(Instance(*about), heartbeat, running, jobs)
        found = self.damage.sound(f"instance {about[1]!r}", lambda: sound_instance(read, self.now))
        if found is not None and found != read:
            self.damage.note(f"instance {about[1]!r}", "what it says of itself can't be what is on record")
        return found


def read_records(transaction: Transaction, names: str, reading: Reading) -> tuple[Records, dict[str, Row], set[str]]:
    """The records of jobs, the rows that they were made of, and the ids of all their leases."""
    rows = {row[0]: row for row in transaction.rows(_JOB_COLUMNS, f"FROM lock_job WHERE name {_NAMED}", names)}
    records = {name: record for name, row in rows.items() if (record := reading.record(row)) is not None}
    leased = set()
    for row in transaction.rows(_LEASE_COLUMNS, f"FROM lock_lease WHERE job {_NAMED}", names):
        lease = reading.lease(row)
        record = None if lease is None else records.get(lease.job)
        if lease is not None and record is not None:
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
        if record.token != before[name][_TOKEN] or record.last_handled != before[name][_MARK]:
            changed.setdefault((record.last_handled, record.token), []).append(name)
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
        "run_id, token", f"FROM lock_lease WHERE run_id {_NAMED}", as_json([lease.run_id for lease in leases])
    )
    on_record = {(run_id, token) for run_id, token in found}
    return [(lease.run_id, lease.token) in on_record for lease in leases]


def leases_of(transaction: Transaction, namespace: str, reading: Reading) -> tuple[list[Lease], list[Row]]:
    """All leases of a namespace, under their jobs' keys, and whether they are to be cancelled; and the rows of others."""
    rows = transaction.rows(KNOWN_LEASES, "FROM lock_lease WHERE namespace = ?", namespace)
    leases = [(row, reading.lease(row)) for row in rows]
    return [lease for _, lease in leases if lease is not None], [row for row, lease in leases if lease is None]


def delete_damaged(transaction: Transaction, rows: Sequence[Row], living: Collection[str]) -> None:
    """Take leases that can't be read off the record, unless one who lives may still give them back."""
    delete_leases(transaction, [row[1] for row in rows if row[3] not in living and isinstance(row[1], str)])
    transaction.execute("DELETE FROM lock_lease WHERE typeof(run_id) <> 'text'")


def instances_of(transaction: Transaction, namespace: str, reading: Reading) -> dict[str, LiveInstance]:
    """What is known of the instances of a namespace, by owner, whether they live or not."""
    rows = transaction.rows(LIVE_COLUMNS, "FROM lock_instance WHERE namespace = ?", namespace)
    instances = (reading.instance(row) for row in rows)
    return {found.instance.owner: found for found in instances if found is not None}


def put_back_heartbeats(transaction: Transaction, namespace: str, now: float) -> None:
    """Whoever left a heartbeat that can't be believed has left it just now: who lives leaves another."""
    transaction.execute(
        "UPDATE lock_instance SET heartbeat_ts = ? WHERE namespace = ? "
        "AND (typeof(heartbeat_ts) NOT IN ('real', 'integer') OR heartbeat_ts NOT BETWEEN 0 AND ?)",
        now,
        namespace,
        now + MAX_HANDLED_AHEAD,
    )


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


def known_job(row: Row, job: str, leases: Sequence[Lease], reading: Reading) -> KnownJob | None:
    """What is on record of a job, of a row of `KNOWN`; `job` is what its key stands for. None where it can't be read."""
    _, schedule, timezone, function, enabled, mark, since, *pause = row
    known = KnownJob(
        job,
        schedule,
        timezone,
        function,
        bool(enabled),
        mark,
        since,
        None if pause[0] is None else sound_pause(*pause),
        tuple(lease._replace(job=job) for lease in leases),
    )
    return reading.damage.sound(f"record of job {row[0]!r}", lambda: sound_known(known))


def _job_row(name: str, record: JobRecord) -> Row:
    return [
        name,
        record.schedule,
        record.timezone,
        record.function,
        int(record.enabled),
        "\n".join(record.registrars),
        record.last_handled,
        record.since,
        record.token,
        record.settled_at,
        *(record.pause or (None, None, None)),
    ]
