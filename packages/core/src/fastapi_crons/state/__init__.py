"""State stores: the states of jobs, and the history of their runs."""

from typing import Any

from fastapi_crons._elsewhere import class_elsewhere
from fastapi_crons.state.backfills import BackfillRecord
from fastapi_crons.state.base import (
    Event,
    HistoryLimits,
    JobState,
    MissedQuery,
    Record,
    RunQuery,
    Signal,
    StateBackend,
)
from fastapi_crons.state.figures import Figures
from fastapi_crons.state.memory import MemoryStateBackend

__all__ = [
    "BackfillRecord",
    "Event",
    "Figures",
    "HistoryLimits",
    "JobState",
    "MemoryStateBackend",
    "MissedQuery",
    "Record",
    "RunQuery",
    "Signal",
    "StateBackend",
]


def __getattr__(name: str) -> Any:
    return class_elsewhere(__name__, name)
