"""Instance: one running scheduler, and the evidence of whether its process still lives."""

from __future__ import annotations

import os
import platform
import secrets
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_PROC = Path("/proc")
#: The owners that live in this process.
_OWNERS: set[str] = set()


@dataclass(frozen=True, slots=True)
class Instance:
    """One running scheduler, as the lock store knows it. `started_ts` in Unix seconds (UTC)."""

    id: str
    """Its name, as people see it. One that was set by hand serves again after a restart."""
    owner: str
    """Names this one life of it, in the lock store: the name and something that no other life has."""
    host: str
    boot: str
    """Tells one boot, and one pid namespace, of a host from another; empty where the system does not say."""
    pid: int
    pid_started: str
    """When the process began, in the system's own terms; tells a process from a later one with the same pid."""
    started_ts: float
    version: str = ""
    """The version of fastapi-crons-core that it runs."""

    @classmethod
    def of_this_process(cls, instance_id: str | None = None) -> Instance:
        """The instance that this process is, under the name that was made up for the process unless one is given.

        A second scheduler that lives here at the same time has a number behind the made-up name.
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
        """Say that this instance works in this process, or does no more."""
        (_OWNERS.add if alive else _OWNERS.discard)(self.owner)

    def process_alive(self, here: Instance) -> bool | None:
        """Whether this instance's process lives, as `here` can see it; None where `here` can't know.

        A process can be judged only from the same boot and pid namespace. Elsewhere the heartbeat has to tell.
        """
        if not self.boot or (self.host, self.boot) != (here.host, here.boot):
            return None
        if (self.pid, self.pid_started) == (here.pid, here.pid_started):
            return self.owner in _OWNERS
        return _pid_started(self.pid) == self.pid_started


def _untaken(name: str) -> str:
    taken = {name_of(owner) for owner in _OWNERS}
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(untaken for untaken in names if untaken not in taken)


def name_of(owner: str) -> str:
    """The name of the instance that this is a life of."""
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
