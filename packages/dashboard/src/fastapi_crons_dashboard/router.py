"""The routes of the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.params import Depends
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from fastapi_crons import Crons
from fastapi_crons.api import get_guarded_router
from fastapi_crons_dashboard.pages import instances, job, login, overview, plan, run, runs, timeline, why
from fastapi_crons_dashboard.pages.actions import add_actions
from fastapi_crons_dashboard.serving.assets import add_assets
from fastapi_crons_dashboard.serving.links import Links
from fastapi_crons_dashboard.serving.live import add_live
from fastapi_crons_dashboard.serving.page import Pages

#: Numbers the dashboards of this process: each has names of routes of its own, as an app may have several.
_numbers = count(1)

_PAGES = (overview, timeline, runs, job, run, why, plan, instances, login)


def add_pages(router: APIRouter, *, prefix: str = "") -> None:
    """Add the pages of the dashboard to a guarded router."""
    pages = Pages(f"fastapi-crons-dashboard-{next(_numbers)}", router, prefix)
    for page in _PAGES:
        page.add_to(pages)
    add_actions(pages)
    add_assets(pages)
    add_live(pages)

    @pages.get("/{rest:path}", "unknown")
    async def unknown(request: Request, rest: str) -> Response:
        known = rest.rstrip("/")
        known = "" if known == "jobs" else known
        if known != rest or not rest:  # a slash too many, or the address of a job without its name
            to = f"{Links(request).to('overview')}/{quote(known)}".rstrip("/")
            return RedirectResponse(f"{to}?{request.url.query}".rstrip("?"), 303)
        raise HTTPException(404, f"there is no page {rest!r}")


def get_dashboard_router(
    crons: Crons | None = None,
    *,
    dependencies: Sequence[Depends] | None = None,
    change_dependencies: Sequence[Depends] | None = None,
) -> APIRouter:
    """The dashboard, to include in an app under any prefix: where it should not be below the management API's.

    The parameters are those of `get_cron_router`, and guard the pages as they guard its endpoints. Raises
    `ConfigurationError` as it does.
    """
    return get_guarded_router(add_pages, crons, dependencies=dependencies, change_dependencies=change_dependencies)
