"""Starts and stops a scheduler with a FastAPI app.

It starts after the app's own start-up and stops before the app's shutdown begins, whatever lifespans are merged into the app
later: a server starts and stops it by the two messages of the ASGI lifespan protocol. For code that enters the app's lifespan
context without a server, entering and leaving the context do the same.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, cast

from fastapi_crons.config import CronConfig
from fastapi_crons.errors import ConfigurationError

if TYPE_CHECKING:
    from fastapi import FastAPI

# The types of ASGI messages, as Starlette has them.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

logger = logging.getLogger(__name__)


class Startable(Protocol):
    """What this module asks of a `Crons`."""

    config: CronConfig

    @property
    def running(self) -> bool: ...

    async def begin_for(
        self, user: object, app: FastAPI | None = None, state: Mapping[str, object] | None = None
    ) -> None: ...

    async def end_for(self, user: object) -> None: ...

    def heed_signals(self) -> None: ...


def refuse_inside_lifespan(app: FastAPI) -> None:
    """Raises `ConfigurationError` inside the app's running lifespan, which would not start a scheduler any more."""
    if _in_running_lifespan(app):
        raise ConfigurationError(
            "Crons(app) inside the running lifespan of that app comes too late: nothing would start it. Write "
            "`async with Crons() as crons:` around the lifespan's yield, or call Crons(app) where the app is made"
        )


def _in_running_lifespan(app: FastAPI) -> bool:
    router = app.router
    context = getattr(inspect.unwrap(router.lifespan_context), "__code__", None)

    def is_lifespan(frame: FrameType) -> bool:
        if frame.f_code.co_name == "lifespan" and frame.f_locals.get("self") is router:
            return True
        return frame.f_code is context and any(value is app for value in frame.f_locals.values())

    return any(is_lifespan(frame) for frame in _frames_of_tasks())


def _frames_of_tasks() -> Iterator[FrameType]:
    """The frames of this call, and of the coroutines that the tasks of this event loop are running."""
    current: FrameType | None = sys._getframe(1)
    while current is not None:
        yield current
        current = current.f_back
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        return  # no event loop is running here
    for task in tasks:
        awaited: object = task.get_coro()
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
            if isinstance(frame, FrameType):
                yield frame
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)


def attach(app: FastAPI, crons: Startable) -> None:
    """Start and stop the scheduler with the app."""
    router = app.router
    _watch_first_request(app, crons)
    own_context = router.lifespan_context
    own_protocol = router.lifespan
    serving: object | None = None

    @asynccontextmanager
    async def context(app: Any) -> AsyncIterator[Mapping[str, Any] | None]:
        async with own_context(app) as state:
            if serving is not None:
                yield state
                return
            holder = object()
            await crons.begin_for(holder, app, state)
            try:
                yield state
            finally:
                await crons.end_for(holder)

    async def protocol(scope: Message, receive: Receive, send: Send) -> None:
        nonlocal serving
        holder = serving = object()

        async def started_before(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await crons.begin_for(holder, app, scope.get("state"))
                crons.heed_signals()
            await send(message)

        async def stopped_after() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await crons.end_for(holder)
            return message

        try:
            await own_protocol(scope, stopped_after, started_before)
        finally:
            serving = None
            # A server that ends without the shutdown message must not leave a running scheduler behind.
            await crons.end_for(holder)

    router.lifespan_context = cast("Any", context)
    router.lifespan = protocol  # type: ignore[method-assign]


def _watch_first_request(app: FastAPI, crons: Startable) -> None:
    """Log an error where the app serves requests without its lifespan, as one does that is mounted into another app."""
    router = app.router
    serve = router.middleware_stack

    async def first(scope: Message, receive: Receive, send: Send) -> None:
        router.middleware_stack = serve
        if scope["type"] != "lifespan" and not crons.running and crons.config.enabled:
            logger.error(
                "the app of this scheduler serves requests, but its lifespan was never started, so no job runs: attach the "
                "scheduler to the app that the server runs, not to an app that is mounted into it; or await crons.start()"
            )
        await serve(scope, receive, send)

    router.middleware_stack = first
