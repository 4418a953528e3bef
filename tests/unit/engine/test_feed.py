"""Who listens to events: so many at a time, in the whole process, and whatever becomes of the store's own stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from fastapi_crons import Run
from fastapi_crons.engine.events import Feed
from fastapi_crons.errors import TooManyListenersError
from fastapi_crons.state import HistoryLimits, MemoryStateBackend
from fastapi_crons.state.base import Event, Signal
from tests.seam import Unheard


async def test_the_listeners_of_all_schedulers_of_a_process_are_counted_until_their_connections_end() -> None:
    one, other = (Feed(MemoryStateBackend(), 2) for _ in range(2))
    with one.listen(), other.listen():
        one.quiesce()  # the first is disconnected by us; its connection is still there
        with pytest.raises(TooManyListenersError, match="2 clients"), other.listen():
            pass
    with other.listen(), other.listen():
        pass
    await one.shutdown(1)
    await other.shutdown(1)


class FailsFirst(MemoryStateBackend):
    """Its first stream of events fails."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error: BaseException | None = error

    def events(self, *, records: bool = True) -> AsyncGenerator[Event, None] | None:
        return super().events(records=records) if self._error is None else self._failing()

    async def _failing(self) -> AsyncGenerator[Event, None]:
        error, self._error = self._error, None
        if error is not None:
            raise error
        yield Signal("join")


@pytest.mark.parametrize("error", [OSError("no route"), Unheard("a driver's own")], ids=repr)
async def test_events_go_on_whatever_a_store_raises(error: BaseException) -> None:
    state = FailsFirst(error)
    await state.open("test", HistoryLimits(10, 30))
    feed = Feed(state, 2)
    with feed.listen() as records:
        coming = asyncio.ensure_future(anext(records))
        for number in range(100):
            await state.write([Run(f"{number}", "job", 60, "schedule", 1, "here", 1, "completed", 60.0, 61.0)])
            await asyncio.wait({coming}, timeout=0.05)
            if coming.done():
                break
        assert isinstance((await asyncio.wait_for(coming, 5)).record, Run)
    await feed.shutdown(1)
