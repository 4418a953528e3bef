"""Tasks of the scheduler's own: one that fails is started again, and nothing is left of one that never began."""

from __future__ import annotations

import asyncio
import sys

import pytest

from fastapi_crons._util.tasks import Background, Supervisor
from fastapi_crons.testing import VirtualClock
from tests.seam import Unheard
from tests.support import until_async


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        Unheard("a driver's own"),
        pytest.param(
            asyncio.CancelledError("a driver's own"),
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="can't be told from a cancellation"),
        ),
    ],
    ids=repr,
)
async def test_a_task_that_fails_is_started_again_whatever_it_raises(error: BaseException) -> None:
    supervisor, tries = Supervisor(), 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise error
        await asyncio.Event().wait()

    supervisor.start("test", work)
    await until_async(lambda: tries == 2, 5)
    (finding,) = supervisor.findings()
    assert (finding.text, finding.failure) == ("the test task failed and was started again", True)
    await supervisor.cancel("test", 1)


async def test_what_is_cancelled_before_it_began_is_closed() -> None:
    background, began = Background(VirtualClock(), 1), False

    async def work() -> None:
        nonlocal began
        began = True

    task = background.start(work())
    task.cancel()
    await asyncio.wait({task})  # Python would warn of a coroutine that was never awaited
    assert not began
    assert not background.tasks
