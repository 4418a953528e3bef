"""LostLeases: what becomes of runs whose leases the lock store no longer has under our name, or does not answer for in time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi_crons._util.tasks import Background
from fastapi_crons.clock import Clock
from fastapi_crons.engine.dispatch.dispatcher import Dispatcher
from fastapi_crons.engine.fleet.waker import HeartbeatWaker
from fastapi_crons.engine.runs.run import ActiveRun
from fastapi_crons.engine.runs.runner import Runner
from fastapi_crons.errors import StoreError
from fastapi_crons.locking.base import LeaseRef
from fastapi_crons.locking.client import LockClient
from fastapi_crons.locking.leases import LeaseBook
from fastapi_crons.run import short_id

logger = logging.getLogger(__name__)

#: Seconds until the store is asked again about leases that it could not be asked about.
_RETRY_AFTER = 1.0


@dataclass(eq=False, repr=False)
class LostLeases:
    """Has leases put on record again where the store has lost them, and cancels the runs whose leases can't be restored."""

    _clock: Clock
    _background: Background
    _locks: LockClient
    _leases: LeaseBook
    _runner: Runner
    _dispatcher: Dispatcher
    _waker: HeartbeatWaker
    _log_failure: Callable[[str, StoreError], None]

    def refused(self, leases: Sequence[LeaseRef]) -> None:
        """The store does not know these leases as ours, though we hold them."""
        runs = [run for lease in leases if (run := self._runner.active.get(lease.run_id)) is not None]
        if runs:
            self._background.start(self.restore(runs))

    async def restore(self, runs: Sequence[ActiveRun]) -> None:
        """Put leases on record again that the store has lost. It refuses where it has granted a later one of the job."""
        try:
            refused = await self._renew(runs)
            if not refused:
                return
            await self._dispatcher.jobs.register_jobs_of(refused)
            lost = await self._renew(refused)
        except StoreError as error:
            self._log_failure("can't renew leases, and will try again", error)
            self._clock.call_later(_RETRY_AFTER, self._waker.renew)
            return
        for run in lost:
            self._leases.lose(run.id)
            if not run.function_ended:
                logger.error(
                    "job %r: run %s lost its lease, and is cancelled",
                    run.job.name,
                    short_id(run.id),
                    extra=run.log_fields,
                )
                run.cut_off("lease_lost")

    async def _renew(self, runs: Sequence[ActiveRun]) -> list[ActiveRun]:
        """Renew the leases of runs; returns the runs whose leases are not ours for the store."""
        refused = {lease.run_id for lease in await self._locks.renew([run.ref for run in runs])}
        return [run for run in runs if run.id in refused]

    def trust_lost(self) -> None:
        """The store did not answer in time: another instance may have recovered what runs here."""
        for run in list(self._runner.active.values()):
            if not (run.function_ended or run.cut or self._leases.trusts(run.id)):
                self._cut_off(run)

    def _cut_off(self, run: ActiveRun) -> None:
        """Cancel a run that another instance may run by now; a thread can't be cancelled."""
        if run.thread_lives and not run.waits:
            consequence = (
                "its thread can't be ended, and its outcome counts unless another instance has the lease by then"
            )
        else:
            consequence = "it is cancelled"
            run.cut_off("lease_lost")
        logger.error(
            "job %r: the lock store does not answer whether run %s still has its lease; %s",
            run.job.name,
            short_id(run.id),
            consequence,
            extra=run.log_fields,
        )
