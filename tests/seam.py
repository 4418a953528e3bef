"""Seam: the one place where tests, and the processes they start, reach inside the scheduler.

Most faults come through public doors: a clock of ours, the methods of a store's contract, hooks. What has no such door is
listed below as `Inside`, each name once; tests name no other internals to replace them. Imported by the processes of a fleet.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi_crons.clock import SystemClock, Timer

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True, slots=True)
class Inside:
    """A name inside our distributions that tests replace, for want of a public door."""

    module: str
    name: str

    @property
    def value(self) -> Any:
        """What stands there now. Raises where the name is gone."""
        return getattr(import_module(self.module), self.name)

    def replace(self, patch: pytest.MonkeyPatch, value: object) -> None:
        """Put something else there until the test ends. Raises where the name is gone."""
        patch.setattr(import_module(self.module), self.name, value)

    def replace_for_good(self, value: object) -> None:
        """The same for as long as this process lives."""
        assert self.value is not None
        setattr(import_module(self.module), self.name, value)


#: Tells one boot of a host from another; a process of another boot can't be judged by its pid.
BOOT = Inside("fastapi_crons.locking.instance", "_boot")
#: After how many steps counting ticks stops.
MAX_STEPS = Inside("fastapi_crons.schedule.due", "MAX_STEPS")
#: After how long (seconds) the import of a plugin is said to take long.
LONG_IMPORT = Inside("fastapi_crons.plugins.loading", "_LONG_IMPORT")
#: Where plugins are looked for.
ENTRY_POINTS = Inside("fastapi_crons.plugins.loading", "entry_points")
#: Whether a connection comes from a process of this user; how long that may take; in which pieces lists are read.
IS_OURS = Inside("fastapi_crons.api.owners", "is_ours")
OWNER_DEADLINE = Inside("fastapi_crons.api.locality", "_DEADLINE")
OWNER_PIECE = Inside("fastapi_crons.api.owners", "_PIECE")
#: The time and the delay by which wrong tokens are slowed down.
THROTTLE_SLEEP = Inside("fastapi_crons.api.throttle", "sleep")
THROTTLE_MONOTONIC = Inside("fastapi_crons.api.throttle", "monotonic")
#: A job as `list-jobs --json` prints it.
JOB_JSON = Inside("fastapi_crons_cli.commands.listing", "job_json")
#: The time by which SQLite's listeners are taken for dead; what takes over a file of 2.x.
SQLITE_EVENT_TIME = Inside("fastapi_crons_sqlite._history.events", "time")
SQLITE_TAKE_OVER = Inside("fastapi_crons_sqlite._schema", "_convert")
#: After how long (seconds) without a word a listener asks whether Redis is there.
REDIS_SILENCE = Inside("fastapi_crons_redis.subscription", "SILENCE")
#: From how many seconds on, there and back, a PostgreSQL server is far away.
POSTGRES_FAR = Inside("fastapi_crons_postgres._connection", "_FAR")


def on_a_host_of_its_own() -> None:
    """From now on no other process can judge this one by its pid, as if each ran on another host."""
    BOOT.replace_for_good(lambda: f"host of {os.getpid()}")


class FaultyClock(SystemClock):
    """The machine's clock, unless it is told otherwise: what a process of a fleet goes by."""

    #: By how many seconds the wall clock is ahead of the true time.
    ahead = 0.0
    #: The waits of this task of the scheduler's are cut to a tenth of a second.
    hurried = ""

    def __init__(self) -> None:
        #: Called at each wait, with the name of the task that waits.
        self.on_wait: Callable[[str], object] = lambda task: None

    def now(self) -> float:
        return time.time() + self.ahead

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        self.on_wait(_task())
        return super().call_later(delay, callback)

    async def sleep(self, delay: float) -> None:
        task = _task()
        self.on_wait(task)
        await super().sleep(min(delay, 0.1) if task == self.hurried else delay)


def _task() -> str:
    """The name of the current task; one of the scheduler's own without its prefix."""
    task = asyncio.current_task()
    return "" if task is None else task.get_name().removeprefix("fastapi-crons ")


class Unheard(BaseException):
    """What nobody counts on."""


def fail_calls(store: type[Any], method: str, fails: Callable[[], bool]) -> None:
    """From now on a method of a store's contract raises `Unheard` where `fails()`, before it does anything."""
    call: Callable[..., Awaitable[object]] = getattr(store, method)

    async def failing(self: object, *args: object, **named: object) -> object:
        if fails():
            raise Unheard(method)
        return await call(self, *args, **named)

    setattr(store, method, failing)
