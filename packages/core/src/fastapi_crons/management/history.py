"""History: finds runs on record, by the whole id of a run or a part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastapi_crons._util.text import cut
from fastapi_crons.errors import UnknownRunError
from fastapi_crons.run import SHORTEST_ID, MissedTicks, Run
from fastapi_crons.state.base import AGAIN, MissedQuery, RunQuery
from fastapi_crons.state.client import answer_of

if TYPE_CHECKING:
    from fastapi_crons.engine.engine import Engine

#: How many ids an error lists.
_LISTED = 3
#: The length of a run's id, and where its hyphens stand.
_WHOLE_ID = 36
_HYPHENS = (8, 13, 18, 23)
_BACKWARDS = (12, 17, 22, 27)
#: A run's id may be older (seconds) than its tick: clocks differ, and are stepped.
_CLOCKS_DIFFER = 3_600
#: How many runs before a tick are looked at: for the run that was in its way, and for how far the history reaches back.
_EARLIER = 20
#: How far after a tick (seconds) the run is looked for that stands for it, at first, and how much further each time.
_FIRST_REACH, _GROWTH = 3_600, 24
#: No more records than this are read at a time; but for those of ticks that were run again, however many there are.
_MOST = 10_000
_ANY = 2**31 - 1
#: How many records of missed ticks are looked at besides those that the tick lies in.
_NEWEST_MISSED = 50


class History:
    """The runs and missed ticks that an engine's state store has on record. Each answer takes `timeout` seconds at most."""

    def __init__(self, engine: Engine, timeout: float) -> None:
        self._state = engine.state
        self._recorder = engine.recorder
        self._active = engine.runner.active
        self._timeout = timeout

    async def run(self, name: str | None, run_id: str) -> Run:
        """A run of a job, or of any job, with its log. `run_id` may be the first or last characters of its id."""
        run = await self._run(run_id)
        if run is None and len(run_id) < _WHOLE_ID:
            run = await self._run(await self._whole_id(name, run_id))
        if run is None or (name is not None and run.job != name):
            raise _unknown_run(name, run_id)
        return run

    async def find_runs(self, query: RunQuery) -> list[Run]:
        """The runs that a query asks for, newest first, without their logs. One query."""
        return await answer_of(self._state.find_runs(query), self._timeout)

    async def find_missed(self, query: MissedQuery) -> list[MissedTicks]:
        """The records of missed ticks that a query asks for, newest first. One query."""
        return await answer_of(self._state.find_missed(query), self._timeout)

    async def runs_around(self, name: str, tick: int, now: float) -> list[Run]:
        """The runs of a job that may tell about a tick (Unix seconds), oldest first: up to one of a later tick.

        And those that were asked for since then to run ticks again.
        """
        since = tick - _CLOCKS_DIFFER
        earlier = await self.find_runs(RunQuery((name,), until=since, limit=_EARLIER))
        reach = _FIRST_REACH
        while True:
            until = tick + reach
            found = await self.find_runs(RunQuery((name,), since=since, until=until, limit=_MOST))
            if until > now + _CLOCKS_DIFFER or any(_is_later(run, tick) for run in found):
                again = await self.find_runs(RunQuery((name,), since=until, limit=_ANY, triggers=AGAIN))
                return [*earlier[::-1], *found[::-1], *again[::-1]]
            reach *= _GROWTH

    async def missed_around(self, name: str, tick: int) -> list[MissedTicks]:
        """The records of a job's missed ticks that a tick (Unix seconds) may lie in, and the newest ones."""
        of_tick, newest = await asyncio.gather(
            self.find_missed(MissedQuery((name,), since=tick, until=tick + 1, limit=_MOST)),
            self.find_missed(MissedQuery((name,), limit=_NEWEST_MISSED)),
        )
        return list({missed.id: missed for missed in (*newest, *of_tick)}.values())

    async def _run(self, run_id: str) -> Run | None:
        active = self._active.get(run_id)
        if active is not None:
            return active.so_far()
        # A run that has just ended here may not be on record yet.
        return self._recorder.noted(run_id) or await answer_of(self._state.run(run_id), self._timeout)

    async def _whole_id(self, name: str | None, part: str) -> str:
        """The id of the one run whose id begins or ends with `part`, with or without its hyphens."""
        wanted = part.lower().strip()
        if len(wanted) < SHORTEST_ID:
            raise UnknownRunError(f"{part!r} is too short for a run's id; give at least {SHORTEST_ID} characters")
        texts = dict.fromkeys((wanted, _hyphenated(wanted, _HYPHENS), _hyphenated(wanted[::-1], _BACKWARDS)[::-1]))
        noted = [run.id for run in self._recorder.noted_runs() if name in (None, run.job)]
        found = {run_id for run_id in noted for text in texts if run_id.startswith(text) or run_id.endswith(text)}
        for text in texts:
            found.update(await answer_of(self._state.find_ids(text, name), self._timeout))
        if not found:
            raise _unknown_run(name, part)
        if len(found) > 1:
            listed = ", ".join(sorted(found, reverse=True)[:_LISTED])
            more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
            raise UnknownRunError(f"{part!r} matches {len(found)} runs: {listed}{more}; give more of the id")
        return found.pop()


def _hyphenated(text: str, places: Iterable[int]) -> str:
    """The beginning of an id, with hyphens in these places and in no others."""
    plain = text.replace("-", "")
    for place in places:
        if len(plain) > place:
            plain = f"{plain[:place]}-{plain[place:]}"
    return plain


def _is_later(run: Run, tick: int) -> bool:
    """Whether a run is of a later tick, so that what follows it says nothing more about this one."""
    by_clock = run.trigger != "again" and run.status != "interrupted"
    return by_clock and run.tick_ts is not None and run.tick_ts > tick


def _unknown_run(name: str | None, run_id: str) -> UnknownRunError:
    subject = "there is no run" if name is None else f"job {name!r} has no run"
    return UnknownRunError(f"{subject} {cut(run_id, 100)!r} on record; old history may have been deleted")
