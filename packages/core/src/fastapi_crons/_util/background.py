"""Background: tasks that nobody waits for, owned until they end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from fastapi_crons.clock import Clock, begin_root_task


class Background:
    """Hooks about ticks and about runs of other processes, signals, looks at the stores. Made on the loop it is used on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
        """Run a coroutine that nobody waits for."""
        task = asyncio.create_task(_as_root_task(work))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def drain(self, timeout: float) -> None:
        """Wait for all of them, so many seconds at most."""
        await self._clock.wait(list(self.tasks), timeout)

    def cancel(self) -> None:
        """End them."""
        for task in self.tasks:
            task.cancel()


async def _as_root_task(work: Coroutine[Any, Any, object]) -> None:
    begin_root_task()
    await work
