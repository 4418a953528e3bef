"""ChangeGuards: the dependencies with which an app says who may make changes."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.routing import APIRoute, APIWebSocketRoute
from fastapi.security.base import SecurityBase
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import Message
from starlette.websockets import WebSocket

from fastapi_crons._util.hiding import without_secrets
from fastapi_crons._util.text import printable, safe_text
from fastapi_crons.api.access_notices import parts_of
from fastapi_crons.api.problems import what_is_wrong
from fastapi_crons.errors import ConfigurationError

_REASON_CHARS = 300
#: Where Starlette puts the app's own answers to exceptions, in the scope of a request.
_HANDLERS = "starlette.exception_handlers"


class ChangeGuards:
    """Calls `changes` after `guards`, on which they may rely, by a route that nobody is served.

    That is how FastAPI resolves them before a body is read, and for requests that change nothing.
    """

    def __init__(self, guards: Sequence[Depends], changes: Sequence[Depends]) -> None:
        self._dependencies = [*guards, *changes] if changes else []
        #: What declares in the schema which security schemes guard changes.
        self.shown: list[Depends] = []
        for dependant in APIRoute("/", _nothing, dependencies=changes).dependant.dependencies:
            for part in parts_of(dependant):
                if isinstance(part.call, SecurityBase):
                    self.shown.append(Depends(Shown(part.call)))
        if APIRoute("/", _nothing, dependencies=self._dependencies).body_field is not None:
            raise ConfigurationError(
                "with change_dependencies, no dependency may have a parameter of the request's body: changes are refused "
                "before their body is read; take a header, a cookie or the HTTPConnection instead"
            )

    async def check(self, connection: HTTPConnection) -> None:
        """Raises what a dependency raises for a client that may not make changes."""
        if not self._dependencies:
            return
        connection.scope.setdefault("state", {})  # what they put there is kept for the endpoint
        scope = {key: value for key, value in connection.scope.items() if key != _HANDLERS}
        # They may ask for the parameters of the path, and the app may have put others in their place.
        path, app = "".join(f"/{{{name}}}" for name in connection.path_params) or "/", scope.get("app")
        route: APIRoute | APIWebSocketRoute
        if scope["type"] == "websocket":
            route = APIWebSocketRoute(path, _silent, dependencies=self._dependencies, dependency_overrides_provider=app)
        else:
            route = APIRoute(path, _nothing, dependencies=self._dependencies, dependency_overrides_provider=app)
        await route.app(scope, _no_body, _unsent)

    async def why_not(self, connection: HTTPConnection) -> str | None:
        """Why a client may not make changes, in words; None where it may."""
        try:
            await self.check(connection)
        except HTTPException as error:
            return safe_text(printable(without_secrets(str(error.detail))), _REASON_CHARS)
        except RequestValidationError as error:
            return what_is_wrong(error)
        except Exception as error:
            # An exception that the app answers by itself is a refusal; any other is a fault.
            answered = connection.scope.get(_HANDLERS, ({}, {}))[0]
            if not any(kind in answered for kind in type(error).__mro__):
                raise
            return "the app does not let this client make changes"
        return None


class Shown(SecurityBase):
    """Declares in the schema that a security scheme guards a route; for websockets, too. The guard asks it."""

    def __init__(self, scheme: SecurityBase) -> None:
        self.model = scheme.model
        self.scheme_name = scheme.scheme_name

    async def __call__(self, connection: HTTPConnection) -> None:
        """Admits every request."""


def _nothing() -> None:
    """Stands for an endpoint."""


async def _silent(websocket: WebSocket) -> None:
    """Stands for the endpoint of a websocket."""


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _unsent(message: Message) -> None:
    """Nothing is sent to the client."""
