"""A page: how it is asked for, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from fastapi_crons.api import Asked, asked
from fastapi_crons.clock import UTC
from fastapi_crons.errors import CronsError, UnknownJobError, UnknownRunError
from fastapi_crons_dashboard.links import Links
from fastapi_crons_dashboard.rendering import render

#: Nothing but our own files, no script or style within a page, and no page of others around ours.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_NOT_FOUND = (UnknownJobError, UnknownRunError)

EndpointT = TypeVar("EndpointT", bound=Callable[..., object])


class Shown:
    """A request for a page: who asks, and what all pages show."""

    def __init__(self, request: Request, asked: Asked, why_read_only: str | None) -> None:
        self.request = request
        self.asked = asked
        self.management = asked.management
        self.links = Links(request)
        self.why_read_only = why_read_only
        """Why this client may only look; None for one that may change things."""
        self.now = datetime.fromtimestamp(self.management.crons.clock.now(), UTC)

    @classmethod
    async def by(cls, request: Request, asked: Annotated[Asked, Depends(asked)]) -> Shown:
        return cls(request, asked, await asked.why_read_only())

    def page(self, template: str, /, status: int = 200, **values: object) -> HTMLResponse:
        """The page that a template makes of these values."""
        return HTMLResponse(render(template, {"shown": self, "links": self.links, "now": self.now, **values}), status)


Showing = Annotated[Shown, Depends(Shown.by)]


class PageRoute(APIRoute):
    """Says on a page what can't be shown, and why."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                response = await handle(request)
            except HTTPException as error:
                response = _problem(request, error.status_code, str(error.detail), error.headers)
            except RequestValidationError as error:
                response = _problem(
                    request, 422, "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
                )
            except CronsError as error:
                response = _problem(request, 404 if isinstance(error, _NOT_FOUND) else 503, str(error))
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handled


def _problem(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    values = {"links": Links(request), "title": HTTPStatus(status).phrase, "detail": detail}
    return HTMLResponse(render("problem.html", values), status, headers)


class Pages:
    """The pages of one dashboard, with names of routes that no other dashboard has."""

    def __init__(self, name: str) -> None:
        self.router = APIRouter(route_class=PageRoute)
        self._name = name

    def get(self, path: str, name: str, **options: Any) -> Callable[[EndpointT], EndpointT]:
        return self._route("GET", path, name, options)

    def post(self, path: str, name: str, **options: Any) -> Callable[[EndpointT], EndpointT]:
        return self._route("POST", path, name, options)

    def _route(self, method: str, path: str, name: str, options: dict[str, Any]) -> Callable[[EndpointT], EndpointT]:
        def decorated(endpoint: EndpointT) -> EndpointT:
            self.router.add_api_route(
                path,
                endpoint,
                methods=[method],
                name=f"{self._name}:{name}",
                **{"response_class": HTMLResponse, "response_model": None, **options},
            )
            return endpoint

        return decorated
