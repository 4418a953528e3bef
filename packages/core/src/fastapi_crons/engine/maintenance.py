"""Maintenance: cuts the history back to its limits, and deletes the records of jobs that no instance registers any more."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import inf

from fastapi_crons._util.backoff import Meter
from fastapi_crons._util.part import Part
from fastapi_crons._util.tasks import Supervisor
from fastapi_crons._util.text import counted, one_line, printable
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.runs.recorder import Recorder
from fastapi_crons.errors import StoreError
from fastapi_crons.locking.client import LockClient
from fastapi_crons.state.base import StateBackend
from fastapi_crons.state.client import answer_of

logger = logging.getLogger(__name__)

#: How often (seconds) the history is cut back to its limits.
PRUNE_INTERVAL = 60.0
#: How often (seconds) jobs are looked for that no instance registers any more.
FORGET_INTERVAL = 3_600.0
#: How many calls to the store a step may take, each of which has `store_timeout`.
_CALLS = 12


@dataclass(eq=False, repr=False)
class Maintenance(Part):
    """The maintenance task of one scheduler. A store that fails is tried again the next time."""

    _config: CronConfig
    _clock: Clock
    _supervisor: Supervisor
    _state: StateBackend
    _locks: LockClient
    _recorder: Recorder

    def __post_init__(self) -> None:
        self._timeout = _CALLS * self._config.store_timeout
        self._forget_after = self._config.forget_after_days * 86_400
        #: When jobs to forget were looked for last, on the monotonic clock; and those that the state store still has.
        self._looked_at = -inf
        self._forgotten: set[str] = set()
        self._failures = Meter()

    async def startup(self) -> None:
        self._supervisor.start("prune", self._prune_forever)

    async def shutdown(self, timeout: float) -> None:
        await self._supervisor.cancel("prune", timeout)

    async def _prune_forever(self) -> None:
        while True:
            try:
                await self._prune()
                self._failures.works(self._clock.monotonic())
            except StoreError as error:
                lasting = self._failures.failed(self._clock.monotonic())
                # A store that does not answer at all is logged already.
                if lasting is not None and self._locks.fault is None and self._recorder.fault is None:
                    logger.warning(
                        "old history could not be deleted, %s so far; it is tried again each minute: %s",
                        counted(lasting.times, "time"),
                        one_line(error),
                    )
            await self._clock.sleep(PRUNE_INTERVAL)

    async def _prune(self) -> None:
        await answer_of(self._state.prune(self._clock.now()), self._timeout)
        if self._clock.monotonic() - self._looked_at >= FORGET_INTERVAL:
            # The lock store names each job once.
            self._forgotten |= set(await self._locks.forget(self._forget_after))
            self._looked_at = self._clock.monotonic()
        if self._forgotten:
            names = sorted(self._forgotten)
            await answer_of(self._state.forget(names), self._timeout)
            shown = ", ".join(map(printable, names[:10]))
            logger.info("forgot %s that no instance has registered for long: %s", counted(len(names), "job"), shown)
            self._forgotten.clear()
