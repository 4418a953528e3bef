"""Stores: opens the two stores of a scheduler, announces this instance in them, and closes them at a stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from fastapi_crons._util.part import Finding, Part, listed
from fastapi_crons._util.text import one_line
from fastapi_crons.clock import Clock
from fastapi_crons.config import CronConfig
from fastapi_crons.engine.fleet.membership import Membership
from fastapi_crons.engine.runs.recorder import Recorder
from fastapi_crons.errors import CronsError, StoreError
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.instance import Instance
from fastapi_crons.state.base import HistoryLimits, StateBackend
from fastapi_crons.state.client import answer_of

logger = logging.getLogger(__name__)


def limits_of(config: CronConfig) -> HistoryLimits:
    """How much history the settings say is kept."""
    return HistoryLimits(
        config.history_keep,
        config.history_days,
        config.history_keep_failed,
        config.history_keep_always,
        config.figures_days,
    )


@dataclass(eq=False, repr=False)
class Stores(Part):
    """The stores of one scheduler. With `to_read` nothing is written to them, and other instances don't see this one."""

    _config: CronConfig
    _clock: Clock
    _instance: Instance
    _state: StateBackend
    _locks: LockClient
    _membership: Membership
    _recorder: Recorder
    to_read: bool

    async def startup(self) -> None:
        self._instance.lives_here(alive=True)
        await self._locks.open(self._instance, to_read=self.to_read)
        limits = limits_of(self._config)
        connect = self._state.open_to_read if self.to_read else self._state.open
        try:
            await answer_of(connect(self._config.namespace, limits), self._config.store_timeout)
            if not self.to_read:
                asked = self._clock.monotonic()
                await self._membership.announce()
                self._recorder.expect(self._clock.monotonic() - asked)
        except StoreError:
            await self._close(self._config.store_timeout)
            raise

    async def shutdown(self, timeout: float) -> None:
        if not self.to_read:
            await self._membership.leave(timeout)
        await self._close(timeout)
        self._instance.lives_here(alive=False)

    def findings(self) -> Iterator[Finding]:
        if self._locks.fault is not None:
            yield Finding("the lock store does not answer, nothing is started", failure=True, cause=self._locks.fault)
        damaged = sorted({*self._locks.backend.damaged(), *self._state.damaged()})
        if damaged:
            yield Finding("damaged records are skipped", cause=listed(damaged))

    async def _close(self, timeout: float) -> None:
        await asyncio.gather(self._close_state(timeout), self._locks.close(timeout))

    async def _close_state(self, timeout: float) -> None:
        try:
            await answer_of(self._state.close(), timeout)
        except CronsError as error:
            logger.warning("the state store did not close cleanly: %s", one_line(error))
