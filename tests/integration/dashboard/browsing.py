"""Asks for pages as a browser does that runs no script."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import Depends, FastAPI, HTTPException
from httpx2 import ASGITransport, AsyncClient, Response

from fastapi_crons import Crons, get_cron_router
from tests.integration.api.client import STRANGER
from tests.integration.dashboard.page import Page

_BASE = "http://localhost:8000"
_DASHBOARD = "/api/dashboard"


def path(job: str, *rest: str) -> str:
    """The path of a job's page, or of something of it."""
    return "/".join(["/jobs", *(quote(part, safe="") for part in (job, *rest))])


def _no_changes() -> None:
    raise HTTPException(403, "only operators may change things")


class Dashboard:
    """The dashboard of one scheduler. `stranger`: from another machine; `viewer`: sees all, and may change nothing."""

    def __init__(self, crons: Crons, *, stranger: bool = False, viewer: bool = False) -> None:
        app = FastAPI()
        options: dict[str, Any] = {"change_dependencies": [Depends(_no_changes)]} if viewer else {}
        app.include_router(get_cron_router(crons, **options), prefix="/api")
        headers = STRANGER if stranger else {}
        self._client = AsyncClient(transport=ASGITransport(app), base_url=_BASE, headers=headers)

    async def __aenter__(self) -> Dashboard:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, where: str, status: int = 200) -> Page:
        """A page, by its path below the dashboard's or by a link of a page."""
        return Page(await self.ask("GET", where), status)

    async def post(self, where: str, **fields: Any) -> Response:
        """What is answered to a form."""
        return await self.ask("POST", where, data=fields, headers={"sec-fetch-site": "same-origin"})

    async def send(self, where: str, **fields: Any) -> Page:
        """The page that a form leads to."""
        answer = await self.post(where, **fields)
        assert answer.status_code == 303, answer.text
        return await self.get(answer.headers["location"])

    async def ask(self, method: str, where: str, **options: Any) -> Response:
        if not where.startswith(_DASHBOARD):
            where = f"{_DASHBOARD}{where}"
        return await self._client.request(method, where, follow_redirects=False, **options)
