"""Whatever a plugin adds to the management API: nothing of it answers to whom ours would not."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import fastapi.routing
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, WebSocket
from fastapi.routing import APIRoute, APIWebSocketRoute
from fastapi.testclient import TestClient
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Match, Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fastapi_crons import Crons, get_cron_router, hookimpl
from tests.conftest import MakeCrons
from tests.integration.api.raw import Api

TOKEN = "a-token-of-more-than-32-characters"
RIGHT = {"authorization": f"Bearer {TOKEN}"}
WRONG = {"authorization": "Bearer another-token-of-more-than-32-characters"}
STRANGER = {"host": "jobs.example.com"}
JSON = {"content-type": "application/json"}


async def raw(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.method} {request.url.path} {dict(request.path_params)}")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("secret " + await websocket.receive_text())
    await websocket.close()


class Endpoint(HTTPEndpoint):
    async def get(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse("an endpoint")


def mounted() -> FastAPI:
    app = FastAPI()
    app.add_api_route("/deep/{what}", lambda what: {"deep": what})
    app.add_api_websocket_route("/ws", echo)
    app.add_route("/where", lambda request: PlainTextResponse(request.scope["root_path"]))
    return app


def nested() -> APIRouter:
    inner = APIRouter()
    inner.add_api_route("/typed", lambda: "typed")
    inner.add_route("/raw", raw)
    inner.add_websocket_route("/ws", echo)
    inner.mount("/mounted", mounted())
    outer = APIRouter()
    outer.include_router(inner, prefix="/inner")
    return outer


class Handles(APIRoute):
    """Answers without what FastAPI made of it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("handled")(scope, receive, send)


class Replaces(APIRoute):
    """Makes its handler by itself."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handled(request: Request) -> Response:
            return PlainTextResponse("replaced")

        return handled


class Surrounds(APIRoute):
    """Puts something around FastAPI's handler, as its documentation shows it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            answer = await handle(request)
            answer.headers["x-surrounded"] = "yes"
            return answer

        return handled


class Talks(APIWebSocketRoute):
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await echo(WebSocket(scope, receive, send))


def of_class(kind: type[APIRoute]) -> APIRouter:
    router = APIRouter(route_class=kind)
    router.add_api_route("/{y}", lambda y: y)
    return router


def _append_like_its_own(router: APIRouter, kind: type[APIRoute] | type[APIWebSocketRoute], path: str) -> None:
    endpoint = echo if issubclass(kind, APIWebSocketRoute) else lambda: "typed"
    router.routes.append(kind(path, endpoint, dependencies=router.dependencies))


KINDS: dict[str, tuple[Callable[[APIRouter], object], str]] = {
    "add_route": (lambda router: router.add_route("/x", raw), "/x"),
    "add_route with a parameter": (lambda router: router.add_route("/x/{y}", raw), "/x/1"),
    "an endpoint class": (lambda router: router.routes.append(Route("/x", Endpoint)), "/x"),
    "a Route": (lambda router: router.routes.append(Route("/x", raw)), "/x"),
    "mount": (lambda router: router.mount("/x", mounted()), "/x/deep/1"),
    "mount with a parameter": (lambda router: router.mount("/x/{y}", mounted()), "/x/1/deep/2"),
    "a Mount of routes": (lambda router: router.routes.append(Mount("/x", routes=[Route("/y", raw)])), "/x/y"),
    "get": (lambda router: router.get("/x")(lambda: "typed"), "/x"),
    "a route that FastAPI's guards were not given to": (
        lambda router: router.routes.append(APIRoute("/x", lambda: "typed")),
        "/x",
    ),
    "a class of routes that handles": (lambda router: _append_like_its_own(router, Handles, "/x"), "/x"),
    "a class of routes that makes its handler": (lambda router: _append_like_its_own(router, Replaces, "/x"), "/x"),
    "a class of routes that handles, in a router that is included": (
        lambda router: router.include_router(of_class(Handles), prefix="/n"),
        "/n/1",
    ),
    "a class of routes that makes its handler, in a router that is included": (
        lambda router: router.include_router(of_class(Replaces), prefix="/n"),
        "/n/1",
    ),
    "a class of routes around FastAPI's, in a router that is included": (
        lambda router: router.include_router(of_class(Surrounds), prefix="/n"),
        "/n/1",
    ),
    "include_router": (lambda router: router.include_router(nested(), prefix="/n"), "/n/inner/typed"),
    "add_route in a router that is included": (
        lambda router: router.include_router(nested(), prefix="/n"),
        "/n/inner/raw",
    ),
}


def client_of(
    make_crons: MakeCrons, add: Callable[[APIRouter], object], *, dependencies: Any = None, **how: Any
) -> TestClient:
    class Plugin:
        @hookimpl
        def routes(self, router: APIRouter, crons: Crons) -> None:
            add(router)

    crons = make_crons(**how)
    crons.plugins.register(Plugin(), "acme")
    app = FastAPI()
    app.include_router(get_cron_router(crons, dependencies=dependencies), prefix="/api")
    return TestClient(app)


@pytest.mark.parametrize(("add", "path"), KINDS.values(), ids=KINDS)
def test_an_endpoint_of_any_kind_wants_the_token(
    make_crons: MakeCrons, add: Callable[[APIRouter], object], path: str
) -> None:
    client = client_of(make_crons, add, api_token=TOKEN)
    for headers in ({}, WRONG):
        assert client.get(f"/api{path}", headers=headers).status_code == 401
        assert client.post(f"/api{path}", headers=headers).status_code in (401, 405)
    answer = client.get(f"/api{path}", headers=RIGHT)
    assert answer.status_code == 200
    assert answer.text


@pytest.mark.parametrize(("add", "path"), KINDS.values(), ids=KINDS)
def test_an_endpoint_of_any_kind_stands_behind_the_apps_dependencies(
    make_crons: MakeCrons, add: Callable[[APIRouter], object], path: str
) -> None:
    def known(x_key: str = Header("")) -> None:
        if x_key != "open":
            raise HTTPException(403, "unknown key")

    client = client_of(make_crons, add, dependencies=[Depends(known)])
    assert client.get(f"/api{path}").status_code == 403
    assert client.get(f"/api{path}", headers={"x-key": "open"}).status_code == 200


def test_without_a_token_changes_are_for_local_clients_only(make_crons: MakeCrons) -> None:
    def add(router: APIRouter) -> None:
        router.add_route("/raw", raw, methods=["GET", "POST"])
        router.mount("/mounted", Route("/mounted/x", raw, methods=["POST"]))

    client = client_of(make_crons, add)
    assert client.post("/api/raw", headers=JSON).status_code == 200
    assert client.get("/api/raw", headers=STRANGER).status_code == 200
    for headers in (STRANGER, {"via": "1.1 x"}, {"sec-fetch-site": "cross-site"}):
        assert client.post("/api/raw", headers=JSON | headers).status_code == 403
        assert client.post("/api/mounted/x", headers=JSON | headers).status_code == 403
    assert client.post("/api/raw", headers={"content-type": "text/plain"}, content="x").status_code == 415


@pytest.mark.parametrize("path", ["/x", "/n/x"])
async def test_who_may_not_is_told_before_a_body_is_read(make_crons: MakeCrons, path: str) -> None:
    class Plugin:
        @hookimpl
        def routes(self, router: APIRouter) -> None:
            inner = APIRouter()
            for one in (router, inner):
                one.post("/x")(takes)
            router.include_router(inner, prefix="/n")

    def takes(body: dict[str, int]) -> dict[str, int]:
        return body

    crons = make_crons(api_token=TOKEN)
    crons.plugins.register(Plugin())
    api = Api(crons)
    chunked = [(b"transfer-encoding", b"chunked"), (b"content-type", b"application/json")]
    refused = await api.ask("POST", f"/api{path}", *chunked, body=[b'{"a": ', b"1}"])
    assert (refused.status, refused.chunks_read) == (401, 0)
    right = (b"authorization", RIGHT["authorization"].encode())
    taken = await api.ask("POST", f"/api{path}", right, *chunked, body=[b'{"a": ', b"1}"])
    assert (taken.status, taken.json()) == (200, {"a": 1})


def test_what_is_mounted_finds_its_place(make_crons: MakeCrons) -> None:
    def add(router: APIRouter) -> None:
        router.mount("/m", mounted())
        router.mount("/p/{y}", Mount("", routes=[Route("/q", raw)]))

    client = client_of(make_crons, add)
    assert client.get("/api/m/deep/a%20b").json() == {"deep": "a b"}
    assert client.get("/api/m/where").text == "/api/m"
    assert client.get("/api/m/nothing").status_code == 404
    assert client.get("/api/p/1/q").text == "GET /api/p/1/q {'y': '1'}"


WEBSOCKETS: dict[str, tuple[Callable[[APIRouter], object], str]] = {
    "websocket": (lambda router: router.websocket("/ws")(echo), "/ws"),
    "websocket_route": (lambda router: router.websocket_route("/ws")(echo), "/ws"),
    "a WebSocketRoute": (lambda router: router.routes.append(WebSocketRoute("/ws", echo)), "/ws"),
    "a class of routes that handles": (lambda router: _append_like_its_own(router, Talks, "/ws"), "/ws"),
    "mounted": (lambda router: router.mount("/m", mounted()), "/m/ws"),
    "nested": (lambda router: router.include_router(nested(), prefix="/n"), "/n/inner/ws"),
    "mounted in what is nested": (
        lambda router: router.include_router(nested(), prefix="/n"),
        "/n/inner/mounted/ws",
    ),
}

if not hasattr(fastapi.routing, "iter_route_contexts"):
    del WEBSOCKETS["mounted in what is nested"]  # earlier versions serve no mounts of included routers


def _talks(client: TestClient, path: str, headers: dict[str, str]) -> bool:
    try:
        with client.websocket_connect(f"/api{path}", headers=headers) as websocket:
            websocket.send_text("x")
            return bool(websocket.receive_text() == "secret x")
    except WebSocketDisconnect:
        return False


@pytest.mark.parametrize(("add", "path"), WEBSOCKETS.values(), ids=WEBSOCKETS)
def test_a_websocket_of_any_kind_works_with_the_token_only(
    make_crons: MakeCrons, add: Callable[[APIRouter], object], path: str
) -> None:
    client = client_of(make_crons, add, api_token=TOKEN)
    assert not _talks(client, path, {})
    assert not _talks(client, path, WRONG)
    assert not _talks(client, path, RIGHT | {"origin": "https://evil.example"})
    assert _talks(client, path, RIGHT)
    assert _talks(client, path, RIGHT | STRANGER)


@pytest.mark.parametrize(("add", "path"), WEBSOCKETS.values(), ids=WEBSOCKETS)
def test_without_a_token_a_websocket_is_for_local_clients_only(
    make_crons: MakeCrons, add: Callable[[APIRouter], object], path: str
) -> None:
    client = client_of(make_crons, add)
    assert _talks(client, path, {})
    for headers in (STRANGER, {"x-forwarded-for": "127.0.0.1"}, {"origin": "https://evil.example"}):
        assert not _talks(client, path, headers)


class Odd(BaseRoute):
    """A kind of route that nobody knows."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return Match.FULL, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("secret")(scope, receive, send)


@pytest.mark.parametrize("route", [Odd(), Host("{x}", app=mounted())], ids=["of its own", "Host"])
def test_what_can_not_be_guarded_is_left_out_and_its_plugin_named(
    make_crons: MakeCrons, route: BaseRoute, caplog: pytest.LogCaptureFixture
) -> None:
    def add(router: APIRouter) -> None:
        router.routes.append(route)
        router.add_route("/raw", raw)

    client = client_of(make_crons, add)
    (said,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "'acme'" in said.getMessage()
    assert type(route).__name__ in said.getMessage()
    assert client.get("/api/deep/1").status_code == 404
    assert client.get("/api/raw").status_code == 200


def test_what_is_added_after_the_hook_is_not_served(make_crons: MakeCrons) -> None:
    kept: list[APIRouter] = []
    inner = nested()

    def add(router: APIRouter) -> None:
        kept.append(router)
        router.include_router(inner, prefix="/n")

    client = client_of(make_crons, add, api_token=TOKEN)
    kept[0].add_route("/late", raw)
    inner.add_route("/late", raw)
    assert client.get("/api/late", headers=RIGHT).status_code == 404
    assert client.get("/api/n/late", headers=RIGHT).status_code == 404
    assert client.get("/api/n/inner/raw", headers=RIGHT).status_code == 200


def test_a_plugin_can_not_take_our_endpoints_away(make_crons: MakeCrons) -> None:
    client = client_of(make_crons, lambda router: router.routes.clear(), api_token=TOKEN)
    assert client.get("/api/crons").status_code == 401


class Checks(Route):
    """Does more than call its endpoint."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("checked")(scope, receive, send)


def test_a_class_of_routes_keeps_what_it_does_and_how_it_is_described(make_crons: MakeCrons) -> None:
    def add(router: APIRouter) -> None:
        router.routes.append(Checks("/checks", raw))
        router.include_router(of_class(Handles), prefix="/handles")
        router.include_router(of_class(Surrounds), prefix="/surrounds")

    client = client_of(make_crons, add, api_token=TOKEN)
    assert client.get("/api/checks", headers=RIGHT).text == "checked"
    assert client.get("/api/handles/1", headers=RIGHT).text == "handled"
    surrounded = client.get("/api/surrounds/1", headers=RIGHT)
    assert (surrounded.json(), surrounded.headers["x-surrounded"]) == ("1", "yes")
    assert client.post("/api/surrounds/1", headers=RIGHT).status_code == 405
    assert {"/api/handles/{y}", "/api/surrounds/{y}"} <= client.get("/openapi.json").json()["paths"].keys()


def test_what_starts_and_stops_with_the_app_does_so_once(make_crons: MakeCrons) -> None:
    happened: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        happened.append("lifespan begins")
        yield
        happened.append("lifespan ends")

    def add(router: APIRouter) -> None:
        router.add_event_handler("startup", lambda: happened.append("starts"))
        router.add_event_handler("shutdown", lambda: happened.append("stops"))
        router.include_router(APIRouter(lifespan=lifespan))

    with client_of(make_crons, add):
        assert sorted(happened) == ["lifespan begins", "starts"]
    assert sorted(happened) == ["lifespan begins", "lifespan ends", "starts", "stops"]


def test_typed_endpoints_of_plugins_are_described(make_crons: MakeCrons) -> None:
    def add(router: APIRouter) -> None:
        router.get("/x")(lambda: "typed")
        router.include_router(nested(), prefix="/n")
        router.add_route("/raw", raw)

    client = client_of(make_crons, add, api_token=TOKEN)
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/x", "/api/n/inner/typed", "/api/crons"} <= paths.keys()
    assert "/api/raw" not in paths
    assert paths["/api/x"]["get"]["security"] == [{"HTTPBearer": []}]
