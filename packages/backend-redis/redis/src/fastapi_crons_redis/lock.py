"""The Redis lock store: claims for a fleet, decided by the server and its clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from dataclasses import astuple
from functools import partial
from time import monotonic
from typing import Any, ClassVar

from fastapi_crons._util.damage import LATEST, Damage
from fastapi_crons.clock import Clock
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
    Replaced,
    Resumed,
    ResumeRequest,
)
from fastapi_crons.locking.checks import checked_instance, checked_known, checked_pause, checked_token
from fastapi_crons.locking.instance import Instance

from .clients import Client
from .connection import Connection
from .scripts import LOCK_KEYS, lock_script

#: The layout that this version writes, and the oldest version that may use it.
VERSION = 1
COMPATIBLE_FROM = 1
#: Where the record of a job has its arguments.
_ARGUMENTS = 10
#: How many fields of a lease its record has. The others are kept elsewhere.
_STORED_FIELDS = Lease._fields.index("cancelled")
#: Seconds until the processes of the other instances of this host are looked for again.
_EVIDENCE_INTERVAL = 1.0


class RedisLockBackend(LockBackend):
    """Job records, leases and instances in Redis: a server, a replicated one behind sentinels, or a cluster.

    `redis_client` is a client of `redis.asyncio`, which is used as it is and left open, or the URL of a server, as in
    `CRON_REDIS_URL`; what the other settings `CRON_REDIS_…` say holds besides, and the connection is closed at the
    end. All keys of a namespace lie in one hash slot.

    A holder on this boot and in this pid namespace is alive as long as its process; any other as its heartbeat says.
    """

    reach: ClassVar[Reach] = "fleet"

    def __init__(self, redis_client: Client | str) -> None:
        self._set_up(Connection.to(redis_client, type(self).__name__), None)

    @classmethod
    def on(cls, connection: Connection, original: RedisLockBackend | None = None) -> RedisLockBackend:
        """A lock store on a connection of its own; with `original` a clone, which shares what that store has seen."""
        backend = cls.__new__(cls)
        backend._set_up(connection, original)
        return backend

    def _set_up(self, connection: Connection, original: RedisLockBackend | None) -> None:
        self._connection = connection
        self._is_clone = original is not None
        self._neighbours: Neighbours = Neighbours() if original is None else original._neighbours
        self._damage: Damage = Damage("lock store in Redis") if original is None else original._damage
        self._script = lock_script()
        self._keys: list[str] = []
        self._terms = LeaseTerms(300, 30)
        self._instance: Instance | None = None

    async def open(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        await self._open(instance, namespace, terms, to_read=False)

    async def open_to_read(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        await self._open(instance, namespace, terms, to_read=True)

    async def _open(self, instance: Instance, namespace: str, terms: LeaseTerms, *, to_read: bool) -> None:
        self._instance, self._terms = instance, terms
        self._keys = [f"{{crons:{namespace}}}:lock:{key}" for key in LOCK_KEYS]
        if self._connection.owned and not self._is_clone:
            await asyncio.gather(
                self._connection.open(),
                self._connection.warn_of_eviction(("allkeys",), "a tick can run twice or never"),
            )
        else:  # a user's pool may have room for only one
            await self._connection.open()
            if not self._is_clone:
                await self._connection.warn_of_eviction(("allkeys",), "a tick can run twice or never")
        found, needs, known = await self._do("open", [VERSION, COMPATIBLE_FROM, to_read])
        self._connection.refuse_newer(namespace, found, needs, VERSION)
        self._living(known)  # from now on dead processes of this host are known

    async def close(self) -> None:
        await self._connection.close()

    def clone(self) -> LockBackend | None:
        connection = self._connection.clone()
        return None if connection is None else RedisLockBackend.on(connection, self)

    def damaged(self) -> Collection[str]:
        return self._damage.names()

    async def register(self, definitions: Sequence[Definition]) -> list[Registered]:
        return [
            Registered(last_handled, None if replaced is None else Replaced(*replaced), *rest)
            for last_handled, replaced, *rest in await self._do("register", definitions)
        ]

    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        return [ClaimResult(*row) for row in await self._do("claim", requests)]

    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        return list(await self._do("release", leases))

    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        return list(await self._do("renew", leases))

    async def pause(self, requests: Sequence[PauseRequest]) -> list[Pause | None]:
        return [None if row is None else Pause(*row) for row in await self._do("pause", requests)]

    async def resume(self, requests: Sequence[ResumeRequest]) -> list[Resumed | None]:
        rows = await self._do("resume", requests)
        return [None if row is None else Resumed(Pause(*row[0]), *row[1:]) for row in rows]

    async def pauses(self) -> dict[str, Pause]:
        return {job: checked_pause(*pause) for job, pause in await self._do("pauses")}

    async def cancel(self, run_ids: Collection[str], actor: str | None) -> set[str]:
        return set(await self._do("cancel", [list(run_ids), actor]))

    async def drain(self, owners: Collection[str]) -> set[str]:
        return set(await self._do("drain", list(owners)))

    async def last_handled(self, jobs: Sequence[str]) -> list[int | None]:
        return list(await self._do("last_handled", jobs))

    async def known(self, jobs: Sequence[str] | None = None) -> list[KnownJob]:
        records, cancelled, registrars = await self._do("known", jobs)
        to_cancel = frozenset(cancelled)
        registered_by = {job: tuple(owners) for owners, of_them in registrars for job in of_them}
        found = (
            self._damage.noted(f"record of job {job}", partial(_known, job, record, to_cancel, registered_by[job]))
            for job, record in records.items()
        )
        return [known for known in found if known is not None]

    async def restore(self, jobs: Sequence[KnownJob]) -> None:
        await self._do("restore", [_restored(known) for known in jobs])

    async def beat(self, running: int = 0, jobs: str = "", leases: int = 0) -> Beat:
        about = [*astuple(self._me()), running, jobs]
        dead, cancelled, known, own, is_new = await self._do("beat", [about, leases])
        return Beat(
            [_lease(lease, *lease[_STORED_FIELDS:]) for lease in dead],
            [(run_id, actor) for run_id, actor in cancelled],
            self._living(known),
            [_lease(lease) for lease in own],
            is_new,
        )

    async def leave(self) -> None:
        await self._do("leave")

    async def instances(self) -> list[LiveInstance]:
        return self._living(await self._do("instances"))

    async def forget(self, seconds: float) -> list[str]:
        return list(await self._do("forget", [seconds]))

    async def leased(self, run_ids: Collection[str]) -> set[str]:
        return set(await self._do("leased", list(run_ids)))

    def _me(self) -> Instance:
        assert self._instance is not None, "open() comes first"
        return self._instance

    async def _do(self, operation: str, batch: Sequence[object] | None = ()) -> Any:
        """Have the script do an operation; returns its answer, in which an empty list is an empty mapping."""
        me = self._me()
        arguments = (
            operation,
            me.owner,
            self._terms.lease,
            self._terms.instance,
            self._neighbours.seen_from(me),
            json.dumps(batch, ensure_ascii=False, separators=(",", ":")),
        )
        return await self._connection.answer(self._script, self._keys, arguments, self._damage)

    def _living(self, known: Sequence[Any]) -> list[LiveInstance]:
        """The instances that are alive, among those on record. Those of this host are remembered."""
        instances = [
            (found, is_alive)
            for about, heartbeat, is_alive in known
            if (found := self._damage.noted(f"instance {about[1]}", partial(_instance, about, heartbeat))) is not None
        ]
        self._neighbours.remember(self._me(), [found.instance for found, _ in instances])
        return [found for found, is_alive in instances if is_alive]


def _lease(fields: Sequence[Any], cancelled: bool = False, cancelled_by: str | None = None) -> Lease:
    return Lease(*fields[:_STORED_FIELDS])._replace(cancelled=cancelled, cancelled_by=cancelled_by)


def _known(job: str, record: Sequence[Any], cancelled: Collection[str], registrars: tuple[str, ...]) -> KnownJob:
    schedule, timezone, enabled, function, last_handled, token, since, pause, leases = record[:9]
    known = KnownJob(
        job,
        schedule,
        timezone,
        function,
        enabled,
        int(last_handled),
        since,
        checked_pause(*pause) if pause else None,
        tuple(_lease(lease, lease[1] in cancelled) for lease in leases),
        record[_ARGUMENTS] if len(record) > _ARGUMENTS else None,
        registrars,
        checked_token(token),
    )
    return checked_known(known)


def _restored(known: KnownJob) -> Sequence[object]:
    """A job as `restore` in `scripts/lock/operations.lua` takes it: its name, its record, registrars, and what is cancelled."""
    leases = [lease[:_STORED_FIELDS] for lease in known.leases]
    about = (
        known.schedule,
        known.timezone,
        known.enabled,
        known.function,
        known.last_handled,
        known.token,
        known.since,
    )
    cancelled = [(lease.run_id, lease.cancelled_by) for lease in known.leases if lease.cancelled]
    record = [*about, known.pause or False, leases, 0, known.arguments]
    return [known.job, record, known.registrars, cancelled]


def _instance(about: Sequence[Any], heartbeat: float) -> LiveInstance:
    # The script has checked the heartbeat, by the server's clock.
    return checked_instance(LiveInstance(Instance(*about[:-2]), heartbeat, about[-2], about[-1]), LATEST)


class Neighbours:
    """The other instances of this host: whether their processes exist says more than their heartbeats."""

    def __init__(self) -> None:
        self._known: list[Instance] = []
        self._evidence = "{}"
        self._evidence_until = 0.0

    def remember(self, me: Instance, instances: Sequence[Instance]) -> None:
        """Remember those whose process can be seen from here."""
        others = (other for other in instances if other.owner != me.owner)
        self._known, self._evidence_until = [other for other in others if other.process_alive(me) is not None], 0.0

    def seen_from(self, me: Instance) -> str:
        """Which of them are alive, by owner, as JSON."""
        if monotonic() >= self._evidence_until:
            self._evidence = json.dumps({other.owner: other.process_alive(me) for other in self._known})
            self._evidence_until = monotonic() + _EVIDENCE_INTERVAL
        return self._evidence
