"""History: finds runs on record, also by a part of their ids, and missed ticks, and how many of these were made up for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from fastapi_crons._util.text import cut
from fastapi_crons.clock import utc_datetime
from fastapi_crons.errors import InvalidArgumentError, UnknownRunError
from fastapi_crons.management.still_running import gone_runs
from fastapi_crons.run import SHORTEST_ID, MissedTicks, Run, RunStatus
from fastapi_crons.state.base import AGAIN, MissedQuery, RunQuery, is_wanted_run
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
#: How many records of missed ticks are read at a time where those are wanted that are open.
_OPEN_AT_A_TIME = 1_000
#: No more records than this are read at a time; but for those of ticks that were run again, however many there are.
_MOST = 10_000
_ANY = 2**31 - 1
#: How many records of missed ticks are looked at besides those that the tick lies in.
_NEWEST_MISSED = 50


class MissedRecord(NamedTuple):
    """A record of missed ticks, and what was done about them since."""

    ticks: MissedTicks
    made_up: int
    """How many of them were made up for: run again, to completion, by a run that is on record."""

    @property
    def is_open(self) -> bool:
        """Whether some of the ticks were neither made up for, nor stood for by a late run."""
        return self.ticks.reason != "coalesced" and self.made_up < self.ticks.count


class History:
    """The runs and missed ticks that an engine's state store has on record. Each answer takes `timeout` seconds at most."""

    def __init__(self, engine: Engine, timeout: float) -> None:
        self._engine = engine
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
        gone = await gone_runs(self._engine, self._timeout) if run.status == "running" else {}
        return gone.get(run.id, run)

    async def find_runs(self, query: RunQuery) -> list[Run]:
        """The runs that a query asks for, newest first, without their logs. One query.

        An observer also checks whether runs on record as running still are: those whose instances are gone are interrupted.
        Raises `InvalidArgumentError` for a span that ends before it begins.
        """
        for since in (query.since, query.under_way_since):
            _check_span(since, query.until)
        gone = await gone_runs(self._engine, self._timeout)
        runs = await self._recorded(query._replace(limit=query.limit + len(gone)))
        if not gone:
            return runs
        known = {run.id: run for run in runs} | {run.id: replace(run, log=(), log_dropped=0) for run in gone.values()}
        wanted = [run for run in known.values() if is_wanted_run(run, query)]
        return sorted(wanted, key=attrgetter("id"), reverse=True)[: query.limit]

    async def latest(self, jobs: Collection[str]) -> dict[str, Run]:
        """The latest run of each of these jobs that has one, without its log. One query; checked as by `find_runs`."""
        gone = await gone_runs(self._engine, self._timeout)
        found = await answer_of(self._state.runs_by_job(jobs, limit=1), self._timeout)
        return {job: gone.get(runs[0].id, runs[0]) for job, runs in found.items() if runs}

    async def _recorded(self, query: RunQuery) -> list[Run]:
        return await answer_of(self._state.find_runs(query), self._timeout)

    async def find_missed(self, query: MissedQuery) -> list[MissedTicks]:
        """The records of missed ticks that a query asks for, newest first. One query. Raises as `find_runs`."""
        _check_span(query.since, query.until)
        return await answer_of(self._state.find_missed(query), self._timeout)

    async def missed_records(self, query: MissedQuery, *, only_open: bool) -> list[MissedRecord]:
        """The records of missed ticks that a query asks for, newest first, or those of them that are open.

        One query, and one for the runs that ran their ticks again. Open ones are looked for in as many records as it takes.
        """
        found: list[MissedRecord] = []
        at_a_time = query._replace(limit=max(query.limit, _OPEN_AT_A_TIME)) if only_open else query
        while len(found) < query.limit and (missed := await self.find_missed(at_a_time)):
            found += [each for each in await self._with_made_up(missed) if each.is_open or not only_open]
            if not only_open:
                break
            at_a_time = at_a_time._replace(before=missed[-1].id)
        return found[: query.limit]

    async def _with_made_up(self, missed: Sequence[MissedTicks]) -> list[MissedRecord]:
        jobs = {ticks.job for ticks in missed}
        since = min(ticks.first_ts for ticks in missed) - _CLOCKS_DIFFER
        completed: tuple[RunStatus, ...] = ("completed",)
        runs = await self._recorded(RunQuery(jobs, completed, since=since, limit=_ANY, triggers=AGAIN))
        made_up = made_up_for(missed, runs)
        return [MissedRecord(ticks, made_up[ticks.id]) for ticks in missed]

    async def runs_around(self, name: str, tick: int, now: float) -> list[Run]:
        """The runs of a job that may tell about a tick (Unix seconds), oldest first: up to one of a later tick.

        And those that were asked for since then to run ticks again.
        """
        since = tick - _CLOCKS_DIFFER
        earlier = await self._recorded(RunQuery((name,), until=since, limit=_EARLIER))
        reach = _FIRST_REACH
        while True:
            until = tick + reach
            found = await self._recorded(RunQuery((name,), since=since, until=until, limit=_MOST))
            if until > now + _CLOCKS_DIFFER or any(_is_later(run, tick) for run in found):
                again = await self._recorded(RunQuery((name,), since=until, limit=_ANY, triggers=AGAIN))
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


def made_up_for(missed: Iterable[MissedTicks], runs: Iterable[Run]) -> dict[str, int]:
    """How many of the ticks of each record, by its id, were made up for by these runs, which completed.

    A run may stand for earlier ticks, too. Where only some of a record's are among these, as many count as would be if its
    ticks were evenly spread.
    """
    spans: dict[str, set[tuple[int, int]]] = {}
    for run in runs:
        if run.tick_ts is not None:
            first = run.tick_ts if run.missed_since_ts is None else run.missed_since_ts
            spans.setdefault(run.job, set()).add((first, run.tick_ts))
    found: dict[str, int] = {}
    # A record of many ticks can span ticks with records of their own: the shortest gets these.
    for ticks in sorted(missed, key=lambda ticks: ticks.last_ts - ticks.first_ts):
        of_job = spans.get(ticks.job, set())
        own = {(first, last) for first, last in of_job if first <= ticks.last_ts and last >= ticks.first_ts}
        of_job -= {(first, last) for first, last in own if first == last}
        found[ticks.id] = min(ticks.count, sum(_number_within(ticks, *span) for span in _merged(own)))
    return found


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same spans, of which none overlap."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _number_within(ticks: MissedTicks, first: int, last: int) -> int:
    """How many of these ticks lie in a span that begins and ends with a tick."""
    length = min(last, ticks.last_ts) - max(first, ticks.first_ts)
    return 1 + (length * (ticks.count - 1) // (ticks.last_ts - ticks.first_ts) if length > 0 else 0)


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


def _check_span(since: float | None, until: float | None) -> None:
    if since is not None and until is not None and since >= until:
        begin, end = (utc_datetime(each).isoformat(timespec="seconds") for each in (since, until))
        raise InvalidArgumentError(f"until can't be {end}: give a time after that of since, {begin}")


def _unknown_run(name: str | None, run_id: str) -> UnknownRunError:
    subject = "there is no run" if name is None else f"job {name!r} has no run"
    return UnknownRunError(f"{subject} {cut(run_id, 100)!r} on record; old history may have been deleted")
