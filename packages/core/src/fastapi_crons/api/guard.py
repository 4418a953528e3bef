"""What stands before every route of a management router."""

from __future__ import annotations

from fastapi import HTTPException
from fastapi.exceptions import WebSocketException
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from fastapi_crons.api.access import Access
from fastapi_crons.api.attempts import Attempts
from fastapi_crons.api.notices import Notices
from fastapi_crons.api.owners import ip_address
from fastapi_crons.management.management import Management
from fastapi_crons.scheduler.crons import Crons

#: Where a request carries whom it asks.
_ASKED = "fastapi_crons.asked"
#: How a websocket is closed by a policy (RFC 6455).
_POLICY = 1008


class Asked:
    """A request to the management API: whom it asks, and what it may."""

    def __init__(self, guard: Guard, crons: Crons, *, details: bool, actor: str | None) -> None:
        self.guard = guard
        self.management = Management(crons)
        self.details = details
        self.actor = actor

    @staticmethod
    def by(connection: HTTPConnection) -> Asked:
        found: Asked = connection.scope[_ASKED]
        return found


class Guard:
    """Lets in whom the access rules of one router let in. A FastAPI dependency, which routes can ask before it is their turn.

    `crons` is the scheduler that is asked; None for that of the app. `guarded` says that the app put dependencies of its own
    in front; `notices` says so.
    """

    def __init__(self, crons: Crons | None, *, guarded: bool, notices: Notices) -> None:
        self._crons = crons
        self._guarded = guarded
        self._notices = notices
        self._attempts = Attempts()

    async def __call__(self, connection: HTTPConnection) -> None:
        asked = connection.scope.get(_ASKED)
        if asked is not None and asked.guard is self:
            return
        crons = self._crons or Crons.of_app(connection.app) or Crons()
        if not crons.running:
            crons.warn_of_unattached()
        server = ip_address((connection.scope.get("server") or ("",))[0] or "")
        if server is not None and not server.is_loopback:
            self._notices.tell_unguarded(crons.config)
        self._notices.tell(crons.config)
        access = Access(crons.config, guarded=self._guarded)
        try:
            details = await access.admit(connection, self._attempts)
        except HTTPException as error:
            # Not every server can answer a websocket with a status.
            if connection.scope["type"] == "http" or "websocket.http.response" in connection.scope.get(
                "extensions", ()
            ):
                raise
            raise WebSocketException(_POLICY, str(error.detail)) from None
        connection.scope[_ASKED] = Asked(self, crons, details=details, actor=access.actor(connection))


class ShownBearer(SecurityBase):
    """Says in the schema that a bearer token is wanted; for websockets, too."""

    model = HTTPBearer()
    scheme_name = "HTTPBearer"

    async def __call__(self, connection: HTTPConnection) -> None:
        """The guard looks at it."""
