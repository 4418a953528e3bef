"""What the HTTP API, the command line and the pages of plugins ask of a scheduler, and what they get."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi_crons._util.hiding import HIDDEN, announces_secret
    from fastapi_crons.engine.drain import RunLeft
    from fastapi_crons.engine.events import Published
    from fastapi_crons.engine.log_feed import LogEvent, Logged, Lost
    from fastapi_crons.functions.arguments import arguments_text
    from fastapi_crons.management.around import tick_up_to, ticks_after, ticks_around
    from fastapi_crons.management.drains import DrainView
    from fastapi_crons.management.fates.explain import TickFate
    from fastapi_crons.management.fates.fates import TickMark
    from fastapi_crons.management.management import Management
    from fastapi_crons.management.plan.clock_changes import effects_of_changes
    from fastapi_crons.management.plan.collisions import Limited
    from fastapi_crons.management.plan.plan import MAX_HOURS, Plan
    from fastapi_crons.management.plan.planned import PlannedJob
    from fastapi_crons.management.plan.ticks import Patience
    from fastapi_crons.management.settings import Setting, settings_of
    from fastapi_crons.management.stats import JobStats, Stats
    from fastapi_crons.management.views import JobView, SchedulerView

__all__ = [
    "HIDDEN",
    "MAX_HOURS",
    "DrainView",
    "JobStats",
    "JobView",
    "Limited",
    "LogEvent",
    "Logged",
    "Lost",
    "Management",
    "Patience",
    "Plan",
    "PlannedJob",
    "Published",
    "RunLeft",
    "SchedulerView",
    "Setting",
    "Stats",
    "TickFate",
    "TickMark",
    "announces_secret",
    "arguments_text",
    "effects_of_changes",
    "settings_of",
    "tick_up_to",
    "ticks_after",
    "ticks_around",
]

#: Imported when asked for: who needs one of the modules in this package does not need all of them.
_LATER = {
    "HIDDEN": "_util.hiding",
    "announces_secret": "_util.hiding",
    "arguments_text": "functions.arguments",
    "DrainView": "management.drains",
    "JobStats": "management.stats",
    "JobView": "management.views",
    "Limited": "management.plan.collisions",
    "LogEvent": "engine.log_feed",
    "Logged": "engine.log_feed",
    "Lost": "engine.log_feed",
    "MAX_HOURS": "management.plan.plan",
    "Management": "management.management",
    "Patience": "management.plan.ticks",
    "Plan": "management.plan.plan",
    "PlannedJob": "management.plan.planned",
    "Published": "engine.events",
    "RunLeft": "engine.drain",
    "SchedulerView": "management.views",
    "Setting": "management.settings",
    "Stats": "management.stats",
    "TickFate": "management.fates.explain",
    "TickMark": "management.fates.fates",
    "effects_of_changes": "management.plan.clock_changes",
    "settings_of": "management.settings",
    "tick_up_to": "management.around",
    "ticks_after": "management.around",
    "ticks_around": "management.around",
}


def __getattr__(name: str) -> object:
    if name in _LATER:
        return getattr(import_module(f"fastapi_crons.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
