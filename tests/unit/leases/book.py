"""A lease book on a time that is set, and what it is told, for its tests."""

from __future__ import annotations

from fastapi_crons.locking import ClaimRequest, ClaimResult, Lease, LeaseRef, LeaseTerms, Reach
from fastapi_crons.locking.leases import LeaseBook

BEAT = 1.0


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def book_of(time: Time, lease: float = 60.0, instance: float = 10.0, reach: Reach = "fleet") -> LeaseBook:
    return LeaseBook(reach, LeaseTerms(lease, instance), BEAT, time)


def ref(run_id: str) -> LeaseRef:
    return LeaseRef("job", run_id, 1)


def on_record(run_id: str) -> Lease:
    return Lease("job", run_id, 60, "us~1", 1, 1, 1e9)


def request(run_id: str) -> ClaimRequest:
    return ClaimRequest("job", run_id, 60, "* * * * *", "UTC")


def hold(book: LeaseBook, run_id: str, sent: float) -> None:
    """A claim that was sent then is granted, and its run starts."""
    book.claiming([run_id])
    book.answered(sent, [request(run_id)], [ClaimResult("granted", token=1)])
    book.lived(sent)
    book.hold(ref(run_id))
