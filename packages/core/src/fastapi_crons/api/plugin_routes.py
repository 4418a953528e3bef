"""What plugins add to the management router, made so that nothing of it answers without the router's guards.

FastAPI calls dependencies for its own kinds of routes only, so that others become such routes. All are taken as they are
when the hook has run: what a plugin adds later is not served.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, ClassVar, cast

from fastapi import APIRouter, Request, Response, WebSocket
from fastapi.params import Depends
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_crons.api.guard import Guard
from fastapi_crons.api.problems import ManagementRoute

#: Where a request carries what answers it once the guards have let it in.
_PAST = "fastapi_crons.past_the_guards"
#: By what a mounted app may be asked.
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")
_REST = "rest_of_path"


class PluginRoutes:
    """Takes the routes of routers that plugins were given.

    `guard` is what each has to stand behind, `refuse` is told what can't. `make` gives an empty router, and is told whether
    its routes need guards of their own.
    """

    def __init__(self, guard: Depends, make: Callable[[bool], APIRouter], refuse: Callable[[str], None]) -> None:
        self._guard = guard
        self._make = make
        self._refuse = refuse
        self._gate = _gate(make(True))

    def of(self, offered: APIRouter) -> list[BaseRoute]:
        """The guarded routes of a router that was made with the guards."""
        return self._taken(offered, guarded=False)

    def _taken(self, router: APIRouter, *, guarded: bool) -> list[BaseRoute]:
        """The routes of a router; `guarded` says that what is around it guards them."""
        if getattr(router, "_low_priority_routes", ()):
            self._refuse("a frontend")
        return [taken for route in router.routes for taken in self._guarded(route, guarded)]

    def _guarded(self, route: BaseRoute, guarded: bool) -> Iterable[BaseRoute]:
        nested: APIRouter | None = getattr(route, "original_router", None)
        if nested is not None:  # FastAPI keeps included routers as such, or takes their routes one by one
            return self._included(route, nested, guarded)
        if isinstance(route, (APIRoute, APIWebSocketRoute)) and (guarded or self._guard in route.dependencies):
            if isinstance(route, APIRoute):
                return [_asking_first(route, self._guard, self._gate)]
            if type(route).handle is APIWebSocketRoute.handle:
                return [route]
        made = self._make(not guarded)
        # Its `handle`, and not what that calls: a class of its own may do more there.
        if isinstance(route, Mount):
            path, app = f"{route.path}/{{{_REST}:path}}", _mounted(route.handle)
            _add(made, path, app, _METHODS, route.name)
            _add_websocket(made, path, app, None)
        elif isinstance(route, Route):
            _add(made, route.path, route.handle, route.methods or _METHODS, route.name)
        elif isinstance(route, WebSocketRoute):
            _add_websocket(made, route.path, route.handle, route.name)
        else:
            self._refuse(f"a route of the kind {type(route).__name__}")
        return made.routes

    def _included(self, route: BaseRoute, nested: APIRouter, guarded: bool) -> Iterator[BaseRoute]:
        included = cast("Any", route)
        if not guarded and self._guard not in included.include_context.dependencies:
            self._refuse("a router that was not included by include_router")
            return
        taken = self._make(False)
        taken.routes.extend(self._taken(nested, guarded=True))
        yield dataclasses.replace(included, original_router=taken)


def _asking_first(route: APIRoute, guard: Depends, gate: APIRoute) -> APIRoute:
    """The same route, which asks the guard before it reads a body, as ours do; one that handles by itself, at the gate."""
    made = type(route)
    theirs = made.handle is APIRoute.handle and made.get_route_handler is APIRoute.get_route_handler
    ours = made.handle is APIRoute.handle and made.get_route_handler is ManagementRoute.get_route_handler
    if ours:
        return route
    before, found = (_AsksFirst, {"guard": guard.dependency}) if theirs else (_Gated, {"gate": gate})
    # A class, and not an attribute: FastAPI may make routes anew, by their class.
    kind: type[APIRoute] = type(f"Guarded{made.__name__}", (before, made), found)
    guarded = copy.copy(route)
    guarded.__class__ = kind
    return guarded


class _AsksFirst(APIRoute):
    guard: ClassVar[Guard]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            await self.guard(request)
            return await handle(request)

        return handled


class _Gated(APIRoute):
    """A route of a class that may answer without FastAPI's part in it, which is what asks the guards."""

    gate: ClassVar[APIRoute]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_PAST] = super().handle
        await self.gate.app(scope, receive, send)


def _gate(guarded: APIRouter) -> APIRoute:
    """Lets in whom the guards of a router let in, to what the request carries."""

    async def answer(request: Request) -> Response:
        return _Answer(request.scope[_PAST])

    guarded.add_api_route("/", answer)
    (route,) = guarded.routes
    return cast("APIRoute", route)


class _Answer(Response):
    """The answer of an ASGI app."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _add(router: APIRouter, path: str, app: ASGIApp, methods: Iterable[str], name: str | None) -> None:
    async def answer(request: Request) -> Response:
        return _Answer(app)

    router.add_api_route(path, answer, methods=list(methods), name=name or None, include_in_schema=False)


def _add_websocket(router: APIRouter, path: str, app: ASGIApp, name: str | None) -> None:
    async def talk(websocket: WebSocket) -> None:
        await app(websocket.scope, websocket.receive, websocket.send)

    router.add_api_websocket_route(path, talk, name=name)


def _mounted(app: ASGIApp) -> ASGIApp:
    """An app that finds in its scope what it would find where it is mounted."""

    async def under_its_path(scope: Scope, receive: Receive, send: Send) -> None:
        path, root = scope["path"], scope.get("root_path", "")
        parameters = {name: value for name, value in scope["path_params"].items() if name != _REST}
        before = path.removesuffix(f"/{scope['path_params'][_REST]}")
        below = {
            "path_params": parameters,
            "app_root_path": scope.get("app_root_path", root),
            "root_path": before if before.startswith(root) else root + before,
        }
        await app({**scope, **below}, receive, send)

    return under_its_path
