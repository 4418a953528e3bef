"""Signing in with the token, and out again."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import ImmutableMultiDict

from fastapi_crons.api import Asked, asked, form, local_path, login_page, open_route
from fastapi_crons_dashboard.serving.links import Links
from fastapi_crons_dashboard.serving.page import Pages
from fastapi_crons_dashboard.serving.rendering import render

_LONGEST_NAME = 100

Asking = Annotated[Asked, Depends(asked)]


def add_to(pages: Pages) -> None:
    @pages.get("/login", "login")
    @login_page
    async def login(request: Request, asked: Asking, next: Annotated[str, Query(max_length=4_000)] = "") -> Response:
        links = Links(request)
        # A browser sends no session with a link from another site, and does with the one that leads on from here.
        if not asked.token_wanted or await asked.signed_in():
            return RedirectResponse(local_path(next, links.to("overview")), 303)
        return _page(links, next)

    @pages.post("/login", "log_in")
    @open_route
    async def log_in(
        request: Request, asked: Asking, fields: Annotated[ImmutableMultiDict[str, str], Depends(form)]
    ) -> Response:
        links, following = Links(request), fields.get("next", "")
        name = fields.get("name", "").strip()[:_LONGEST_NAME]
        answer = RedirectResponse(local_path(following, links.to("overview")), 303)
        if await asked.sign_in(fields.get("token", "").strip(), answer, name or None):
            return answer
        return _page(links, following, name, wrong=True)

    @pages.post("/logout", "logout")
    async def logout(request: Request, asked: Asking) -> Response:
        answer = RedirectResponse(Links(request).to("login"), 303)
        asked.sign_out(answer)
        return answer


def _page(links: Links, following: str, name: str = "", *, wrong: bool = False) -> HTMLResponse:
    values = {"links": links, "live": None, "next": following, "name": name, "wrong": wrong, "longest": _LONGEST_NAME}
    return HTMLResponse(render("login.html", values), 401 if wrong else 200)
