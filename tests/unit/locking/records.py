"""A job as a lock store has it on record, for tests of the rule of claims."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi_crons.locking import ClaimRequest, Lease
from fastapi_crons.locking.rule import JobRecord

START = 1_000_000
#: Now, by the store's clock: between two seconds, so that it shows where an instant is made a tick.
NOW = START + 100.25
SECOND = START + 100
TERM = 300.0
#: A token that is given out at this moment, where none was given out later.
TOKEN = int(NOW * 1000)
#: The second after the schedule of a recorded job came into force.
AFTER_SINCE = START - 10
HOURLY = ("0 * * * *", "UTC")


def recorded(*leases: Lease, **changes: Any) -> JobRecord:
    """A job that instance `a` has registered; its last handled tick is START."""
    record = JobRecord(*HOURLY, "m:f", True, ("a",), START, START - 10.5, token=7, registered_at=START - 0.5)
    return replace(record, leases={each.run_id: each for each in leases} or None, **changes)


def lease(run_id: str = "r1", instance: str = "a", **changes: Any) -> Lease:
    """The lease of a run, on record for as long as its instance lives."""
    held = Lease("job", run_id, START, instance, 7, 1, NOW + 60, START - 60, None, *HOURLY)
    return held._replace(**changes)


def given(request: ClaimRequest, after: int, token: int = TOKEN, owner: str = "b") -> Lease:
    """The lease that a claim is granted now."""
    terms = (request.attempt, NOW + TERM, after, request.missed, request.schedule, request.timezone)
    return Lease("job", request.run_id, request.tick, owner, token, *terms)


def want(tick: int | None = SECOND, **changes: Any) -> ClaimRequest:
    """What instance `b` wants."""
    return ClaimRequest("job", "r2", tick, *HOURLY)._replace(**changes)
