"""A base for lock stores with transactions: load the records that are named, apply the rule, write them back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi_crons._util.damage import UNREADABLE, Damage
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
    Registered,
    Resumed,
    ResumeRequest,
)
from fastapi_crons.locking.checks import checked_instance, checked_lease, checked_record
from fastapi_crons.locking.instance import DRAIN, DRAINING
from fastapi_crons.locking.restoring import restore

if TYPE_CHECKING:
    from fastapi_crons.locking.instance import Instance
    from fastapi_crons.locking.record import JobRecord
    from fastapi_crons.locking.rule import Alive

__all__ = ["LockTransaction", "TransactionalLockBackend", "without_waiting"]

T = TypeVar("T")


class LockTransaction(ABC):
    """One transaction on the records of one namespace, as `TransactionalLockBackend.transact` hands it to its work.

    The methods are coroutines, so that an asynchronous driver can be awaited in them; see `without_waiting` for another one.
    They hand out what is on record without checking it: the backend leaves out what can't be read.
    """

    @abstractmethod
    async def now(self) -> float:
        """The store's clock, in Unix seconds: its time now, not when the transaction began."""

    @abstractmethod
    async def load(self, jobs: Collection[str] | None) -> dict[str, JobRecord]:
        """The records of the named jobs, or with None of all, with their leases, by job. Jobs without a record are left out."""

    @abstractmethod
    async def save(self, records: Mapping[str, JobRecord]) -> None:
        """Write records with their leases, by job, in place of those on record. Not all of them have changed."""

    @abstractmethod
    async def delete(self, jobs: Collection[str]) -> None:
        """Delete the records of jobs."""

    @abstractmethod
    async def instances(self) -> list[LiveInstance]:
        """All instances on record, whether they are alive or not."""

    @abstractmethod
    async def save_instance(self, instance: LiveInstance) -> None:
        """Write an instance in place of the one on record with this `owner`, where there is one."""

    @abstractmethod
    async def delete_instances(self, owners: Collection[str]) -> None:
        """Delete instances."""

    async def leases(self) -> list[Lease]:
        """All leases on record. Overridden where they can be had without all records."""
        return [lease for record in (await self.load(None)).values() for lease in (record.leases or {}).values()]

    async def instances_and_leases(self) -> tuple[list[LiveInstance], list[Lease]]:
        """All instances and all leases on record. Overridden where both can be had at once."""
        return await self.instances(), await self.leases()

    async def delete_leases(self, leases: Sequence[Lease]) -> None:  # noqa: B027 - most stores need not
        """Delete leases that can't be read and that nobody alive holds.

        Overridden where leases have rows of their own: otherwise they go when the record of their job is saved.
        """

    async def touch(self, owner: str, now: float) -> None:
        """Write that an instance has sent a heartbeat now, where it is on record."""
        for found in await self.instances():
            if found.instance.owner == owner:
                await self.save_instance(found._replace(heartbeat_ts=now))


class TransactionalLockBackend(LockBackend):
    """A lock store that changes its records in transactions.

    A subclass has a `reach`, and writes `connect`, `close` and `transact`, and a `LockTransaction`. The attributes `instance`,
    `namespace`, `terms` and `clock` have what it was opened with. Instances of the same host are judged by their process,
    others by their heartbeat.
    """

    instance: Instance
    namespace: str
    terms: LeaseTerms

    def __init__(self, name: str) -> None:
        """`name` tells people which store this is, as in `lock store in crons.db`. Without secrets."""
        self.clock: Clock = SystemClock()
        #: What can't be read on record. A clone shares it.
        self.damage = Damage(name)

    @abstractmethod
    async def connect(self, *, to_read: bool) -> None:
        """Connect and prepare the store; with `to_read` make and change nothing. See `LockBackend.open` and `open_to_read`."""

    @abstractmethod
    async def transact(self, work: Callable[[LockTransaction], Coroutine[Any, Any, T]], *, to_read: bool = False) -> T:
        """Do `work` in one transaction and return its answer; where it raises, undo everything.

        Transactions of one namespace must not overlap: begin with a lock that all of them take, as SQLite's `BEGIN IMMEDIATE`,
        unless `to_read` says that this one writes nothing. A caller that is cancelled must not leave a transaction open.
        """

    async def open(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        self.instance, self.namespace, self.terms, self.clock = instance, namespace, terms, clock
        await self.connect(to_read=False)

    async def open_to_read(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        self.instance, self.namespace, self.terms, self.clock = instance, namespace, terms, clock
        await self.connect(to_read=True)

    def damaged(self) -> Collection[str]:
        return self.damage.names()

    async def register(self, definitions: Sequence[Definition]) -> list[Registered]:
        owner, term = self.instance.owner, self.terms.lease
        asks = any(each.at_start == "fleet" for each in definitions)

        async def work(transaction: LockTransaction) -> list[Registered]:
            records, now = await self._load(transaction, {each.job for each in definitions})
            alive = self._alive((await self._instances(transaction))[0], now) if asks else None
            answers = [rule.register(records, each, owner, now, term, alive) for each in definitions]
            await transaction.touch(owner, now)
            await transaction.save(records)
            return answers

        return await self.transact(work)

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        owner, term = self.instance.owner, self.terms.lease

        async def work(transaction: LockTransaction) -> list[ClaimResult]:
            records, now = await self._load(transaction, {each.job for each in requests})
            asks = any(rule.asks_who_is_alive(records, each) for each in requests)
            alive = self._alive((await self._instances(transaction))[0] if asks else {}, now)
            results = [rule.claim(records, each, owner, now, term, alive) for each in requests]
            await transaction.touch(owner, now)
            await transaction.save(records)
            return results

        return await self.transact(work)

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        jobs = {each.job for each in leases}
        return await self._change(jobs, lambda records, now: [rule.release(records, each, now) for each in leases])

    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        jobs, term = {each.job for each in leases}, self.terms.lease
        return await self._change(jobs, lambda records, now: [rule.renew(records, each, now, term) for each in leases])

    async def pause(self, requests: Sequence[PauseRequest]) -> list[Pause | None]:
        jobs = {each.job for each in requests}
        return await self._change(jobs, lambda records, now: [rule.pause(records, each, now) for each in requests])

    async def resume(self, requests: Sequence[ResumeRequest]) -> list[Resumed | None]:
        owner, term = self.instance.owner, self.terms.lease
        return await self._change(
            {each.job for each in requests},
            lambda records, now: [rule.resume(records, each, owner, now, term) for each in requests],
        )

    async def cancel(self, run_ids: Collection[str], actor: str | None) -> set[str]:
        async def work(transaction: LockTransaction) -> set[str]:
            leases = self._readable_leases(await transaction.leases(), await transaction.now())
            jobs = {lease.job for lease in leases if lease.run_id in run_ids}
            records, _ = await self._load(transaction, jobs)
            found = {run_id for run_id in run_ids if rule.cancel(records, run_id, actor)}
            await transaction.save(records)
            return found

        return await self.transact(work)

    async def known(self, jobs: Sequence[str] | None = None) -> list[KnownJob]:
        async def work(transaction: LockTransaction) -> list[KnownJob]:
            records, _ = await self._load(transaction, jobs)
            return [record.known(job) for job, record in records.items()]

        return await self.transact(work, to_read=True)

    async def last_handled(self, jobs: Sequence[str]) -> list[int | None]:
        async def work(transaction: LockTransaction) -> list[int | None]:
            records, now = await self._load(transaction, jobs)
            # One that the rule would reset does not say what was handled.
            ticks = {
                job: each.last_handled for job, each in records.items() if rule.is_credible(each.last_handled, now)
            }
            return [ticks.get(job) for job in jobs]

        return await self.transact(work, to_read=True)

    async def leased(self, run_ids: Collection[str]) -> set[str]:
        async def work(transaction: LockTransaction) -> set[str]:
            leases = self._readable_leases(await transaction.leases(), await transaction.now())
            return {lease.run_id for lease in leases}

        return (await self.transact(work, to_read=True)).intersection(run_ids)

    async def restore(self, jobs: Sequence[KnownJob]) -> None:
        names = {each.job for each in jobs}
        await self._change(names, lambda records, now: [restore(records, each, now) for each in jobs])

    async def beat(self, running: int = 0, jobs: str = "", leases: int = 0) -> Beat:
        me = self.instance

        async def work(transaction: LockTransaction) -> Beat:
            (seen, seen_leases), now = await transaction.instances_and_leases(), await transaction.now()
            instances = self._readable_instances(seen, now)
            for each in instances.values():
                if each not in seen:  # it was repaired
                    await transaction.save_instance(each)
            known = instances.get(me.owner)
            said = jobs if known is None else known.after_beat(jobs)
            instances[me.owner] = LiveInstance(me, now, running, said)
            await transaction.save_instance(instances[me.owner])
            living = self._living(instances, now)
            owners = {each.instance.owner for each in living}
            held = self._readable_leases(seen_leases, now)
            readable = {lease.run_id for lease in held}
            damaged = [lease for lease in seen_leases if lease.run_id not in readable]
            if nobodys := [lease for lease in damaged if lease.instance not in owners]:
                await transaction.delete_leases(nobodys)
            gone = instances.keys() - owners - {lease.instance for lease in held}
            if gone:
                await transaction.delete_instances(gone)
            alive = self._alive(instances, now)
            own = [lease for lease in held if lease.instance == me.owner]
            return Beat(
                [lease for lease in held if not alive(lease.instance, lease.expires)],
                [(lease.run_id, lease.cancelled_by) for lease in own if lease.cancelled],
                living,
                own if len(own) != leases else (),
                known is None,
            )

        return await self.transact(work)

    async def drain(self, owners: Collection[str]) -> set[str]:
        async def work(transaction: LockTransaction) -> set[str]:
            known, _ = await self._instances(transaction)
            found = known.keys() & set(owners)
            for owner in found:
                if known[owner].jobs != DRAINING:
                    await transaction.save_instance(known[owner]._replace(jobs=DRAIN))
            return found

        return await self.transact(work)

    async def leave(self) -> None:
        await self.transact(lambda transaction: transaction.delete_instances([self.instance.owner]))

    async def instances(self) -> list[LiveInstance]:
        async def work(transaction: LockTransaction) -> list[LiveInstance]:
            return self._living(*await self._instances(transaction))

        return await self.transact(work, to_read=True)

    async def forget(self, seconds: float) -> list[str]:
        async def work(transaction: LockTransaction) -> list[str]:
            living = {each.instance.owner for each in self._living(*await self._instances(transaction))}
            records, now = await self._load(transaction, None)
            registered, gone = {}, []
            for job, record in records.items():
                # One that does not know when it was registered is taken for new.
                if not record.registered_at or not living.isdisjoint(record.registrars):
                    record.registered_at, registered[job] = now, record
                elif not record.leases and record.registered_at < now - seconds:
                    gone.append(job)
            await transaction.save(registered)
            await transaction.delete(gone)
            return gone

        return await self.transact(work)

    async def _change(self, jobs: Collection[str], change: Callable[[dict[str, JobRecord], float], list[T]]) -> list[T]:
        """Change the records of jobs."""

        async def work(transaction: LockTransaction) -> list[T]:
            records, now = await self._load(transaction, jobs)
            answers = change(records, now)
            await transaction.save(records)
            return answers

        return await self.transact(work)

    async def _load(
        self, transaction: LockTransaction, jobs: Collection[str] | None
    ) -> tuple[dict[str, JobRecord], float]:
        """The records that can be read, and the time. It is asked for after them: a server can tell both at once."""
        found = await transaction.load(jobs)
        now = await transaction.now()
        return {job: record for job, record in found.items() if self._is_readable(job, record, now)}, now

    def _is_readable(self, job: str, record: JobRecord, now: float) -> bool:
        """Whether a record can be read; what can't be in it is repaired, or left out."""
        # Each record of each batch comes by here: a row has a name only where there is something to say of it.
        try:
            repaired = checked_record(record, now)
        except UNREADABLE as error:
            self.damage.note(f"record of job {job!r}", error)
            return False
        if repaired:
            self.damage.note(f"record of job {job!r}", f"{', '.join(repaired)} can't be what is on record")
        if record.leases:
            leases = self._readable_leases(record.leases.values(), now)
            record.leases = {lease.run_id: lease for lease in leases}
        return True

    def _readable_lease(self, lease: Lease, now: float) -> Lease | None:
        try:
            found = checked_lease(lease, now, self.terms.lease)
        except UNREADABLE as error:
            self.damage.note(f"lease {lease.run_id!r}", error)
            return None
        if found is not lease:
            self.damage.note(f"lease {lease.run_id!r}", "its end, or who cancelled it, can't be what is on record")
        return found

    def _readable_leases(self, leases: Collection[Lease], now: float) -> list[Lease]:
        found = (self._readable_lease(lease, now) for lease in leases)
        return [lease for lease in found if lease is not None]

    async def _instances(self, transaction: LockTransaction) -> tuple[dict[str, LiveInstance], float]:
        """The instances that can be read, by owner, and the time."""
        on_record, now = await transaction.instances(), await transaction.now()
        return self._readable_instances(on_record, now), now

    def _readable_instances(self, on_record: Collection[LiveInstance], now: float) -> dict[str, LiveInstance]:
        instances = {}
        for read in on_record:
            row = f"instance {read.instance.owner!r}"
            found = self.damage.noted(row, partial(checked_instance, read, now))
            if found is None:
                continue
            instances[found.instance.owner] = found
            if found != read:
                self.damage.note(row, "what it says of itself can't be what is on record")
        return instances

    def _alive(self, instances: Mapping[str, LiveInstance], now: float) -> Alive:
        def alive(owner: str, expires: float) -> bool:
            if owner == self.instance.owner:
                return True
            found = instances.get(owner)
            return found is not None and self._lives(found, expires, now)

        return alive

    def _living(self, instances: Mapping[str, LiveInstance], now: float) -> list[LiveInstance]:
        return [found for found in instances.values() if self._lives(found, inf, now)]

    def _lives(self, found: LiveInstance, expires: float, now: float) -> bool:
        """Whether an instance is alive and what it holds until `expires` has not run out; its process knows better."""
        seen = found.instance.process_alive(self.instance)
        return now < expires and now - found.heartbeat_ts < self.terms.instance if seen is None else seen


def without_waiting(work: Coroutine[Any, Any, T]) -> T:
    """Do a coroutine in this thread, without an event loop: the work of a transaction whose methods never wait.

    For drivers that block, as `sqlite3`: `transact` calls this in a thread.
    """
    try:
        work.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    work.close()
    raise RuntimeError("a transaction that is done without an event loop must not wait for anything")
