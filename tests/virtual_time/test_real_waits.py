"""A virtual clock that has to wait in real time says for what, and gives up in the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import Depends

from fastapi_crons import CronsError
from fastapi_crons.testing import VirtualClock
from tests.conftest import MakeCrons
from tests.support import nothing, runs_of


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock("2026-03-01T00:00:00Z", patience=0.3)


async def _slow() -> AsyncIterator[None]:
    await asyncio.sleep(3_600)
    yield


async def sleeps() -> None:
    await asyncio.sleep(3_600)


async def depends(slow: Annotated[None, Depends(_slow)]) -> None:
    """Never begins."""


@pytest.mark.parametrize("function", [sleeps, depends])
async def test_a_run_that_awaits_in_real_time_is_named_in_the_log_and_then_in_an_error(
    make_crons: MakeCrons, clock: VirtualClock, caplog: pytest.LogCaptureFixture, function: object
) -> None:
    crons = make_crons()
    crons.cron("* * * * *", name="slow")(function)  # type: ignore[type-var]
    crons.cron("* * * * *", name="quick")(nothing)
    await crons.start()
    with pytest.raises(CronsError) as stuck:
        await clock.advance(crons, hours=1)
    awaits = "job 'slow', which is awaiting something in real time (run "
    assert f"time can't pass: 0.3 real seconds were waited for {awaits}" in str(stuck.value)
    (warning,) = (record.getMessage() for record in caplog.records if "time does not pass" in record.getMessage())
    assert awaits in warning
    assert "let what it calls sleep on the clock (clock.sleep)" in warning
    assert len(await runs_of(crons, "quick")) == 1
    await clock.advance(crons, seconds=1, finish_runs=False)
    engine = crons.engine
    assert engine is not None
    (run,) = engine.runner.active.values()
    assert run.task is not None
    run.task.cancel()


async def test_a_run_that_is_busy_in_a_thread_is_named(make_crons: MakeCrons, clock: VirtualClock) -> None:
    crons, over = make_crons(), threading.Event()
    crons.cron("* * * * *", name="slow")(lambda: over.wait(60) and None)
    await crons.start()
    try:
        with pytest.raises(CronsError, match="waited for job 'slow', which is busy in a thread"):
            await clock.advance(crons, minutes=1)
    finally:
        over.set()
    await clock.settle(crons)
    assert [run.status for run in await runs_of(crons, "slow")] == ["completed"]
