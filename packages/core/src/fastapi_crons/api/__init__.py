"""The management API: `get_cron_router()`, and what it opens for plugins with routes of their own."""

from fastapi_crons.api.guard import Asked, asked
from fastapi_crons.api.router import get_cron_router

__all__ = ["Asked", "asked", "get_cron_router"]
