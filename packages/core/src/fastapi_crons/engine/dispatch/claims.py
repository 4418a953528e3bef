"""Claims: what is asked of the lock store for a job, and the record of an interrupted run."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from fastapi_crons.clock import iso_utc
from fastapi_crons.engine.dispatch.tracked import TrackedJob
from fastapi_crons.job import CronJob, Overlap
from fastapi_crons.locking.base import ClaimRequest, Definition, Lease, LeaseRef
from fastapi_crons.locking.instance import name_of
from fastapi_crons.run import INTERRUPTED, Run, RunError, RunIds, RunStatus
from fastapi_crons.schedule.base import FROM_END, ZonedSchedule
from fastapi_crons.schedule.due import Step, TickRange

#: Further ahead (seconds) than any clock is wrong.
_YEARS = 10 * 366 * 86_400


class Wanted(NamedTuple):
    """A claim that is to be made, and what it is for."""

    tracked: TrackedJob
    request: ClaimRequest
    late: bool = False
    more: bool = False
    """Whether more ticks of the job are due after this one."""
    alone: bool = False
    """Whether the tick covers no other tick."""
    interrupted: Lease | None = None
    """For a rerun: the lease of the interrupted run. None for the claim of a tick."""
    tries: int = 0
    """How often this rerun was refused before."""


def claims_of(tracked: TrackedJob, step: Step, new_run_id: RunIds) -> list[Wanted]:
    """The claims of a step, in the order in which they are made."""
    job, late = tracked.job, tracked.late
    # Late ticks wait for a running job: the policy for late ticks decides about them, not the one for overlap.
    # So do ticks that meet a run of this instance which has ended, and whose lease is about to be released.
    waits = job.overlap == "skip" and (late or (bool(tracked.runs) and any(run.releasing for run in tracked.runs)))
    overlap: Overlap = "queue" if waits else job.overlap
    text, zone, arguments = job.schedule.text, job.schedule_zone, job.arguments_digest
    after = tracked.last_handled if job.counts_from_end else None
    claims: list[Wanted] = []
    for tick, reason in step.missed:
        request = ClaimRequest(
            job.name, new_run_id(), tick, text, zone, overlap, False, reason, None, 1, after, arguments
        )
        claims.append(Wanted(tracked, request, late, step.run is None))
    if step.run is not None:
        request = ClaimRequest(
            job.name, new_run_id(), step.run, text, zone, overlap, False, None, None, 1, after, arguments
        )
        claims.append(Wanted(tracked, request, late, step.more, step.alone))
    return claims


def rerun_of(tracked: TrackedJob, interrupted: Lease, run_id: str, tries: int) -> Wanted:
    """The claim that reruns the tick of an interrupted run; `tries`: how often it was refused already."""
    request = _request(tracked.job, run_id, interrupted.tick)
    request = request._replace(replaces=interrupted.run_id, attempt=interrupted.attempt + 1)
    return Wanted(tracked, request, True, interrupted=interrupted, tries=tries)


def manual_request(job: CronJob, run_id: str, tick: int | None, *, force: bool) -> ClaimRequest:
    """The claim of a manual run, which may run a tick again. It handles no tick."""
    return _request(job, run_id, tick)._replace(force=force, again=tick is not None)


def probe_of(tracked: TrackedJob, run_id: str) -> ClaimRequest:
    """A claim of a tick that is handled already. Its refusal says whether our definition is in force."""
    return _request(tracked.job, run_id, tracked.last_handled)


def early_claim_of(tracked: TrackedJob, run_id: str, now: float) -> ClaimRequest:
    """A claim of a tick that is years ahead. Its refusal says what the store's clock shows."""
    return _request(tracked.job, run_id, int(now) + _YEARS)


def definition_of(
    job: CronJob, nonce: str = "", last_handled: int = 0, held: tuple[Lease, ...] = (), start: int = 0
) -> Definition:
    """What is registered of a job. `start` is the last one that is known, of a job that is due at starts."""
    schedule, function = job.schedule, job.function_name
    definition = Definition(
        job.name,
        schedule.text,
        job.schedule_zone,
        function,
        last_handled,
        job.enabled,
        nonce,
        held,
        arguments=job.arguments_digest,
    )
    if isinstance(schedule, ZonedSchedule) and schedule.at_start:
        return definition._replace(at_start=schedule.at_start, start=start)
    return definition


def ref_of(lease: Lease) -> LeaseRef:
    """What names a lease when it is released."""
    until_now = lease.missed is None and not lease.again and lease.schedule.endswith(FROM_END)
    return LeaseRef(lease.job, lease.run_id, lease.token, until_now)


def interrupted(known: Run | None, lease: Lease, covered: TickRange | None, now: float, why: str) -> Run:
    """The closing record of an interrupted run, and why; `known` is its record in the state store, if it has one."""
    error = RunError(INTERRUPTED, f"{why}, before {iso_utc(int(now))}")
    status: RunStatus = "cancelled" if lease.cancelled else "interrupted"
    if known is not None:
        return replace(known, status=status, ended_ts=now, error=error)
    return Run(
        lease.run_id,
        lease.job,
        lease.tick,
        "again" if lease.again else "schedule" if lease.tick is not None else "code",
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
    schedule, arguments = job.schedule, job.arguments_digest
    return ClaimRequest(job.name, run_id, tick, schedule.text, job.schedule_zone, job.overlap, arguments=arguments)
