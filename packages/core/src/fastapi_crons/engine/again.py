"""Again: which ticks of a job may be run again, as far as is on record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from itertools import chain
from typing import NamedTuple, TypeVar

from fastapi_crons.clock import Clock, in_local_time, local_time
from fastapi_crons.engine.runs.recorder import Recorder
from fastapi_crons.errors import ScheduleError, StoreUnavailableError
from fastapi_crons.job import CronJob
from fastapi_crons.locking.base import KnownJob, Lease
from fastapi_crons.locking.client import LockClient
from fastapi_crons.run import MissedTicks, Run, RunStatus, made_at, reason_in_words
from fastapi_crons.schedule.base import ZonedSchedule
from fastapi_crons.schedule.due import TickSource, newest_tick, tick_source
from fastapi_crons.schedule.own import ListedTicks
from fastapi_crons.schedules.texts import schedule_of_text
from fastapi_crons.state.base import MissedQuery, RunQuery, StateBackend
from fastapi_crons.state.client import answer_of

T = TypeVar("T")

#: How many records are read at a time.
_PAGE = 1_000
#: A run's id may be older (seconds) than its tick, and its record come later than those of newer runs: clocks differ.
_CLOCKS_DIFFER = 3_600
_LATE_RECORDS = 300
#: How far back (seconds) the tick before an instant is looked for.
_YEAR = 366 * 86_400


class Records(NamedTuple):
    """Reads what the stores know of jobs, for one scheduler."""

    state: StateBackend
    locks: LockClient
    recorder: Recorder
    clock: Clock
    store_timeout: float

    async def about(self, job: CronJob, first: int, last: int, *, one_by_one: bool = False) -> TicksOnRecord:
        """What is on record of the ticks of a job from `first` to `last` (Unix seconds).

        With `one_by_one` those count as not run that the run of a later tick stands for.
        """
        found = TicksOnRecord(self, job, first, last, one_by_one=one_by_one)
        await found.look()
        return found

    async def known(self, name: str) -> KnownJob | None:
        known = await self.answer(self.locks.known([name]))
        return known[0] if known else None

    async def left_behind(self, known: KnownJob | None) -> list[Lease]:
        """The leases of ticks of a job that were run again by instances that are gone."""
        again = [lease for lease in known.leases if lease.again] if known is not None else []
        living = {found.instance.owner for found in await self.answer(self.locks.instances())} if again else set()
        return [lease for lease in again if lease.instance not in living]

    async def ticks_are_run(self) -> bool:
        """Whether an instance lives that runs ticks; also where the store does not say so."""
        try:
            return any(found.runs_ticks for found in await self.answer(self.locks.instances()))
        except StoreUnavailableError:
            return True

    async def answer(self, call: Awaitable[T]) -> T:
        return await answer_of(call, self.store_timeout, "the store")


class TicksOnRecord:
    """What is on record of the ticks of a job from one to another. Each look reads what is new since the last one.

    A tick is run again where its record says that it did not run to its end, and without one only where it is older than the
    job: its record may have been deleted with old history.
    """

    def __init__(self, records: Records, job: CronJob, first: int, last: int, *, one_by_one: bool) -> None:
        self._records = records
        self._job = job
        self._first, self._last = first, last
        self._one_by_one = one_by_one
        self._since: float = first - _CLOCKS_DIFFER
        self._known: KnownJob | None = None
        self._missed: list[MissedTicks] = []
        #: The runs of these ticks, and those that stand for some of them, by id.
        self._runs: dict[str, Run] = {}
        self._by_tick: dict[int, list[str]] = {}
        self._covering: set[str] = set()
        self._looked = False
        #: The leases of ticks that were run again by instances that are gone. No instance reruns these.
        self.left_behind: list[Lease] = []
        #: When the oldest run was claimed that is on record as completed; and whether ticks ran before the schedule in force.
        self._reaches_back_to: float | None = None
        self._is_older_than_schedule = False

    async def look(self) -> None:
        """Read what is on record, or what is new there. Raises what the stores raise."""
        first_look, now = not self._looked, self._records.clock.now()
        self._known = await self._records.known(self._job.name)
        self.left_behind = await self._records.left_behind(self._known)
        if first_look:
            # Noted first: what is written meanwhile is found in the one or in the other.
            noted = [ticks for ticks in self._records.recorder.noted_missed() if ticks.job == self._job.name]
            missed = {ticks.id: ticks async for ticks in self._read_missed()}
            self._missed = list((missed | {ticks.id: ticks for ticks in noted}).values())
        async for run in self._read_runs(self._since):
            self._note(run)
        running = [run.id for run in self._runs.values() if run.status == "running"]
        if running and not first_look:
            for run in (await self._records.answer(self._records.state.runs_by_id(running))).values():
                self._note(run)
        # A run that has just begun or ended here may not be on record yet.
        for run in self._records.recorder.noted_runs():
            if run.job == self._job.name:
                self._note(run)
        if first_look:
            await self._look_how_far_back()
        self._looked = True
        self._since = max(self._since, now - _LATE_RECORDS)

    async def _look_how_far_back(self) -> None:
        name, state, answer = (self._job.name,), self._records.state, self._records.answer
        completed: tuple[RunStatus, ...] = ("completed",)
        older = await answer(state.find_runs(RunQuery(name, completed, until=self._since, limit=1)))
        ids = [run.id for run in (*self._runs.values(), *older) if run.status == "completed"]
        self._reaches_back_to = min(map(made_at, ids), default=None)
        if self._known is not None:
            before = await answer(state.find_runs(RunQuery(name, until=self._known.since, limit=_PAGE)))
            self._is_older_than_schedule = any(run.trigger in ("schedule", "catch_up") for run in before)

    def _note(self, run: Run) -> None:
        if run.tick_ts is None or run.tick_ts < self._first or (run.missed_since_ts or run.tick_ts) > self._last:
            return
        if run.id not in self._runs:
            self._by_tick.setdefault(run.tick_ts, []).append(run.id)
            if run.missed_since_ts is not None:
                self._covering.add(run.id)
        self._runs[run.id] = run

    async def _read_runs(self, since: float) -> AsyncIterator[Run]:
        before = None
        while True:
            query = RunQuery((self._job.name,), since=since, before=before, limit=_PAGE)
            page = await self._records.answer(self._records.state.find_runs(query))
            for run in page:
                yield run
            if len(page) < _PAGE:
                return
            before = page[-1].id

    async def _read_missed(self) -> AsyncIterator[MissedTicks]:
        before = None
        while True:
            query = MissedQuery((self._job.name,), self._first, self._last + 1, before, _PAGE)
            page = await self._records.answer(self._records.state.find_missed(query))
            for ticks in page:
                yield ticks
            if len(page) < _PAGE:
                return
            before = page[-1].id

    @property
    def source(self) -> TickSource | None:
        """The ticks of the schedule in force, or on record where runs make them; None for a kind that is not installed."""
        schedule, known = self._job.schedule, self._known
        if known is not None and (known.schedule, known.timezone) != (schedule.text, self._job.schedule_zone):
            try:
                schedule = schedule_of_text(known.schedule, known.timezone or None)
            except ScheduleError:
                return None
        if isinstance(schedule, ZonedSchedule) and not schedule.is_clocked:
            ends = (tick for ticks in self._missed for tick in (ticks.first_ts, ticks.last_ts))
            return ListedTicks((*self._by_tick, *ends))
        return tick_source(schedule)

    def ran(self, tick: int) -> Run | None:
        """The run of a tick that completed or is running, or one that stands for it."""
        gone = {lease.run_id for lease in self.left_behind}
        own = (self._runs[run_id] for run_id in self._by_tick.get(tick, ()))
        others = () if self._one_by_one else self._standing_for(tick)
        runs = (run for run in chain(own, others) if run.id not in gone or run.status == "completed")
        return next((run for run in runs if run.status in ("completed", "running")), None)

    def stood_for(self, tick: int) -> MissedTicks | None:
        """The record that a late run, of which there is no record any more, stood for a tick."""
        if self._one_by_one or any(self._standing_for(tick)):
            return None
        coalesced = (missed for missed in self._missed if missed.reason == "coalesced")
        return next((missed for missed in coalesced if missed.first_ts <= tick <= missed.last_ts), None)

    def in_doubt(self, tick: int) -> bool:
        """Whether nothing on record says what happened to a tick, although it may have run."""
        if self._known is None or self._by_tick.get(tick) or any(self._standing_for(tick)):
            return False
        if any(missed.first_ts <= tick <= missed.last_ts for missed in self._missed):
            return False
        if tick > self._known.since:
            return True
        back = self._reaches_back_to
        return self._is_older_than_schedule and (back is None or back > tick)

    def is_to_be_run(self, tick: int) -> bool:
        """Whether a tick has yet to be handled, or the run that was cut off may be rerun."""
        known = self._known
        if known is None:
            return False
        leases = (lease for lease in known.leases if lease.missed is None and lease.tick is not None)
        claimed = any(lease.after < tick <= (lease.tick or 0) for lease in leases)
        return claimed or (known.enabled and tick > known.last_handled)

    def due(self, now: int) -> int | None:
        """The oldest tick that is due and has yet to be handled; None where there is none, or where none is run."""
        known, source = self._known, self.source
        if known is None or not known.enabled or known.pause is not None or source is None:
            return None
        tick = source.next_tick(known.last_handled)
        return tick if tick is not None and tick <= now else None

    def refusal(self, tick: int, *, force: bool) -> str | None:
        """Why a tick may not be run again now, and what to do; None where it may. `force` is about those that ran, or may."""
        name, at, now = self._job.name, self._at, self._records.clock.now()
        if tick > now:
            return f"can't run the tick of {at(tick)} of job {name!r} again: it lies in the future"
        source = self.source
        if source is not None and source.next_tick(tick - 1) != tick:
            before, after = newest_tick(source, tick - _YEAR, tick - 1), source.next_tick(tick)
            ends = (("the one before is", before), ("the next one is", after))
            beside = ", ".join(f"{which} {at(other)}" for which, other in ends if other is not None)
            return f"job {name!r} has no tick at {at(tick)}" + (f": {beside}" if beside else "")
        if force:
            return None
        run = self.ran(tick)
        if run is not None:
            return f"the tick of {at(tick)} of job {name!r} {self._how_it_ran(run, tick)}; force=True runs it again"
        stood_for = self.stood_for(tick)
        if stood_for is not None:
            why = in_local_time(reason_in_words(stood_for), self._job.schedule_zone)
            return f"the tick of {at(tick)} of job {name!r} was made up for: {why}; force=True runs it by itself"
        if self.is_to_be_run(tick):
            return (
                f"the tick of {at(tick)} of job {name!r} {self._why_to_be_run()}; force=True runs it now all the same"
            )
        if self.in_doubt(tick):
            return (
                f"nothing on record says whether the tick of {at(tick)} of job {name!r} ran: old history may have been "
                "deleted; force=True runs it all the same"
            )
        return None

    def _how_it_ran(self, run: Run, tick: int) -> str:
        which = "" if run.tick_ts == tick else f", which stands for it with that of {self._at(run.tick_ts or 0)}"
        if run.ended_ts is None:
            return f"is running since {self._at(int(run.started_ts))} (run {run.id} on {run.instance}{which})"
        return f"ran already: it completed at {self._at(int(run.ended_ts))} (run {run.id} on {run.instance}{which})"

    def _why_to_be_run(self) -> str:
        if self._known is not None and self._known.pause is not None:
            return "is still to be handled: the job is paused; resume it first, which puts the tick on record as missed"
        return "is still to be handled: an instance runs it, or puts on record why not"

    def _standing_for(self, tick: int) -> Iterator[Run]:
        runs = (self._runs[run_id] for run_id in self._covering)
        return (run for run in runs if (run.missed_since_ts or 0) <= tick < (run.tick_ts or 0))

    def _at(self, tick: int) -> str:
        """An instant in the job's zone."""
        return local_time(tick, self._job.schedule_zone)
