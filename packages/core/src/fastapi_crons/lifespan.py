"""Ties a scheduler to the life of a FastAPI app.

It starts after the app's own start-up and stops before its shutdown begins, whatever lifespans are merged into the app
later: for a server that speaks the ASGI lifespan protocol the moments are its two messages. Code that enters the app's
lifespan context by itself gets the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fastapi_crons.scheduler import Crons

# The types of ASGI messages, as Starlette has them.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def attach(app: FastAPI, crons: Crons) -> None:
    """Start and stop the scheduler with the app."""
    router = app.router
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
