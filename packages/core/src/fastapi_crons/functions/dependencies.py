"""Resolver: opens what a job depends on, around a call of its function, by FastAPI's own means.

A job with dependencies gets a route of its own, whose endpoint asks for them. The route is called as a server calls it, for a
request that no client has made.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from fastapi_crons._util.callables import annotation_of, dependency_of, reached, uncalled_dependency
from fastapi_crons.errors import DependencyError
from fastapi_crons.functions import plain_yield
from fastapi_crons.functions.parameters import is_request, kind_of_client

if TYPE_CHECKING:
    from fastapi import FastAPI, Response
    from fastapi.routing import APIRoute

# As Starlette has it.
Message = MutableMapping[str, Any]
#: Calls a job's function with what its dependencies gave, by the names of its parameters.
Call = Callable[[Mapping[str, object]], Awaitable[object]]

_PATH = "/"
#: The endpoint's own parameter for the request.
_REQUEST = "fastapi_crons_request"
_CALL = "fastapi_crons.call"
_NO_CONTEXT = "a dependency can't be given the JobContext; ask for it in the job, and pass on what is needed"


class Served(NamedTuple):
    """What the synthetic request of a job belongs to."""

    app: FastAPI | None = None
    """The app of the scheduler, whose `dependency_overrides` hold; None for a scheduler without one."""
    state: Mapping[str, object] = MappingProxyType({})
    """What the app's lifespan has yielded: `request.state`."""


class _Invocation:
    """One call of a job's function, while its dependencies are open."""

    __slots__ = ("_call", "error", "value")

    def __init__(self, call: Call) -> None:
        self._call = call
        self.error: BaseException | None = None
        self.value: object = None

    async def carry_out(self, given: Mapping[str, object]) -> None:
        try:
            self.value = await self._call(given)
        except BaseException as error:
            self.error = error
            raise


class _Scope(dict[str, Any]):
    """What a request is made of. Without an app, `request.app` says so."""

    def __missing__(self, key: str) -> NoReturn:
        if key != "app":
            raise KeyError(key)
        raise DependencyError("request.app is asked for, and this scheduler has no app; attach it to one: Crons(app)")


class Resolver:
    """Resolves the dependencies of one job."""

    def __init__(self, dependencies: Mapping[str, inspect.Parameter], served: Callable[[], Served]) -> None:
        """Raises what FastAPI raises for parameters that it can't make sense of."""
        from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware

        self._served = served
        self.route = self._route(dependencies)
        self._plain_yield = (
            plain_yield.Overrides(self._overrides_of_app, self.route.dependant) if plain_yield.is_needed() else None
        )
        # An app has this middleware around its routes: it closes what dependencies leave open until the response is sent.
        self._endpoint = AsyncExitStackMiddleware(self.route.app)

    @property
    def dependency_overrides(self) -> Mapping[Callable[..., object], Callable[..., object]]:
        """As FastAPI asks for them at each call."""
        return self._overrides_of_app() if self._plain_yield is None else self._plain_yield

    def _overrides_of_app(self) -> Mapping[Callable[..., object], Callable[..., object]]:
        app = self._served().app
        return {} if app is None else app.dependency_overrides

    async def around(self, call: Call) -> object:
        """Open the dependencies, call `call` with them, close them, and return what it returned.

        A dependency with `yield` sees the failure of the call, a cancellation too. What a dependency raises, before or after,
        is raised. Raises `DependencyError` where a dependency asks for what only a client's request has.
        """
        from fastapi.exceptions import FastAPIError, RequestValidationError

        invocation = _Invocation(call)
        try:
            await self._endpoint(self._scope(invocation), _receive, _send)
        except RequestValidationError as error:
            places = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
            raise DependencyError(
                f"a dependency asks for {places}, which only a client's request has; give its parameter a default"
            ) from None
        except FastAPIError:
            # A dependency has caught the failure of the job, and has not raised it again.
            if invocation.error is None:
                raise
            raise invocation.error from None
        return invocation.value

    def _route(self, dependencies: Mapping[str, inspect.Parameter]) -> APIRoute:
        from fastapi import Request, Response
        from fastapi.routing import APIRoute

        async def endpoint(**given: object) -> Response:
            request = given.pop(_REQUEST)
            assert isinstance(request, Request)
            invocation: _Invocation = request.scope[_CALL]
            # FastAPI gives an endpoint the request only once.
            await invocation.carry_out({**given, **dict.fromkeys(requests, request)})
            return Response()

        requests = [
            name for name, each in dependencies.items() if dependency_of(each) is None and is_request(each.annotation)
        ]
        parameters = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, each in dependencies.items()
            if name not in requests
        ]
        own = inspect.Parameter(_REQUEST, inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        endpoint.__signature__ = inspect.Signature([*parameters, own])  # type: ignore[attr-defined]
        return APIRoute(_PATH, endpoint, methods=["POST"], response_model=None, dependency_overrides_provider=self)

    def _scope(self, invocation: _Invocation) -> Message:
        served = self._served()
        scope = _Scope(
            {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": "POST",
                "scheme": "http",
                "path": _PATH,
                "raw_path": _PATH.encode(),
                "root_path": "",
                "query_string": b"",
                "headers": [],
                "path_params": {},
                "client": None,
                "server": None,
                "state": dict(served.state),
                _CALL: invocation,
            }
        )
        if served.app is not None:
            scope["app"] = served.app
        return scope


def fault_of(dependencies: Mapping[str, inspect.Parameter]) -> str | None:
    """Why FastAPI can't resolve dependencies for a job, as far as it can be known before a run; None where it can."""
    from fastapi.openapi.utils import get_openapi

    marker = next(filter(None, map(uncalled_dependency, dependencies.values())), None)
    if marker is not None:
        return f"{marker} is not called; write {marker}(…) with the function that opens it"
    try:
        route = Resolver(dependencies, Served).route
        described = get_openapi(title="", version="", routes=[route])["paths"][_PATH]["post"]
    except Exception as error:
        if "JobContext" in str(error):
            return _NO_CONTEXT
        return f"FastAPI can't resolve them: {' '.join(str(error).split())}"
    wanted = [each["name"] for each in described.get("parameters", ()) if each.get("required")]
    wanted += _asked_of_client(dependencies.values())
    if described.get("requestBody", {}).get("required"):
        wanted.append("a body")
    if "context" in wanted:
        return _NO_CONTEXT
    return f"they ask for {', '.join(wanted)}, which only a client's request has; give defaults" if wanted else None


def _asked_of_client(parameters: Iterable[inspect.Parameter]) -> Iterator[str]:
    """The parameters for a WebSocket, which FastAPI does not describe, of dependencies and those that they have."""
    for each in parameters:
        if each.default is each.empty and kind_of_client(each.annotation) == "a WebSocket":
            yield each.name
        dependency = getattr(dependency_of(each), "dependency", None)
        for function, own in reached(dependency) if callable(dependency) else ():
            yield from _asked_of_client(one.replace(annotation=annotation_of(function, one)) for one in own)


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    """Nobody waits for the response."""
