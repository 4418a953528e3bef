"""LeaseBook: which leases this instance claims, holds and releases, and until when it can trust those that it holds.

The trust window is counted on our own monotonic clock, from before a request was sent that the store has answered:

    trusted ──(the store was silent for too long, or this process was suspended)──> in doubt ──> the store is asked
       ^                                                                                │
       ├────── it is still ours: renewed <──────────────────────────────────────────────┤
       │                             no answer in time: trust lost; asked again until the store answers
       └                                        the store says that it is not ours: lost
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from math import inf
from threading import Lock

from fastapi_crons.locking.base import ClaimRequest, ClaimResult, Lease, LeaseRef, LeaseTerms, Reach

#: Trust ends this long (seconds) before another instance may recover our runs; a tenth of the timeout where that is less.
_MARGIN = 1.0
#: How long (seconds) the store has to answer whose the leases in doubt are. Unless this process was suspended, it is asked
#: so much earlier; a quarter of the timeout where that is less.
ANSWER_WITHIN = 1.0
#: How many of the runs that ended here last are remembered at least.
_REMEMBERED = 5_000


class Trust(Enum):
    """How far this instance can trust the leases that it held when the trust window ended last."""

    GIVEN = "given"  #: The store has renewed them since.
    IN_DOUBT = "in doubt"  #: The store is still to be asked whose they are.
    ASKED = "asked"  #: The store was asked, and has not answered yet.


class LeaseBook:
    """The leases of one instance, by run id. Does no I/O.

    Safe to use from the heartbeat's thread: what that thread changes is guarded, what it reads is copied in one step.
    """

    def __init__(
        self, reach: Reach, terms: LeaseTerms, heartbeat_interval: float, monotonic: Callable[[], float]
    ) -> None:
        #: Whether leases can end while their process lives. On one host, or in one process, the process is the evidence.
        self.can_end = reach == "fleet"
        self.terms = terms
        self._heartbeat_interval = heartbeat_interval
        self._monotonic = monotonic
        shorter = min(terms.instance, terms.lease)
        #: How long (seconds) before the end of the trust window the store is asked, unless this process was suspended.
        self.asked_before = min(ANSWER_WITHIN, shorter / 4)
        self._early = min(_MARGIN, shorter / 10) + self.asked_before
        self._lock = Lock()
        #: When a request was sent by which the store learned that we live, and one that renewed all leases.
        self._lived_at = self.renewed_at = monotonic()
        #: The end of the trust window, on the monotonic clock.
        self.trusted_until = self._end_of_trust()
        #: When the trust window ended last, or first began, and how far the leases of before can be trusted.
        self._doubted_at = self._lived_at
        self._trust = Trust.GIVEN
        #: When the store answered last after we had been silent, or suspended, for longer than an instance may be.
        self._back_at = -inf
        #: By run id, from the claim to the release: when the latest request that confirmed the lease was sent; -inf before
        #: its first answer, and where it has said since that the lease is not ours.
        self._since: dict[str, float] = {}
        self._held: dict[str, LeaseRef] = {}
        self._releasing: dict[str, LeaseRef] = {}
        #: Held leases that are not ours any more, and can't be had back.
        self._lost: set[str] = set()
        #: Leases on record as ours that are in none of these, by when they were first seen.
        self._strays: dict[str, float] = {}
        #: The runs that ended here last. Two sets, of which the older one is dropped when the newer is full.
        self._ended: set[str] = set()
        self._ended_before: set[str] = set()
        self._stopping = False

    # Claimed, held, released

    def claiming(self, run_ids: Iterable[str]) -> None:
        """Leases are being claimed."""
        self._since.update(dict.fromkeys(run_ids, -inf))

    def answered(self, sent: float, requests: Sequence[ClaimRequest], results: Sequence[ClaimResult]) -> None:
        """The store has answered claims that were sent then. The leases that it granted are to be held or released."""
        since = self._since
        for request, result in zip(requests, results, strict=True):
            if result.token:
                since[request.run_id] = sent
            else:
                since.pop(request.run_id, None)

    def unanswered(self, run_ids: Iterable[str]) -> None:
        """The answer to claims is no longer waited for."""
        for run_id in run_ids:
            self._since.pop(run_id, None)

    def hold(self, lease: LeaseRef) -> None:
        """A run starts under a lease that was granted."""
        self._held[lease.run_id] = lease

    def releasing(self, lease: LeaseRef) -> None:
        """A lease is to be released."""
        self.drop(lease.run_id)
        self._releasing[lease.run_id] = lease

    def released(self, leases: Iterable[LeaseRef]) -> None:
        """The store has released leases."""
        for lease in leases:
            self._releasing.pop(lease.run_id, None)

    def drop(self, run_id: str) -> None:
        """A lease is neither claimed nor held any more."""
        self._held.pop(run_id, None)
        self._since.pop(run_id, None)
        if self._lost:
            self._lost.discard(run_id)

    def held(self) -> list[LeaseRef]:
        """The leases of the runs that are running here."""
        return list(self._held.values())

    def __len__(self) -> int:
        """How many leases are held or being released."""
        return len(self._held) + len(self._releasing)

    def strays(self, own: Iterable[Lease]) -> list[Lease]:
        """Those of the leases on record as ours that we know nothing of: their answer was lost, or the store brought them back.

        Claims and releases on their way look the same for a moment: only what is seen for longer counts.
        """
        now, known = self._monotonic(), {*self._since, *self._held, *self._releasing}
        unknown = [lease for lease in own if lease.run_id not in known]
        self._strays = {lease.run_id: self._strays.get(lease.run_id, now) for lease in unknown}
        return [lease for lease in unknown if now - self._strays[lease.run_id] > self._heartbeat_interval / 2]

    # Ended runs

    def ended(self, run_id: str) -> None:
        """A run has ended here: whatever the store says of its lease later, its function is not called again."""
        self._ended.add(run_id)
        if len(self._ended) >= _REMEMBERED:
            self._ended_before, self._ended = self._ended, set()

    def has_ended(self, run_id: str) -> bool:
        """Whether a run has ended here, not long ago."""
        return run_id in self._ended or run_id in self._ended_before

    # Trust

    def trusts(self, run_id: str) -> bool:
        """Whether the lease of a run is still ours, as far as we can know."""
        if not self.can_end:
            return True
        since = self._since.get(run_id)
        return since is not None and since >= self._doubted_at and self._monotonic() < self.trusted_until

    def is_open(self, run_id: str) -> bool:
        """Whether the store has yet to say whose a lease is, and its answer is worth waiting for."""
        return not (self._stopping or run_id in self._lost or self.trusts(run_id))

    def is_lost(self, run_id: str) -> bool:
        """Whether the lease of a run that is running here is not ours any more."""
        return run_id in self._lost

    def lose(self, run_id: str) -> None:
        """The lease of a run is not ours any more, and can't be had back."""
        if run_id in self._held:
            self._lost.add(run_id)

    def stop(self) -> None:
        """From now on the outcomes of runs are taken as they are, whatever the store may say of their leases."""
        self._stopping = True

    @property
    def is_in_doubt(self) -> bool:
        """Whether there may be leases of which the store has said nothing since the trust window ended."""
        return self._trust is not Trust.GIVEN

    @property
    def is_just_back(self) -> bool:
        """Whether other instances may have been kept from their heartbeats as we were, and have yet to make up for it."""
        return self._monotonic() - self._back_at < self._heartbeat_interval

    def doubt(self) -> None:
        """Doubt the leases where the trust window has ended."""
        with self._lock:
            self._doubt(self._monotonic())

    def ask(self) -> bool:
        """Whether the store is to be asked now whose the leases are: once for each time that they are in doubt."""
        with self._lock:
            if self._trust is not Trust.IN_DOUBT or not self._held:
                return False
            self._trust = Trust.ASKED
            return True

    def lived(self, sent: float) -> None:
        """The store has answered a request, sent then, by which it learned that this instance lives."""
        with self._lock:
            self._doubt(sent)
            if sent - self._lived_at >= self.terms.instance:
                self._back_at = sent
            self._lived_at = max(self._lived_at, sent)
            self.trusted_until = self._end_of_trust()

    def renewed(self, sent: float) -> None:
        """The store has answered a request, sent then, to renew all leases that are held."""
        with self._lock:
            self._doubt(sent)
            self.renewed_at = sent
            self.trusted_until = self._end_of_trust()
            if self._doubted_at <= sent:
                self._trust = Trust.GIVEN

    def confirm(self, sent: float, leases: Sequence[LeaseRef], ours: Sequence[bool]) -> list[LeaseRef]:
        """Asked then, the store has said which leases are ours; returns those that are not, though we hold them."""
        refused = []
        with self._lock:
            for lease, is_ours in zip(leases, ours, strict=True):
                run_id = lease.run_id
                # One that is refused is not trusted until it is found out whether it can be had back.
                self._since[run_id] = max(self._since.get(run_id, -inf), sent) if is_ours else -inf
                if run_id not in self._held:  # looked at last: it may be dropped at this moment
                    self._since.pop(run_id, None)
                elif not (is_ours or run_id in self._lost):
                    refused.append(lease)
        return refused

    def _end_of_trust(self) -> float:
        if not self.can_end:
            return inf
        return min(self._lived_at + self.terms.instance, self.renewed_at + self.terms.lease) - self._early

    def _doubt(self, now: float) -> None:
        until = self.trusted_until
        if self._doubted_at < until <= now:
            self._doubted_at = until
            if self._trust is Trust.GIVEN:
                self._trust = Trust.IN_DOUBT
