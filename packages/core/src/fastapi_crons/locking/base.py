"""The contract of lock stores: who may run which tick.

A lock store keeps one record per job (see `records`). Every call is a batch; every claim is decided atomically in the
store and by the store's clock. A backend raises `StoreUnavailableError` when it does not answer and
`StoreUnusableError` when it can't be used as it is; anything else it raises counts as unavailable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from fastapi_crons.clock import Clock
    from fastapi_crons.job import Overlap
    from fastapi_crons.locking.instance import Instance
    from fastapi_crons.run import MissedReason

#: How far a store is shared: by one process, by all processes of a host, or by a fleet of hosts.
Reach = Literal["process", "host", "fleet"]
#: From the nearest to the furthest.
REACHES: tuple[Reach, ...] = ("process", "host", "fleet")

Outcome = Literal["granted", "stale", "busy", "early", "paused", "not_in_force", "unknown"]


class Lease(NamedTuple):
    """The right to execute one run, or to write down why ticks were let go. `expires` in Unix seconds by the store's clock."""

    job: str
    run_id: str
    tick: int | None
    instance: str
    """The `owner` of the instance that holds it."""
    token: int
    attempt: int
    expires: float
    after: int = 0
    """What the mark was before: the lease answers for the ticks in (after, tick]."""
    let_go: MissedReason | None = None
    """Why these ticks are not run; None for the lease of a run."""
    schedule: str = ""
    timezone: str = ""
    """The schedule that these are ticks of."""
    cancelled: bool = False
    """Whether somebody asked for the run to be cancelled."""


class Definition(NamedTuple):
    """What an instance registers of a job."""

    job: str
    schedule: str
    """The schedule's text."""
    timezone: str
    """Its zone; empty for schedules that have none."""
    function: str
    """`module:qualname`"""
    mark: int = 0
    """The newest tick that this instance knows to be handled: a store that lost its records resumes from it."""
    enabled: bool = True
    nonce: str = ""
    """Names the lease under which the ticks of a definition that this one replaces are written down."""
    held: tuple[Lease, ...] = ()
    """Leases of the job that this instance has: a store that lost them takes them back, unless it gave out a later one."""


class Replaced(NamedTuple):
    """The definition that a registration replaced, and the newest tick handled under it.

    `reason` is why its ticks up to now are not run, `token` that of the lease under which they are to be written down.
    """

    schedule: str
    timezone: str
    mark: int
    reason: MissedReason = "schedule_changed"
    token: int = 0


class Enrolment(NamedTuple):
    """The store's answer to a `Definition`."""

    mark: int
    """The newest tick that was claimed or let go; for a job seen for the first time, the store's now."""
    replaced: Replaced | None = None
    other_function: str | None = None
    """The function that the job name stood for until now, where it was another one."""
    put_back_from: int = 0
    """Where the mark was, when it lay so far ahead of the store's clock that it was put back."""


class ClaimRequest(NamedTuple):
    """One tick, or one manual run, that an instance wants. `run_id` is the nonce: asked again, the answer is the same."""

    job: str
    run_id: str
    tick: int | None
    """Unix seconds; None for a manual run, which leaves the mark alone."""
    schedule: str
    timezone: str
    overlap: Overlap = "skip"
    force: bool = False
    """Grant the claim although the job is running."""
    let_go: MissedReason | None = None
    """The ticks up to `tick` are not to be run, and why."""
    replaces: str | None = None
    """The run, cut off by its holder's death, whose tick is to run again."""
    attempt: int = 1


class ClaimResult(NamedTuple):
    """What became of a `ClaimRequest`.

    `granted`: the lease is the caller's; `mark` is what the mark was before. `holder` is the run that goes on beside it,
    where the claim was forced.
    `stale`: the tick was handled before; `mark` says up to where.
    `busy`: another run holds the job. Where `skipped`, the mark was moved past the tick and `mark` is what it was before.
    `early`: the tick lies more than a second ahead of the store's clock, which `mark` shows; or the store has lost its
    records, and waits for all instances to say what they know.
    `paused`: the job is paused; nothing was changed.
    `not_in_force`: another definition was registered for this job since.
    `unknown`: the store has no record of the job; register it again.

    Whoever moved the mark, by a `granted` or a `skipped`, holds a lease until what became of the ticks is on record.
    """

    outcome: Outcome
    mark: int = 0
    token: int = 0
    holder: str = ""
    skipped: bool = False
    put_back_from: int = 0
    """Where the mark was, when it lay so far ahead of the store's clock that it was put back."""
    orphaned: bool = False
    """With `not_in_force`: no instance lives any more that registered the definition in force."""


class Pause(NamedTuple):
    """Since when a job is paused (Unix seconds by the store's clock), by whom, and why."""

    since: float
    actor: str | None = None
    note: str | None = None


class KnownJob(NamedTuple):
    """What a lock store has on record of a job."""

    job: str
    schedule: str
    timezone: str
    function: str
    """The function that it was registered for last."""
    enabled: bool
    mark: int
    """The newest tick that was claimed or let go, in Unix seconds."""
    since: float
    """When the definition came into force, in Unix seconds by the store's clock."""
    pause: Pause | None = None
    leases: tuple[Lease, ...] = ()
    """All leases on record, whether their holders live or not, those of ticks that were let go among them."""


class PauseRequest(NamedTuple):
    """A job that is to be paused."""

    job: str
    actor: str | None = None
    note: str | None = None


class ResumeRequest(NamedTuple):
    """A job that is to go on. `nonce` names the lease under which the ticks of the pause are written down."""

    job: str
    nonce: str
    catch_up: bool = False
    """Leave the ticks of the pause to the policy for late ticks, instead of letting them go."""


class Resumed(NamedTuple):
    """The pause that was ended, and the ticks in (after, mark] that it kept from running."""

    pause: Pause
    schedule: str
    timezone: str
    after: int
    mark: int
    token: int
    """Of the lease under which these ticks are to be written down; 0 where there is none."""


class LeaseRef(NamedTuple):
    """Names a lease that an instance holds."""

    job: str
    run_id: str
    token: int


class LiveInstance(NamedTuple):
    """An instance that lives, and what it said with its last heartbeat."""

    instance: Instance
    heartbeat_ts: float
    """When that was, in Unix seconds by the store's clock."""
    running: int = 0
    """How many runs went on in it."""
    jobs: str = ""
    """A digest of the jobs that it runs: instances with the same one share their ticks. Empty for one that runs none."""


class Beat(NamedTuple):
    """What an instance learns from a heartbeat."""

    dead: Sequence[Lease] = ()
    """The leases whose holders do not live."""
    cancelled: Sequence[tuple[str, str | None]] = ()
    """The runs of this instance that are to be cancelled, and who asked for it."""
    instances: Sequence[LiveInstance] = ()
    """The instances that live, this one among them."""
    own: Sequence[Lease] = ()
    """This instance's leases; left out where their number is the one that it gave."""
    unknown: bool = False
    """Whether the store did not know this instance: it is new, was silent for long, or the store has lost its records."""


class LeaseTerms(NamedTuple):
    """How long leases and instances are good for, in seconds."""

    lease: float
    instance: float


class LockBackend(ABC):
    """A lock store. `open` is called before, `close` after everything else; both on the loop that makes the calls."""

    #: How far the promises of this store reach.
    reach: ClassVar[Reach]

    @abstractmethod
    async def open(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        """Connect and prepare the store.

        `clock` is the scheduler's: the store's clock too, for a store that has none of its own.
        """

    async def open_to_read(self, instance: Instance, namespace: str, terms: LeaseTerms, clock: Clock) -> None:
        """Connect for somebody who only reads, instead of `open`: make and change nothing.

        What is not there yet reads as empty. Without an implementation of its own a store is opened as ever.
        """
        await self.open(instance, namespace, terms, clock)

    @abstractmethod
    async def close(self) -> None:
        """Disconnect. Never raises for a store that does not answer."""

    def beside(self) -> LockBackend | None:
        """The same store once more, for the thread that keeps the leases, which has an event loop of its own.

        None where that can't be had: then leases are kept on the scheduler's event loop, which jobs can block.
        """
        return None

    def damaged(self) -> Collection[str]:
        """What was met on record in the last hour that can't be read, and was passed over or mended, by name. Asks nobody."""
        return ()

    def obstacle(self) -> str | None:
        """What keeps this process from writing here, as far as one that only reads can tell; None where nothing does.

        A text for people that says what to do about it. Asks nobody.
        """
        return None

    @abstractmethod
    async def enrol(self, definitions: Sequence[Definition]) -> list[Enrolment]:
        """Register jobs. The last registration of a job is the one in force. Says that this instance lives, as `beat` does."""

    @abstractmethod
    async def claim(self, requests: Sequence[ClaimRequest]) -> list[ClaimResult]:
        """Decide each request, in order. Says that this instance lives, as `beat` does."""

    @abstractmethod
    async def release(self, leases: Sequence[LeaseRef]) -> list[bool]:
        """Give leases back. False for one that is not the caller's any more."""

    @abstractmethod
    async def renew(self, leases: Sequence[LeaseRef]) -> list[bool]:
        """Extend leases to a full term from now. False for one that is not the caller's any more."""

    @abstractmethod
    async def pause(self, requests: Sequence[PauseRequest]) -> list[Pause | None]:
        """Let no tick of these jobs be claimed until they are resumed; None for a job without a record.

        A job that is paused already keeps its pause.
        """

    @abstractmethod
    async def resume(self, requests: Sequence[ResumeRequest]) -> list[Resumed | None]:
        """End pauses; None for a job that is not paused."""

    @abstractmethod
    async def pauses(self) -> dict[str, Pause]:
        """The jobs that are paused. One query."""

    @abstractmethod
    async def cancel(self, run_ids: Collection[str], actor: str | None) -> set[str]:
        """Ask the holders of these runs to cancel them; returns those that have a lease on record."""

    @abstractmethod
    async def marks(self, jobs: Sequence[str]) -> list[int | None]:
        """For each job the newest tick that was claimed or let go; None for a job without a record. One query."""

    @abstractmethod
    async def known(self, jobs: Sequence[str] | None = None) -> list[KnownJob]:
        """What the store has on record of the named jobs, or of all; jobs without a record are left out. One query.

        In no particular order.
        """

    @abstractmethod
    async def beat(self, running: int = 0, jobs: str = "", leases: int = 0) -> Beat:
        """Say that this instance lives, with what `LiveInstance` tells of it; returns what it is to see to.

        `leases` is how many it knows of as its own. A dead holder's lease stays on record until a claim with `replaces`, or
        a `release`, names it.
        """

    @abstractmethod
    async def leave(self) -> None:
        """Take this instance off the store: from now on it counts as dead."""

    @abstractmethod
    async def instances(self) -> list[LiveInstance]:
        """The instances that live. One query."""

    @abstractmethod
    async def forget(self, seconds: float) -> list[str]:
        """Delete the records of jobs that no living instance has registered for so long; returns their names.

        A job with a lease on record is kept.
        """

    @abstractmethod
    async def leased(self, run_ids: Collection[str]) -> set[str]:
        """Those of the runs that have a lease on record, whether its holder lives or not."""
