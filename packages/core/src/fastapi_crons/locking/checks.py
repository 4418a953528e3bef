"""What a lock store may hand out: records that are what they should be, whatever is on record. See `damage`.

Where the rest can do without it, a field that can't be believed is repaired: a pause holds although its beginning is unknown,
an instance is alive by its heartbeat although its version can't be read. The Lua of the Redis lock does the same.
"""

from __future__ import annotations

from typing import Any, get_args

from fastapi_crons._util.damage import (
    LATEST,
    Check,
    DamagedError,
    check,
    is_between,
    name,
    one_of,
    optional,
    text,
    tick,
    whole,
)
from fastapi_crons.locking.base import KnownJob, Lease, LiveInstance, Pause
from fastapi_crons.locking.instance import Instance, name_of
from fastapi_crons.locking.record import MAX_HANDLED_AHEAD, MAX_TERM, MAX_TOKEN, UNREADABLE_TICK, JobRecord
from fastapi_crons.run import MissedReason

_LEASE: dict[str, Check] = {
    "job": name,
    "run_id": name,
    "instance": text,
    "attempt": whole,
    "after": tick,
    "schedule": text,
    "timezone": text,
    "tick": optional(tick),
    "missed": optional(one_of(get_args(MissedReason))),
}
_JOB: dict[str, Check] = {"schedule": text, "timezone": text, "function": text}


def checked_lease(lease: Lease, now: float, term: float) -> Lease:
    """The lease; one whose end can't be believed lasts as long as its holder's heartbeat. Raises `DamagedError`."""
    check(lease, _LEASE)
    whole(lease.token, "token", most=MAX_TOKEN)
    if lease.missed is not None and lease.tick is None:
        raise DamagedError("tick is missing")
    if not isinstance(lease.cancelled_by, str | None):
        lease = lease._replace(cancelled_by=None)
    return lease if is_between(lease.expires, 0, now + MAX_TERM) else lease._replace(expires=now + term)


def checked_record(record: JobRecord, now: float) -> list[str]:
    """Repair the record of a job, its leases aside; returns the names of repaired fields. Raises `DamagedError`."""
    check(record, _JOB)
    for owner in record.registrars:
        text(owner, "registrars")
    if (
        type(record.last_handled) is type(record.token) is int
        and 0 <= record.last_handled <= UNREADABLE_TICK
        and 0 <= record.token <= MAX_TOKEN
        and is_between(record.since, 0, LATEST)
        and is_between(record.settled_at, 0, LATEST)
        and is_between(record.registered_at, 0, now + MAX_HANDLED_AHEAD)
        and record.pause is None
        and (record.arguments is None or type(record.arguments) is str)
    ):
        return []  # nearly always, and quick
    repaired = {
        "last_handled": checked_last_handled(record.last_handled),
        "since": _number(record.since, LATEST),
        "token": checked_token(record.token),
        "settled_at": _number(record.settled_at, LATEST),
        "registered_at": _number(record.registered_at, now + MAX_HANDLED_AHEAD),
        "pause": record.pause and checked_pause(*record.pause),
        "arguments": record.arguments if isinstance(record.arguments, str) else None,
    }
    wrong = [field for field, value in repaired.items() if value != getattr(record, field)]
    for field in wrong:
        setattr(record, field, repaired[field])
    return wrong


def checked_last_handled(tick: object) -> int:
    """The last handled tick, or what stands for one that can't be read."""
    return tick if type(tick) is int and 0 <= tick <= UNREADABLE_TICK else UNREADABLE_TICK


def checked_token(token: object) -> int:
    """The token that was given out last; 0, from which on they follow the clock, for what can't be one."""
    return token if type(token) is int and 0 <= token <= MAX_TOKEN else 0


def checked_pause(since: object, actor: object, note: object) -> Pause:
    """A pause, which holds whatever of it can be read."""
    return Pause(_number(since, LATEST), *(said if isinstance(said, str) else None for said in (actor, note)))


def checked_known(known: KnownJob) -> KnownJob:
    """A job as it is on record. Raises `DamagedError`."""
    text(known.job, "job")
    check(known, _JOB)
    if (
        type(known.last_handled) is int
        and 0 <= known.last_handled <= UNREADABLE_TICK
        and is_between(known.since, 0, LATEST)
        and (known.arguments is None or type(known.arguments) is str)
    ):
        return known  # nearly always, and quick
    return known._replace(
        last_handled=checked_last_handled(known.last_handled),
        since=_number(known.since, LATEST),
        arguments=known.arguments if isinstance(known.arguments, str) else None,
    )


def checked_instance(found: LiveInstance, now: float) -> LiveInstance:
    """An instance; one whose heartbeat can't be believed has sent it just now. Raises `DamagedError`."""
    about = found.instance
    owner = text(about.owner, "owner")
    host, boot, pid, pid_started = about.host, about.boot, about.pid, about.pid_started
    if [type(each) for each in (host, boot, pid, pid_started)] != [str, str, int, str]:
        host, boot, pid, pid_started = "", "", 0, ""
    instance = Instance(
        about.id if isinstance(about.id, str) else name_of(owner),
        owner,
        host,
        boot,
        pid,
        pid_started,
        _number(about.started_ts, LATEST),
        about.version if isinstance(about.version, str) else "",
    )
    return LiveInstance(
        instance,
        found.heartbeat_ts if is_between(found.heartbeat_ts, 0, now + MAX_HANDLED_AHEAD) else now,
        found.running if type(found.running) is int else 0,
        found.jobs if isinstance(found.jobs, str) else "",
    )


def _number(value: Any, most: float) -> float:
    """A number between 0 and `most`, or 0."""
    return value if is_between(value, 0, most) else 0.0
