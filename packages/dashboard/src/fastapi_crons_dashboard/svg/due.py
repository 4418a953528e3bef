"""Which ticks of a schedule a lane shows: one by one, or as a number in each part of the window."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi_crons import Schedule
from fastapi_crons.management import Patience
from fastapi_crons_dashboard.svg.density import PARTS, Parts, edge, part_of


class DueTicks:
    """The ticks of schedules in the window from `since` to `until` (Unix seconds)."""

    def __init__(self, since: int, until: int, most: int) -> None:
        """`most`: how many are shown one by one."""
        self._since, self._until, self._most = since, until, most
        self._patience = Patience()
        self._known: dict[tuple[Schedule, int, int], Sequence[int] | Parts] = {}

    async def between(self, schedule: Schedule, after: int, until: int) -> Sequence[int] | Parts:
        """The ticks in (after, until]. Takes short turns on the event loop; schedules may share an answer."""
        asked = (schedule, after, until)
        if asked not in self._known:
            await self._patience.give_turn()
            self._known[asked] = self._find(schedule, after, until) if after < until else ()
        return self._known[asked]

    async def in_parts(self, schedule: Schedule, after: int, until: int) -> Parts:
        """The same as numbers, however few they are."""
        ticks = await self.between(schedule, after, until)
        if isinstance(ticks, Parts):
            return ticks
        numbers = [0] * PARTS
        for tick in ticks:
            numbers[part_of(self._since, self._until, tick)] += 1
        return Parts(self._since, self._until, tuple(numbers))

    def _find(self, schedule: Schedule, after: int, until: int) -> Sequence[int] | Parts:
        ticks = self._patience.first_of(schedule, after, until, self._most + 1)
        if ticks is None:
            return self._of_others(schedule, after, until)
        if len(ticks) <= self._most:
            return ticks
        numbers = []
        for part in range(PARTS):
            begin, end = edge(self._since, self._until, part), edge(self._since, self._until, part + 1)
            numbers.append(self._patience.number_of(schedule, max(begin - 1, after), min(end - 1, until)))
        return Parts(self._since, self._until, tuple(numbers))

    def _of_others(self, schedule: Schedule, after: int, until: int) -> Sequence[int] | Parts:
        """Ticks of a schedule that plugins or apps bring: those that it names, or their number evenly spread."""
        ticks = self._patience.ticks_of(schedule, after, until)
        if ticks.number == len(ticks.single) or ticks.first is None or ticks.last is None:
            return ticks.single
        first, last = (part_of(self._since, self._until, tick) for tick in (ticks.first, ticks.last))
        share, rest = divmod(ticks.number, last - first + 1)
        numbers = [0] * PARTS
        for part in range(first, last + 1):
            numbers[part] = share + (part - first < rest)
        return Parts(self._since, self._until, tuple(numbers))
