"""Tasks that have an owner: those that run until they are stopped, and those in the background."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from fastapi_crons._util.backoff import Backoff, Meter
from fastapi_crons._util.exceptions import is_a
from fastapi_crons._util.part import Finding, Part
from fastapi_crons._util.text import counted, one_line, traceback_text
from fastapi_crons.clock import Clock, begin_root_task

logger = logging.getLogger(__name__)

#: A task that lived for so long (seconds) before it failed starts again without delay.
_HEALTHY_AFTER = 60.0


class Supervisor(Part):
    """Runs tasks until they are stopped, and starts one that failed again."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: What failed last, and when on the loop's clock, by task.
        self._faults: dict[str, tuple[float, str]] = {}

    async def shutdown(self, timeout: float) -> None:
        for name in list(self._tasks):
            await self.cancel(name, timeout)

    def findings(self) -> Iterator[Finding]:
        since = asyncio.get_running_loop().time() - _HEALTHY_AFTER
        for name, (when, fault) in self._faults.items():
            if when > since:
                yield Finding(f"the {name} task failed and was started again", failure=True, cause=fault)

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` until it is stopped: when it fails it is started again, with growing delays."""
        self._tasks[name] = asyncio.create_task(self._keep(name, work), name=f"fastapi-crons {name}")

    def own_tasks(self, *names: str) -> list[asyncio.Task[None]]:
        return [self._tasks[name] for name in names if name in self._tasks]

    async def finish(self, name: str, timeout: float) -> None:
        """Wait for a task that was asked to end by itself; cancel it after `timeout` seconds."""
        task = self._tasks.get(name)
        if task is not None:
            await asyncio.wait({task}, timeout=timeout)
        await self.cancel(name, 1.0)

    async def cancel(self, name: str, timeout: float) -> None:
        """Cancel a task and wait for its end; one that swallows the cancellation is cancelled again, within the bound."""
        task = self._tasks.pop(name, None)
        if task is None:
            return
        deadline = asyncio.get_running_loop().time() + timeout
        while not task.done() and asyncio.get_running_loop().time() < deadline:
            task.cancel()
            await asyncio.wait({task}, timeout=min(0.1, timeout))
        if not task.done():
            logger.error("the scheduler's %s task did not end within %g s", name, timeout)

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        begin_root_task()
        loop = asyncio.get_running_loop()
        backoff, failures = Backoff(), Meter()
        while True:
            began = loop.time()
            try:
                await work()
                return
            except BaseException as error:
                if is_cancellation(error):
                    raise
                # KeyboardInterrupt and SystemExit too: the code that runs the loop gets them by signals.
                self._faults[name] = loop.time(), one_line(error)
                lasting = failures.failed(loop.time())
                if lasting is not None:
                    logger.error(
                        "the scheduler's %s task failed, %s so far, and is started again\n%s",
                        name,
                        counted(lasting.times, "time"),
                        traceback_text(error),
                    )
                if loop.time() - began > _HEALTHY_AFTER:
                    backoff, failures = Backoff(), Meter()
            await asyncio.sleep(backoff.next())


class Background(Part):
    """Tasks whose results no caller waits for. At a stop they get `grace` seconds to end."""

    def __init__(self, clock: Clock, grace: float) -> None:
        self._clock = clock
        self._grace = grace
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
        """Run a coroutine as a task of its own."""
        task = asyncio.create_task(_as_root_task(work))
        self.tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            work.close()  # a task that is cancelled before it begins leaves it as it is

        task.add_done_callback(ended)
        return task

    async def drain(self, timeout: float) -> None:
        """Wait for all of them, `timeout` seconds at most."""
        await self._clock.wait(list(self.tasks), timeout)

    async def shutdown(self, timeout: float) -> None:
        await self.drain(self._grace)
        for task in self.tasks:
            task.cancel()


async def _as_root_task(work: Coroutine[Any, Any, object]) -> None:
    begin_root_task()
    await work


def is_cancellation(error: BaseException) -> bool:
    """Whether an error ends the current task from outside. Code may raise CancelledError by itself, too.

    Before Python 3.11 the two can't be told apart, and both count.
    """
    if is_a(error, asyncio.CancelledError) and sys.version_info >= (3, 11):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return is_a(error, (asyncio.CancelledError, GeneratorExit))


def uncancel() -> None:
    """Take back a cancellation of the current task that was ours, so that time limits inside it count rightly."""
    if sys.version_info >= (3, 11):
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
