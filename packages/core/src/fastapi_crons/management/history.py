"""History: finds runs on record, by the whole id of a run or a part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi_crons._util.text import cut
from fastapi_crons.errors import UnknownRunError
from fastapi_crons.run import SHORTEST_ID, MissedTicks, Run, made_at
from fastapi_crons.state.client import answer_of

if TYPE_CHECKING:
    from fastapi_crons.engine.engine import Engine

#: How many runs are read at a time when the history is searched.
_PAGE = 500
#: How many pages of the history are searched for a part of a run's id, and how many ids an error lists.
_MAX_PAGES = 20
_LISTED = 3
#: The length of a run's id.
_WHOLE_ID = 36


class History:
    """The runs and missed ticks that an engine's state store has on record. Each answer takes `timeout` seconds at most."""

    def __init__(self, engine: Engine, timeout: float) -> None:
        self._state = engine.state
        self._recorder = engine.recorder
        self._timeout = timeout

    async def run(self, name: str | None, run_id: str) -> Run:
        """A run of a job, or of any job, with its log. `run_id` may be the first or last characters of its id."""
        run = await self._run(run_id)
        if run is None and len(run_id) < _WHOLE_ID:
            run = await self._run(await self._whole_id(name, run_id))
        if run is None or (name is not None and run.job != name):
            raise _unknown_run(name, run_id)
        return run

    async def runs_since(self, name: str, since: float) -> list[Run]:
        """The runs of a job that may have been claimed since then (Unix seconds), oldest first."""
        found: list[Run] = []
        before = None
        while True:
            page = await self._page(name, before)
            found += page
            if len(page) < _PAGE or made_at(page[-1].id) < since:
                return found[::-1]
            before = page[-1].id

    async def missed(self, name: str, limit: int) -> list[MissedTicks]:
        """The records of a job's missed ticks, newest first."""
        return await answer_of(self._state.missed(name, limit=limit), self._timeout)

    async def _run(self, run_id: str) -> Run | None:
        # A run that has just begun or ended here may not be on record yet.
        return self._recorder.noted(run_id) or await answer_of(self._state.run(run_id), self._timeout)

    async def _page(self, name: str | None, before: str | None) -> list[Run]:
        return await answer_of(self._state.runs(name, limit=_PAGE, before=before), self._timeout)

    async def _whole_id(self, name: str | None, part: str) -> str:
        """The id of the one run, among the newest, whose id begins or ends with `part`."""
        wanted = part.lower().strip()
        if len(wanted) < SHORTEST_ID:
            raise UnknownRunError(f"{part!r} is too short for a run's id; give at least {SHORTEST_ID} characters")
        noted = self._recorder.noted_runs()
        found = {run.id for run in noted if name in (None, run.job) and _is_part(wanted, run.id)}
        before = None
        for _ in range(_MAX_PAGES):
            page = await self._page(name, before)
            found |= {run.id for run in page if _is_part(wanted, run.id)}
            if len(page) < _PAGE:
                break
            before = page[-1].id
        if not found:
            raise _unknown_run(name, part)
        if len(found) > 1:
            listed = ", ".join(sorted(found, reverse=True)[:_LISTED])
            more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
            raise UnknownRunError(f"{part!r} matches {len(found)} runs: {listed}{more}; give more of the id")
        return found.pop()


def _is_part(text: str, run_id: str) -> bool:
    """Whether an id begins or ends with the text, with or without its hyphens."""
    plain = run_id.replace("-", "")
    return run_id.startswith(text) or run_id.endswith(text) or plain.startswith(text) or plain.endswith(text)


def _unknown_run(name: str | None, run_id: str) -> UnknownRunError:
    subject = "there is no run" if name is None else f"job {name!r} has no run"
    return UnknownRunError(f"{subject} {cut(run_id, 100)!r} on record; old history may have been deleted")
