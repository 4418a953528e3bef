"""Access: who may do what through the management API.

With a token or dependencies of the app's own, a client that passes them may do everything. With neither, any client may read
lists and states, while results, error texts, events and changes are for local clients only (see `locality`). A cross-site
browser request never changes anything. Dependencies of the app's for changes come on top of that (see `doors.changes`).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from fastapi import HTTPException
from pydantic import SecretStr
from starlette.requests import HTTPConnection

from fastapi_crons._util.text import printable, safe_text
from fastapi_crons.api.locality import why_not_local
from fastapi_crons.api.throttle import Throttle
from fastapi_crons.config import CronConfig

#: How many characters of `X-Actor` are used.
_ACTOR_CHARS = 200
#: Methods that change nothing.
READS = ("GET", "HEAD", "OPTIONS")
#: Why a client may only read.
_CROSS_SITE = "requests from other sites are refused"
_LOCAL_ONLY = (
    "without CRON_API_TOKEN, changes are accepted only from processes of the server's own user on this machine, "
    "and not through a proxy"
)
_ADVICE = "set CRON_API_TOKEN, and send it"


@dataclass(frozen=True, slots=True)
class Admitted:
    """What an admitted client may do."""

    details: bool
    """Whether it may see results, error texts, notes and log lines."""
    read_only: str | None
    """Why it may not make changes, by the rules of this module; None where it may."""


class Access:
    """The access rules of one router. `guarded` says that it has dependencies of the app's own."""

    def __init__(self, config: CronConfig, *, guarded: bool) -> None:
        self._token = config.api_token
        self._open = config.api_open
        self._guarded = guarded

    @property
    def unguarded(self) -> bool:
        """Whether neither a token nor dependencies nor `CRON_API_OPEN` were set."""
        return self._token is None and not self._guarded and not self._open

    async def admit(self, connection: HTTPConnection, attempts: Throttle) -> Admitted:
        """What a client may do.

        Raises a 401 for a missing or wrong token, and a 429 after too many wrong ones; for a request that may change something,
        a 403 where this client may only read, and a 415 where the body is not JSON.
        """
        if self._token is not None:
            await self._check_token(self._token, connection, attempts)
        not_local = await why_not_local(connection) if self.unguarded else None
        cross_site = _is_cross_site(connection)
        read_only = (
            _CROSS_SITE if cross_site else None if not_local is None else f"{_LOCAL_ONLY}: {not_local}; {_ADVICE}"
        )
        if is_change(connection):
            _check_change(connection, read_only)
        # An app may allow pages of other sites to read its answers, in a browser on this machine.
        return Admitted(details=not self.unguarded or (not_local is None and not cross_site), read_only=read_only)

    def actor(self, connection: HTTPConnection) -> str | None:
        """Who asks for a change: the header `X-Actor` of a client with credentials."""
        given = _sent(connection.headers.get("x-actor", "")).decode("utf-8", "replace").strip()
        behind_credentials = self._token is not None or self._guarded
        return safe_text(printable(given), _ACTOR_CHARS) if given and behind_credentials else None

    @staticmethod
    async def _check_token(wanted: SecretStr, connection: HTTPConnection, attempts: Throttle) -> None:
        given = connection.headers.get("authorization")
        address = "" if connection.client is None else connection.client.host
        if given is not None:
            await attempts.wait(address)
            scheme, _, token = given.partition(" ")
            sent, right = _sent(token.strip(" ")), wanted.get_secret_value().encode()
            if scheme.lower() == "bearer" and hmac.compare_digest(sent, right):
                return
            attempts.was_wrong(address)
        raise HTTPException(
            401, "send the token of CRON_API_TOKEN as 'Authorization: Bearer …'", {"WWW-Authenticate": "Bearer"}
        )


def is_change(connection: HTTPConnection) -> bool:
    """Whether a request may change something."""
    return connection.scope["type"] == "websocket" or connection.scope["method"] not in READS


def _check_change(connection: HTTPConnection, read_only: str | None) -> None:
    if read_only is not None:
        raise HTTPException(403, read_only)
    # A form of another site sends a content type even when it is empty, and can't send this one.
    kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    headers = connection.headers
    has_body = headers.get("content-length", "0").strip() != "0" or "transfer-encoding" in headers
    if connection.scope["type"] == "http" and kind != "application/json" and (kind or has_body):
        raise HTTPException(415, "the body must be JSON, with Content-Type: application/json")


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
