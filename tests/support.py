"""Small helpers for tests."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, overload

from hypothesis import settings

from fastapi_crons import Crons, MissedTicks, Run
from fastapi_crons.state import StateBackend


def state_of(crons: Crons) -> StateBackend:
    """The state store of a running scheduler."""
    engine = crons.engine
    assert engine is not None
    return engine.state


async def runs_of(crons: Crons, job: str) -> list[Run]:
    """A job's runs, oldest first."""
    return (await state_of(crons).runs(job, limit=500))[::-1]


async def kept_of(crons: Crons, job: str = "job") -> Run:
    """The latest run of a job with its log."""
    run = await state_of(crons).run((await runs_of(crons, job))[-1].id)
    assert run is not None
    return run


async def missed_of(crons: Crons, job: str) -> list[MissedTicks]:
    """A job's records of ticks that were let go, oldest first."""
    return (await state_of(crons).missed(job, limit=500))[::-1]


def at(run: Run) -> str:
    """A run's tick as HH:MM:SS."""
    assert run.tick is not None
    return run.tick.strftime("%H:%M:%S")


async def nothing() -> None:
    """A job that does nothing."""


Found = TypeVar("Found")
#: Where the programs that tests start write what they say; shown when what is waited for does not happen.
LOGS = ("server.log", "fleet.log", "log.txt")


def until(
    condition: Callable[[], Found],
    seconds: float = 60,
    what: str = "something",
    *,
    not_yet: type[Exception] | tuple[type[Exception], ...] = (),
) -> Found:
    """Wait until a condition holds, and return what it gave. An error of a kind that `not_yet` names counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        reason = ""
        try:
            if found := condition():
                return found
        except not_yet as error:
            reason = f" ({error!r})"
        if time.monotonic() > deadline:
            logs = "".join(f"\n{log}:\n{Path(log).read_text()[-4000:]}" for log in LOGS if Path(log).exists())
            raise TimeoutError(f"waited {seconds:g} s for {what}{reason}{logs}")
        time.sleep(0.02)


@overload
async def until_async(condition: Callable[[], Awaitable[Found]], seconds: float = 60) -> Found: ...


@overload
async def until_async(condition: Callable[[], bool], seconds: float = 60) -> bool: ...


async def until_async(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """The same on the event loop; what the condition gives is awaited where it can be."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        found = await answer if inspect.isawaitable(answer) else answer
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


def without_progress(said: str) -> str:
    """What a command said, without the lines about steps that took longer than a second on a busy machine."""
    return re.sub(r"(?m)^(?:importing|opening|starting|asking|drawing) the [a-z]+ …\n", "", said)


def examples(number: int) -> int:
    """So many examples for hypothesis; a tenth of them by the profile `light`."""
    return max(5, number * settings().max_examples // 100)
