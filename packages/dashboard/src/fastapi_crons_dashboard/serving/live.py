"""Tells pages that something has changed."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent

from fastapi_crons.api import Asked, asked
from fastapi_crons.management import Published
from fastapi_crons.run import Run
from fastapi_crons.state import Record

if TYPE_CHECKING:
    from fastapi_crons_dashboard.serving.page import Pages


async def _listening(asked: Annotated[Asked, Depends(asked)]) -> AsyncIterator[AsyncIterator[Published]]:
    # A dependency, because the answer can refuse nothing once it has begun, and because this ends with the request.
    with asked.management.subscribe(None) as records:
        yield records


def _event(record: Record) -> ServerSentEvent:
    """Which job something happened to, and no more: pages ask for what they may show."""
    kind = "run" if isinstance(record, Run) else "missed"
    return ServerSentEvent(raw_data=json.dumps({"job": record.job, "id": record.id}), event=kind, id=record.id)


def add_live(pages: Pages) -> None:
    @pages.get("/events", "events", response_class=EventSourceResponse)
    async def events(
        records: Annotated[AsyncIterator[Published], Depends(_listening)],
    ) -> AsyncGenerator[ServerSentEvent, None]:
        yield ServerSentEvent(comment="listening")
        async for published in records:
            yield _event(published.record)
