"""Refusals that browsers are shown as pages."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse, Response

from fastapi_crons import hookimpl
from fastapi_crons.api import open_route, refusal_page
from tests.integration.api.doors.site import ELSEWHERE, PAGE, TOKEN, OwnRoute, Serve

HERE = PAGE | {"authorization": f"Bearer {TOKEN}", "sec-fetch-site": "same-origin"}


def page(request: Request, refusal: HTTPException) -> Response:
    text = f"<h1>{request.scope['route'].name}: {refusal.detail}</h1>"
    return HTMLResponse(text, refusal.status_code, refusal.headers)


class Pages:
    """A page and a form in a router whose routes are of a class."""

    def __init__(self, kind: type[APIRoute] | None) -> None:
        self._kind = kind

    @hookimpl
    def routes(self, router: APIRouter) -> None:
        offered = router if self._kind is None else APIRouter(route_class=self._kind)

        @offered.api_route("/page", methods=["GET", "POST"], name="page")
        @refusal_page(page)
        def show() -> str:
            return "shown"

        @offered.post("/open", name="open")
        @open_route
        @refusal_page(page)
        def change() -> str:
            return "changed"

        if offered is not router:
            router.include_router(offered)


KINDS = {"ours": None, "FastAPI's": APIRoute, "its own": OwnRoute}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def refuse() -> None:
    raise HTTPException(403, "not without 'password=hunter2'", {"X-Why": "rules"})


@kinds
def test_a_browser_that_may_not_change_things_gets_the_page(serve: Serve, kind: type[APIRoute] | None) -> None:
    client = serve(site=Pages(kind), change_dependencies=[Depends(refuse)])
    refused = client.post("/api/page", headers=HERE)
    assert (refused.status_code, refused.headers["x-why"]) == (403, "rules")
    assert refused.text.startswith("<h1>page: not without")
    assert "hunter2" not in refused.text
    assert refused.headers["cache-control"] == "no-store"
    assert client.get("/api/page", headers=HERE).json() == "shown"


@kinds
def test_it_is_shown_whatever_refuses_a_browser(serve: Serve, kind: type[APIRoute] | None) -> None:
    client = serve(site=Pages(kind), dependencies=[Depends(refuse)])
    assert client.get("/api/page", headers=HERE).text.startswith("<h1>page: not without")
    client = serve(site=Pages(kind))
    assert client.get("/api/page", headers=PAGE).text.startswith("<h1>page: send the token")
    cross_site = client.post("/api/open", headers=PAGE | ELSEWHERE)
    assert (cross_site.status_code, cross_site.text[:15]) == (403, "<h1>open: reque")


@kinds
def test_others_get_problem_details(serve: Serve, kind: type[APIRoute] | None) -> None:
    client = serve(site=Pages(kind))
    for headers in ({}, {"accept": "*/*"}, {"accept": "text/event-stream"}):
        refused = client.get("/api/page", headers=headers)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
