"""StartStop: starts and stops the engine of one scheduler, for all who use it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi_crons.clock import root_task
from fastapi_crons.errors import CronsError, NotRunningError

if TYPE_CHECKING:
    from fastapi_crons.engine.engine import Engine, Role
    from fastapi_crons.engine.manual import Requests

logger = logging.getLogger(__name__)


class StartStop:
    """One start or stop happens at a time. `make_engine` makes the engine of a start; `on_start` is called after it."""

    def __init__(self, make_engine: Callable[[Role], Engine], on_start: Callable[[Engine], None]) -> None:
        self._make_engine = make_engine
        self._on_start = on_start
        self._engine: Engine | None = None
        self._turn: asyncio.Lock | None = None
        self._stopping: asyncio.Task[None] | None = None
        #: Apps and `async with` blocks that use the scheduler, each with its event loop.
        self._users: dict[object, asyncio.AbstractEventLoop] = {}

    @property
    def engine(self) -> Engine | None:
        """The running engine; None where there is none, and in a process forked from the one that started it."""
        engine = self._engine
        if engine is None or engine.pid != os.getpid():
            return None
        if engine.loop.is_closed():
            # Its event loop ended without a stop, so nothing of it is running.
            engine.instance.lives_here(alive=False)
            return None
        return engine

    @property
    def users(self) -> int:
        return len(self._users)

    def engine_for(self, action: str) -> Engine:
        """The running engine. Raises `CronsError`, naming the action, where there is none or it is on another event loop."""
        engine = self.engine
        if engine is None:
            raise NotRunningError(
                f"can't {action}: the scheduler is not running; it runs between crons.start() and crons.stop()"
            )
        self._check_loop(engine, "used")
        return engine

    def requests_for(self, action: str) -> Requests:
        """What performs requests. Raises as `engine_for`, and where the scheduler was started as an observer."""
        return self.engine_for(action).requests_for(action)

    async def begin_for(self, user: object) -> None:
        """Start for a user; without effect where it has started for another."""
        self._users[user] = asyncio.get_running_loop()
        try:
            await self.start("scheduler")
        except BaseException:
            self._users.pop(user, None)
            raise

    async def end_for(self, user: object) -> None:
        """Stop for a user, unless others on this event loop still use the scheduler."""
        loop = self._users.pop(user, None)
        engine = self.engine
        if loop is None or (engine is not None and engine.loop is not loop) or loop in self._users.values():
            return
        if self._users:
            logger.warning("Cron scheduler stops with its event loop, although an app on another event loop uses it")
        await self.stop()

    async def start(self, role: Role) -> None:
        """Start; without effect where it has started. Where that fails, nothing is left running."""
        async with self._one_at_a_time():
            if self.engine is not None:
                return
            if self._engine is not None and self._engine.pid != os.getpid():
                raise CronsError(
                    "the scheduler was started before this process was forked, and its connections can't be shared; "
                    "fork first, then start it in each process"
                )
            engine = self._engine = self._make_engine(role)
            try:
                await engine.start()
            except BaseException:
                self._engine = None
                raise
            self._on_start(engine)

    async def stop(self) -> None:
        """Stop; without effect where it is not running. See `Crons.stop`."""
        engine = self.engine
        if engine is not None:
            self._check_loop(engine, "stopped")
        stopping = self._begin_stop()
        if stopping is None or (engine is not None and engine.waits_for(asyncio.current_task(), root_task.get())):
            return
        await asyncio.shield(stopping)

    def heed_signals(self) -> None:
        if self.engine is not None:
            self.engine.heed_signals(self._begin_stop)

    def _begin_stop(self) -> asyncio.Task[None] | None:
        """The task that stops; None where nothing is running or starting."""
        if (self._stopping is None or self._stopping.done()) and (
            self.engine is not None or self._one_at_a_time().locked()
        ):
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
        return self._stopping

    async def _stop(self) -> None:
        async with self._one_at_a_time():
            engine = self.engine
            try:
                if engine is not None:
                    await engine.stop()
                    if engine.role == "scheduler":
                        logger.info("Cron scheduler stopped")
            finally:
                self._engine = self._stopping = None

    @staticmethod
    def _check_loop(engine: Engine, what: str) -> None:
        if engine.loop is not asyncio.get_running_loop():
            raise CronsError(
                f"this scheduler runs on another event loop and can't be {what} from here; "
                "use asyncio.run_coroutine_threadsafe(…, loop) with the event loop that it was started on"
            )

    def _one_at_a_time(self) -> asyncio.Lock:
        # A lock belongs to one event loop, and a scheduler may be started on several, one after another.
        if self._turn is None or (self.engine is None and not self._turn.locked()):
            self._turn = asyncio.Lock()
        return self._turn
