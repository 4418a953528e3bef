"""HeartbeatWaker: wakes the heartbeat, so that it asks the lock store now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf

from fastapi_crons.clock import Clock

#: How often (seconds), at most, a heartbeat is sent because ticks are claimed too early.
_EARLY_BEATS = 1.0


class HeartbeatWaker:
    """Has the heartbeat ask the store at once. Safe to use from any thread; without effect while there is no heartbeat."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._early_again_at = -inf
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        #: Whether a run waits for a renewal.
        self.renewal_wanted = False

    def beat(self) -> None:
        """Send a heartbeat now, which brings what this instance is to see to."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(self._wake.set)

    def beat_for_early_tick(self) -> None:
        """Send a heartbeat because the store says that a tick is claimed too early; at most once a second."""
        now = self._monotonic()
        if now >= self._early_again_at:
            self._early_again_at = now + _EARLY_BEATS
            self.beat()

    def renew(self) -> None:
        """Ask now which leases are still ours."""
        self.renew_later()
        self.beat()

    def renew_later(self) -> None:
        """Ask with the next heartbeat whose the leases are."""
        self.renewal_wanted = True

    def renewing(self) -> None:
        """The store is being asked whose the leases are."""
        self.renewal_wanted = False

    def listen(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """The heartbeat waits on this loop from now on; with None, on none."""
        self._wake, self._loop = asyncio.Event(), loop

    async def wait(self, clock: Clock, seconds: float) -> bool:
        """Wait so many seconds, or until prompted; whether it was the latter."""
        over = False

        def end() -> None:
            nonlocal over
            over = True
            self._wake.set()

        timer = clock.call_later(seconds, end)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            self._wake.clear()
        return not over
