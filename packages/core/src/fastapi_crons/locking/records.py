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
    Lease,
    LeaseRef,
    Replaced,
)

#: A claim for an instant further ahead of the store's clock than this (seconds) is refused.
MAX_AHEAD = 1.0

_UNKNOWN = ClaimResult("unknown")
_NOT_IN_FORCE = ClaimResult("not_in_force")
_EARLY = ClaimResult("early")


class JobRecord:
    """What a lock store knows of one job. `mark` and `since` in Unix seconds by the store's clock."""

    __slots__ = ("function", "leases", "mark", "mark_before", "mark_nonce", "schedule", "since", "timezone", "token")

    def __init__(self, definition: Definition, now: float) -> None:
        self.schedule = definition.schedule
        self.timezone = definition.timezone
        self.function = definition.function
        self.since = now
        #: The newest tick that was claimed or let go. Only grows.
        self.mark = max(definition.mark, int(now))
        #: Which request moved the mark last, and from where: so that a repeated request gets the same answer.
        self.mark_nonce = ""
        self.mark_before = self.mark
        #: The fencing token given out last. Only grows.
        self.token = 0
        self.leases: dict[str, Lease] | None = None

    @classmethod
    def restored(cls, definition: Definition, since: float, mark_before: int, mark_nonce: str, token: int) -> JobRecord:
        """A record as a store kept it; its mark is that of the definition. Its leases are to be added."""
        record = cls.__new__(cls)
        _, record.schedule, record.timezone, record.function, record.mark = definition
        record.since, record.mark_before, record.mark_nonce, record.token = since, mark_before, mark_nonce, token
        record.leases = None
        return record

    def enrol(self, definition: Definition, now: float) -> Enrolment:
        """Put a definition in force; where the schedule is another one, its past ends now."""
        other = self.function if self.function != definition.function else None
        self.function = definition.function
        replaced = None
        if (self.schedule, self.timezone) != (definition.schedule, definition.timezone):
            replaced = Replaced(self.schedule, self.timezone, self.mark)
            self.schedule, self.timezone, self.since = definition.schedule, definition.timezone, now
            self._move_mark(int(now), "")
        self._move_mark(definition.mark, "")
        return Enrolment(self.mark, replaced, other)

    def claim(
        self, request: ClaimRequest, instance: str, now: float, term: float, alive: Callable[[Lease], bool]
    ) -> ClaimResult:
        """Decide a request; a granted one has changed the record. `term` is the lease's length in seconds."""
        tick = request.tick
        repeated = self._repeated(request)
        if repeated is not None:
            return repeated
        if request.schedule != self.schedule or request.timezone != self.timezone:
            return _NOT_IN_FORCE
        if request.replaces is not None:
            return self._take_over(request, instance, now, term, alive)
        if tick is not None:
            if tick > now + MAX_AHEAD:
                return _EARLY
            if tick <= self.mark:
                return ClaimResult("stale", self.mark)
            if request.let_go:
                return ClaimResult("granted", self._move_mark(tick, request.run_id))
        if self.leases and request.overlap != "allow" and not request.force:
            holder = next((lease for lease in self.leases.values() if alive(lease)), None)
            if holder is not None:
                skipped = tick is not None and request.overlap == "skip"
                before = self._move_mark(tick, request.run_id) if skipped and tick is not None else self.mark
                return ClaimResult("busy", before, holder=holder.run_id, skipped=skipped)
        before = self.mark if tick is None else self._move_mark(tick, request.run_id)
        return self._grant(request, instance, now, term, before)

    def release(self, lease: LeaseRef) -> bool:
        """Give a lease back; False when it is not on record with this token."""
        held = self.leases.get(lease.run_id) if self.leases else None
        if held is None or held.token != lease.token:
            return False
        assert self.leases is not None
        del self.leases[lease.run_id]
        return True

    def renew(self, lease: LeaseRef, expires: float) -> bool:
        """Extend a lease; False when it is not on record with this token."""
        held = self.leases.get(lease.run_id) if self.leases else None
        if held is None or held.token != lease.token:
            return False
        assert self.leases is not None
        self.leases[lease.run_id] = held._replace(expires=max(held.expires, expires))
        return True

    def _repeated(self, request: ClaimRequest) -> ClaimResult | None:
        """The answer given before to a request that is asked again, because the first answer was lost."""
        if self.leases and request.run_id in self.leases:
            return ClaimResult("granted", self.mark_before, self.leases[request.run_id].token)
        if self.mark_nonce != request.run_id:
            return None
        if request.let_go:
            return ClaimResult("granted", self.mark_before)
        return ClaimResult("busy", self.mark_before, skipped=True)

    def _take_over(
        self, request: ClaimRequest, instance: str, now: float, term: float, alive: Callable[[Lease], bool]
    ) -> ClaimResult:
        dead = self.leases.get(request.replaces or "") if self.leases else None
        if dead is None or alive(dead):
            return ClaimResult("stale", self.mark)
        assert self.leases is not None
        del self.leases[dead.run_id]
        return self._grant(request, instance, now, term, self.mark)

    def _grant(self, request: ClaimRequest, instance: str, now: float, term: float, before: int) -> ClaimResult:
        # Bound to the clock, so that tokens grow even over a store that lost its records.
        token = self.token = max(self.token + 1, int(now * 1000))
        lease = Lease(request.job, request.run_id, request.tick, instance, token, request.attempt, now + term)
        if self.leases is None:
            self.leases = {}
        self.leases[request.run_id] = lease
        return ClaimResult("granted", before, token)

    def _move_mark(self, tick: int, nonce: str) -> int:
        """Move the mark forward to `tick`; returns what it was before."""
        before = self.mark
        if tick > before:
            self.mark, self.mark_before, self.mark_nonce = tick, before, nonce
        return before


def claim_in(
    records: dict[str, JobRecord],
    request: ClaimRequest,
    instance: str,
    now: float,
    term: float,
    alive: Callable[[Lease], bool],
) -> ClaimResult:
    """Decide a request against the records of a store."""
    record = records.get(request.job)
    return _UNKNOWN if record is None else record.claim(request, instance, now, term, alive)
