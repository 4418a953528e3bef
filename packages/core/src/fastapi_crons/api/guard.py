"""Guard: admits requests to the routes of one management router."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.exceptions import WebSocketException
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from fastapi_crons.api.access import Access, is_change
from fastapi_crons.api.access_notices import Notices
from fastapi_crons.api.doors.changes import ChangeGuards
from fastapi_crons.api.owners import ip_address
from fastapi_crons.api.throttle import Throttle
from fastapi_crons.errors import ConfigurationError
from fastapi_crons.management.management import Management
from fastapi_crons.scheduler.crons import Crons

#: The key of an admitted request in its ASGI scope.
_ASKED = "fastapi_crons.asked"
#: The code that closes a websocket for a policy violation (RFC 6455).
_POLICY = 1008


@dataclass(slots=True, eq=False)
class Asked:
    """An admitted request, for endpoints behind the guards of a management router. Not made by users."""

    management: Management
    """The scheduler that is asked, as our own endpoints ask it."""
    details: bool
    """Whether the client may see results, error texts, notes and log lines."""
    actor: str | None
    """Who asks for a change, where that is known."""
    _read_only: str | None
    _connection: HTTPConnection
    _guard: Guard
    _asked_app: bool

    async def why_read_only(self) -> str | None:
        """Why this client may not make changes, in words; None where it may.

        That asks `change_dependencies`, for a request that changes nothing, too. An exception of theirs that the app does
        not answer by itself is raised.
        """
        if self._read_only is None and not self._asked_app:
            self._read_only = await self._guard.changes.why_not(self._connection)
            self._asked_app = True
        return self._read_only


async def asked(connection: HTTPConnection) -> Asked:
    """The admitted request: a dependency of endpoints, or to be awaited where there are none.

    Raises `ConfigurationError` outside of a router with the guards of the management API.
    """
    found: Asked | None = connection.scope.get(_ASKED)
    if found is None:
        raise ConfigurationError(
            f"{connection.url.path} is not behind the guards of the management API; add its route in the hook `routes`"
        )
    return found


class Guard:
    """Applies the access rules of one router. A FastAPI dependency, which routes may also call earlier themselves.

    `crons` is the scheduler that requests are for; None for the app's. `guarded` says that the router has dependencies of the
    app's own; `notices` logs who may use the API; `changes` are the app's dependencies for changes.
    """

    def __init__(self, crons: Crons | None, *, guarded: bool, notices: Notices, changes: ChangeGuards) -> None:
        self._crons = crons
        self._guarded = guarded
        self._notices = notices
        self._attempts = Throttle()
        self.changes = changes

    async def __call__(self, connection: HTTPConnection) -> None:
        """Admit a request, or raise what refuses it. Once admitted, it is not asked again."""
        found: Asked | None = connection.scope.get(_ASKED)
        if found is not None and found._guard is self:
            return
        crons = self._crons or Crons.of_app(connection.app) or Crons()
        if not crons.running:
            crons.notices.warn_of_unattached()
        server = ip_address((connection.scope.get("server") or ("",))[0] or "")
        if server is not None and not server.is_loopback:
            self._notices.warn_of_unguarded(crons.config)
        self._notices.log_guards(crons.config)
        access = Access(crons.config, guarded=self._guarded)
        changes = is_change(connection)
        try:
            may = await access.admit(connection, self._attempts)
            if changes:
                await self.changes.check(connection)
        except HTTPException as error:
            # Not every server can answer a websocket with an HTTP status.
            if connection.scope["type"] == "http" or "websocket.http.response" in connection.scope.get(
                "extensions", ()
            ):
                raise
            raise WebSocketException(_POLICY, str(error.detail)) from None
        connection.scope[_ASKED] = Asked(
            Management(crons), may.details, access.actor(connection), may.read_only, connection, self, changes
        )
