"""The SQLite lock store: claims for all processes of one host, in one file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from fastapi_crons._util.damage import Damage, is_number
from fastapi_crons.clock import Clock, SystemClock
from fastapi_crons.locking import rule
from fastapi_crons.locking.base import (
    Beat,
    ClaimRequest,
    ClaimResult,
    Definition,
    KnownJob,
    Lease,
    LeaseRef,
    LeaseTerms,
    LiveInstance,
    LockBackend,
    Pause,
    PauseRequest,
    Reach,
    Registered,
    Resumed,
    ResumeRequest,
)
from fastapi_crons.locking.instance import Instance
from fastapi_crons.locking.rule import MAX_HANDLED_AHEAD, MAX_TERM, JobRecord
from fastapi_crons.locking.sound import credible_last_handled, sound_pause
from fastapi_crons_sqlite._database import Database
from fastapi_crons_sqlite._lock_rows import (
    KNOWN,
    KNOWN_LEASES,
    LIVE_COLUMNS,
    Reading,
    Records,
    are_held,
    delete_damaged,
    delete_leases,
    instances_of,
    known_job,
    leases_of,
    put_back_heartbeats,
    read_records,
    write_instance,
    write_leases,
    write_marks,
    write_records,
)
from fastapi_crons_sqlite._names import Names
from fastapi_crons_sqlite._transaction import Transaction, as_json

_BEAT = "UPDATE lock_instance SET heartbeat_ts = max(heartbeat_ts, ?) WHERE owner = ?"
_TOUCH_JOBS = "UPDATE lock_job SET registered_ts = ? WHERE name IN (SELECT value FROM json_each(?))"
_FOR_EVER = float("inf")

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
        self._damage = Damage(f"lock store in {self._database.path}")
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
        self._set_up(instance, namespace, terms, clock)
        await self._database.open()

    async def open_to_read(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        self._set_up(instance, namespace, terms, clock)
        await self._database.open(to_read=True)

    def _set_up(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        self._instance, self._namespace, self._terms, self._clock = instance, namespace, terms, clock
        self._names = Names(namespace)

    async def close(self) -> None:
        await self._database.close()

    async def leave(self) -> None:
        owner = self._me().owner
        await self._database.write(
            lambda transaction: transaction.execute("DELETE FROM lock_instance WHERE owner = ?", owner)
        )

    def clone(self) -> LockBackend:
        clone = SQLiteLockBackend(self.path, busy_timeout=self._busy_timeout)
        clone._damage = self._damage
        return clone

    def damaged(self) -> Collection[str]:
        return self._damage.names()

    def obstacle(self) -> str | None:
        return self._database.obstacle()

    async def register(self, definitions: Sequence[Definition]) -> list[Registered]:
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
            lambda records, now: [rule.register(records, each, owner, now, term) for each in named],
            registered=True,
        )

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        instance, term = self._me().owner, self._terms.lease
        named = self._names.keyed(requests)

        def work(transaction: Transaction) -> list[ClaimResult]:
            reading = self._reading()
            records, before, leased = read_records(transaction, as_json([request.job for request in named]), reading)
            # Whether others live matters only where somebody holds the job, or has another definition in force.
            needed = bool(leased) or any(_is_refused(records.get(request.job), request) for request in named)
            holders = instances_of(transaction, self._namespace, reading) if needed else {}
            now = self._clock.now()
            transaction.execute(_BEAT, now, instance)

            def alive(owner: str, expires: float) -> bool:
                return self._alive(owner, expires, holders, now)

            results = [rule.claim(records, request, instance, now, term, alive) for request in named]
            write_marks(transaction, records, before)
            write_leases(transaction, records, leased, self._namespace)
            return results

        return await self._database.write(work)

    async def pause(self, requests: Sequence[PauseRequest]) -> list[Pause | None]:
        named = self._names.keyed(requests)
        return await self._change(named, lambda records, now: [rule.pause(records, each, now) for each in named])

    async def resume(self, requests: Sequence[ResumeRequest]) -> list[Resumed | None]:
        instance, term = self._me().owner, self._terms.lease
        named = self._names.keyed(requests)
        return await self._change(
            named, lambda records, now: [rule.resume(records, each, instance, now, term) for each in named]
        )

    async def pauses(self) -> dict[str, Pause]:
        rows = await self._database.read_plain(
            "SELECT name, paused_since, paused_by, paused_note FROM lock_job WHERE paused_since IS NOT NULL"
        )
        return {job: sound_pause(*row[1:]) for row in rows if (job := self._names.own(row[0])) is not None}

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
                "run_id",
                "FROM lock_lease WHERE namespace = ? AND cancel AND run_id IN (SELECT value FROM json_each(?))",
                self._namespace,
                wanted,
            )
            return {str(run_id) for (run_id,) in found}

        return await self._database.write(work)

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        def work(transaction: Transaction) -> list[bool]:
            held = are_held(transaction, leases)
            delete_leases(transaction, _ids_of(leases, held))
            return held

        return await self._database.write(work)

    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        now = self._clock.now()

        def work(transaction: Transaction) -> list[bool]:
            held = are_held(transaction, leases)
            # An end that nobody can have granted is none.
            transaction.execute(
                "UPDATE lock_lease SET expires = max(CASE WHEN typeof(expires) IN ('real', 'integer') AND expires < ? "
                "THEN expires ELSE 0 END, ?) WHERE run_id IN (SELECT value FROM json_each(?))",
                now + MAX_TERM,
                now + self._terms.lease,
                as_json(_ids_of(leases, held)),
            )
            return held

        return await self._database.write(work)

    async def last_handled(self, jobs: Sequence[str]) -> list[int | None]:
        names = [self._names.key(job) for job in jobs]
        rows = await self._database.read(
            "name, mark", "FROM lock_job WHERE name IN (SELECT value FROM json_each(?))", as_json(names)
        )
        now = self._clock.now()
        # One that the rule would put back says nothing of what was handled.
        marks = {str(name): credible_last_handled(mark, now) for name, mark in rows}
        return [marks.get(name) for name in names]

    async def known(self, jobs: Sequence[str] | None = None) -> list[KnownJob]:
        names, read = self._names, self._database.read
        if jobs is None:
            rows = await read(KNOWN, f"FROM lock_job WHERE {names.condition.replace('job', 'name')}", *names.bounds)
            leases = await read(KNOWN_LEASES, "FROM lock_lease WHERE namespace = ?", self._namespace)
        else:
            wanted = as_json([names.key(job) for job in jobs])
            rows = await read(KNOWN, "FROM lock_job WHERE name IN (SELECT value FROM json_each(?))", wanted)
            leases = await read(KNOWN_LEASES, "FROM lock_lease WHERE job IN (SELECT value FROM json_each(?))", wanted)
        reading = self._reading()
        held: dict[str, list[Lease]] = {}
        for lease in map(reading.lease, leases):
            if lease is not None:
                held.setdefault(lease.job, []).append(lease)
        known = (
            known_job(row, job, held.get(row[0], ()), reading) for row in rows if (job := names.own(row[0])) is not None
        )
        return [each for each in known if each is not None]

    async def beat(self, running: int = 0, jobs: str = "", leases: int = 0) -> Beat:
        me = self._me()

        def work(transaction: Transaction) -> Beat:
            reading = self._reading()
            now = reading.now
            holders = instances_of(transaction, self._namespace, reading)
            put_back_heartbeats(transaction, self._namespace, now)
            unknown = me.owner not in holders
            holders[me.owner] = LiveInstance(me, now, running, jobs)
            write_instance(transaction, holders[me.owner], self._namespace)
            found, damaged = leases_of(transaction, self._namespace, reading)
            own = [lease for lease in found if lease.instance == me.owner]
            self._forget_dead(transaction, holders, {lease.instance for lease in found}, now)
            dead = [
                lease._replace(job=job)
                for lease in found
                if not self._alive(lease.instance, lease.expires, holders, now)
                and (job := self._names.own(lease.job)) is not None
            ]
            cancelled = transaction.rows(
                "run_id, cancelled_by", "FROM lock_lease WHERE cancel AND instance = ?", me.owner
            )
            living = self._living(holders.values(), now)
            if damaged:
                delete_damaged(transaction, damaged, {each.instance.owner for each in living})
            return Beat(
                dead,
                [(run_id, actor if isinstance(actor, str) else None) for run_id, actor in cancelled],
                living,
                [lease._replace(job=self._names.own(lease.job) or lease.job) for lease in own if len(own) != leases],
                unknown,
            )

        return await self._database.write(work)

    async def instances(self) -> list[LiveInstance]:
        rows = await self._database.read_plain(
            f"SELECT {LIVE_COLUMNS} FROM lock_instance WHERE namespace = ?", self._namespace
        )
        reading = self._reading()
        found = (reading.instance(row) for row in rows)
        return self._living([each for each in found if each is not None], reading.now)

    async def leased(self, run_ids: Collection[str]) -> set[str]:
        rows = await self._database.read(
            "run_id", "FROM lock_lease WHERE run_id IN (SELECT value FROM json_each(?))", as_json(list(run_ids))
        )
        return {str(run_id) for (run_id,) in rows}

    async def forget(self, seconds: float) -> list[str]:
        def work(transaction: Transaction) -> list[str]:
            found = transaction.rows(
                "name, registrars, registered_ts",
                f"""FROM lock_job WHERE {self._names.condition.replace("job", "name")}
                AND NOT EXISTS (SELECT 1 FROM lock_lease WHERE lock_lease.job = lock_job.name)""",
                *self._names.bounds,
            )
            reading = self._reading()
            now = reading.now
            holders = instances_of(transaction, self._namespace, reading)
            living = {each.instance.owner for each in self._living(holders.values(), now)}
            # A record of an older layout does not know when it was registered: it is taken for new, as one that says
            # what can't be.
            rows = [
                (name, str(registrars), at if is_number(at) and 0 <= at <= now + MAX_HANDLED_AHEAD else 0)
                for name, registrars, at in found
                if isinstance(name, str)
            ]
            known = [name for name, registrars, at in rows if not at or not living.isdisjoint(registrars.split("\n"))]
            transaction.execute(_TOUCH_JOBS, now, as_json(known))
            kept = set(known)
            gone = [name for name, _, at in rows if name not in kept and at < now - seconds]
            transaction.execute("DELETE FROM lock_job WHERE name IN (SELECT value FROM json_each(?))", as_json(gone))
            return [job for name in gone if (job := self._names.own(name)) is not None]

        return await self._database.write(work)

    async def _change(
        self,
        named: Sequence[Definition | PauseRequest | ResumeRequest],
        change: Callable[[Records, float], list[T]],
        *,
        registered: bool = False,
    ) -> list[T]:
        """Change the records of jobs, in one transaction; what was granted in it becomes a lease."""
        names = as_json([each.job for each in named])

        def work(transaction: Transaction) -> list[T]:
            reading = self._reading()
            records, before, leased = read_records(transaction, names, reading)
            now = reading.now
            answers = change(records, now)
            write_records(transaction, records, before)
            if registered:
                transaction.execute(_TOUCH_JOBS, now, names)
                transaction.execute(_BEAT, now, self._me().owner)
            write_leases(transaction, records, leased, self._namespace)
            return answers

        return await self._database.write(work)

    def _reading(self) -> Reading:
        return Reading(self._damage, self._clock.now(), self._terms.lease)

    def _me(self) -> Instance:
        assert self._instance is not None, "open() comes first"
        return self._instance

    def _living(self, holders: Iterable[LiveInstance], now: float) -> list[LiveInstance]:
        return [holder for holder in holders if self._lives(holder, _FOR_EVER, now)]

    def _alive(self, owner: str, expires: float, holders: dict[str, LiveInstance], now: float) -> bool:
        if owner == self._me().owner:
            return True
        return owner in holders and self._lives(holders[owner], expires, now)

    def _lives(self, holder: LiveInstance, expires: float, now: float) -> bool:
        seen = holder.instance.process_alive(self._me())
        return now < expires and now - holder.heartbeat_ts < self._terms.instance if seen is None else seen

    def _forget_dead(
        self, transaction: Transaction, holders: dict[str, LiveInstance], needed: set[str], now: float
    ) -> None:
        """Take dead instances off the list once nothing that they held is left."""
        dead = [
            name for name, holder in holders.items() if name not in needed and not self._lives(holder, _FOR_EVER, now)
        ]
        if dead:
            transaction.execute(
                "DELETE FROM lock_instance WHERE owner IN (SELECT value FROM json_each(?))", as_json(dead)
            )


def _is_refused(record: JobRecord | None, request: ClaimRequest) -> bool:
    """Whether the definition of a request is not the one in force."""
    return record is not None and (
        record.schedule != request.schedule or record.timezone != request.timezone or not record.enabled
    )


def _ids_of(leases: Sequence[LeaseRef], held: Sequence[bool]) -> list[str]:
    return [lease.run_id for lease, ours in zip(leases, held, strict=True) if ours]
