"""FastAPI Crons: cron jobs for FastAPI apps. What it offers is imported when it is asked for (PEP 562)."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from fastapi_crons._elsewhere import FormerModules, refuse_former

if TYPE_CHECKING:
    from fastapi_crons.api import get_cron_router
    from fastapi_crons.config import CronConfig
    from fastapi_crons.engine.runs.context import JobContext
    from fastapi_crons.errors import (
        BackfillError,
        ConfigurationError,
        CronsError,
        DependencyError,
        DuplicateJobError,
        InvalidArgumentError,
        JobDefinitionError,
        JobLockedError,
        MissingDistributionError,
        MovedNameError,
        NotInForceError,
        NotRunningError,
        PluginError,
        ProcessError,
        RunEndedError,
        ScheduleError,
        SkipRun,
        StoreError,
        StoreUnavailableError,
        StoreUnusableError,
        TickRefusedError,
        UnknownBackfillError,
        UnknownInstanceError,
        UnknownJobError,
        UnknownRunError,
    )
    from fastapi_crons.job import CronJob
    from fastapi_crons.plugins.markers import HookContext, hookimpl
    from fastapi_crons.run import LogLine, MissedTicks, Run, RunError, RunStatus
    from fastapi_crons.schedule.base import Schedule
    from fastapi_crons.schedule.cron import CronSchedule
    from fastapi_crons.scheduler.crons import Crons
    from fastapi_crons.scheduler.groups import JobGroup

__all__ = [
    "BackfillError",
    "ConfigurationError",
    "CronConfig",
    "CronJob",
    "CronSchedule",
    "Crons",
    "CronsError",
    "DependencyError",
    "DuplicateJobError",
    "HookContext",
    "InvalidArgumentError",
    "JobDefinitionError",
    "JobContext",
    "JobGroup",
    "JobLockedError",
    "LogLine",
    "MissedTicks",
    "MissingDistributionError",
    "MovedNameError",
    "NotInForceError",
    "NotRunningError",
    "PluginError",
    "ProcessError",
    "Run",
    "RunEndedError",
    "RunError",
    "RunStatus",
    "Schedule",
    "ScheduleError",
    "SkipRun",
    "StoreError",
    "StoreUnavailableError",
    "StoreUnusableError",
    "TickRefusedError",
    "UnknownBackfillError",
    "UnknownInstanceError",
    "UnknownJobError",
    "UnknownRunError",
    "get_cron_router",
    "hookimpl",
]

#: Where the names come from that are not errors.
_MODULES = {
    "CronConfig": "config",
    "CronJob": "job",
    "CronSchedule": "schedule.cron",
    "Crons": "scheduler.crons",
    "HookContext": "plugins.markers",
    "JobContext": "engine.runs.context",
    "JobGroup": "scheduler.groups",
    "LogLine": "run",
    "MissedTicks": "run",
    "Run": "run",
    "RunError": "run",
    "RunStatus": "run",
    "Schedule": "schedule.base",
    "get_cron_router": "api",
    "hookimpl": "plugins.markers",
}

sys.meta_path.append(FormerModules)


def __getattr__(name: str) -> object:
    if name in __all__:
        value: object = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
        globals()[name] = value
        return value
    refuse_former(f"{__name__}.{name}")
    if not name.startswith("_"):
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
