"""PluginRoutes: puts the routes that plugins add to the management router behind its guards.

FastAPI calls dependencies only for its own kinds of routes, so other kinds are wrapped into those. The routes are taken right
after the hook: what a plugin adds later is not served.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, cast

from fastapi import APIRouter, Request, Response, WebSocket
from fastapi.params import Depends
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_crons.api.doors.entry import OF_PLUGINS, Entry, Login, is_login_page, is_open, refusals_of
from fastapi_crons.api.guard import Guard
from fastapi_crons.api.problems import ManagementRoute

#: The key of the app that answers an admitted request, in the request's ASGI scope.
_PAST = "fastapi_crons.past_the_guards"
#: The methods of a mounted app.
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")
_REST = "rest_of_path"


class PluginRoutes:
    """`guard` has to admit each request to these routes; `refuse` is called with what can't be guarded.

    `make` makes an empty router; its arguments say whether the router needs the guards, and how its routes are entered.
    """

    def __init__(self, guard: Depends, make: Callable[[bool, Entry], APIRouter], refuse: Callable[[str], None]) -> None:
        self._guard = guard
        self._make = make
        self._refuse = refuse
        self._gates: dict[Entry, APIRoute] = {}

    def of(self, offered: APIRouter) -> list[BaseRoute]:
        """The guarded routes of a router that was made with the guards."""
        name = next(_login_pages(offered), None)
        login = None if name is None else Login(name, str(offered.url_path_for(name)))
        return self._taken(offered, login, guarded=False)

    def _taken(self, router: APIRouter, login: Login | None, *, guarded: bool) -> list[BaseRoute]:
        """The routes of a router; `guarded` says that a router around it guards them."""
        if getattr(router, "_low_priority_routes", ()):
            self._refuse("a frontend")
        return [taken for route in router.routes for taken in self._guarded(route, login, guarded)]

    def _guarded(self, route: BaseRoute, login: Login | None, guarded: bool) -> Iterable[BaseRoute]:
        nested: APIRouter | None = getattr(route, "original_router", None)
        if nested is not None:  # some versions of FastAPI keep an included router, others copy its routes
            return self._included(route, nested, login, guarded)
        if isinstance(route, (APIRoute, APIWebSocketRoute)) and (guarded or self._guard in route.dependencies):
            if isinstance(route, APIRoute):
                return [self._asking_first(route, login)]
            if type(route).handle is APIWebSocketRoute.handle:
                return [route]
        made = self._make(not guarded, replace(OF_PLUGINS, login=login))
        # Call `handle`, not what `handle` calls: a subclass may do more in it.
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

    def _included(self, route: BaseRoute, nested: APIRouter, login: Login | None, guarded: bool) -> Iterator[BaseRoute]:
        included = cast("Any", route)
        if not guarded and self._guard not in included.include_context.dependencies:
            self._refuse("a router that was not included by include_router")
            return
        taken = self._make(False, OF_PLUGINS)
        taken.routes.extend(self._taken(nested, login, guarded=True))
        yield replace(included, original_router=taken)

    def _asking_first(self, route: APIRoute, login: Login | None) -> APIRoute:
        """The same route, but it calls the guard before it reads a body.

        A route that answers by a method of its own goes through a gate, and so does one that could not show a refusal.
        """
        made = type(route)
        entry = Entry(forms=True, open=is_open(route.endpoint), login=login, refusals=refusals_of(route.endpoint))
        theirs = made.handle is APIRoute.handle and made.get_route_handler is APIRoute.get_route_handler
        theirs = theirs and entry.refusals is None
        ours = made.handle is APIRoute.handle and made.get_route_handler is ManagementRoute.get_route_handler
        bases: tuple[type[APIRoute], ...] = (made,) if ours else (_AsksFirst if theirs else _Gated, made)
        found: dict[str, object] = {"guard": self._guard.dependency, "entry": entry}
        if not ours and not theirs:
            if entry not in self._gates:
                self._gates[entry] = _gate(self._make(True, entry))
            found = {"gate": self._gates[entry]}
        # A class with attributes, not an instance with them: FastAPI may make routes anew from their class.
        kind: type[APIRoute] = type(f"Guarded{made.__name__}", bases, found)
        guarded = copy.copy(route)
        guarded.__class__ = kind
        return guarded


def _login_pages(router: APIRouter) -> Iterator[str]:
    """The names of the routes of login pages, also in routers that are included."""
    for route in router.routes:
        nested: APIRouter | None = getattr(route, "original_router", None)
        if nested is not None:
            yield from _login_pages(nested)
        elif isinstance(route, APIRoute) and is_login_page(route.endpoint):
            yield route.name


class _AsksFirst(APIRoute):
    guard: ClassVar[Guard]
    entry: ClassVar[Entry]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            await self.guard.admit(request, self.entry)
            return await handle(request)

        return handled


class _Gated(APIRoute):
    """A route of a class that may answer without FastAPI's handler, which would call the guards."""

    gate: ClassVar[APIRoute]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_PAST] = super().handle
        await self.gate.app(scope, receive, send)


def _gate(guarded: APIRouter) -> APIRoute:
    """A route with the guards of a router, which passes an admitted request to the app in its scope."""

    async def answer(request: Request) -> Response:
        return _Answer(request.scope[_PAST])

    guarded.add_api_route("/", answer)
    (route,) = guarded.routes
    return cast("APIRoute", route)


class _Answer(Response):
    """A response that an ASGI app sends."""

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
    """The app with the scope that it would get where it is mounted."""

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
