"""What a scheduler asks of the lock store for a job, and what it writes down of runs that were cut off."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from fastapi_crons.clock import iso_utc
from fastapi_crons.engine.dispatch.timeline import Entry
from fastapi_crons.job import CronJob, Overlap
from fastapi_crons.locking.base import ClaimRequest, Definition, Lease, LeaseRef
from fastapi_crons.locking.instance import name_of
from fastapi_crons.run import INTERRUPTED, Run, RunError, RunIds, RunStatus
from fastapi_crons.schedule.due import Row, Step


class Wanted(NamedTuple):
    """A claim that is to be made, and what it is for."""

    entry: Entry
    request: ClaimRequest
    late: bool = False
    #: Whether there is more to do about the job after it, and whether its tick stands for itself alone.
    more: bool = False
    alone: bool = False
    #: The lease of the run that was cut off and is to run again.
    cut_off: Lease | None = None
    #: How often that was refused before.
    tries: int = 0


def claims_of(entry: Entry, step: Step, new_run_id: RunIds) -> list[Wanted]:
    """The claims of a step, in the order they are to be made."""
    job, late = entry.job, entry.late
    # Late ticks wait for a run that goes on: the policy for late ticks decides about them, not the one for overlaps.
    # So do ticks that meet a run of ours which has ended, and whose lease is on its way back.
    patient = job.overlap == "skip" and (late or any(run.releasing for run in entry.runs))
    overlap: Overlap = "queue" if patient else job.overlap
    text, zone = job.schedule.text, job.schedule_zone
    claims: list[Wanted] = []
    for tick, reason in step.let_go:
        request = ClaimRequest(job.name, new_run_id(), tick, text, zone, overlap, False, reason)
        claims.append(Wanted(entry, request, late, step.run is None))
    if step.run is not None:
        request = ClaimRequest(job.name, new_run_id(), step.run, text, zone, overlap)
        claims.append(Wanted(entry, request, late, step.more, step.alone))
    return claims


def rerun_of(entry: Entry, lease: Lease, run_id: str, tries: int) -> Wanted:
    """The claim of a tick whose run was cut off; it was refused `tries` times before."""
    request = _request(entry.job, run_id, lease.tick)._replace(replaces=lease.run_id, attempt=lease.attempt + 1)
    return Wanted(entry, request, True, cut_off=lease, tries=tries)


def manual_request(job: CronJob, run_id: str, *, force: bool) -> ClaimRequest:
    """The claim of a run that somebody asked for, which leaves the ticks alone."""
    return _request(job, run_id, None)._replace(force=force)


def probe_of(entry: Entry, run_id: str) -> ClaimRequest:
    """A claim of a tick that is handled already: all that its refusal tells is whether our definition is in force."""
    return _request(entry.job, run_id, entry.mark)


def definition_of(job: CronJob, nonce: str = "", mark: int = 0, held: tuple[Lease, ...] = ()) -> Definition:
    """What is registered of a job."""
    return Definition(job.name, job.schedule.text, job.schedule_zone, job.function_name, mark, job.enabled, nonce, held)


def ref_of(lease: Lease) -> LeaseRef:
    """Names a lease, to give it back."""
    return LeaseRef(lease.job, lease.run_id, lease.token)


def interrupted(known: Run | None, lease: Lease, covered: Row | None, now: float, why: str) -> Run:
    """The closing record of a run that was cut off, and why; `known` is what the state store has of it."""
    error = RunError(INTERRUPTED, f"{why}, before {iso_utc(now)}")
    status: RunStatus = "cancelled" if lease.cancelled else "interrupted"
    if known is not None:
        return replace(known, status=status, ended_ts=now, error=error)
    return Run(
        lease.run_id,
        lease.job,
        lease.tick,
        "schedule" if lease.tick is not None else "code",
        lease.attempt,
        name_of(lease.instance),
        lease.token,
        status,
        now,
        now,
        error,
        missed_ticks=0 if covered is None else covered.number,
        missed_since_ts=None if covered is None else covered.first,
    )


def _request(job: CronJob, run_id: str, tick: int | None) -> ClaimRequest:
    return ClaimRequest(job.name, run_id, tick, job.schedule.text, job.schedule_zone, job.overlap)
