"""What became of ticks: of one instant, with an explanation, and of the latest ticks of many jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from fastapi_crons.clock import utc_datetime
from fastapi_crons.config import CronConfig
from fastapi_crons.errors import InvalidArgumentError
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import KnownJob
from fastapi_crons.management.fates.explain import Fate, TickFate, explain, fate_of, source_in_force
from fastapi_crons.management.fates.tick_records import TickRecords
from fastapi_crons.management.history import History
from fastapi_crons.management.plan.ticks import Patience
from fastapi_crons.run import MissedTicks, Run
from fastapi_crons.schedule.due import newest_ticks
from fastapi_crons.state.client import answer_of

if TYPE_CHECKING:
    from fastapi_crons.engine.engine import Engine

T = TypeVar("T")

#: Of how many ticks of a job one can ask.
MAX_LAST = 500
#: So many runs of a job are read beyond one for each tick: some ticks have several runs, and runs by hand have none.
_MORE_RUNS = 20


class TickMark(NamedTuple):
    """What became of a tick, without words."""

    tick: int
    """In Unix seconds (UTC)."""
    fate: Fate
    run: Run | None = None
    """Its latest run, or the one that stands for it."""
    missed: MissedTicks | None = None
    """The record of it as a missed tick."""

    @property
    def time(self) -> datetime:
        """The tick (aware, UTC)."""
        return utc_datetime(self.tick)


@dataclass(frozen=True, slots=True)
class JobRecords:
    """What is on record of one job, the newest first. Instants in Unix seconds (UTC)."""

    job: CronJob
    known: KnownJob | None
    runs: Sequence[Run]
    missed: Sequence[MissedTicks]


class Fates:
    """Answers from the stores of a started scheduler."""

    def __init__(self, engine: Engine, history: History, now: float, config: CronConfig) -> None:
        self._engine = engine
        self._history = history
        self._now = now
        self._config = config

    async def explained(self, job: CronJob, tick: int, *, details: bool) -> TickFate:
        """What happened to a job at an instant (Unix seconds), and why."""
        engine = self._engine
        known, runs, missed, instances = await asyncio.gather(
            self._answer(engine.locks.known([job.name])),
            self._history.runs_around(job.name, tick, self._now),
            self._history.missed_around(job.name, tick),
            self._answer(engine.locks.instances()),
        )
        records = TickRecords(
            tick=tick,
            now=self._now,
            job=job,
            known=known[0] if known else None,
            runs=tuple(runs),
            missed=tuple(missed),
            living=frozenset(found.instance.owner for found in instances),
            instances=len(engine.owners_running(instances)),
            max_reruns=self._config.max_reruns if self._config.rerun_interrupted else 0,
        )
        return explain(records, details=details)

    async def latest(self, jobs: Collection[CronJob], last: int) -> dict[str, list[TickMark]]:
        """What became of the latest ticks of each of these jobs, oldest first. Three queries, however many jobs there are.

        Takes short turns on the event loop. Raises `InvalidArgumentError` for a number that is not from 1 to `MAX_LAST`.
        """
        if not 1 <= last <= MAX_LAST:
            raise InvalidArgumentError(f"last can't be {last}: ask for 1 to {MAX_LAST} ticks")
        names, state = [job.name for job in jobs], self._engine.state
        known, runs, missed = await asyncio.gather(
            self._answer(self._engine.locks.known(names)),
            self._answer(state.runs_by_job(names, limit=last + _MORE_RUNS)),
            self._answer(state.missed_by_job(names, limit=last + _MORE_RUNS)),
        )
        by_name = {each.job: each for each in known}
        patience, found = Patience(), dict[str, list[TickMark]]()
        for job in jobs:
            await patience.give_turn()
            records = JobRecords(job, by_name.get(job.name), runs[job.name], missed[job.name])
            found[job.name] = latest_fates(records, self._now, last)
        return found

    async def _answer(self, question: Awaitable[T]) -> T:
        return await answer_of(question, self._config.store_timeout)


def latest_fates(records: JobRecords, now: float, last: int) -> list[TickMark]:
    """What became of the latest ticks of a job up to now, oldest first; a pure function.

    Of ticks under older schedules, those that have a run or a record of their own.
    """
    by_tick: dict[int, list[Run]] = {}
    for run in reversed(records.runs):
        if run.tick_ts is not None:
            by_tick.setdefault(run.tick_ts, []).append(run)
    spans = [run for run in reversed(records.runs) if run.missed_ticks]
    marks = []
    for tick in _ticks_of(records, by_tick, now, last):
        own = by_tick.get(tick, [])
        standing = [run for run in spans if run.tick_ts is not None and _first(run) <= tick < run.tick_ts]
        missed = tuple(each for each in records.missed if each.first_ts <= tick <= each.last_ts)
        fate = fate_of(TickRecords(tick, now, records.job, records.known, (*own, *standing), missed))
        marks.append(TickMark(tick, fate.fate, fate.runs[-1] if fate.runs else None, fate.missed))
    return marks


def _ticks_of(records: JobRecords, on_record: Iterable[int], now: float, last: int) -> list[int]:
    ticks = {tick for tick in on_record if tick <= now}
    ticks.update(each.last_ts for each in records.missed)
    ticks.update(each.first_ts for each in records.missed)
    known = records.known
    all_of_job = tuple(reversed(records.runs)), tuple(records.missed)
    source = source_in_force(TickRecords(int(now), now, records.job, known, *all_of_job))
    if source is not None and known is not None:
        ticks.update(newest_ticks(source, int(known.since), int(now), last))
    return sorted(ticks)[-last:]


def _first(run: Run) -> int:
    return run.missed_since_ts or run.tick_ts or 0
