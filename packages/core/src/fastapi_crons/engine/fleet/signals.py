"""FleetSignals: publishes what other instances should know at once, and acts on what they publish."""

from __future__ import annotations

import logging
from contextlib import aclosing
from dataclasses import dataclass

from fastapi_crons._util.backoff import Backoff
from fastapi_crons._util.part import Part
from fastapi_crons._util.tasks import Background, Supervisor
from fastapi_crons._util.text import one_line
from fastapi_crons.clock import Clock
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.fleet.waker import HeartbeatWaker
from fastapi_crons.errors import StoreError
from fastapi_crons.state.base import Signal, StateBackend
from fastapi_crons.state.client import answer_of

logger = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class FleetSignals(Part):
    """The signals of one instance. An instance that receives none learns the same from the lock store, a little later."""

    _clock: Clock
    _supervisor: Supervisor
    _background: Background
    _state: StateBackend
    _dispatcher: Dispatcher
    _waker: HeartbeatWaker
    store_timeout: float
    publishes: bool
    listens: bool

    async def startup(self) -> None:
        if self.listens:
            self._supervisor.start("listen", self._listen_forever)

    async def shutdown(self, timeout: float) -> None:
        await self._supervisor.cancel("listen", timeout)

    def publish(self, signal: Signal) -> None:
        """Publish a signal, without waiting for it."""
        if self.publishes:
            self._background.start(self._publish(signal))

    async def _publish(self, signal: Signal) -> None:
        try:
            await answer_of(self._state.publish(signal), self.store_timeout)
        except StoreError as error:
            logger.debug("can't publish the signal %s: %s", signal.kind, one_line(error))

    async def _listen_forever(self) -> None:
        backoff = Backoff()
        while (events := self._state.events(records=False)) is not None:
            try:
                async with aclosing(events):
                    async for event in events:
                        backoff = Backoff()
                        # The lock store has the last word: a signal only says that it should be asked.
                        if isinstance(event, Signal) and event.kind == "resume":
                            self._dispatcher.resumed(event.job or "", 0)
                        elif isinstance(event, Signal):
                            self._waker.beat()
            except Exception as error:  # whatever a store raises
                logger.debug("can't listen to signals: %s", one_line(error))
            await self._clock.sleep(backoff.next())
