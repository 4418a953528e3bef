"""Cancellation: our own cancellations of a run told apart from those of its code, and taken back."""

from __future__ import annotations

import asyncio
import sys

from fastapi_crons.clock import Clock, Timer
from fastapi_crons.engine.runs.run import ActiveRun


class TimeLimit:
    """The time limit of one call of a run's function. It begins with the function: what that waits for is no part of it."""

    __slots__ = ("_clock", "_over", "_run", "_seconds", "_timer")

    def __init__(self, clock: Clock, run: ActiveRun, seconds: float) -> None:
        self._clock, self._run, self._seconds = clock, run, seconds
        self._timer: Timer | None = None
        self._over = False

    def begin(self) -> None:
        """The function begins."""
        if not self._over:
            self._timer = self._clock.call_later(self._seconds, lambda: self._run.cut_off("timed_out"))

    def end(self) -> None:
        """The function has ended, or nobody waits for it any more."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()


def is_cancelled(run: ActiveRun) -> bool:
    """Whether somebody cancelled the run's task, as opposed to its code raising CancelledError by itself."""
    if run.cut is not None:
        return True
    if sys.version_info >= (3, 11):
        return run.task is not None and run.task.cancelling() > 0
    return False


def take_back_cuts(run: ActiveRun) -> None:
    """Take back the cancellations of a run that is to go on after all."""
    for _ in range(run.cuts):
        uncancel()
    run.cut, run.cuts = None, 0


def uncancel() -> None:
    """Take back our own cancellation, so that time limits inside the function count rightly."""
    if sys.version_info >= (3, 11):
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
