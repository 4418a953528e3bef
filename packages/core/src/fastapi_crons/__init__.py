"""FastAPI Crons: cron jobs for FastAPI apps."""

from typing import TYPE_CHECKING

from fastapi_crons.config import CronConfig
from fastapi_crons.context import JobContext
from fastapi_crons.errors import (
    ConfigurationError,
    CronsError,
    DuplicateJobError,
    JobDefinitionError,
    JobLockedError,
    MissingDistributionError,
    PluginError,
    RunEndedError,
    ScheduleError,
    SkipRun,
    StoreError,
    StoreUnavailableError,
    StoreUnusableError,
    UnknownJobError,
    UnknownRunError,
)
from fastapi_crons.hookspecs import hookimpl
from fastapi_crons.job import CronJob
from fastapi_crons.run import LogLine, MissedTicks, Run, RunError
from fastapi_crons.schedule import CronSchedule, Schedule
from fastapi_crons.scheduler import Crons

if TYPE_CHECKING:
    from fastapi_crons.api import get_cron_router

__all__ = [
    "ConfigurationError",
    "CronConfig",
    "CronJob",
    "CronSchedule",
    "Crons",
    "CronsError",
    "DuplicateJobError",
    "JobDefinitionError",
    "JobContext",
    "JobLockedError",
    "LogLine",
    "MissedTicks",
    "MissingDistributionError",
    "PluginError",
    "Run",
    "RunEndedError",
    "RunError",
    "Schedule",
    "ScheduleError",
    "SkipRun",
    "StoreError",
    "StoreUnavailableError",
    "StoreUnusableError",
    "UnknownJobError",
    "UnknownRunError",
    "get_cron_router",
    "hookimpl",
]


def __getattr__(name: str) -> object:
    if name == "get_cron_router":  # its models are made when they are wanted
        from fastapi_crons.api import get_cron_router

        return get_cron_router
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
