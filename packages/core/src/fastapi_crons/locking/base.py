"""The contract of lock stores: who may run which tick.

A lock store keeps one record per job; `fastapi_crons.locking.rule` says what a call does to it. Every call is a batch, and is
decided atomically in the store and by the store's clock. A backend raises `StoreUnavailableError` when it does not answer and
`StoreUnusableError` when it can't be used as it is; anything else that it raises counts as unavailable.

Stores written in other languages take the named tuples of this module apart by position. **Their fields are append only, and a
new one has a default**: an older script must be able to read what a newer process sends, and the other way round.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from fastapi_crons.locking.instance import LeaseTerms as LeaseTerms  # noqa: PLC0414 - part of the contract
from fastapi_crons.locking.instance import LiveInstance as LiveInstance  # noqa: PLC0414 - part of the contract

if TYPE_CHECKING:
    from fastapi_crons.clock import Clock
    from fastapi_crons.job import Overlap
    from fastapi_crons.locking.instance import Instance
    from fastapi_crons.run import MissedReason

#: How far a store is shared: by one process, by all processes of a host, or by a fleet of hosts.
Reach = Literal["process", "host", "fleet"]
#: From the nearest to the furthest.
REACHES: tuple[Reach, ...] = ("process", "host", "fleet")

#: Which starts a job is due at: each start of the fleet, or only the first one of each deploy. Empty for neither.
AtStartOf = Literal["", "fleet", "deploy"]

Outcome = Literal["granted", "stale", "busy", "early", "paused", "not_in_force", "unknown"]


class Lease(NamedTuple):
    """The right to execute one run, or to record why ticks were missed. `expires` in Unix seconds by the store's clock."""

    job: str
    run_id: str
    tick: int | None
    instance: str
    """The `owner` of the instance that holds it."""
    token: int
    attempt: int
    expires: float
    after: int = 0
    """The last handled tick before: the lease answers for the ticks in (after, tick]."""
    missed: MissedReason | None = None
    """Why these ticks are not run; None for the lease of a run."""
    schedule: str = ""
    timezone: str = ""
    """The schedule that these are ticks of."""
    cancelled: bool = False
    """Whether the run is to be cancelled."""
    cancelled_by: str | None = None
    """Who asked for that, where it is known."""

    @property
    def again(self) -> bool:
        """Whether its tick is run again: it answers for no ticks, and is not rerun when its holder dies."""
        return self.tick is not None and self.after >= self.tick


class Definition(NamedTuple):
    """What an instance registers of a job."""

    job: str
    schedule: str
    """The schedule's text."""
    timezone: str
    """Its zone; empty for schedules that have none."""
    function: str
    """`module:qualname`"""
    last_handled: int = 0
    """The last handled tick that this instance knows of: a store that lost its records resumes from it. 0 for none."""
    enabled: bool = True
    nonce: str = ""
    """The run id of the lease under which the ticks of a definition that this one replaces are recorded."""
    held: tuple[Lease, ...] = ()
    """This instance's leases of the job: a store that lost them restores them, unless it has granted a later one."""
    withdrawn: bool = False
    """Whether this instance no longer has the job: it is one of those that registered the definition no more."""
    at_start: AtStartOf = ""
    """Whether the job is due at each start of the fleet, or of a deploy; empty for all other schedules."""
    start: int = 0
    """Of a job that is due at a start: the tick of the last one that this instance knows of. 0 for none."""
    arguments: str | None = None
    """Stands for the job's arguments: those of two definitions with different texts differ. None where it is not known."""


class Replaced(NamedTuple):
    """The definition that a registration replaced, and the last tick handled under it.

    `reason` is why its ticks up to now are not run, `token` that of the lease under which they are to be recorded.
    `start` is the second after it came into force: its tick, where it was due at starts; 0 for unknown.
    """

    schedule: str
    timezone: str
    last_handled: int
    reason: MissedReason = "schedule_changed"
    token: int = 0
    start: int = 0


class Registered(NamedTuple):
    """The store's answer to a `Definition`."""

    last_handled: int
    """The job's last handled tick; for a job seen for the first time, the store's now."""
    replaced: Replaced | None = None
    other_function: str | None = None
    """The function that the job name stood for until now, where it was another one."""
    reset_from: int = 0
    """The last handled tick before it was reset, because it lay too far ahead of the store's clock; 0 where it was not."""
    start: int = 0
    """Of a job that is due at a start: the tick of the last one, whether it is handled or not. 0 for other jobs."""
    other_arguments: bool = False
    """Whether the job had other arguments until now, and the same schedule."""


class ClaimRequest(NamedTuple):
    """One tick, or one manual run, that an instance wants. A request with the `run_id` of an earlier one gets its answer."""

    job: str
    run_id: str
    tick: int | None
    """Unix seconds; None for a manual run, which leaves the last handled tick as it is."""
    schedule: str
    timezone: str
    overlap: Overlap = "skip"
    force: bool = False
    """Grant the claim although the job is running."""
    missed: MissedReason | None = None
    """Why the ticks up to `tick` are not to be run; None for a run."""
    replaces: str | None = None
    """The interrupted run whose tick is to be rerun."""
    attempt: int = 1
    after: int | None = None
    """The last handled tick that `tick` is counted from, where it is counted from the end of the job's last run. The claim is
    stale where another one is on record, and busy until no run has a lease, whether its holder is alive or not."""
    arguments: str | None = None
    """As in the `Definition`. None claims whatever arguments are in force."""
    again: bool = False
    """Run `tick`, which was handled before, again: as a manual run, which leaves the last handled tick as it is. The claim is
    busy, whatever `overlap` and `force` say, while another run has a lease of that tick or runs a tick of the job again, even
    if the holder of that lease is dead. The lease that is granted has its own tick in `after`."""


class ClaimResult(NamedTuple):
    """The answer to a `ClaimRequest`.

    `granted`: the lease is the caller's; `last_handled` is the last handled tick before. `holder` is the run that is running
    already, where the claim was forced.
    `stale`: the tick was handled before; `last_handled` says up to where.
    `busy`: another run holds the job. Where `skipped`, the tick counts as handled and `last_handled` is the one before; it is
    not skipped for a run that runs a tick again.
    `early`: the tick lies more than a second ahead of the store's clock, which `last_handled` shows; or the store has lost its
    records, and waits for all instances to register what they know.
    `paused`: the job is paused; nothing was changed.
    `not_in_force`: another definition has been registered for this job.
    `unknown`: the store has no record of the job; register it again.

    With `granted` and with `skipped` the caller holds a lease until what became of the ticks is on record.
    """

    outcome: Outcome
    last_handled: int = 0
    token: int = 0
    holder: str = ""
    skipped: bool = False
    reset_from: int = 0
    """The last handled tick before it was reset, because it lay too far ahead of the store's clock; 0 where it was not."""
    orphaned: bool = False
    """With `not_in_force`: no instance is alive that registered the definition in force."""


class Pause(NamedTuple):
    """Since when a job is paused (Unix seconds by the store's clock), by whom, and why."""

    since: float
    actor: str | None = None
    note: str | None = None


class KnownJob(NamedTuple):
    """A job as a lock store has it on record."""

    job: str
    schedule: str
    timezone: str
    function: str
    """The function that it was registered for last."""
    enabled: bool
    last_handled: int
    """The last handled tick, in Unix seconds."""
    since: float
    """When the definition came into force, in Unix seconds by the store's clock."""
    pause: Pause | None = None
    leases: tuple[Lease, ...] = ()
    """All leases on record, whether their holders are alive or not, also those of missed ticks."""
    arguments: str | None = None
    """Stands for the job's arguments, as in its `Definition`; None where that is not known."""
    registrars: tuple[str, ...] = ()
    """The owners of the instances that registered the definition in force, alive or not, the latest last."""
    token: int = 0
    """The fencing token that was given out last."""


class PauseRequest(NamedTuple):
    """A job that is to be paused."""

    job: str
    actor: str | None = None
    note: str | None = None


class ResumeRequest(NamedTuple):
    """A job whose pause is to end. `nonce` is the run id of the lease under which the ticks of the pause are recorded."""

    job: str
    nonce: str
    catch_up: bool = False
    """Leave the ticks of the pause to the policy for late ticks; otherwise they are missed."""


class Resumed(NamedTuple):
    """The pause that was ended, and the ticks in (after, last_handled] that it kept from running."""

    pause: Pause
    schedule: str
    timezone: str
    after: int
    last_handled: int
    token: int
    """Of the lease under which these ticks are to be recorded; 0 where there is none."""
    start: int = 0
    """The second after the schedule came into force: the tick of a job that is due at starts."""


class LeaseRef(NamedTuple):
    """Names a lease that an instance holds."""

    job: str
    run_id: str
    token: int
    until_now: bool = False
    """Whether its release makes now the last handled tick, because the job's next tick is counted from there."""


class Beat(NamedTuple):
    """What an instance learns from a heartbeat."""

    dead: Sequence[Lease] = ()
    """The leases whose holders are dead."""
    cancelled: Sequence[tuple[str, str | None]] = ()
    """The runs of this instance that are to be cancelled, and who asked for it."""
    instances: Sequence[LiveInstance] = ()
    """The instances that are alive, this one among them."""
    own: Sequence[Lease] = ()
    """This instance's leases; empty where there are as many as it said."""
    unknown: bool = False
    """Whether the store did not know this instance: it is new, was silent for long, or the store has lost its records."""


class LockBackend(ABC):
    """A lock store. `open` is called first, `close` last, both on the event loop of the calls in between.

    The abstract methods are those that each store must think about. The others have a body that is right for every store; it is
    overridden to be faster, or where a store can do more.
    """

    #: How far the promises of this store reach.
    reach: ClassVar[Reach]

    @abstractmethod
    async def open(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        """Connect and prepare the store.

        `clock` is the scheduler's: the store's clock too, for a store that has none of its own.
        """

    async def open_to_read(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        """Connect only to read, instead of `open`: make and change nothing. What is not there reads as empty.

        By default the same as `open`.
        """
        await self.open(instance, namespace, terms, clock)

    @abstractmethod
    async def close(self) -> None:
        """Disconnect. Never raises for a store that does not answer."""

    def clone(self) -> LockBackend | None:
        """A backend of the same store for another event loop: that of the thread that sends heartbeats and renews leases.

        None where a store can't have one: then the scheduler's event loop does that work, and jobs can block it.
        """
        return None

    def damaged(self) -> Collection[str]:
        """The records met in the last hour that can't be read, and were left out or repaired, by name. Makes no query."""
        return ()

    def obstacle(self) -> str | None:
        """Why this process can't write here, as far as a backend opened to read can tell; None where nothing prevents it.

        A text for people that says what to do. Makes no query.
        """
        return None

    @abstractmethod
    async def register(self, definitions: Sequence[Definition]) -> list[Registered]:
        """Register jobs: the last registration of a job is in force. Counts as a heartbeat of this instance."""

    @abstractmethod
    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        """Decide each request, in order. Counts as a heartbeat of this instance."""

    @abstractmethod
    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        """Take leases off the record. False for one that is not on record with this token."""

    @abstractmethod
    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        """Extend leases to a full term from now. False for one that is not on record with this token."""

    @abstractmethod
    async def pause(self, requests: Sequence[PauseRequest]) -> list[Pause | None]:
        """Pause jobs: their ticks are not claimed until they are resumed. None for a job without a record.

        A job that is paused already keeps its pause.
        """

    @abstractmethod
    async def resume(self, requests: Sequence[ResumeRequest]) -> list[Resumed | None]:
        """End pauses; None for a job that is not paused."""

    @abstractmethod
    async def cancel(self, run_ids: Collection[str], actor: str | None) -> set[str]:
        """Have the holders of these runs cancel them: they hear of it with their next heartbeat. Returns those on record."""

    @abstractmethod
    async def known(self, jobs: Sequence[str] | None = None) -> list[KnownJob]:
        """The named jobs, or all, as they are on record, in no particular order; without those that have none. One query."""

    @abstractmethod
    async def beat(self, running: int = 0, jobs: str = "", leases: int = 0) -> Beat:
        """A heartbeat of this instance, with what `LiveInstance` says of it; returns what it needs to know.

        `leases` is how many leases it believes to hold. A dead holder's lease stays on record until a claim with `replaces`, or
        a `release`, names it.
        """

    @abstractmethod
    async def leave(self) -> None:
        """Take this instance off the record: from now on it counts as dead."""

    @abstractmethod
    async def instances(self) -> list[LiveInstance]:
        """The instances that are alive. One query."""

    @abstractmethod
    async def forget(self, seconds: float) -> list[str]:
        """Delete the records of jobs without leases that no living instance has registered for so long; returns their names."""

    async def drain(self, owners: Collection[str]) -> set[str]:
        """Have instances claim nothing more; returns those on record. By default none: a process drains itself without this.

        `LiveInstance.jobs` of each is `DRAIN`, whatever its heartbeats say, until one says `DRAINING`.
        """
        return set()

    async def restore(self, jobs: Sequence[KnownJob]) -> None:
        """Put jobs on record as another store has them, in place of what is here: all or none, each registered now.

        By default one step after another, and without leases and since when each definition is in force.
        """
        await self.register(
            [Definition(*each[:4], each.last_handled, each.enabled, arguments=each.arguments) for each in jobs]
        )
        # A job that is paused already would keep its pause.
        await self.resume([ResumeRequest(each.job, each.job, catch_up=True) for each in jobs])
        await self.pause([PauseRequest(each.job, *each.pause[1:]) for each in jobs if each.pause is not None])

    async def pauses(self) -> dict[str, Pause]:
        """The jobs that are paused. One query."""
        return {known.job: known.pause for known in await self.known() if known.pause is not None}

    async def last_handled(self, jobs: Sequence[str]) -> list[int | None]:
        """The last handled tick of each job; None for a job without a record. One query."""
        ticks = {known.job: known.last_handled for known in await self.known(jobs)}
        return [ticks.get(job) for job in jobs]

    async def leased(self, run_ids: Collection[str]) -> set[str]:
        """Those of the runs that have a lease on record, whether its holder is alive or not."""
        return {lease.run_id for known in await self.known() for lease in known.leases}.intersection(run_ids)
