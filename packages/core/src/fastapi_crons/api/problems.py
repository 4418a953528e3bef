"""ManagementRoute: errors become problem details (RFC 9457), bodies are limited, answers are not cached."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Protocol

from fastapi import HTTPException as Refusal
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import Message

from fastapi_crons._util.backoff import Meter
from fastapi_crons._util.hiding import without_secrets
from fastapi_crons._util.text import one_line
from fastapi_crons.api.doors.entry import Entry
from fastapi_crons.errors import (
    BackfillError,
    CronsError,
    DrainError,
    InvalidArgumentError,
    JobLockedError,
    NotInForceError,
    RunEndedError,
    StoreError,
    TickRefusedError,
    TooManyListenersError,
    UnknownBackfillError,
    UnknownInstanceError,
    UnknownJobError,
    UnknownRunError,
)

logger = logging.getLogger(__name__)

#: A larger body (bytes) is refused before it is read whole.
MAX_BODY = 65_536
PROBLEM = "application/problem+json"
_DETAIL_CHARS = 300
#: Seconds until a client may try again to listen to events.
_RETRY_AFTER = "10"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_STATUSES: Mapping[type[CronsError], int] = {
    UnknownJobError: 404,
    UnknownRunError: 404,
    UnknownBackfillError: 404,
    UnknownInstanceError: 404,
    JobLockedError: 409,
    NotInForceError: 409,
    DrainError: 409,
    TickRefusedError: 409,
    RunEndedError: 409,
    InvalidArgumentError: 422,
    BackfillError: 422,
}


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(default="about:blank", description="Problems have no types beside their status")
    title: str = Field(description="The name of the status", examples=["Not Found"])
    status: int = Field(description="The HTTP status", examples=[404])
    detail: str = Field(description="What was wrong, and what to do", examples=["there is no job named 'backup'"])


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's problems, as its schema describes them."""
    schema = Problem.model_json_schema()
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {PROBLEM: {"schema": schema}}}
        for status in statuses
    }


#: Open pages poll, so that not every failure is logged.
_unreachable = Meter()


class Admits(Protocol):
    """The guard of a router."""

    async def admit(self, connection: HTTPConnection, entry: Entry) -> None:
        """Raises what refuses a request."""


class ManagementRoute(APIRoute):
    """A route of the management API. Each router makes a subclass with its own guard."""

    #: Asked before the body is read; FastAPI would read the body before it calls dependencies.
    guard: ClassVar[Admits | None] = None
    entry: ClassVar[Entry] = Entry()

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                if self.guard is not None:
                    await self.guard.admit(request, self.entry)
                response = await handle(Request(request.scope, within_limit(request)))
            except HTTPException as error:
                response = self._problem(request, error.status_code, str(error.detail), error.headers)
            except RequestValidationError as error:
                response = self._problem(request, 422, what_is_wrong(error))
            except StoreError as error:
                if _unreachable.failed(time.monotonic()) is not None:
                    logger.warning(
                        "the management API answers 503, because a store does not answer: %s", one_line(error)
                    )
                response = self._problem(request, 503, "the store does not answer; the log says why")
            except CronsError as error:
                later = {"Retry-After": _RETRY_AFTER} if isinstance(error, TooManyListenersError) else None
                response = self._problem(request, _STATUSES.get(type(error), 503), _as_in_json(str(error)), later)
            else:
                _unreachable.works(time.monotonic())
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handled

    def _problem(
        self, request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
    ) -> Response:
        shown, page = without_secrets(detail)[:_DETAIL_CHARS], self.entry.refusals
        if page is not None and status >= 400 and "text/html" in request.headers.get("accept", ""):
            return page(request, Refusal(status, shown, dict(headers or {})))
        try:
            title = HTTPStatus(status).phrase
        except ValueError:
            title = "Error"
        content = Problem(title=title, status=status, detail=shown).model_dump()
        return JSONResponse(content, status, dict(headers or {}), media_type=PROBLEM)


def within_limit(request: Request) -> Callable[[], Coroutine[Any, Any, Message]]:
    """Receives the request's body, and refuses it as soon as it is too large."""
    length = request.headers.get("content-length", "0").strip()
    if not length.isdecimal():
        raise HTTPException(400, "Content-Length is not a number")
    # `int` refuses much longer texts.
    if len(length) > 20 or int(length) > MAX_BODY:
        raise _too_large()
    left = MAX_BODY

    async def receive() -> Message:
        nonlocal left
        message: Message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise _too_large()
        return message

    return receive


def _too_large() -> HTTPException:
    return HTTPException(413, f"the body is larger than {MAX_BODY} bytes")


def _as_in_json(advice: str) -> str:
    """The advice of an error, as a body of a request has to say it."""
    return advice.replace("force=True", '"force": true')


def what_is_wrong(error: RequestValidationError) -> str:
    """Which parts of a request are invalid, and why; without the values, which may be anything."""
    faults = ("{}: {}".format(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors())
    return ascii("; ".join(faults))[1:-1]
