"""The overview: all jobs."""

from __future__ import annotations

from fastapi.responses import HTMLResponse

from fastapi_crons_dashboard.page import Pages, Showing

#: How many jobs are on a page.
PER_PAGE = 50


def add_to(pages: Pages) -> None:
    @pages.get("", "overview")
    async def overview(shown: Showing) -> HTMLResponse:
        jobs = await shown.management.jobs()
        return shown.page("overview.html", live=True, jobs=jobs[:PER_PAGE])
