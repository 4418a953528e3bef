"""What a lock store may reckon with: records that are what they should be, whatever is on record. See `damage`.

Where the rest can do without it, a field that can't be believed is mended: a pause holds although nobody knows since when, an
instance lives by its heartbeat although its version can't be read. `rule.lua` of the Redis lock does the same.
"""

from __future__ import annotations

from typing import get_args

from fastapi_crons._util.damage import DamagedError, instant, is_number, name, one_of, text, tick, whole
from fastapi_crons.locking.base import KnownJob, Lease, LiveInstance, Pause
from fastapi_crons.locking.instance import Instance, name_of
from fastapi_crons.locking.rule import MAX_HANDLED_AHEAD, MAX_TERM, MAX_TOKEN, UNREADABLE_TICK
from fastapi_crons.run import MissedReason

_REASONS = frozenset(get_args(MissedReason))


def sound_lease(lease: Lease, now: float, term: float) -> Lease:
    """The lease; one whose end can't be believed lasts as long as its holder's heartbeat. Raises `DamagedError`."""
    name(lease.job, "job")
    name(lease.run_id, "run_id")
    text(lease.instance, "instance")
    whole(lease.token, "token", most=MAX_TOKEN)
    whole(lease.attempt, "attempt")
    tick(lease.after, "after")
    text(lease.schedule, "schedule")
    text(lease.timezone, "timezone")
    if lease.tick is not None:
        tick(lease.tick, "tick")
    if lease.missed is not None:
        one_of(lease.missed, _REASONS, "missed")
        if lease.tick is None:
            raise DamagedError("tick is missing")
    if not is_number(lease.expires) or not 0 <= lease.expires <= now + MAX_TERM:
        return lease._replace(expires=now + term)
    return lease


def sound_last_handled(last_handled: object) -> int:
    """The newest handled tick, or what stands for one that can't be read."""
    return last_handled if type(last_handled) is int and 0 <= last_handled <= UNREADABLE_TICK else UNREADABLE_TICK


def credible_last_handled(last_handled: object, now: float) -> int | None:
    """A mark that the rule would not put back; else None."""
    found = sound_last_handled(last_handled)
    return found if found <= now + MAX_HANDLED_AHEAD else None


def sound_token(token: object) -> int:
    """The token that was given out last; 0, from which on they follow the clock, for what can't be one."""
    return token if type(token) is int and 0 <= token <= MAX_TOKEN else 0


def sound_pause(since: object, actor: object, note: object) -> Pause:
    """A pause, which holds whatever of it can be read."""
    try:
        begun = instant(since, "since")
    except DamagedError:
        begun = 0.0
    return Pause(begun, *(said if isinstance(said, str) else None for said in (actor, note)))


def sound_known(known: KnownJob) -> KnownJob:
    """What is on record of a job. Raises `DamagedError`."""
    for field in ("job", "schedule", "timezone", "function"):
        text(getattr(known, field), field)
    since = known.since if is_number(known.since) and 0 <= known.since <= UNREADABLE_TICK else 0.0
    return known._replace(last_handled=sound_last_handled(known.last_handled), since=since)


def sound_instance(found: LiveInstance, now: float) -> LiveInstance:
    """An instance; one whose heartbeat can't be believed has left it just now. Raises `DamagedError`."""
    about, heartbeat = found.instance, found.heartbeat_ts
    owner = text(about.owner, "owner")
    judged = isinstance(about.host, str) and isinstance(about.boot, str) and isinstance(about.pid_started, str)
    place = (about.host, about.boot, about.pid, about.pid_started)
    if not judged or type(about.pid) is not int:
        place = ("", "", 0, "")
    instance = Instance(
        about.id if isinstance(about.id, str) else name_of(owner),
        owner,
        *place,
        about.started_ts if _is_instant(about.started_ts) else 0.0,
        about.version if isinstance(about.version, str) else "",
    )
    if not is_number(heartbeat) or not 0 <= heartbeat <= now + MAX_HANDLED_AHEAD:
        heartbeat = now
    return LiveInstance(
        instance,
        heartbeat,
        found.running if type(found.running) is int else 0,
        found.jobs if isinstance(found.jobs, str) else "",
    )


def _is_instant(value: object) -> bool:
    try:
        instant(value, "")
    except DamagedError:
        return False
    return True
