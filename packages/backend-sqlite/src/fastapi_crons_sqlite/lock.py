"""The SQLite lock store: claims for all processes of one host, in one file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from fastapi_crons.clock import Clock, SystemClock
from fastapi_crons.instance import Instance
from fastapi_crons.locking.base import (
    Beat,
    ClaimRequest,
    ClaimResult,
    Definition,
    Enrolment,
    KnownJob,
    Lease,
    LeaseRef,
    LeaseTerms,
    LiveInstance,
    LockBackend,
    Pause,
    PauseRequest,
    Reach,
    Resumed,
    ResumeRequest,
)
from fastapi_crons.locking.records import JobRecord, claim_in, enrol_in, pause_in, resume_in
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Row, Transaction, as_json

_JOB_COLUMNS = (
    "name, schedule, timezone, function, enabled, registrars, mark, since, token, settled_at, "
    "paused_since, paused_by, paused_note"
)
_LEASE_COLUMNS = "job, run_id, tick, instance, token, attempt, expires, after, let_go, schedule, timezone"
_INSTANCE_COLUMNS = "id, owner, host, boot, pid, pid_started, started_ts, version"
_HEARTBEAT_COLUMNS = "heartbeat_ts, running, jobs"

_READ_JOBS = f"""SELECT json_group_array(json_array({_JOB_COLUMNS})) FROM lock_job
    WHERE name IN (SELECT value FROM json_each(?))"""
_READ_LEASES = f"""SELECT json_group_array(json_array({_LEASE_COLUMNS})) FROM lock_lease
    WHERE job IN (SELECT value FROM json_each(?))"""
_KNOWN = f"""SELECT json_group_array(json_array(
    name, schedule, timezone, function, enabled, mark, since, paused_since, paused_by, paused_note,
    json((SELECT json_group_array(json_array({_LEASE_COLUMNS}, cancel)) FROM lock_lease WHERE job = lock_job.name))))
    FROM lock_job"""
_INSERT_JOBS = f"INSERT INTO lock_job ({_JOB_COLUMNS})"
_OR_UPDATE_JOBS = "ON CONFLICT (name) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in _JOB_COLUMNS.split(", ")[1:]
)
_INSERT_LEASES = f"INSERT INTO lock_lease ({_LEASE_COLUMNS}, namespace)"
_BEAT = "UPDATE lock_instance SET heartbeat_ts = max(heartbeat_ts, ?) WHERE owner = ?"
_TOUCH_JOBS = "UPDATE lock_job SET registered_ts = ? WHERE name IN (SELECT value FROM json_each(?))"
_SAY_ALIVE = f"INSERT OR REPLACE INTO lock_instance ({_INSTANCE_COLUMNS}, namespace, {_HEARTBEAT_COLUMNS})"
_RENEW_LEASES = """UPDATE lock_lease SET expires = max(expires, ?)
    WHERE run_id IN (SELECT value FROM json_each(?))"""
_DELETE_LEASES = "DELETE FROM lock_lease WHERE run_id IN (SELECT value FROM json_each(?))"

# What is known of the holders of leases, by owner.
_Holders = dict[str, LiveInstance]
_Records = dict[str, JobRecord]
T = TypeVar("T")


class SQLiteLockBackend(LockBackend):
    """Job records, leases and instances in a SQLite file, shared by all processes of a host.

    A holder on the same boot and in the same pid namespace is judged by its process; another one by its heartbeat.
    """

    reach: ClassVar[Reach] = "host"

    def __init__(self, db_path: str | Path = "crons.db", *, busy_timeout: float = 4.0) -> None:
        # A claim that a power cut takes back could run its tick twice.
        self._database = Database(db_path, busy_timeout=busy_timeout, synchronous="FULL")
        self._busy_timeout = busy_timeout
        self._clock: Clock = SystemClock()
        self._names = Names("default")
        self._namespace = "default"
        self._terms = LeaseTerms(300, 30)
        self._instance: Instance | None = None

    @property
    def path(self) -> str:
        """The database file."""
        return self._database.path

    async def open(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        self._instance, self._namespace, self._terms, self._clock = instance, namespace, terms, clock
        self._names = Names(namespace)
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def leave(self) -> None:
        owner = self._me().owner
        await self._database.write(
            lambda transaction: transaction.execute("DELETE FROM lock_instance WHERE owner = ?", owner)
        )

    def beside(self) -> LockBackend:
        return SQLiteLockBackend(self.path, busy_timeout=self._busy_timeout)

    async def enrol(self, definitions: Sequence[Definition]) -> list[Enrolment]:
        key = self._names.key
        named = [
            definition._replace(
                job=key(definition.job), held=tuple(lease._replace(job=key(lease.job)) for lease in definition.held)
            )
            for definition in definitions
        ]
        owner, term = self._me().owner, self._terms.lease
        return await self._change(
            named,
            lambda records, now: [enrol_in(records, each, owner, now, term) for each in named],
            registered=True,
        )

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        key, instance, term = self._names.key, self._me().owner, self._terms.lease
        named = [request._replace(job=key(request.job)) for request in requests]

        def work(transaction: Transaction) -> list[ClaimResult]:
            names = as_json([request.job for request in named])
            records, before = _read_jobs(transaction, names)
            known = _add_leases(transaction, records, names)
            # Whether others live matters only where somebody holds the job, or has another definition in force.
            needed = bool(known) or any(_is_refused(records.get(request.job), request) for request in named)
            holders = self._holders(transaction) if needed else {}
            now = self._clock.now()
            transaction.execute(_BEAT, now, instance)

            def alive(owner: str, expires: float) -> bool:
                return self._alive(owner, expires, holders, now)

            results = [claim_in(records, request, instance, now, term, alive) for request in named]
            _write_jobs(transaction, records, before)
            self._write_leases(transaction, records, known)
            return results

        return await self._database.write(work)

    async def pause(self, requests: Sequence[PauseRequest]) -> list[Pause | None]:
        key = self._names.key
        named = [request._replace(job=key(request.job)) for request in requests]
        return await self._change(named, lambda records, now: [pause_in(records, each, now) for each in named])

    async def resume(self, requests: Sequence[ResumeRequest]) -> list[Resumed | None]:
        key, instance, term = self._names.key, self._me().owner, self._terms.lease
        named = [request._replace(job=key(request.job)) for request in requests]
        return await self._change(
            named, lambda records, now: [resume_in(records, each, instance, now, term) for each in named]
        )

    async def pauses(self) -> dict[str, Pause]:
        rows = await self._database.read_plain(
            "SELECT name, paused_since, paused_by, paused_note FROM lock_job WHERE paused_since IS NOT NULL"
        )
        return {job: Pause(*row[1:]) for row in rows if (job := self._names.own(row[0])) is not None}

    async def cancel(self, run_ids: Collection[str], actor: str | None) -> set[str]:
        def work(transaction: Transaction) -> set[str]:
            wanted = as_json(list(run_ids))
            transaction.execute(
                "UPDATE lock_lease SET cancel = 1, cancelled_by = ? "
                "WHERE namespace = ? AND let_go IS NULL AND run_id IN (SELECT value FROM json_each(?))",
                actor,
                self._namespace,
                wanted,
            )
            found = transaction.rows(
                "SELECT json_group_array(run_id) FROM lock_lease "
                "WHERE namespace = ? AND cancel AND run_id IN (SELECT value FROM json_each(?))",
                self._namespace,
                wanted,
            )
            return {str(run_id) for run_id in found}

        return await self._database.write(work)

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        def work(transaction: Transaction) -> list[bool]:
            held = _are_held(transaction, leases)
            transaction.execute(_DELETE_LEASES, _ids_of(leases, held))
            return held

        return await self._database.write(work)

    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        expires = self._clock.now() + self._terms.lease

        def work(transaction: Transaction) -> list[bool]:
            held = _are_held(transaction, leases)
            transaction.execute(_RENEW_LEASES, expires, _ids_of(leases, held))
            return held

        return await self._database.write(work)

    async def marks(self, jobs: Sequence[str]) -> list[int | None]:
        names = [self._names.key(job) for job in jobs]
        rows = await self._database.read(
            """SELECT json_group_array(json_array(name, mark)) FROM lock_job
            WHERE name IN (SELECT value FROM json_each(?))""",
            as_json(names),
        )
        marks = {str(name): int(mark) for name, mark in rows}
        return [marks.get(name) for name in names]

    async def known(self, jobs: Sequence[str] | None = None) -> list[KnownJob]:
        names = self._names
        if jobs is None:
            rows = await self._database.read(f"{_KNOWN} WHERE {names.condition.replace('job', 'name')}", *names.bounds)
        else:
            wanted = as_json([names.key(job) for job in jobs])
            rows = await self._database.read(f"{_KNOWN} WHERE name IN (SELECT value FROM json_each(?))", wanted)
        return [_known(row, job) for row in rows if (job := names.own(row[0])) is not None]

    async def beat(self, running: int = 0, jobs: str = "", leases: int = 0) -> Beat:
        me = self._me()

        def work(transaction: Transaction) -> Beat:
            now = self._clock.now()
            holders = self._holders(transaction)
            unknown = me.owner not in holders
            holders[me.owner] = LiveInstance(me, now, running, jobs)
            transaction.insert(_SAY_ALIVE, [[*_instance_row(me), self._namespace, now, running, jobs]])
            rows = transaction.rows(
                f"SELECT json_group_array(json_array({_LEASE_COLUMNS}, cancel)) FROM lock_lease WHERE namespace = ?",
                self._namespace,
            )
            found = [_lease(row[:-1])._replace(cancelled=bool(row[-1])) for row in rows]
            own = [lease for lease in found if lease.instance == me.owner]
            self._forget_dead(transaction, holders, {lease.instance for lease in found}, now)
            dead = [
                lease._replace(job=job)
                for lease in found
                if not self._alive(lease.instance, lease.expires, holders, now)
                and (job := self._names.own(lease.job)) is not None
            ]
            cancelled = transaction.rows(
                "SELECT json_group_array(json_array(run_id, cancelled_by)) FROM lock_lease WHERE cancel AND instance = ?",
                me.owner,
            )
            return Beat(
                dead,
                [(run_id, actor) for run_id, actor in cancelled],
                self._living(holders.values(), now),
                [lease._replace(job=self._names.own(lease.job) or lease.job) for lease in own if len(own) != leases],
                unknown,
            )

        return await self._database.write(work)

    async def instances(self) -> list[LiveInstance]:
        rows = await self._database.read_plain(
            f"SELECT {_INSTANCE_COLUMNS}, {_HEARTBEAT_COLUMNS} FROM lock_instance WHERE namespace = ?", self._namespace
        )
        return self._living([_live_instance(row) for row in rows], self._clock.now())

    async def leased(self, run_ids: Collection[str]) -> set[str]:
        rows = await self._database.read(
            "SELECT json_group_array(run_id) FROM lock_lease WHERE run_id IN (SELECT value FROM json_each(?))",
            as_json(list(run_ids)),
        )
        return {str(run_id) for run_id in rows}

    async def forget(self, seconds: float) -> list[str]:
        def work(transaction: Transaction) -> list[str]:
            rows = transaction.rows(
                f"""SELECT json_group_array(json_array(name, registrars, registered_ts)) FROM lock_job
                WHERE {self._names.condition.replace("job", "name")}
                AND NOT EXISTS (SELECT 1 FROM lock_lease WHERE lock_lease.job = lock_job.name)""",
                *self._names.bounds,
            )
            now = self._clock.now()
            living = {found.instance.owner for found in self._living((self._holders(transaction)).values(), now)}
            # A record of an older layout does not know when it was registered: it is taken for new.
            known = [name for name, registrars, at in rows if not at or not living.isdisjoint(registrars.split("\n"))]
            transaction.execute(_TOUCH_JOBS, now, as_json(known))
            gone = [name for name, _, at in rows if name not in set(known) and at < now - seconds]
            transaction.execute("DELETE FROM lock_job WHERE name IN (SELECT value FROM json_each(?))", as_json(gone))
            return [job for name in gone if (job := self._names.own(name)) is not None]

        return await self._database.write(work)

    async def _change(
        self,
        named: Sequence[Definition | PauseRequest | ResumeRequest],
        change: Callable[[_Records, float], list[T]],
        *,
        registered: bool = False,
    ) -> list[T]:
        """Change the records of jobs, in one transaction; what was granted in it becomes a lease."""
        names = as_json([each.job for each in named])

        def work(transaction: Transaction) -> list[T]:
            records, before = _read_jobs(transaction, names)
            known = _add_leases(transaction, records, names)
            now = self._clock.now()
            answers = change(records, now)
            _write_jobs(transaction, records, before)
            if registered:
                transaction.execute(_TOUCH_JOBS, now, names)
                transaction.execute(_BEAT, now, self._me().owner)
            self._write_leases(transaction, records, known)
            return answers

        return await self._database.write(work)

    def _me(self) -> Instance:
        assert self._instance is not None, "open() comes first"
        return self._instance

    def _holders(self, transaction: Transaction) -> _Holders:
        rows = transaction.rows(
            f"""SELECT json_group_array(json_array({_INSTANCE_COLUMNS}, {_HEARTBEAT_COLUMNS})) FROM lock_instance
            WHERE namespace = ?""",
            self._namespace,
        )
        return {holder.instance.owner: holder for holder in map(_live_instance, rows)}

    def _living(self, holders: Iterable[LiveInstance], now: float) -> list[LiveInstance]:
        return [holder for holder in holders if self._lives(holder, float("inf"), now)]

    def _alive(self, owner: str, expires: float, holders: _Holders, now: float) -> bool:
        if owner == self._me().owner:
            return True
        return owner in holders and self._lives(holders[owner], expires, now)

    def _lives(self, holder: LiveInstance, expires: float, now: float) -> bool:
        seen = holder.instance.process_alive(self._me())
        return now < expires and now - holder.heartbeat_ts < self._terms.instance if seen is None else seen

    def _forget_dead(self, transaction: Transaction, holders: _Holders, needed: set[str], now: float) -> None:
        """Take dead instances off the list once nothing that they held is left."""
        dead = [
            name
            for name, holder in holders.items()
            if name not in needed and not self._lives(holder, float("inf"), now)
        ]
        if dead:
            transaction.execute(
                "DELETE FROM lock_instance WHERE owner IN (SELECT value FROM json_each(?))", as_json(dead)
            )

    def _write_leases(self, transaction: Transaction, records: _Records, before: set[str]) -> None:
        after = {run_id: lease for record in records.values() for run_id, lease in (record.leases or {}).items()}
        gone = before - after.keys()
        if gone:
            transaction.execute(_DELETE_LEASES, as_json(list(gone)))
        new = [_lease_row(lease, self._namespace) for run_id, lease in after.items() if run_id not in before]
        transaction.insert(_INSERT_LEASES, new)


def _are_held(transaction: Transaction, leases: Sequence[LeaseRef]) -> list[bool]:
    """For each lease whether it is on record with this token."""
    found = transaction.rows(
        "SELECT json_group_array(json_array(run_id, token)) FROM lock_lease "
        "WHERE run_id IN (SELECT value FROM json_each(?))",
        as_json([lease.run_id for lease in leases]),
    )
    on_record = {(run_id, token) for run_id, token in found}
    return [(lease.run_id, lease.token) in on_record for lease in leases]


def _ids_of(leases: Sequence[LeaseRef], held: Sequence[bool]) -> str:
    return as_json([lease.run_id for lease, ours in zip(leases, held, strict=True) if ours])


def _read_jobs(transaction: Transaction, names: str) -> tuple[_Records, dict[str, Row]]:
    """The records of jobs without their leases, and the rows that they were made of."""
    rows = {row[0]: row for row in transaction.rows(_READ_JOBS, names)}
    return {name: _record(row) for name, row in rows.items()}, rows


def _add_leases(transaction: Transaction, records: _Records, names: str) -> set[str]:
    """Give records their leases; returns the ids of all."""
    leases = [_lease(row) for row in transaction.rows(_READ_LEASES, names)]
    for lease in leases:
        record = records.get(lease.job)
        if record is not None:
            record.leases = {**(record.leases or {}), lease.run_id: lease}
    return {lease.run_id for lease in leases if lease.job in records}


def _write_jobs(transaction: Transaction, records: _Records, before: dict[str, Row]) -> None:
    changed = [row for name, record in records.items() if (row := _job_row(name, record)) != before.get(name)]
    transaction.insert(_INSERT_JOBS, changed, _OR_UPDATE_JOBS)


def _record(row: Row) -> JobRecord:
    name, schedule, timezone, function, enabled, registrars, mark, since, token, settled_at, *paused = row
    return JobRecord.restored(
        Definition(name, schedule, timezone, function, mark, bool(enabled)),
        tuple(registrars.split("\n")),
        since,
        token,
        None if paused[0] is None else Pause(*paused),
        settled_at,
    )


def _known(row: Row, job: str) -> KnownJob:
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
        tuple(_lease(lease[:-1])._replace(job=job, cancelled=bool(lease[-1])) for lease in leases),
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


def _is_refused(record: JobRecord | None, request: ClaimRequest) -> bool:
    """Whether the definition of a request is not the one in force."""
    return record is not None and (
        (record.schedule, record.timezone) != (request.schedule, request.timezone) or not record.enabled
    )


def _instance_row(instance: Instance) -> Row:
    return [
        instance.id,
        instance.owner,
        instance.host,
        instance.boot,
        instance.pid,
        instance.pid_started,
        instance.started_ts,
        instance.version,
    ]


def _live_instance(row: Row) -> LiveInstance:
    *about, heartbeat, running, jobs = row
    return LiveInstance(Instance(*about), heartbeat, running, jobs)


def _lease(row: Row) -> Lease:
    return Lease(*row)


def _lease_row(lease: Lease, namespace: str) -> Row:
    return [
        lease.job,
        lease.run_id,
        lease.tick,
        lease.instance,
        lease.token,
        lease.attempt,
        lease.expires,
        lease.after,
        lease.let_go,
        lease.schedule,
        lease.timezone,
        namespace,
    ]
