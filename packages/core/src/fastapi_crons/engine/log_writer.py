"""LogWriter: has runs that log recorded again while they run, so that a crash leaves what they had logged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from fastapi_crons._util.part import Part
from fastapi_crons._util.tasks import Supervisor
from fastapi_crons.clock import Clock

if TYPE_CHECKING:
    from fastapi_crons.engine.runs.recorder import Recorder
    from fastapi_crons.engine.runs.run import ActiveRun

#: How often (seconds) what runs have logged is written.
INTERVAL = 2.0
#: About how many characters are written at a time; the rest waits for the next time. A run's outcome never waits.
MOST_CHARS = 500_000


class LogWriter(Part):
    """One task for all runs of a scheduler. It sleeps, on no clock, while no run has logged anything."""

    def __init__(
        self, clock: Clock, supervisor: Supervisor, recorder: Recorder, active: Callable[[], Collection[ActiveRun]]
    ) -> None:
        self._clock = clock
        self._supervisor = supervisor
        self._recorder = recorder
        self._active = active
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        #: Whether the task is awake, or about to wake.
        self._is_awake = False
        #: By id: in which round a run was written last, and how many records it had then.
        self._written: dict[str, tuple[int, int]] = {}
        self._round = 0

    async def startup(self) -> None:
        self._supervisor.start("log", self._write_forever)

    async def shutdown(self, timeout: float) -> None:
        await self._supervisor.cancel("log", timeout)

    def has_grown(self) -> None:
        """Some run has logged something. Safe to call from any thread."""
        if not self._is_awake:
            self._is_awake = True
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            await self._clock.sleep(INTERVAL)
            self._wake.clear()
            # Before the logs are looked at: what comes from now on wakes this task again.
            self._is_awake = False
            if not self._write():
                self.has_grown()

    def _write(self) -> bool:
        """Have runs recorded whose logs have grown, those first that waited longest; False where some are left."""
        if self._recorder.fault is not None:
            return False  # what waits for the store is enough
        logs = {run: run.log for run in self._active() if run.log is not None and run.outcome is None}
        self._written = {run.id: self._written.get(run.id, (0, 0)) for run in logs}
        self._round += 1
        left = MOST_CHARS
        for run in sorted(logs, key=lambda run: self._written[run.id]):
            log = logs[run]
            if log.total == self._written[run.id][1]:
                continue
            if left <= 0:
                return False
            left -= log.chars
            self._written[run.id] = self._round, log.total
            self._recorder.logged(run.id, run)
        return True
