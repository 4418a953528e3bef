"""Guard: admits requests to the routes of one management router."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict
from urllib.parse import urlencode

from fastapi.exceptions import WebSocketException
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from fastapi_crons.api.access import Access, TokenWantedError, is_change, is_same_origin
from fastapi_crons.api.access_notices import Notices
from fastapi_crons.api.doors.changes import ChangeGuards
from fastapi_crons.api.doors.entry import Entry, Login, asked_path, page_of_form
from fastapi_crons.api.doors.sessions import LASTS
from fastapi_crons.api.owners import ip_address
from fastapi_crons.api.throttle import Throttle
from fastapi_crons.clock import Clock
from fastapi_crons.errors import ConfigurationError
from fastapi_crons.management.management import Management
from fastapi_crons.scheduler.crons import Crons

#: The key of an admitted request in its ASGI scope.
_ASKED = "fastapi_crons.asked"
#: The code that closes a websocket for a policy violation (RFC 6455).
_POLICY = 1008


class CookieOptions(TypedDict):
    """What all cookies of a router have in common."""

    path: str
    secure: bool
    httponly: bool
    samesite: Literal["strict"]


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
    _access: Access
    _entry: Entry
    _clock: Clock
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

    @property
    def token_wanted(self) -> bool:
        """Whether a token is set, so that there is something to sign in to."""
        return self._access.sessions is not None

    async def signed_in(self) -> bool:
        """Whether this request is a browser's that has signed in."""
        return await self._access.session(self._connection, self._clock.now()) is not None

    async def sign_in(self, token: str, response: Response, name: str | None = None) -> bool:
        """Begin a session of 12 hours for a browser that sends the token; False for a wrong one.

        It is a cookie of the response, for the paths of this router, whose `login_page` must be marked. `name` is kept in
        it, as the actor of changes. Raises a 404 where no token is set, and a 429 after too many wrong ones.
        """
        if self._access.sessions is None:
            raise HTTPException(404, "no CRON_API_TOKEN is set, so there is nothing to sign in to")
        if not await self._access.is_token(token.strip().encode("utf-8", "replace"), self._connection):
            return False
        value = self._access.sessions.begun(name, self._clock.now())
        response.set_cookie(self._access.sessions.cookie, value, LASTS, **self._cookie())
        return True

    def sign_out(self, response: Response) -> None:
        """End the session of this browser, by a cookie of the response."""
        if self._access.sessions is not None:
            response.delete_cookie(self._access.sessions.cookie, **self._cookie())

    def _cookie(self) -> CookieOptions:
        if self._entry.login is None:
            raise ConfigurationError("sessions belong to a router with a login page; mark its endpoint by `login_page`")
        headers = self._connection.headers
        # A proxy may not say that it speaks HTTPS with the browser; the browser does.
        secure = self._connection.url.scheme == "https" or headers.get("origin", "").startswith("https://")
        path = self._entry.login.root(self._connection)
        return {"path": path, "secure": secure, "httponly": True, "samesite": "strict"}


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
        """Admit a request to a route of a plugin."""
        await self.admit(connection, Entry(forms=True))

    async def admit(self, connection: HTTPConnection, entry: Entry) -> None:
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
        access = Access(crons.config, self._attempts, guarded=self._guarded)
        changes = is_change(connection)
        try:
            may = await access.admit(connection, entry, crons.clock.now())
            if changes and not entry.open:
                await self.changes.check(connection)
        except HTTPException as error:
            if isinstance(error, TokenWantedError) and entry.login is not None and _is_page(connection):
                raise _to(entry.login, connection) from None
            # Not every server can answer a websocket with an HTTP status.
            if connection.scope["type"] == "http" or "websocket.http.response" in connection.scope.get(
                "extensions", ()
            ):
                raise
            raise WebSocketException(_POLICY, str(error.detail)) from None
        connection.scope[_ASKED] = Asked(
            management=Management(crons),
            details=may.details,
            actor=may.actor,
            _read_only=may.read_only,
            _asked_app=changes or entry.open,
            _access=access,
            _entry=entry,
            _clock=crons.clock,
            _connection=connection,
            _guard=self,
        )


def _is_page(connection: HTTPConnection) -> bool:
    """Whether a browser asks for a page, or sends a form of one of ours, without a token."""
    headers = connection.headers
    ours = not is_change(connection) or is_same_origin(connection)
    return ours and "text/html" in headers.get("accept", "") and "authorization" not in headers


def _to(login: Login, connection: HTTPConnection) -> HTTPException:
    """What sends a browser to a login page, and from there to the page that it asked for, or whose form it sent."""
    form = is_change(connection)
    query = {"next": page_of_form(connection), "undone": "1"} if form else {"next": asked_path(connection)}
    return HTTPException(303, "sign in first", {"Location": f"{login.url(connection)}?{urlencode(query)}"})
