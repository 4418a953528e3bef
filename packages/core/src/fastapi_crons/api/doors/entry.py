"""How routes are entered: marks for endpoints that need no token, and paths as clients must ask for them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from fastapi import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

EndpointT = TypeVar("EndpointT", bound=Callable[..., object])

#: Makes the answer to a browser whose request is refused: the exception says with which status, why, and with which headers.
RefusalPage = Callable[[Request, HTTPException], Response]

#: The attributes of an endpoint that was marked.
_MARK = "__fastapi_crons_entry__"
_REFUSALS = "__fastapi_crons_refusals__"
_OPEN, _LOGIN = "open", "login"
_LONGEST = 2_000
#: What browsers take for a path of the same site: they drop control characters, and read `\` as `/`.
_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")
#: What may stand in a path as it is, a `%` of what is encoded already included.
_IN_PATHS = "/%!$&'()*+,;=:@~"


@dataclass(frozen=True, slots=True)
class Login:
    """The login page of a router."""

    name: str
    """The name of its route, unique in the app."""
    path: str
    """Its path below the router."""

    def url(self, connection: HTTPConnection) -> str:
        """Its path as clients must ask for it."""
        return path_of(connection, self.name)

    def root(self, connection: HTTPConnection) -> str:
        """The path of the router as clients must ask for it."""
        return self.url(connection).removesuffix(self.path) or "/"


@dataclass(frozen=True, slots=True)
class Entry:
    """How a route is entered."""

    forms: bool = False
    """Whether the body of a change may be a form."""
    open: bool = False
    """Whether it needs no token."""
    login: Login | None = None
    """Where browsers without a token go."""
    refusals: RefusalPage | None = None
    """How a browser is told that it is refused; None for problem details, as other clients are."""


#: That of plugins' routes which are marked by nothing.
OF_PLUGINS = Entry(forms=True)


def open_route(endpoint: EndpointT) -> EndpointT:
    """Marks an endpoint that needs no token: a login page, a file that is the same for all.

    The app's own `dependencies` guard it still. There, `Asked.details` is False, and nobody may make changes but the endpoint
    itself. It stands below the decorator of a route of FastAPI's kind (`@router.get(…)`).
    """
    vars(endpoint)[_MARK] = _OPEN
    return endpoint


def login_page(endpoint: EndpointT) -> EndpointT:
    """Marks the login page of a router, which is an open route.

    A browser that asks for a page of the same router without a token is sent there, with the path that it asked for as the
    query parameter `next`. One that sends a form is sent there, too, with the path of the form's page, and with `undone=1`,
    as nothing was done. The name of its route must be unique in the app.
    """
    vars(endpoint)[_MARK] = _LOGIN
    return endpoint


def refusal_page(page: RefusalPage) -> Callable[[EndpointT], EndpointT]:
    """Marks an endpoint for browsers: one that the guards refuse gets this page (status 400 and above), not problem details.

    A browser is who accepts `text/html`. `page` is called with the request, which was not admitted, and with an exception that
    has the status, the reason in words, and the headers of the answer. It stands where `open_route` does, also beside it.
    """

    def decorated(endpoint: EndpointT) -> EndpointT:
        vars(endpoint)[_REFUSALS] = page
        return endpoint

    return decorated


def refusals_of(endpoint: Callable[..., object]) -> RefusalPage | None:
    """The page of an endpoint that was marked by `refusal_page`."""
    found: RefusalPage | None = getattr(endpoint, _REFUSALS, None)
    return found


def is_open(endpoint: Callable[..., object]) -> bool:
    """Whether an endpoint needs no token."""
    return getattr(endpoint, _MARK, None) in (_OPEN, _LOGIN)


def is_login_page(endpoint: Callable[..., object]) -> bool:
    """Whether an endpoint is the login page of its router."""
    return getattr(endpoint, _MARK, None) == _LOGIN


def path_of(connection: HTTPConnection, route: str, /, **params: str) -> str:
    """The path of a named route as the client must ask for it: with root path and prefix, percent-encoded.

    Raises Starlette's `NoMatchFound` where the app has no such route.
    """
    encoded = {key: quote(value, safe="") for key, value in params.items()}
    below: str = connection.scope["app"].url_path_for(route, **encoded)
    root: str = connection.scope.get("root_path", "")
    return quote(root.rstrip("/") + below, safe=_IN_PATHS)


def local_path(given: str | None, default: str) -> str:
    """A path of this site as it was given, as by a query parameter `next`; the default for anything else."""
    return given if given is not None and len(given) <= _LONGEST and _LOCAL.fullmatch(given) else default


def asked_path(connection: HTTPConnection) -> str:
    """What a client asked for: path and query."""
    scope = connection.scope
    raw, root = scope.get("raw_path"), scope.get("root_path", "").rstrip("/")
    path: str = quote(scope["path"], safe=_IN_PATHS) if raw is None else raw.decode("latin-1")
    # A proxy may have taken the root path away.
    path = path if path.startswith(root) else root + path
    query: str = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path


def page_of_form(connection: HTTPConnection) -> str:
    """The page whose form a browser sends: path and query; empty where it does not say."""
    _, slash, path = connection.headers.get("referer", "").partition("://")[2].partition("/")
    return f"{slash}{path}"
