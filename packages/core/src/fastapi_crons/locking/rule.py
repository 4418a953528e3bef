"""The rule of claims: one record per job, and what each request does to it.

Pure state transitions of (now, record), without I/O: the local lock keeps these records in memory, others load and
store them inside a transaction, and stores that decide by themselves (a Redis script) must do the same.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi_crons.locking.base import (
    ClaimRequest,
    ClaimResult,
    Definition,
    Enrolment,
    KnownJob,
    Lease,
    LeaseRef,
    Pause,
    PauseRequest,
    Replaced,
    Resumed,
    ResumeRequest,
)
from fastapi_crons.run import MissedReason

#: A claim for an instant further ahead of the store's clock than this (seconds) is refused.
MAX_AHEAD = 1.0
#: A mark further ahead of the store's clock than this (seconds) was set by a clock that was wrong, and is put back.
MAX_MARK_AHEAD = 3_600
#: How long (seconds) a store that lost its records waits for what other instances know before it grants their ticks.
QUARANTINE = 3.0
#: How many instances that registered a definition are remembered.
_MAX_REGISTRARS = 31
_FOR_EVER = float("inf")

_UNKNOWN = ClaimResult("unknown")
_NOT_IN_FORCE = ClaimResult("not_in_force")
_ORPHANED = ClaimResult("not_in_force", orphaned=True)
_PAUSED = ClaimResult("paused")

#: Whether the owner of a lease that expires then, or of a registration, lives.
Alive = Callable[[str, float], bool]


class JobRecord:
    """What a lock store knows of one job. `mark` and `since` in Unix seconds by the store's clock."""

    __slots__ = (
        "enabled",
        "function",
        "leases",
        "mark",
        "pause",
        "registrars",
        "schedule",
        "settled_at",
        "since",
        "timezone",
        "token",
    )

    def __init__(
        self,
        schedule: str,
        timezone: str,
        function: str,
        enabled: bool,
        registrars: tuple[str, ...],
        mark: int,
        since: float,
        token: int = 0,
        settled_at: float = 0.0,
        pause: Pause | None = None,
    ) -> None:
        self.schedule = schedule
        self.timezone = timezone
        self.function = function
        self.enabled = enabled
        #: Who registered the definition in force.
        self.registrars = registrars
        #: The newest tick that was claimed or let go. Only grows, unless a wrong clock set it.
        self.mark = mark
        #: When the definition came into force.
        self.since = since
        #: The fencing token given out last. Only grows.
        self.token = token
        #: Until when a store that lost its records waits for what other instances know.
        self.settled_at = settled_at
        self.pause = pause
        #: By run id. Every tick up to the mark is on record in the state store, or one of these answers for it.
        self.leases: dict[str, Lease] | None = None

    @classmethod
    def of(cls, definition: Definition, owner: str, now: float) -> JobRecord:
        """The record of a job that a store sees for the first time.

        An instance that has handled ticks before says that the store has lost its records. What was due since then is not
        lost with them: it is granted once all who know of newer ticks have had the time to say so.
        """
        record = cls(
            definition.schedule,
            definition.timezone,
            definition.function,
            definition.enabled,
            (owner,),
            _credible(definition.mark, now) or int(now),
            now,
            settled_at=now + QUARANTINE if definition.mark else 0.0,
        )
        if definition.held:
            record._take_back(definition.held)
        return record

    def enrol(self, definition: Definition, owner: str, now: float, term: float) -> Enrolment:
        """Put a definition in force; where schedule or `enabled` are others, the past of the old ones ends now."""
        done = self.leases.get(definition.nonce) if self.leases else None
        if done is not None and done.let_go is not None:  # asked again, because the first answer was lost
            return Enrolment(self.mark, Replaced(done.schedule, done.timezone, done.after, done.let_go, done.token))
        other = self.function if self.function != definition.function else None
        self.function = definition.function
        put_back_from = self._put_back(int(now), now)
        replaced = None
        if (self.schedule, self.timezone, self.enabled) != (
            definition.schedule,
            definition.timezone,
            definition.enabled,
        ):
            replaced = self._replace(definition, owner, now, term)
        elif owner not in self.registrars:
            self.registrars = (*self.registrars[-_MAX_REGISTRARS:], owner)
        self.mark = max(self.mark, _credible(definition.mark, now))
        self._take_back(definition.held)
        return Enrolment(self.mark, replaced, other, put_back_from)

    def claim(self, request: ClaimRequest, owner: str, now: float, term: float, alive: Alive) -> ClaimResult:
        """Decide a request; a granted one has changed the record. `term` is the lease's length in seconds."""
        if self.leases:
            repeated = self._repeated(request)
            if repeated is not None:
                return repeated
        in_force = request.schedule == self.schedule and request.timezone == self.timezone
        if not in_force or not (self.enabled or request.tick is None):
            return _NOT_IN_FORCE if any(alive(each, _FOR_EVER) for each in self.registrars) else _ORPHANED
        if self.pause is not None and request.tick is not None:
            return _PAUSED
        if request.replaces is not None:
            return self._take_over(request, owner, now, term, alive)
        holder = self._holder(alive) if self.leases else None
        if request.tick is None:
            if holder is not None and request.overlap != "allow" and not request.force:
                return ClaimResult("busy", self.mark, holder=holder.run_id)
            granted = self._grant(request, owner, now + term, self.mark, now)
            return granted._replace(holder=holder.run_id) if holder is not None and request.force else granted
        return self._claim_tick(request, request.tick, owner, now, term, holder)

    def resume(self, request: ResumeRequest, owner: str, now: float, term: float) -> Resumed | None:
        """End the pause; unless they are to be caught up with, the ticks up to now are let go."""
        done = self.leases.get(request.nonce) if self.leases else None
        if done is not None:  # asked again, because the first answer was lost
            return Resumed(Pause(0.0), done.schedule, done.timezone, done.after, self.mark, done.token)
        if self.pause is None:
            return None
        pause, after, self.pause = self.pause, self.mark, None
        # A job that is disabled has no ticks that the pause kept from running.
        if request.catch_up or not self.enabled or int(now) <= after:
            return Resumed(pause, self.schedule, self.timezone, after, after, 0)
        token = self._let_go(request.job, request.nonce, "paused", owner, now, term)
        return Resumed(pause, self.schedule, self.timezone, after, self.mark, token)

    def hold(self, request: PauseRequest, now: float) -> Pause:
        """Pause the job, unless it is paused already."""
        if self.pause is None:
            self.pause = Pause(now, request.actor, request.note)
        return self.pause

    def as_known(self, job: str) -> KnownJob:
        """The record as it is shown to those who ask."""
        return KnownJob(
            job,
            self.schedule,
            self.timezone,
            self.function,
            self.enabled,
            self.mark,
            self.since,
            self.pause,
            tuple(self.leases.values()) if self.leases else (),
        )

    def release(self, lease: LeaseRef) -> bool:
        """Give a lease back; False when it is not on record with this token."""
        if self._held(lease) is None:
            return False
        assert self.leases is not None
        del self.leases[lease.run_id]
        return True

    def renew(self, lease: LeaseRef, expires: float) -> bool:
        """Extend a lease; False when it is not on record with this token."""
        held = self._held(lease)
        if held is None:
            return False
        assert self.leases is not None
        self.leases[lease.run_id] = held._replace(expires=max(held.expires, expires))
        return True

    def _take_back(self, held: tuple[Lease, ...]) -> None:
        for lease in held:
            if lease.token > self.token:
                self.token = lease.token
                self.leases = {**(self.leases or {}), lease.run_id: lease}

    def _replace(self, definition: Definition, owner: str, now: float, term: float) -> Replaced:
        """Put another definition in force. What the old one had due up to now is let go."""
        old = Replaced(self.schedule, self.timezone, self.mark)
        reason: MissedReason = "schedule_changed"
        if not self.enabled or (definition.schedule, definition.timezone) == (self.schedule, self.timezone):
            reason = "disabled"
        elif self.pause is not None:
            reason = "paused"
        token = 0
        if definition.nonce and int(now) > self.mark:
            token = self._let_go(definition.job, definition.nonce, reason, owner, now, term)
        self.schedule, self.timezone, self.enabled = definition.schedule, definition.timezone, definition.enabled
        self.since, self.registrars = now, (owner,)
        self.mark = max(self.mark, int(now))
        return old._replace(reason=reason, token=token)

    def _let_go(self, job: str, nonce: str, reason: MissedReason, owner: str, now: float, term: float) -> int:
        """Move the mark to now; returns the token of the lease that answers for the ticks in between."""
        request = ClaimRequest(job, nonce, int(now), self.schedule, self.timezone, let_go=reason)
        after, self.mark = self.mark, int(now)
        return self._grant(request, owner, now + term, after, now).token

    def _holder(self, alive: Alive, but: Lease | None = None) -> Lease | None:
        """The lease of a run that goes on, other than `but`; or None."""
        for lease in self.leases.values() if self.leases else ():
            if lease.let_go is None and lease is not but and alive(lease.instance, lease.expires):
                return lease
        return None

    def _claim_tick(
        self, request: ClaimRequest, tick: int, owner: str, now: float, term: float, holder: Lease | None
    ) -> ClaimResult:
        if tick > now + MAX_AHEAD:
            return ClaimResult("early", int(now))
        put_back_from = self._put_back(tick - 1, now)
        if tick <= self.mark:
            return ClaimResult("stale", self.mark)
        if now < self.settled_at <= now + MAX_MARK_AHEAD:
            return ClaimResult("early", int(now))
        busy = holder is not None and request.overlap != "allow" and request.let_go is None
        if busy and request.overlap != "skip":
            assert holder is not None
            return ClaimResult("busy", self.mark, holder=holder.run_id)
        before, self.mark = self.mark, tick
        if busy:
            assert holder is not None
            skip = request._replace(let_go="overlap")
            token = self._grant(skip, owner, now + term, before, now).token
            return ClaimResult("busy", before, token, holder.run_id, True, put_back_from)
        granted = self._grant(request, owner, now + term, before, now)
        return granted._replace(put_back_from=put_back_from) if put_back_from else granted

    def _repeated(self, request: ClaimRequest) -> ClaimResult | None:
        """The answer given before to a request that is asked again, because the first answer was lost."""
        lease = self.leases.get(request.run_id) if self.leases else None
        if lease is None:
            return None
        if lease.let_go != request.let_go:
            return ClaimResult("busy", lease.after, lease.token, skipped=True)
        return ClaimResult("granted", lease.after, lease.token)

    def _take_over(self, request: ClaimRequest, owner: str, now: float, term: float, alive: Alive) -> ClaimResult:
        dead = self.leases.get(request.replaces or "") if self.leases else None
        # A holder that gave its lease up, because the store was out of reach, may take its own tick again.
        if dead is None or (dead.instance != owner and alive(dead.instance, dead.expires)):
            return ClaimResult("stale", self.mark)
        holder = self._holder(alive, dead)
        if holder is not None and request.overlap != "allow":
            return ClaimResult("busy", self.mark, holder=holder.run_id)
        assert self.leases is not None
        del self.leases[dead.run_id]
        # The ticks that the cut-off run stood for are now this one's.
        return self._grant(request, owner, now + term, dead.after, now)

    def _grant(self, request: ClaimRequest, owner: str, expires: float, after: int, now: float) -> ClaimResult:
        # Bound to the clock, so that tokens grow even over a store that lost its records.
        token = self.token = max(self.token + 1, int(now * 1000))
        if self.leases is None:
            self.leases = {}
        self.leases[request.run_id] = Lease(
            request.job,
            request.run_id,
            request.tick,
            owner,
            token,
            request.attempt,
            expires,
            after,
            request.let_go,
            request.schedule,
            request.timezone,
        )
        return ClaimResult("granted", after, token)

    def _held(self, lease: LeaseRef) -> Lease | None:
        held = self.leases.get(lease.run_id) if self.leases else None
        return held if held is not None and held.token == lease.token else None

    def _put_back(self, mark: int, now: float) -> int:
        """Put a mark that lies far ahead of the clock back to `mark`; returns where it was, or 0."""
        if _credible(self.mark, now):
            return 0
        was, self.mark = self.mark, mark
        return was


def _credible(mark: int, now: float) -> int:
    """The mark, or 0 where only a clock that was wrong can have set it."""
    return mark if mark <= now + MAX_MARK_AHEAD else 0


def enrol_in(records: dict[str, JobRecord], definition: Definition, owner: str, now: float, term: float) -> Enrolment:
    """Register a job with the records of a store."""
    record = records.get(definition.job)
    if record is None:
        record = records[definition.job] = JobRecord.of(definition, owner, now)
        return Enrolment(record.mark)
    return record.enrol(definition, owner, now, term)


def claim_in(
    records: dict[str, JobRecord], request: ClaimRequest, owner: str, now: float, term: float, alive: Alive
) -> ClaimResult:
    """Decide a request against the records of a store."""
    record = records.get(request.job)
    return _UNKNOWN if record is None else record.claim(request, owner, now, term, alive)


def pause_in(records: dict[str, JobRecord], request: PauseRequest, now: float) -> Pause | None:
    """Pause a job in the records of a store."""
    record = records.get(request.job)
    return None if record is None else record.hold(request, now)


def resume_in(
    records: dict[str, JobRecord], request: ResumeRequest, owner: str, now: float, term: float
) -> Resumed | None:
    """Resume a job in the records of a store."""
    record = records.get(request.job)
    return None if record is None else record.resume(request, owner, now, term)
