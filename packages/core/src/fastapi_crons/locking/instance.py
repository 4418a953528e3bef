"""Instance: one running scheduler, and whether its process is alive."""

from __future__ import annotations

import os
import platform
import secrets
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

#: In place of the digest of an instance's jobs: it is to claim nothing more; and: it claims nothing more.
DRAIN, DRAINING = "drain", "draining"

_PROC = Path("/proc")
#: The owners that are alive in this process.
_OWNERS: set[str] = set()


@dataclass(frozen=True, slots=True)
class Instance:
    """One running scheduler, as the lock store knows it. `started_ts` in Unix seconds (UTC)."""

    id: str
    """Its name, as people see it. One that was set by hand is used again after a restart."""
    owner: str
    """Identifies it in the lock store from its start to its stop: the name and something random."""
    host: str
    boot: str
    """Identifies the boot and the pid namespace of its host; empty where the system does not say."""
    pid: int
    pid_started: str
    """When the process began, in the system's own unit: a later process with the same pid has another value."""
    started_ts: float
    version: str = ""
    """The version of fastapi-crons-core that it runs."""

    @classmethod
    def of_this_process(cls, instance_id: str | None = None) -> Instance:
        """A new instance in this process, under the name that was made up for the process unless one is given.

        A second scheduler in this process gets the made-up name with a number.
        """
        from fastapi_crons.config import made_up_id  # costs more than all the rest

        host, pid = platform.node() or "localhost", os.getpid()
        name = instance_id or _untaken(made_up_id())
        return cls(
            id=name,
            owner=f"{name}~{secrets.token_hex(6)}",
            host=host,
            boot=_boot(),
            pid=pid,
            pid_started=_pid_started(pid) or "",
            started_ts=time.time(),
            version=version("fastapi-crons-core"),
        )

    def lives_here(self, *, alive: bool) -> None:
        """Note that this instance is alive in this process, or is no more."""
        (_OWNERS.add if alive else _OWNERS.discard)(self.owner)

    def process_alive(self, here: Instance) -> bool | None:
        """Whether this instance's process is alive, as `here` sees it; None where `here` can't know.

        A process can be seen only from the same boot and pid namespace. From elsewhere the heartbeat decides.
        """
        if not self.boot or (self.host, self.boot) != (here.host, here.boot):
            return None
        if (self.pid, self.pid_started) == (here.pid, here.pid_started):
            return self.owner in _OWNERS
        return _pid_started(self.pid) == self.pid_started


class LiveInstance(NamedTuple):
    """An instance that is alive, as its last heartbeat described it."""

    instance: Instance
    heartbeat_ts: float
    """When that was, in Unix seconds by the store's clock."""
    running: int = 0
    """How many runs it had running."""
    jobs: str = ""
    """A digest of the jobs that it runs: instances with the same one share their ticks. Empty for one that runs none, `DRAIN`
    and `DRAINING` for one that is to drain, and one that does."""

    @property
    def runs_ticks(self) -> bool:
        """Whether it claims ticks."""
        return self.jobs not in ("", DRAIN, DRAINING)

    @property
    def is_to_drain(self) -> bool:
        """Whether it was asked to drain and has not heard of it yet."""
        return self.jobs == DRAIN

    @property
    def is_draining(self) -> bool:
        """Whether it claims nothing more until its process ends."""
        return self.jobs == DRAINING

    def after_beat(self, jobs: str) -> str:
        """What `jobs` is after a heartbeat that says this: a request to drain stays until the instance has heard of it."""
        return DRAIN if self.jobs == DRAIN and jobs != DRAINING else jobs


class LeaseTerms(NamedTuple):
    """How long a lease lasts, and how long an instance is taken for alive after a heartbeat, in seconds."""

    lease: float
    instance: float


def _untaken(name: str) -> str:
    taken = {name_of(owner) for owner in _OWNERS}
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(untaken for untaken in names if untaken not in taken)


def name_of(owner: str) -> str:
    """The name of the instance with this owner."""
    return owner.rpartition("~")[0] or owner


def _boot() -> str:
    if not sys.platform.startswith("linux"):
        return ""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _pid_started(pid: int) -> str | None:
    """The start time of a living process in clock ticks since boot; None when there is no such process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field is the command in parentheses and may itself hold blanks and parentheses.
    fields = stat.rpartition(")")[2].split()
    state, started = fields[0], fields[19]
    return None if state in ("Z", "X") else started
