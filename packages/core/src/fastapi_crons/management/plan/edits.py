"""Which ticks of a job an edit adds, and which it takes away."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from fastapi_crons.errors import ScheduleError
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import KnownJob
from fastapi_crons.management.plan.ticks import Patience, is_ours
from fastapi_crons.schedule.base import Schedule, ZonedSchedule
from fastapi_crons.schedules.texts import schedule_of_text

#: How many ticks are compared, of all jobs together. After that they are only counted.
_MAX_COMPARED = 1_000_000


class TickEdit(NamedTuple):
    """How the ticks of a span change. Instants in Unix seconds."""

    before: int
    """How many ticks it has now."""
    after: int
    """How many it will have."""
    removed: int | None = None
    """How many of them are not due any more; None where they could only be counted."""
    added: int | None = None
    """How many are due that were not."""
    first_removed: int | None = None
    first_added: int | None = None


class Edits:
    """Compares ticks in (after, until]. What was compared for one job is kept for others with the same schedules."""

    def __init__(self, after: int, until: int) -> None:
        self._after, self._until = after, until
        self._left = _MAX_COMPARED
        self._patience = Patience()
        self._compared: dict[tuple[Schedule | None, Schedule | None], TickEdit] = {}

    async def of(self, known: KnownJob | None, job: CronJob | None) -> TickEdit | None:
        """From what is on record to a job; None for the one that comes, or the one that goes.

        None where a schedule can't be known from the clock, or only the code that goes knows it.
        """
        await self._patience.give_turn()
        before: Schedule | None = None
        try:
            if known is not None and known.enabled:
                before = schedule_of_text(known.schedule, known.timezone or None)
        except ScheduleError:
            return None
        after = job.schedule if job is not None and job.enabled else None
        if any(isinstance(each, ZonedSchedule) and not each.is_clocked for each in (before, after)):
            return None
        if (before, after) not in self._compared:
            self._compared[before, after] = self._compare(before, after)
        return self._compared[before, after]

    def _compare(self, before: Schedule | None, after: Schedule | None) -> TickEdit:
        old, new = self._ticks(before), self._ticks(after)
        if old is None or new is None:
            numbers = (0 if each is None else self._number(each) for each in (before, after))
            return TickEdit(*numbers)
        removed, added = old - new, new - old
        return TickEdit(
            len(old), len(new), len(removed), len(added), min(removed, default=None), min(added, default=None)
        )

    def _ticks(self, schedule: Schedule | None) -> set[int] | None:
        if schedule is None:
            return set()
        if not is_ours(schedule) or not isinstance(schedule, ZonedSchedule) or self._left <= 0:
            return None
        found = set(islice(schedule.ticks_between(self._after, self._until), self._left))
        self._left -= len(found)
        return found if self._left > 0 else None

    def _number(self, schedule: Schedule) -> int:
        return self._patience.ticks_of(schedule, self._after, self._until).number
