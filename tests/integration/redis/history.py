"""Runs to be kept in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi_crons import MissedTicks, Run
from fastapi_crons.clock import SystemClock
from fastapi_crons.run import RunIds, RunStatus
from fastapi_crons.state import Event, Signal
from fastapi_crons_redis import RedisStateBackend
from tests.faults.redis_server import connection_to

NOW = SystemClock().now()
DAY = 86_400
ODD_NAMES = ["a:b", "a", "run:a", "*", "{other}", "}{", "with spaces", "ünï🚀", 'quoted "\\" name', "new\nline"]
new_id = RunIds()


def a_run(job: str = "job", status: RunStatus = "completed", *, run_id: str | None = None) -> Run:
    return Run(run_id or new_id(), job, int(NOW), "schedule", 1, "here", 7, status, NOW, NOW + 1)


def some_missed(job: str = "job") -> MissedTicks:
    return MissedTicks(new_id(), job, 10, 20, 3, "overlap", NOW, "here")


def on(url: str) -> RedisStateBackend:
    return RedisStateBackend.on(connection_to(url))


async def first(events: AsyncIterator[Event], told_by: RedisStateBackend, act: Coroutine[Any, Any, object]) -> Event:
    """The first event of an act that waits until the stream brings what is told."""
    listening, last = asyncio.ensure_future(anext(events)), Signal("join", "last")
    while not listening.done():
        await told_by.publish(Signal("join"))
        await asyncio.wait({listening}, timeout=0.1)
    assert await listening == Signal("join")
    await told_by.publish(last)
    while await anext(events) != last:
        pass
    await act
    return await anext(events)
