"""Restoring: jobs of a lock store are put on record in another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi_crons.locking.record import JobRecord

if TYPE_CHECKING:
    from fastapi_crons.locking.base import KnownJob


def restore(records: dict[str, JobRecord], known: KnownJob, now: float) -> JobRecord:
    """Put a job on record as another store has it, in place of what is here; returns its record.

    A token is never given out twice.
    """
    former = records.get(known.job)
    record = records[known.job] = JobRecord(
        known.schedule,
        known.timezone,
        known.function,
        known.enabled,
        known.registrars,
        known.last_handled,
        known.since,
        max(known.token, 0 if former is None else former.token),
        registered_at=now,
        pause=known.pause,
        leases={lease.run_id: lease for lease in known.leases} or None,
        arguments=known.arguments,
    )
    return record
