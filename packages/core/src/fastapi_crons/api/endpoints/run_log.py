"""Endpoints about what a run logs, as it logs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Header, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from fastapi_crons.api.endpoints.parts import Asking, Endpoints, Name, RunId
from fastapi_crons.api.models import LogLineModel, RunModel
from fastapi_crons.clock import utc_datetime
from fastapi_crons.engine.log_feed import LogEvent, Logged, Lost

endpoint = Endpoints()


class LoggedModel(LogLineModel):
    """A log record of a run, with its number."""

    number: int = Field(description="The run's first record has the number 1, whatever was dropped since")

    @classmethod
    def of(cls, logged: Logged) -> LoggedModel:
        line = logged.line
        return cls(
            number=logged.number,
            time=utc_datetime(line.ts),
            level=line.level,
            logger=line.logger,
            message=line.message,
        )


class LostModel(BaseModel):
    """Log records that are not there any more: newer ones took their place."""

    count: int = Field(description="How many")
    until: int = Field(description="The number of the last one of them")


async def _following(
    asked: Asking,
    job_name: Name,
    run_id: RunId,
    last_event_id: Annotated[
        int, Header(ge=0, description="The number of the last record that the client has; those behind it follow")
    ] = 0,
) -> AsyncIterator[AsyncIterator[LogEvent]]:
    # A dependency, because the endpoint can refuse nothing once its answer has begun, and because this ends with the request.
    if not asked.details:
        raise HTTPException(
            403, "only clients that may change things can follow a log; set CRON_API_TOKEN, and send it"
        )
    run = await asked.management.run(job_name, run_id)
    with asked.management.follow_log(run, after=last_event_id) as events:
        yield events


@endpoint(
    "GET",
    "/crons/{job_name}/runs/{run_id}/log",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "`line` with a record, whose number is the event's id; `dropped` where records are missing; "
            "`end` with the run, when it has ended"
        }
    },
)
async def run_log(
    events: Annotated[AsyncIterator[LogEvent], Depends(_following)],
) -> AsyncGenerator[ServerSentEvent, None]:
    """What a run has logged, and logs from now on, on whatever instance it is running; for an ended run what is kept.

    Only for clients that may see results. A client that sends the number of its last record as `Last-Event-ID` gets the rest.
    """
    yield ServerSentEvent(comment="following")
    async for event in events:
        yield _sent(event)


def _sent(event: LogEvent) -> ServerSentEvent:
    if isinstance(event, Logged):
        return ServerSentEvent(raw_data=LoggedModel.of(event).model_dump_json(), event="line", id=str(event.number))
    if isinstance(event, Lost):
        lost = LostModel(count=event.number, until=event.until)
        return ServerSentEvent(raw_data=lost.model_dump_json(), event="dropped", id=str(event.until))
    ended = RunModel.of(replace(event, log=()), details=True)  # the client has its log
    return ServerSentEvent(raw_data=ended.model_dump_json(), event="end")
