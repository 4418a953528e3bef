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
from fastapi_crons_dashboard.words import said

_LONGEST_NAME = 100
#: Says that the login page is asked for by itself, once.
_AGAIN = "again"

Asking = Annotated[Asked, Depends(asked)]


def add_to(pages: Pages) -> None:
    @pages.get("/login", "login")
    @login_page
    async def login(
        request: Request, asked: Asking, next: Annotated[str, Query(max_length=4_000)] = "", undone: str = ""
    ) -> Response:
        links, next = Links(request), said.left_out(next)
        if not asked.token_wanted or await asked.signed_in():
            return RedirectResponse(local_path(next, links.to("overview")), 303)
        # A browser sends no session with a link from another site, and does with the one that leads on from here.
        if not (_AGAIN in request.query_params or _sends_sessions(request)):
            onward = links.to("login", {"next": next, "undone": undone, _AGAIN: 1})
            return HTMLResponse(render("parts/onward.html", {"to": onward}))
        return _page(links, next, undone=bool(undone))

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
    @open_route  # whose session has ended by itself is not asked to begin one
    async def logout(request: Request, asked: Asking) -> Response:
        answer = RedirectResponse(Links(request).to("login"), 303)
        asked.sign_out(answer)
        return answer


def _sends_sessions(request: Request) -> bool:
    """Whether a browser has sent the session that it may have: it does where no page of another site leads here."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    # Over plain HTTP, browsers only say which page leads here, and scripts of ours that they ask.
    host = request.headers.get("referer", "").partition("://")[2].partition("/")[0]
    return "hx-request" in request.headers or host == request.headers.get("host")


def _page(links: Links, following: str, name: str = "", *, wrong: bool = False, undone: bool = False) -> HTMLResponse:
    """The form. `undone`: whether another form was sent, which was not looked at."""
    values = {
        "links": links,
        "live": False,
        "next": following,
        "name": name,
        "longest": _LONGEST_NAME,
        "wrong": wrong,
        "undone": undone,
    }
    return HTMLResponse(render("login.html", values), 401 if wrong else 200)
