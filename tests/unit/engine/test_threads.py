"""ThreadPool: of a call whose result is not wanted any more nothing is left, not even a coroutine that it returns."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fastapi_crons._util.threads import ThreadPool
from tests.support import nothing, until


@pytest.mark.parametrize("ended_before", [True, False])
async def test_a_coroutine_that_nobody_awaits_is_closed(ended_before: bool) -> None:
    pool = ThreadPool(1, "test")
    begun, may_end = threading.Event(), threading.Event()

    def call() -> object:
        begun.set()
        may_end.wait()
        return nothing()  # Python would warn that it was never awaited

    future = pool.submit(call)
    await asyncio.to_thread(begun.wait)
    if ended_before:
        may_end.set()
        await asyncio.wait({future})
    assert not pool.withdraw(future), "a thread has started it"
    may_end.set()
    await asyncio.wait({future})
    await asyncio.sleep(0)


def test_a_coroutine_that_comes_after_the_end_of_its_loop_is_closed() -> None:
    pool = ThreadPool(1, "late", idle_seconds=0)
    begun, may_end = threading.Event(), threading.Event()

    def call() -> object:
        begun.set()
        may_end.wait()
        return nothing()

    async def leave() -> None:
        pool.submit(call)
        await asyncio.to_thread(begun.wait)

    asyncio.run(leave())
    may_end.set()
    until(lambda: not any(thread.name == "late-1" for thread in threading.enumerate()))
