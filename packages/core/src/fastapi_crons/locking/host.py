"""Surroundings: where this process runs, as far as it bears on how far a lock has to reach."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi_crons._util.life import Finding, Part
from fastapi_crons.clock import Clock, Timer

if TYPE_CHECKING:
    from fastapi_crons.locking.base import Reach

logger = logging.getLogger(__name__)

#: Seconds after the start until sibling workers are counted again.
_COUNT_AGAIN_AFTER = 10.0
_PROC = Path("/proc")
#: Variables by which a platform says that it runs an app on several hosts.
_PLATFORMS = {
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
    "ECS_CONTAINER_METADATA_URI_V4": "Amazon ECS",
    "ECS_CONTAINER_METADATA_URI": "Amazon ECS",
    "FLY_APP_NAME": "Fly.io",
    "K_SERVICE": "Cloud Run",
    "DYNO": "Heroku",
}
#: Servers that start several workers of an app.
_SERVERS = ("uvicorn", "gunicorn", "hypercorn", "granian", "fastapi")


def platform_of_many_hosts() -> str | None:
    """The platform that probably runs this app on several hosts, or None."""
    return next((name for variable, name in _PLATFORMS.items() if os.environ.get(variable)), None)


def sibling_workers() -> int:
    """How many workers of the same ASGI server this process is one of; 1 where that can't be seen."""
    try:
        parent = os.getppid()
        if not any(os.path.basename(word).rstrip(":") in _SERVERS for word in _command(parent).split()):
            return 1
        children = (_PROC / f"{parent}/task/{parent}/children").read_text().split()
        own = _shape(_command(os.getpid()))
        return max(1, sum(_shape(_command(int(child))) == own for child in children))
    except OSError:
        return 1


class Surroundings(Part):
    """Warns where ticks may run several times because the lock does not reach as far as the app."""

    def __init__(self, clock: Clock, reach: Reach) -> None:
        self._clock = clock
        self._reach: Reach = reach
        self._found: list[str] = []
        self._again: Timer | None = None

    async def startup(self) -> None:
        self._look()
        # The other workers of a server may start a little later.
        self._again = self._clock.call_later(_COUNT_AGAIN_AFTER, self._look)

    async def shutdown(self, timeout: float) -> None:
        if self._again is not None:
            self._again.cancel()

    def findings(self) -> Iterator[Finding]:
        yield from map(Finding, self._found)

    def _look(self) -> None:
        found = findings(self._reach)
        for finding in found:
            if finding not in self._found:
                logger.warning("%s", finding)
        self._found = found


def findings(reach: Reach) -> list[str]:
    """What is to be said about a lock that reaches so far, here. One sentence each."""
    found = []
    platform = platform_of_many_hosts()
    if reach != "fleet" and platform is not None:
        found.append(
            f"ticks are shared by one {reach} only, and this is {platform}, where an app may run on several hosts: each would "
            "run every tick (pip install fastapi-crons-redis-lock, and set CRON_REDIS_URL)"
        )
    if reach == "process":
        workers = sibling_workers()
        if workers > 1:
            found.append(
                f"ticks are not shared at all, and this is one of {workers} workers: each runs every tick "
                "(pip install fastapi-crons-sqlite)"
            )
    return found


def _command(pid: int) -> str:
    return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def _shape(command: str) -> str:
    """A command without the numbers that tell the workers of a server apart."""
    return re.sub(r"\d+", "#", command)
