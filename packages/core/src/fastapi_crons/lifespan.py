"""Ties a scheduler to the life of a FastAPI app.

It starts after the app's own start-up and stops before its shutdown begins, whatever lifespans are merged into the app
later: for a server that speaks the ASGI lifespan protocol the moments are its two messages. Code that enters the app's
lifespan context by itself gets the same.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fastapi_crons.scheduler import Crons

# The types of ASGI messages, as Starlette has them.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

logger = logging.getLogger(__name__)

_schedulers: WeakKeyDictionary[FastAPI, Crons] = WeakKeyDictionary()


def scheduler_of(app: FastAPI) -> Crons | None:
    """The scheduler that starts and stops with an app."""
    return _schedulers.get(app)


def attach(app: FastAPI, crons: Crons) -> None:
    """Start and stop the scheduler with the app."""
    router = app.router
    _schedulers[app] = crons
    _watch_first_request(app, crons)
    own_context = router.lifespan_context
    own_protocol = router.lifespan
    served = False

    @asynccontextmanager
    async def context(app: Any) -> AsyncIterator[Mapping[str, Any] | None]:
        async with own_context(app) as state:
            if served:
                yield state
                return
            await crons.start()
            try:
                yield state
            finally:
                await crons.stop()

    async def protocol(scope: Message, receive: Receive, send: Send) -> None:
        nonlocal served
        served = True

        async def started_before(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await crons.start()
                crons.heed_signals()
            await send(message)

        async def stopped_after() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await crons.stop()
            return message

        try:
            await own_protocol(scope, stopped_after, started_before)
        finally:
            served = False
            # A server that is torn down without the shutdown message must not leave a scheduler behind.
            await crons.stop()

    router.lifespan_context = cast("Any", context)
    router.lifespan = protocol  # type: ignore[method-assign]


def _watch_first_request(app: FastAPI, crons: Crons) -> None:
    """Tell an app that serves requests without a lifespan, because it is mounted into another or its server gives none."""
    router = app.router
    serve = router.middleware_stack

    async def first(scope: Message, receive: Receive, send: Send) -> None:
        router.middleware_stack = serve
        if scope["type"] != "lifespan" and not crons.running and crons.config.enabled:
            logger.error(
                "the app of this scheduler serves requests, but its lifespan was never started, so no job runs: attach the "
                "scheduler to the app that the server runs, not to one that is mounted into it; or await crons.start()"
            )
        await serve(scope, receive, send)

    router.middleware_stack = first
