"""Who may do what through the management API.

With a token or dependencies of the app's own, whoever passes them may do everything. With neither, anybody may read
lists and states, while results, error texts and changes are for local clients only. A cross-site browser request never
changes anything.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

from fastapi_crons.config import CronConfig
from fastapi_crons.outcome import printable, safe_text

_PROXY_HEADERS = ("forwarded", "via", "x-real-ip")
#: A host name without a dot.
_PLAIN_NAME = re.compile("[A-Za-z0-9_-]+")
_TEST_CLIENT = "testclient"
#: How many characters of a name that a client gives itself are kept.
_ACTOR_CHARS = 200


class Access:
    """The access rules of one router. `guarded` says that the app put dependencies of its own in front."""

    def __init__(self, config: CronConfig, *, guarded: bool) -> None:
        self._token = config.api_token
        self._open = config.api_open
        self._guarded = guarded

    @property
    def unguarded(self) -> bool:
        """Whether neither a token nor dependencies nor `CRON_API_OPEN` were set."""
        return self._token is None and not self._guarded and not self._open

    def check_read(self, request: Request) -> None:
        """Raises a 401 where a token is wanted and not given."""
        if self._token is not None and not self._has_token(request):
            raise HTTPException(401, "a bearer token is wanted (CRON_API_TOKEN)", {"WWW-Authenticate": "Bearer"})

    def check_change(self, request: Request) -> None:
        """Raises a 403 where a client that may read may not change anything, or a 415 where the body is not JSON."""
        if _is_cross_site(request):
            raise HTTPException(403, "requests from other sites are refused")
        # A form of another site names its type even where it is empty, and can't name this one.
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and (kind or _has_body(request)):
            raise HTTPException(415, "the body must be JSON, with Content-Type: application/json")
        if self.unguarded and not is_local(request):
            raise HTTPException(
                403, "without CRON_API_TOKEN, changes are accepted from this machine only, and not through a proxy"
            )

    def sees_details(self, request: Request) -> bool:
        """Whether this client is shown results, error texts, notes and log lines."""
        # An app may let the pages of other sites read what it answers, in a browser on this machine.
        return not self.unguarded or (is_local(request) and not _is_cross_site(request))

    def actor(self, request: Request) -> str | None:
        """Who asks for a change: what those who hold credentials say in `X-Actor`."""
        given = _sent(request.headers.get("x-actor", "")).decode("utf-8", "replace").strip()
        behind_credentials = self._token is not None or self._guarded
        return safe_text(printable(given), _ACTOR_CHARS) if given and behind_credentials else None

    def _has_token(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        assert self._token is not None
        wanted = self._token.get_secret_value().encode()
        return scheme.lower() == "bearer" and hmac.compare_digest(_sent(given.strip(" ")), wanted)


def is_local(request: Request) -> bool:
    """Whether the client is on this machine: a loopback peer, no proxy in front, and a host name of no public site.

    A page that rebinds its own DNS name to 127.0.0.1 still sends that name, and public names have dots. nginx, as it comes,
    names itself in no header and speaks HTTP/1.0.
    """
    if any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in request.headers):
        return False
    if request.scope.get("http_version") == "1.0":
        return False
    peer = request.client.host if request.client is not None else ""
    return (peer == _TEST_CLIENT or _is_loopback(peer)) and _is_local_name(_host_name(request.headers.get("host", "")))


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0").strip() != "0" or "transfer-encoding" in request.headers


def _is_cross_site(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    # Only a browser says `same-origin`, and it knows: a proxy may have put another host into the request.
    if site == "same-origin" or (site == "none" and origin is None):
        return False
    if site != "none" or origin is None:
        return True
    # `null`, of sandboxed frames and local files, is never a host.
    return origin.lower().partition("://")[2] != request.headers.get("host", "").lower()


def _sent(header: str) -> bytes:
    """A header as it was sent."""
    return header.encode("latin-1")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_local_name(name: str) -> bool:
    return _PLAIN_NAME.fullmatch(name) is not None or _is_loopback(name)


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    # What a socket for both kinds of addresses calls 127.0.0.1.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
