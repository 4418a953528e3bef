"""A plugin with pages, as a dashboard has them: a login page, a file for all, pages, and forms that change things."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.datastructures import ImmutableMultiDict
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from fastapi_crons import CronConfig, Crons, get_cron_router, hookimpl
from fastapi_crons.api import Asked, asked, form, local_path, login_page, open_route, path_of
from fastapi_crons.clock import Clock
from fastapi_crons.state import MemoryStateBackend
from tests.support import nothing

TOKEN = "a-token-of-more-than-32-characters"
PAGE = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HERE = {"sec-fetch-site": "same-origin"}
ELSEWHERE = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}

Asking = Annotated[Asked, Depends(asked)]
Fields = Annotated[ImmutableMultiDict[str, str], Depends(form)]
_numbers = count()


class Site:
    @hookimpl
    def routes(self, router: APIRouter) -> None:
        number = next(_numbers)
        login = f"login {number}"

        @router.api_route("/site/login", methods=["GET", "HEAD"], name=login)
        @login_page
        async def show_login(asked: Asking) -> Response:
            return HTMLResponse(f"signed in: {await asked.signed_in()}, wanted: {asked.token_wanted}")

        @router.post("/site/login")
        @open_route
        async def log_in(request: Request, asked: Asking, fields: Fields) -> Response:
            home = path_of(request, f"page {number}", name="a/b ü")
            answer = RedirectResponse(local_path(fields.get("next"), home), 303)
            right = await asked.sign_in(fields.get("token", ""), answer, fields.get("name"))
            return answer if right else PlainTextResponse("wrong", 401)

        @router.post("/site/logout")
        async def log_out(asked: Asking) -> Response:
            answer = PlainTextResponse("bye")
            asked.sign_out(answer)
            return answer

        @router.get("/site/style.css")
        @open_route
        async def style(asked: Asking) -> Response:
            return PlainTextResponse(f"details: {asked.details}, {await asked.why_read_only()}")

        @router.api_route("/site/page/{name:path}", methods=["GET", "HEAD"], name=f"page {number}")
        async def page(asked: Asking, name: str) -> dict[str, Any]:
            return {"name": name, "actor": asked.actor, "in": await asked.signed_in(), "details": asked.details}

        @router.post("/site/change")
        async def change(asked: Asking, fields: Fields) -> dict[str, Any]:
            return {"actor": asked.actor, "fields": fields.multi_items()}

        router.routes.append(Route("/site/raw", raw))
        router.mount("/site/mounted", Starlette(routes=[Route("/page", raw)]))

        inner = APIRouter()
        inner.get("/page")(page_in_router)
        router.include_router(inner, prefix="/site/inner")


class OwnRoute(APIRoute):
    """Answers by a method of its own, as for pages that say what went wrong."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            response = await handle(request)
            response.headers["x-own"] = "yes"
            return response

        return handled


class NestedSite:
    """The same in a router that is included, with a class of routes of its own."""

    @hookimpl
    def routes(self, router: APIRouter) -> None:
        offered = APIRouter(route_class=OwnRoute)
        Site().routes(offered)
        router.include_router(offered, prefix="/nested")


async def raw(request: Request) -> Response:
    return PlainTextResponse(str((await asked(request)).actor))


async def page_in_router(asked: Asking) -> str:
    return "inner"


Serve = Callable[..., TestClient]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a scheduler with the plugin, to a browser far away."""
    with ExitStack() as served:

        def make(
            prefix: str = "/api",
            *,
            base: str = "https://jobs.example.com",
            site: object = None,
            clock: Clock | None = None,
            **options: Any,
        ) -> TestClient:
            settings = {"api_token": TOKEN, **options}
            guards = {name: settings.pop(name) for name in ("dependencies", "change_dependencies") if name in settings}
            app = FastAPI()
            crons = Crons(app, state_backend=MemoryStateBackend(), config=CronConfig(**settings), clock=clock)
            crons.cron("0 0 1 1 *", name="job")(nothing)
            crons.plugins.register(site or Site())
            app.include_router(get_cron_router(**guards), prefix=prefix)
            client = TestClient(app, base_url=base, follow_redirects=False, client=("10.0.0.7", 50_000))
            served.enter_context(client)
            return client

        yield make


def sign_in(client: TestClient, token: str = TOKEN, path: str = "/api/site/login", **fields: str) -> Any:
    """The answer to the form of the login page."""
    return client.post(path, data={"token": token, **fields}, headers=HERE)
