"""Cancellation: our own cancellations of a run told apart from those of its code, and taken back."""

from __future__ import annotations

import asyncio
import sys

from fastapi_crons.active import ActiveRun


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
