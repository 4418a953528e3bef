"""BackfillRecords: what is on record of backfills: every instance reads it, and writes how far its own ones are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastapi_crons.clock import Clock
from fastapi_crons.engine.again import Records
from fastapi_crons.errors import StoreError
from fastapi_crons.locking.base import REACHES
from fastapi_crons.locking.instance import name_of
from fastapi_crons.state.backfills import BackfillRecord

logger = logging.getLogger(__name__)

#: How often (seconds) a backfill's record is written where it has changed, and otherwise read, for one may ask to cancel it.
_EVERY = 1.0


class InWork(Protocol):
    """A backfill that this instance works on."""

    #: Its record, as it was last read or written.
    on_record: BackfillRecord

    def record(self) -> BackfillRecord:
        """The record as it should be now: what was last on record, and how far it is since then."""


@dataclass(frozen=True, eq=False, repr=False)
class BackfillRecords:
    """The records of a fleet's backfills, for one scheduler."""

    _records: Records
    _clock: Clock
    _owner: str
    _works_on: Callable[[str], bool]
    """Whether this instance works on the backfill with this id."""

    @property
    def _sees_less(self) -> bool:
        """Whether the records are shared by more instances than the lock store is."""
        state, locks = self._records.state.reach, self._records.locks.backend.reach
        return REACHES.index(state) > REACHES.index(locks)

    async def begin(self, record: BackfillRecord) -> BackfillRecord | None:
        """Put a new one on record, unless another one of its job is running; returns that one."""
        while True:
            other = await self._records.answer(self._records.state.begin_backfill(record))
            if other is None or other.id == record.id:  # the store was asked again, because the first answer was lost
                return None
            (seen,) = await self._as_they_are([other])
            if seen.status == "running":
                return seen
            await self._records.answer(self._records.state.change_backfill(seen._replace(revision=seen.revision + 1)))

    async def of_job(self, job: str) -> list[BackfillRecord]:
        """Those of a job, newest first."""
        return await self._as_they_are(await self._records.answer(self._records.state.backfills(job)))

    async def one(self, backfill_id: str) -> BackfillRecord | None:
        found = await self._records.answer(self._records.state.backfill(backfill_id))
        return None if found is None else (await self._as_they_are([found]))[0]

    async def ask_to_cancel(self, record: BackfillRecord, actor: str | None) -> BackfillRecord | None:
        """Ask the instance that works on a backfill to cancel it; None where it has ended.

        Where nothing says whether that instance is alive, it has ended with this.
        """
        asked: BackfillRecord | None = record
        while asked is not None and asked.status == "running":
            changed = asked._replace(
                cancel_asked=True, cancelled_by=asked.cancelled_by or actor, revision=asked.revision + 1
            )
            if asked.owner not in await self._living():
                changed = changed._replace(status="cancelled", current_run=None, ended_ts=self._clock.now())
            if await self._records.answer(self._records.state.change_backfill(changed)):
                return changed
            asked = await self.one(record.id)
            if asked == changed:  # the answer was lost, and the store asked again
                return changed
        return None

    async def follow(self, backfill: InWork, on_cancel: Callable[[BackfillRecord], object]) -> None:
        """Write how far a backfill is, until this is cancelled; `on_cancel` is called once another instance wants it to end."""
        while True:
            await self._clock.sleep(_EVERY)
            try:
                found = await self._write(backfill)
            except StoreError:
                continue
            if found.status != "running" or found.cancel_asked:
                on_cancel(found)
                return

    async def end(self, backfill: InWork, is_stopping: Callable[[], bool]) -> None:
        """Write how a backfill has ended; where the store is away, as soon as it is back."""
        while True:
            try:
                await self._write(backfill)
                return
            except StoreError as error:
                if is_stopping():
                    logger.warning("can't put on record how backfill %s has ended: %s", backfill.on_record.id, error)
                    return
            await self._clock.sleep(_EVERY)

    async def _write(self, backfill: InWork) -> BackfillRecord:
        """Write what has changed of a backfill; returns it as it is on record. One that has ended there stays as it is."""
        state = self._records.state
        while True:
            wanted = backfill.record()
            if wanted != backfill.on_record:
                changed = wanted._replace(revision=wanted.revision + 1)
                if await self._records.answer(state.change_backfill(changed)):
                    backfill.on_record = changed
                    return changed
            found = await self._records.answer(state.backfill(wanted.id))
            if found is None and wanted.status == "running":  # the store has lost it
                await self._records.answer(state.begin_backfill(wanted))
            if found is None or found == backfill.on_record or found.status != "running":
                return found or wanted  # it was lost, or has not changed, or others have ended it
            backfill.on_record = found

    async def _as_they_are(self, records: Sequence[BackfillRecord]) -> list[BackfillRecord]:
        """The records; one whose instance is gone was interrupted."""
        others = [each for each in records if each.status == "running" and not self._works_on(each.id)]
        if not others:
            return list(records)
        try:
            living = await self._living()
        except StoreError:
            return list(records)
        # Instances with other lock stores, which are not seen here, may share the records; names are taken once.
        names = {*map(name_of, living), name_of(self._owner)} if self._sees_less else None
        gone = {each.id for each in others if each.owner not in living and (names is None or each.instance in names)}
        return [_interrupted(each) if each.id in gone else each for each in records]

    async def _living(self) -> set[str]:
        """The owners of the other instances that are known to be alive."""
        found = await self._records.answer(self._records.locks.instances())
        return {each.instance.owner for each in found} - {self._owner}


def _interrupted(record: BackfillRecord) -> BackfillRecord:
    return record._replace(
        status="interrupted",
        current_run=None,
        error=f"instance {record.instance!r}, which worked on it, is gone; begin the same one again to run what is left",
    )
