"""The record of a job in a lock store, and the limits of what can be on record.

All instants are Unix seconds by the store's clock; ticks are whole ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi_crons.locking.base import KnownJob, Lease, Pause

#: A claim of a tick further ahead of the store's clock than this (seconds) is refused.
MAX_AHEAD = 1
#: A last handled tick further ahead of the store's clock than this (seconds) was set by a wrong clock, and is reset.
MAX_HANDLED_AHEAD = 3_600
#: How long (seconds) a store that has lost its records waits for what other instances know before it grants their ticks.
QUARANTINE = 3
#: How many instances that registered a definition are remembered.
MAX_REGISTRARS = 32
#: The longest that a lease can last, in seconds. A later end can't have been granted.
MAX_TERM = 366 * 86_400
#: Tokens are about the milliseconds since 1970. A larger one can't have been given out.
MAX_TOKEN = 10**14
#: Stands for a last handled tick that can't be read: like one that lies too far ahead, it is reset.
UNREADABLE_TICK = 2**53 - 1
#: The limits by name. A store that decides in another language gets them handed over, so that they stand in one place.
LIMITS: Mapping[str, int] = {
    "MAX_AHEAD": MAX_AHEAD,
    "MAX_HANDLED_AHEAD": MAX_HANDLED_AHEAD,
    "QUARANTINE": QUARANTINE,
    "MAX_REGISTRARS": MAX_REGISTRARS,
    "MAX_TERM": MAX_TERM,
    "MAX_TOKEN": MAX_TOKEN,
    "UNREADABLE_TICK": UNREADABLE_TICK,
}


@dataclass(slots=True)
class JobRecord:
    """What a lock store keeps of one job."""

    schedule: str
    timezone: str
    function: str
    """`module:qualname` of the function that the job was registered for last."""
    enabled: bool
    registrars: tuple[str, ...]
    """The owners that registered the definition in force."""
    last_handled: int
    """The newest tick that was claimed or missed. Only grows, unless it is reset because a wrong clock set it."""
    since: float
    """When the definition came into force."""
    token: int = 0
    """The fencing token given out last. Only grows."""
    settled_at: float = 0.0
    """Until when a store that has lost its records waits for what other instances know."""
    registered_at: float = 0.0
    """When an instance last registered the job; 0 for unknown."""
    pause: Pause | None = None
    leases: dict[str, Lease] | None = None
    """By run id. Every handled tick is on record in the state store, or one of these answers for it."""
    arguments: str | None = None
    """Stands for the job's arguments, as in its `Definition`; None where no instance has said them yet."""

    def known(self, job: str) -> KnownJob:
        """The record as `LockBackend.known` shows it."""
        return KnownJob(
            job,
            self.schedule,
            self.timezone,
            self.function,
            self.enabled,
            self.last_handled,
            self.since,
            self.pause,
            tuple(self.leases.values()) if self.leases else (),
            self.arguments,
            self.registrars,
            self.token,
        )
