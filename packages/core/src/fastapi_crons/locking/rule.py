"""The rule of lock stores: what each request does to the record of a job.

Pure functions of records and the store's clock, without I/O. A lock store loads the records that a batch names, applies one of
these functions to each request in order, and writes the records back, atomically: `TransactionalLockBackend` does so for stores
with transactions. A store that decides in another language (a script in Lua, SQL) must answer as these functions do;
`fastapi_crons.testing.LockWalk` compares the two.

All instants are Unix seconds by the store's clock; ticks are whole ones. `records` holds a `JobRecord` for each job, by its
name or any other key that the requests have as their `job`. `owner` is the `Instance.owner` of the instance that asks, `term`
how long (seconds) its leases last. No function raises, whatever a request says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from fastapi_crons.locking.base import (
    ClaimRequest,
    ClaimResult,
    Definition,
    Lease,
    LeaseRef,
    Pause,
    PauseRequest,
    Registered,
    Replaced,
    Resumed,
    ResumeRequest,
)
from fastapi_crons.locking.record import LIMITS, MAX_AHEAD, MAX_HANDLED_AHEAD, MAX_REGISTRARS, QUARANTINE, JobRecord
from fastapi_crons.run import MissedReason
from fastapi_crons.schedule.base import FROM_END

__all__ = [
    "LIMITS",
    "Alive",
    "JobRecord",
    "asks_who_is_alive",
    "cancel",
    "claim",
    "is_credible",
    "pause",
    "register",
    "release",
    "renew",
    "resume",
]

_FOR_EVER = float("inf")

_UNKNOWN, _PAUSED = ClaimResult("unknown"), ClaimResult("paused")
_NOT_IN_FORCE = ClaimResult("not_in_force")
_ORPHANED = ClaimResult("not_in_force", orphaned=True)

#: `alive(owner, expires)`: whether an instance is alive, and what it holds until `expires` has not run out.
Alive = Callable[[str, float], bool]


def register(
    records: dict[str, JobRecord],
    definition: Definition,
    owner: str,
    now: float,
    term: float,
    alive: Alive | None = None,
) -> Registered:
    """Put a definition in force. Where schedule or `enabled` change, the ticks of the old definition end now.

    Where only the arguments change, the ticks are the same: what is handled stays so, what is late is still due, and a job that
    is due at starts has not started again. Arguments that were not on record until now are no change.

    Where an instance knows of handled ticks of a job without a record, the store has lost its records. What was due since then
    is not lost with them: it is granted after the `QUARANTINE`, in which other instances register the newer ticks they know.
    A definition that is withdrawn only takes the instance off those that have registered the one in force.

    A job that is due at a start has its tick in the second after its definition came into force. For one that is due at each
    start of the fleet, the definition comes into force again where no instance is alive that registered it; `alive` is asked
    only about them. A start whose tick is not handled yet is still the last one.
    """
    record = records.get(definition.job)
    if definition.withdrawn and record is not None:
        record.registrars = tuple(each for each in record.registrars if each != owner)
    if definition.withdrawn:
        return Registered(record.last_handled if record is not None else 0)
    if record is None:
        record = records[definition.job] = _record_of(definition, owner, now)
        return Registered(record.last_handled, start=_start_of(record, definition))
    record.registered_at = now
    done = record.leases.get(definition.nonce) if record.leases else None
    if done is not None and done.missed is not None:  # asked again, because the first answer was lost
        past = Replaced(done.schedule, done.timezone, done.after, done.missed, done.token)
        return Registered(record.last_handled, past, start=_start_of(record, definition))
    other = record.function if record.function != definition.function else None
    record.function = definition.function
    reset_from = _reset(record, int(now), now)
    in_force = (record.schedule, record.timezone, record.enabled)
    replaced, other_arguments = None, False
    if in_force != (definition.schedule, definition.timezone, definition.enabled):
        replaced = _replace(record, definition, owner, now, term)
    else:
        other_arguments = _are_others(record, definition.arguments)
        if other_arguments or owner not in record.registrars:
            if definition.at_start == "fleet" and alive is not None:
                _start_again(record, now, alive)
            former = () if other_arguments else record.registrars[1 - MAX_REGISTRARS :]
            record.registrars = (*former, owner)
    if definition.arguments is not None:
        record.arguments = definition.arguments
    record.last_handled = max(record.last_handled, _credible(definition.last_handled, now))
    _restore(record, definition.held)
    return Registered(record.last_handled, replaced, other, reset_from, _start_of(record, definition), other_arguments)


def claim(
    records: dict[str, JobRecord], request: ClaimRequest, owner: str, now: float, term: float, alive: Alive
) -> ClaimResult:
    """Decide a request. `alive` is asked about holders of the job's leases, and instances that registered the definition."""
    record = records.get(request.job)
    if record is None:
        return _UNKNOWN
    if record.leases and (repeated := _repeated(record, request)) is not None:
        return repeated
    by_hand = request.tick is None or request.again
    if not _is_in_force(record, request) or not (record.enabled or by_hand):
        return _NOT_IN_FORCE if any(alive(each, _FOR_EVER) for each in record.registrars) else _ORPHANED
    if record.pause is not None and not by_hand:
        return _PAUSED
    if request.replaces is not None:
        return _recover(record, request, owner, now, term, alive)
    holder = _holder(record, alive) if record.leases else None
    if request.tick is None:
        if holder is not None and request.overlap != "allow" and not request.force:
            return ClaimResult("busy", record.last_handled, holder=holder.run_id)
        granted = _grant(record, request, owner, now, term, record.last_handled)
        return granted._replace(holder=holder.run_id) if holder is not None and request.force else granted
    if request.again:
        in_the_way = _run_of(record, request.tick) or (holder if request.overlap != "allow" else None)
        if in_the_way is not None:
            return ClaimResult("busy", record.last_handled, holder=in_the_way.run_id)
        return _grant(record, request, owner, now, term, request.tick)
    return _claim_tick(record, request, request.tick, owner, now, term, holder)


def asks_who_is_alive(records: Mapping[str, JobRecord], request: ClaimRequest) -> bool:
    """Whether `claim` may ask for this request who is alive: a store need not load its instances where it does not."""
    record = records.get(request.job)
    return record is not None and (bool(record.leases) or not record.enabled or not _is_in_force(record, request))


def is_credible(last_handled: int, now: float) -> bool:
    """Whether a last handled tick can be right: it is reset where only a wrong clock can have set it."""
    return last_handled <= now + MAX_HANDLED_AHEAD


def pause(records: dict[str, JobRecord], request: PauseRequest, now: float) -> Pause | None:
    """Pause a job, unless it is paused already; returns its pause, or None for a job without a record."""
    record = records.get(request.job)
    if record is None:
        return None
    if record.pause is None:
        record.pause = Pause(now, request.actor, request.note)
    return record.pause


def resume(
    records: dict[str, JobRecord], request: ResumeRequest, owner: str, now: float, term: float
) -> Resumed | None:
    """End a pause; its ticks are missed, unless the request leaves them to catch up with. None for a job that is not paused."""
    record = records.get(request.job)
    if record is None:
        return None
    start = int(record.since) + 1
    done = record.leases.get(request.nonce) if record.leases else None
    if done is not None:  # asked again, because the first answer was lost
        return Resumed(Pause(0.0), done.schedule, done.timezone, done.after, record.last_handled, done.token, start)
    if record.pause is None:
        return None
    ended, after, record.pause = record.pause, record.last_handled, None
    # A job that is disabled has no ticks that the pause kept from running.
    if request.catch_up or not record.enabled or not _may_miss(record, now):
        return Resumed(ended, record.schedule, record.timezone, after, after, 0, start)
    token = _miss_until_now(record, request.job, request.nonce, "paused", owner, now, term)
    return Resumed(ended, record.schedule, record.timezone, after, record.last_handled, token, start)


def release(records: Mapping[str, JobRecord], lease: LeaseRef, now: float = 0.0) -> bool:
    """Take a lease off the record; False where it is not there with this token.

    With `until_now` the last handled tick becomes `now`, or the whole second after it, where that is newer, and the schedule in
    force is counted from there. Another one, registered while the run was going on, has ticks of its own up to now.
    """
    record = records.get(lease.job)
    if record is None or record.leases is None or _held(record, lease) is None:
        return False
    del record.leases[lease.run_id]
    if lease.until_now and _from_end(record):
        record.last_handled = max(record.last_handled, math.ceil(now))
    return True


def renew(records: Mapping[str, JobRecord], lease: LeaseRef, now: float, term: float) -> bool:
    """Extend a lease to a full term from now, never shorten it; False where it is not on record with this token."""
    record = records.get(lease.job)
    held = None if record is None else _held(record, lease)
    if record is None or record.leases is None or held is None:
        return False
    record.leases[lease.run_id] = held._replace(expires=max(held.expires, now + term))
    return True


def cancel(records: Mapping[str, JobRecord], run_id: str, actor: str | None) -> bool:
    """Note that a run is to be cancelled; False where no lease of such a run is on record."""
    for record in records.values():
        lease = record.leases.get(run_id) if record.leases else None
        if record.leases is not None and lease is not None and lease.missed is None:
            record.leases[run_id] = lease._replace(cancelled=True, cancelled_by=actor)
            return True
    return False


def _is_in_force(record: JobRecord, request: ClaimRequest) -> bool:
    same = request.schedule == record.schedule and request.timezone == record.timezone
    return same and (request.arguments == record.arguments or not _are_others(record, request.arguments))


def _are_others(record: JobRecord, arguments: str | None) -> bool:
    """Whether these are other arguments than those on record. What an earlier version registered or claims says none."""
    return arguments is not None and record.arguments is not None and arguments != record.arguments


def _record_of(definition: Definition, owner: str, now: float) -> JobRecord:
    record = JobRecord(
        definition.schedule,
        definition.timezone,
        definition.function,
        definition.enabled,
        (owner,),
        _credible(definition.last_handled, now) or int(now),
        now,
        settled_at=now + QUARANTINE if definition.last_handled else 0.0,
        registered_at=now,
        arguments=definition.arguments,
    )
    if definition.at_start:
        record.since = float(definition.start - 1 if definition.start else record.last_handled)
    _restore(record, definition.held)
    return record


def _start_of(record: JobRecord, definition: Definition) -> int:
    """The tick of the last start, for a job that is due at starts. It is newer than what was handled when it was made."""
    return int(record.since) + 1 if definition.at_start else 0


def _start_again(record: JobRecord, now: float, alive: Alive) -> None:
    """An instance registers a job that is due at each start of the fleet. Where it is the first one, that is a new start."""
    if record.last_handled > record.since and not any(alive(each, _FOR_EVER) for each in record.registrars):
        record.since = float(max(int(now), record.last_handled))


def _restore(record: JobRecord, held: tuple[Lease, ...]) -> None:
    for lease in held:
        if lease.token > record.token:
            record.token = lease.token
            record.leases = {**(record.leases or {}), lease.run_id: lease}


def _replace(record: JobRecord, definition: Definition, owner: str, now: float, term: float) -> Replaced:
    """Put another definition in force. What the old one had due up to now is missed."""
    old = Replaced(record.schedule, record.timezone, record.last_handled, start=int(record.since) + 1)
    reason: MissedReason = "schedule_changed"
    if not record.enabled or (definition.schedule, definition.timezone) == (record.schedule, record.timezone):
        reason = "disabled"
    elif record.pause is not None:
        reason = "paused"
    token = 0
    if definition.nonce and _may_miss(record, now):
        token = _miss_until_now(record, definition.job, definition.nonce, reason, owner, now, term)
    record.schedule, record.timezone, record.enabled = definition.schedule, definition.timezone, definition.enabled
    record.last_handled, record.registrars = max(record.last_handled, int(now)), (owner,)
    record.since = float(record.last_handled) if definition.at_start else now
    return old._replace(reason=reason, token=token)


def _from_end(record: JobRecord) -> bool:
    """Whether the schedule in force is counted from the end of the job's last run."""
    return record.schedule.endswith(FROM_END)


def _may_miss(record: JobRecord, now: float) -> bool:
    """Whether ticks may be due up to now. None is that is counted from the end of a run which has not ended."""
    return int(now) > record.last_handled and not (_from_end(record) and _unended(record))


def _miss_until_now(
    record: JobRecord, job: str, nonce: str, reason: MissedReason, owner: str, now: float, term: float
) -> int:
    """Count the ticks up to now as missed; returns the token of the lease that answers for them."""
    request = ClaimRequest(job, nonce, int(now), record.schedule, record.timezone, missed=reason)
    after, record.last_handled = record.last_handled, int(now)
    return _grant(record, request, owner, now, term, after).token


def _holder(record: JobRecord, alive: Alive, but: Lease | None = None) -> Lease | None:
    """The lease of a run that is running, other than `but`; or None."""
    for lease in record.leases.values() if record.leases else ():
        if lease.missed is None and lease is not but and alive(lease.instance, lease.expires):
            return lease
    return None


def _claim_tick(
    record: JobRecord, request: ClaimRequest, tick: int, owner: str, now: float, term: float, holder: Lease | None
) -> ClaimResult:
    if tick > now + MAX_AHEAD:
        return ClaimResult("early", int(now))
    reset_from = _reset(record, tick - 1, now)
    if tick <= record.last_handled or (request.after is not None and request.after != record.last_handled):
        return ClaimResult("stale", record.last_handled)
    if now < record.settled_at <= now + MAX_HANDLED_AHEAD:
        return ClaimResult("early", int(now))
    if request.after is not None and (unended := _unended(record)) is not None:
        return ClaimResult("busy", record.last_handled, holder=unended.run_id)
    busy = holder if request.overlap != "allow" and request.missed is None else None
    if busy is not None and (request.overlap != "skip" or busy.again):
        return ClaimResult("busy", record.last_handled, holder=busy.run_id)
    before, record.last_handled = record.last_handled, tick
    if busy is not None:
        token = _grant(record, request._replace(missed="overlap"), owner, now, term, before).token
        return ClaimResult("busy", before, token, busy.run_id, True, reset_from)
    granted = _grant(record, request, owner, now, term, before)
    return granted._replace(reset_from=reset_from) if reset_from else granted


def _run_of(record: JobRecord, tick: int) -> Lease | None:
    """The lease of a run of this tick, which may be rerun if its holder is dead, or of any tick that is run again."""
    runs = (lease for lease in (record.leases or {}).values() if lease.missed is None)
    return next((each for each in runs if each.again or each.after < tick <= (each.tick or 0)), None)


def _unended(record: JobRecord) -> Lease | None:
    """The lease of a run that has not ended, or has yet to be rerun because its holder died; or None."""
    return next((lease for lease in (record.leases or {}).values() if lease.missed is None), None)


def _repeated(record: JobRecord, request: ClaimRequest) -> ClaimResult | None:
    """The answer given before to a request that is asked again, because the first answer was lost."""
    lease = record.leases.get(request.run_id) if record.leases else None
    if lease is None:
        return None
    if lease.missed != request.missed:
        return ClaimResult("busy", lease.after, lease.token, skipped=True)
    return ClaimResult("granted", lease.after, lease.token)


def _recover(
    record: JobRecord, request: ClaimRequest, owner: str, now: float, term: float, alive: Alive
) -> ClaimResult:
    dead = record.leases.get(request.replaces or "") if record.leases else None
    # A holder that lost trust in its lease, because the store was out of reach, may rerun its own tick.
    if dead is None or (dead.instance != owner and alive(dead.instance, dead.expires)):
        return ClaimResult("stale", record.last_handled)
    holder = _holder(record, alive, dead)
    if holder is not None and request.overlap != "allow":
        return ClaimResult("busy", record.last_handled, holder=holder.run_id)
    assert record.leases is not None
    del record.leases[dead.run_id]
    # The ticks that the interrupted run stood for are now this one's.
    return _grant(record, request, owner, now, term, dead.after)


def _grant(record: JobRecord, request: ClaimRequest, owner: str, now: float, term: float, after: int) -> ClaimResult:
    # Bound to the clock, so that tokens grow even over a store that lost its records.
    token = record.token = max(record.token + 1, int(now * 1000))
    leases = record.leases = record.leases or {}
    of = (request.missed, request.schedule, request.timezone)
    leases[request.run_id] = Lease(
        request.job, request.run_id, request.tick, owner, token, request.attempt, now + term, after, *of
    )
    return ClaimResult("granted", after, token)


def _held(record: JobRecord, lease: LeaseRef) -> Lease | None:
    held = (record.leases or {}).get(lease.run_id)
    return held if held is not None and held.token == lease.token else None


def _reset(record: JobRecord, tick: int, now: float) -> int:
    """Reset a last handled tick that lies too far ahead of the clock to `tick`; returns what it was, or 0."""
    if is_credible(record.last_handled, now):
        return 0
    was, record.last_handled = record.last_handled, tick
    return was


def _credible(last_handled: int, now: float) -> int:
    return last_handled if is_credible(last_handled, now) else 0
