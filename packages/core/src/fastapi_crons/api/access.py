"""Access: who may do what through the management API.

With a token or dependencies of the app's own, a client that passes them may do everything. With neither, any client may read
lists and states, while results, error texts, events and changes are for local clients only (see `locality`). A cross-site
browser request never changes anything. Dependencies of the app's for changes come on top of that (see `doors.changes`).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from fastapi import HTTPException
from starlette.requests import HTTPConnection

from fastapi_crons._util.text import printable, safe_text
from fastapi_crons.api.doors.entry import Entry
from fastapi_crons.api.doors.sessions import Session, Sessions
from fastapi_crons.api.locality import why_not_local
from fastapi_crons.api.throttle import Throttle
from fastapi_crons.config import CronConfig

#: How many characters of `X-Actor` are used.
_ACTOR_CHARS = 200
#: Methods that change nothing.
READS = ("GET", "HEAD", "OPTIONS")
FORM = "application/x-www-form-urlencoded"
#: Why a client may only read.
_CROSS_SITE = "requests from other sites are refused"
_LOCAL_ONLY = (
    "without CRON_API_TOKEN, changes are accepted only from processes of the server's own user on this machine, "
    "and not through a proxy"
)
_NOBODY = "this page is open to all, so that nobody makes changes here"
_ADVICE = "set CRON_API_TOKEN, and send it"


@dataclass(frozen=True, slots=True)
class Admitted:
    """What an admitted client may do."""

    details: bool
    """Whether it may see results, error texts, notes and log lines."""
    read_only: str | None
    """Why it may not make changes, by the rules of this module; None where it may."""
    actor: str | None = None
    """Who asks, where that is known."""


class TokenWantedError(HTTPException):
    """A request has neither the token nor a session."""


class Access:
    """The access rules of one router, as one scheduler's settings have them.

    `guarded` says that the router has dependencies of the app's own; `attempts` are the wrong tokens it was sent.
    """

    def __init__(self, config: CronConfig, attempts: Throttle, *, guarded: bool) -> None:
        self._token = config.api_token
        self._unguarded = is_unguarded(config, guarded=guarded)
        self._guarded = guarded
        self._attempts = attempts
        #: None where no token is set.
        self.sessions = None if self._token is None else Sessions(self._token)

    async def admit(self, connection: HTTPConnection, entry: Entry, now: float) -> Admitted:
        """What a client may do.

        Raises a 401 for a missing or wrong token, and a 429 after too many wrong ones; for a request that may change something,
        a 403 where this client may only read, and a 415 where the body is neither JSON nor a form that is accepted.
        """
        cross_site = _is_cross_site(connection)
        if entry.open:
            admitted = Admitted(details=False, read_only=_CROSS_SITE if cross_site else _NOBODY)
            refused = _CROSS_SITE if cross_site else None
        else:
            session = None if self._token is None else await self._with_token(connection, now)
            not_local = await why_not_local(connection) if self._unguarded else None
            local_only = None if not_local is None else f"{_LOCAL_ONLY}: {not_local}; {_ADVICE}"
            refused = _CROSS_SITE if cross_site else local_only
            # An app may allow pages of other sites to read its answers, in a browser on this machine.
            details = not self._unguarded or refused is None
            admitted = Admitted(details=details, read_only=refused, actor=self._actor(connection, session))
        if is_change(connection):
            if refused is not None:
                raise HTTPException(403, refused)
            _check_body(connection, entry)
        return admitted

    async def session(self, connection: HTTPConnection, now: float) -> Session | None:
        """The session whose cookie a browser sends from a page of this site.

        A signature that is wrong counts as a wrong token, as it can be made from a guess.
        """
        sent = [] if self.sessions is None else self.sessions.sent(connection)
        if self.sessions is None or not sent or _is_cross_site(connection):
            return None
        await self._attempts.wait(_address(connection))
        genuine = list(self.sessions.genuine(sent))
        if not genuine:
            self._attempts.was_wrong(_address(connection))
        return next((found for found in genuine if found.ends > now), None)

    async def is_token(self, given: bytes, connection: HTTPConnection) -> bool:
        """Whether this is the token. Raises a 429 after too many wrong ones."""
        if self._token is None:
            return False
        await self._attempts.wait(_address(connection))
        right = hmac.compare_digest(given, self._token.get_secret_value().encode())
        if not right:
            self._attempts.was_wrong(_address(connection))
        return right

    def _actor(self, connection: HTTPConnection, session: Session | None) -> str | None:
        """Who asks for a change: the header `X-Actor` of a client with credentials, or the name in its session."""
        given = _sent(connection.headers.get("x-actor", "")).decode("utf-8", "replace").strip()
        if not given:
            return None if session is None else session.name
        behind_credentials = self._token is not None or self._guarded
        return safe_text(printable(given), _ACTOR_CHARS) if behind_credentials else None

    async def _with_token(self, connection: HTTPConnection, now: float) -> Session | None:
        """The session of a client that has one. Raises `TokenWantedError` for one that has neither session nor token."""
        session = await self.session(connection, now)
        given = connection.headers.get("authorization")
        if session is None:
            scheme, _, token = (given or "").partition(" ")
            sent = _sent(token.strip(" ")) if scheme.lower() == "bearer" else b""
            if given is None or not await self.is_token(sent, connection):
                raise TokenWantedError(
                    401,
                    "send the token of CRON_API_TOKEN as 'Authorization: Bearer …'",
                    {"WWW-Authenticate": "Bearer"},
                )
        return session


def is_unguarded(config: CronConfig, *, guarded: bool) -> bool:
    """Whether neither a token nor dependencies nor `CRON_API_OPEN` were set."""
    return config.api_token is None and not guarded and not config.api_open


def is_change(connection: HTTPConnection) -> bool:
    """Whether a request may change something."""
    return connection.scope["type"] == "websocket" or connection.scope["method"] not in READS


def media_type(connection: HTTPConnection) -> str:
    """The media type of a request's body; empty where it is not said."""
    return connection.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_body(connection: HTTPConnection, entry: Entry) -> None:
    # A form of another site sends a content type even when it is empty, and can't send JSON's.
    kind, headers = media_type(connection), connection.headers
    has_body = headers.get("content-length", "0").strip() != "0" or "transfer-encoding" in headers
    if connection.scope["type"] == "websocket" or kind == "application/json" or not (kind or has_body):
        return
    if not entry.forms or kind != FORM:
        raise HTTPException(415, "the body must be JSON, with Content-Type: application/json")
    if not is_same_origin(connection):
        raise HTTPException(
            415, "a form is accepted from a page of the same site only; send JSON, with Content-Type: application/json"
        )


def is_same_origin(connection: HTTPConnection) -> bool:
    """Whether a browser says that a page of this site sends a request. Over plain HTTP they send the origin alone."""
    site = connection.headers.get("sec-fetch-site")
    return site == "same-origin" or (site is None and "origin" in connection.headers and not _is_cross_site(connection))


def _is_cross_site(connection: HTTPConnection) -> bool:
    site = connection.headers.get("sec-fetch-site", "none")
    origin = connection.headers.get("origin")
    # Only browsers send `same-origin`, and they know, even where a proxy has changed the Host header.
    if site == "same-origin" or (site == "none" and origin is None):
        return False
    if site != "none" or origin is None:
        return True
    # The origin `null` of sandboxed frames and local files never equals a host.
    return origin.lower().partition("://")[2] != connection.headers.get("host", "").lower()


def _sent(header: str) -> bytes:
    """The bytes of a header as they were sent."""
    return header.encode("latin-1")


def _address(connection: HTTPConnection) -> str:
    return "" if connection.client is None else connection.client.host
