"""The management API: `get_cron_router()`."""

from fastapi_crons.api.router import get_cron_router

__all__ = ["get_cron_router"]
