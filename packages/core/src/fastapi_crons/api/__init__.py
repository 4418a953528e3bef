"""The management API: `get_cron_router()`, and what it opens for plugins with routes of their own."""

from fastapi_crons.api.doors.entry import local_path, login_page, open_route, path_of, refusal_page
from fastapi_crons.api.doors.forms import form
from fastapi_crons.api.doors.routers import get_guarded_router
from fastapi_crons.api.endpoints.parts import Before
from fastapi_crons.api.endpoints.plan_models import PlanModel
from fastapi_crons.api.guard import Asked, asked
from fastapi_crons.api.router import get_cron_router

__all__ = [
    "Asked",
    "Before",
    "PlanModel",
    "asked",
    "form",
    "get_cron_router",
    "get_guarded_router",
    "local_path",
    "login_page",
    "open_route",
    "path_of",
    "refusal_page",
]
