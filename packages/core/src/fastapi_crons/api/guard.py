"""Guard: admits requests to the routes of one management router."""

from __future__ import annotations

from fastapi import HTTPException
from fastapi.exceptions import WebSocketException
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from fastapi_crons.api.access import Access
from fastapi_crons.api.access_notices import Notices
from fastapi_crons.api.owners import ip_address
from fastapi_crons.api.throttle import Throttle
from fastapi_crons.management.management import Management
from fastapi_crons.scheduler.crons import Crons

#: The key of an admitted request in its ASGI scope.
_ASKED = "fastapi_crons.asked"
#: The code that closes a websocket for a policy violation (RFC 6455).
_POLICY = 1008


class Asked:
    """An admitted request: the scheduler that it asks, and whether it may see details."""

    def __init__(self, guard: Guard, crons: Crons, *, details: bool, actor: str | None) -> None:
        self.guard = guard
        self.management = Management(crons)
        self.details = details
        self.actor = actor

    @staticmethod
    async def by(connection: HTTPConnection) -> Asked:
        """What the guard has put down for this request."""
        found: Asked = connection.scope[_ASKED]
        return found


class Guard:
    """Applies the access rules of one router. A FastAPI dependency, which routes may also call earlier themselves.

    `crons` is the scheduler that requests are for; None for the app's. `guarded` says that the router has dependencies of the
    app's own; `notices` logs who may use the API.
    """

    def __init__(self, crons: Crons | None, *, guarded: bool, notices: Notices) -> None:
        self._crons = crons
        self._guarded = guarded
        self._notices = notices
        self._attempts = Throttle()

    async def __call__(self, connection: HTTPConnection) -> None:
        asked = connection.scope.get(_ASKED)
        if asked is not None and asked.guard is self:
            return
        crons = self._crons or Crons.of_app(connection.app) or Crons()
        if not crons.running:
            crons.warn_of_unattached()
        server = ip_address((connection.scope.get("server") or ("",))[0] or "")
        if server is not None and not server.is_loopback:
            self._notices.warn_of_unguarded(crons.config)
        self._notices.log_guards(crons.config)
        access = Access(crons.config, guarded=self._guarded)
        try:
            details = await access.admit(connection, self._attempts)
        except HTTPException as error:
            # Not every server can answer a websocket with an HTTP status.
            if connection.scope["type"] == "http" or "websocket.http.response" in connection.scope.get(
                "extensions", ()
            ):
                raise
            raise WebSocketException(_POLICY, str(error.detail)) from None
        connection.scope[_ASKED] = Asked(self, crons, details=details, actor=access.actor(connection))


class ShownBearer(SecurityBase):
    """Declares in the schema that a bearer token is required; for websockets, too."""

    model = HTTPBearer()
    scheme_name = "HTTPBearer"

    async def __call__(self, connection: HTTPConnection) -> None:
        """The guard checks the token."""
