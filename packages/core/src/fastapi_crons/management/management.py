"""Management: what the management API and the command line ask of a scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, TypeVar

from fastapi_crons.engine.events import Published
from fastapi_crons.engine.health import Health
from fastapi_crons.engine.log_feed import LogEvent
from fastapi_crons.errors import NotRunningError, RunEndedError
from fastapi_crons.job import CronJob, ManualRun
from fastapi_crons.locking.base import KnownJob, LiveInstance, Pause
from fastapi_crons.management.backfills import ManagedBackfills
from fastapi_crons.management.drains import Drains
from fastapi_crons.management.fates.explain import TickFate
from fastapi_crons.management.fates.fates import Fates, TickMark
from fastapi_crons.management.history import History, MissedRecord
from fastapi_crons.management.made_ticks import is_made, next_made_tick
from fastapi_crons.management.plan.asking import Planning
from fastapi_crons.management.plan.deploy import Deploy
from fastapi_crons.management.plan.plan import Plan, end_of_span
from fastapi_crons.management.stats import JobStats, stats_by_day, stats_of
from fastapi_crons.management.still_running import running_runs, with_interrupted
from fastapi_crons.management.unhandled import Asked, UnhandledTicks, unhandled_ticks
from fastapi_crons.management.views import (
    JobFilter,
    JobView,
    SchedulerView,
    next_ticks,
)
from fastapi_crons.run import MissedTicks, Run, RunStatus
from fastapi_crons.scheduler.crons import Crons
from fastapi_crons.state.base import MissedQuery, Record, RunQuery
from fastapi_crons.state.client import answer_of
from fastapi_crons.state.figures import Figures, day_of

if TYPE_CHECKING:
    from fastapi_crons.engine.engine import Engine

T = TypeVar("T")


class Management:
    """Questions and requests to a scheduler that has started, in whatever role.

    Raises `UnknownJobError` and `UnknownRunError` for names and ids that don't exist, `StoreUnavailableError` where a store
    does not answer, and `NotRunningError` for a scheduler that is not running.
    """

    def __init__(self, crons: Crons) -> None:
        self.crons = crons

    def definition(self, name: str) -> CronJob:
        """The job of this name, as it is defined in this process."""
        return self.crons.jobs.named(name)

    def zone_of(self, name: str) -> str:
        """The zone whose clock a job's ticks are on; UTC for one without, and for one that is not defined in this process."""
        job = self.crons.get_job(name)
        return (job.schedule_zone if job is not None else "") or "UTC"

    async def jobs(self, *, tags: Collection[str] = (), statuses: Collection[JobFilter] = ()) -> list[JobView]:
        """All jobs, or those that have all of these tags and any of these statuses.

        One query to each store, whatever their number; an observer also checks whether runs on record as running still are.
        """
        engine = self._engine()
        jobs = self.crons.get_jobs(tags or None)
        states, pauses = await asyncio.gather(self._answer(engine.state.states()), self._answer(engine.locks.pauses()))
        if engine.role == "observer":
            states = await with_interrupted(states, engine, self.crons.config.store_timeout)
        ticks, made = next_ticks(jobs, int(self.crons.clock.now())), await self._made_ticks(jobs)
        views = [
            JobView.of(job, states.get(job.name), pauses.get(job.name), made.get(job.name, ticks[job.schedule]))
            for job in jobs
        ]
        return [view for view in views if view.matches(statuses)] if statuses else views

    async def job(self, name: str) -> JobView:
        job, engine = self.definition(name), self._engine()
        states, pauses = await asyncio.gather(
            self._answer(engine.state.states([name])), self._answer(engine.locks.pauses())
        )
        made = await self._made_ticks([job])
        tick = made[name] if made else next_ticks([job], int(self.crons.clock.now()))[job.schedule]
        return JobView.of(job, states.get(name), pauses.get(name), tick)

    async def _made_ticks(self, jobs: Iterable[CronJob]) -> dict[str, int | None]:
        """The next ticks of those jobs whose ticks are made by runs or starts, as far as the lock store knows them."""
        made = {job.name: job.schedule for job in jobs if is_made(job.schedule)}
        known = await self._answer(self._engine().locks.known(list(made))) if made else []
        on_record = {each.job: each for each in known if each.schedule == made[each.job].text}
        return {name: next_made_tick(schedule, on_record.get(name)) for name, schedule in made.items()}

    async def runs(
        self, *names: str, limit: int = 50, before: str | None = None, statuses: Collection[RunStatus] = ()
    ) -> list[Run]:
        """The runs of any of these jobs with any of these statuses, newest first; none of either stands for all."""
        return await self.find_runs(RunQuery(names or None, statuses, None, None, before, limit))

    async def find_runs(self, query: RunQuery) -> list[Run]:
        """The runs that a query asks for, newest first, without their logs. One query; see `History.find_runs`.

        Raises `InvalidArgumentError` for a span that ends before it begins.
        """
        for name in query.jobs or ():
            self.definition(name)
        return await self._history("list runs").find_runs(query)

    async def latest_runs(self, names: Collection[str]) -> dict[str, Run]:
        """The latest run of each of these jobs that has one on record. One query."""
        return await self._history("list runs").latest(names)

    def names_of(self, names: Collection[str], tags: Collection[str]) -> list[str] | None:
        """The names of those of these jobs that have all of these tags; None where all jobs are meant, also former ones.

        Without tags they are returned as they are: what they are given to checks them.
        """
        if not tags:
            return list(names) or None
        for name in names:
            self.definition(name)
        tagged = {job.name for job in self.crons.get_jobs(tags)}
        return [name for name in dict.fromkeys(names) if name in tagged] if names else sorted(tagged)

    async def run(self, name: str, run_id: str) -> Run:
        """One run of a job, with its log. `run_id` may be the first or last characters of its id."""
        self.definition(name)
        return await self._history().run(name, run_id)

    async def find_run(self, run_id: str) -> Run:
        """As `run`, of any job."""
        return await self._history().run(None, run_id)

    async def find_missed(self, query: MissedQuery, *, only_open: bool = False) -> list[MissedRecord]:
        """Records of missed ticks, newest first, and how many of each were made up for; `only_open`: those with some left.

        Raises as `find_runs`.
        """
        for name in query.jobs or ():
            self.definition(name)
        return await self._history("list missed ticks").missed_records(query, only_open=only_open)

    def last_days(self, days: int) -> list[date]:
        """So many days (UTC), the oldest first; the last is today."""
        return [Figures("", day).date for day in self._days(days)]

    async def stats(self, jobs: Collection[str] | None = None, *, days: int = 7, by_day: bool = True) -> list[JobStats]:
        """How often these jobs, or all, ran, failed and were missed in the last days (UTC), and how long they took.

        One query. Without `by_day` of all these days together only.
        """
        for name in jobs or ():
            self.definition(name)
        wanted = self._days(days)
        state, span = self._engine("show figures").state, {"since": wanted[0], "until": wanted[-1]}
        names = [job.name for job in self.crons.get_jobs()] if jobs is None else jobs
        if by_day:
            return await stats_by_day(names, await self._answer(state.figures(jobs, **span)), wanted)
        return await stats_of(names, await self._answer(state.sums(jobs, **span)))

    def _days(self, days: int) -> range:
        today = day_of(self.crons.clock.now())
        return range(today - days + 1, today + 1)

    async def unhandled(
        self, query: MissedQuery, *, details: bool = True, only_open: bool = False
    ) -> tuple[list[UnhandledTicks], int]:
        """The overdue ticks of this scheduler's jobs that are on no record yet; see `unhandled_ticks`.

        `details` says whether notes may be shown; `only_open` leaves out disabled jobs, whose ticks nobody waits for.
        """
        engine = self._engine("list missed ticks")
        jobs = self.crons.get_jobs() if query.jobs is None else [self.definition(name) for name in query.jobs]
        known, instances = await asyncio.gather(
            self._answer(engine.locks.known(None if query.jobs is None else list(query.jobs))),
            self._answer(engine.locks.instances()),
        )
        running = len(engine.owners_running(instances))
        by_name = {each.job: each for each in known if each.enabled or not only_open}
        asked = Asked(self.crons.clock.now(), by_name, instances, running)
        return unhandled_ticks(jobs, asked, query, details=details)

    async def missed(self, name: str, *, limit: int = 50) -> list[MissedTicks]:
        """The records of a job's missed ticks, newest first."""
        self.definition(name)
        return await self._history("list missed ticks").find_missed(MissedQuery((name,), limit=limit))

    async def run_job(
        self, wanted: ManualRun, *, wait: bool = True, owned: bool = False, on_start: Callable[[], None] | None = None
    ) -> Run:
        """Run a job now; see `Crons.run_job`. Without `wait`, or when the scheduler stops, the run may still be running.

        A run that is `owned` is cancelled with its caller, and waited for to its end, or for `CRON_SHUTDOWN_TIMEOUT` where it
        does not end when it is cancelled; other runs outlive their callers. `on_start` is called when nothing can refuse it.
        """
        action = f"run job {wanted.job.name!r}"
        requests = self._engine(action).requests_for(action)
        run = await requests.start_run(wanted, on_start=on_start, owned=owned)
        if not wait:
            return run.snapshot()
        try:
            patience = self.crons.config.shutdown_timeout if owned else None
            return await requests.finished(run, or_stopping=not owned, patience=patience)
        except asyncio.CancelledError:
            if owned:
                await requests.cancel_run(run.id, wanted.actor)
            raise

    @property
    def backfills(self) -> ManagedBackfills:
        """Runs the ticks of a span again that did not run."""
        return ManagedBackfills(self.crons)

    @property
    def drains(self) -> Drains:
        """Has instances claim nothing more."""
        return Drains(self.crons, self.instances)

    async def wait_for_thread(self, run_id: str) -> None:
        """Wait for the thread of a run that has ended here without it: it still holds the job."""
        active = self._engine().runner.active.get(run_id)
        if active is not None and active.thread is not None:
            await asyncio.wait({active.thread})

    async def cancel_run(self, name: str, run_id: str, *, actor: str | None = None) -> str:
        """Cancel a run, here or on another instance, and return its id; see `Crons.cancel_run`, and `run` for `run_id`.

        Raises `RunEndedError` where it has ended.
        """
        self.definition(name)
        active = self._engine(f"cancel run {run_id!r}").runner.active.get(run_id)
        if active is None or active.job.name != name:
            run_id = (await self.run(name, run_id)).id
            active = self._engine().runner.active.get(run_id)
        run = active.snapshot() if active is not None else await self.run(name, run_id)
        if run.status != "running":
            raise RunEndedError(f"can't cancel run {run_id} of job {name!r}: it has {_ended(run)}")
        is_running = active is not None or run_id in await running_runs(
            [name], self._engine(), self.crons.config.store_timeout
        )
        if not (is_running and await self.crons.cancel_run(run_id, actor=actor)):
            raise RunEndedError(
                f"can't cancel run {run_id} of job {name!r}: no instance that shares the lock store is running it; if its "
                "instance is gone, another scheduler will record it as interrupted"
            )
        return run_id

    async def pause(self, name: str, *, actor: str | None = None, note: str | None = None) -> JobView:
        """Run no tick of a job until it is resumed; see `Crons.pause`."""
        self.definition(name)
        await self.crons.pause(name, actor=actor, note=note)
        return await self.job(name)

    async def resume(self, name: str, *, catch_up: bool = False) -> bool:
        """Resume a paused job; False where it is not paused. See `Crons.resume`."""
        self.definition(name)
        return await self.crons.resume(name, catch_up=catch_up)

    async def explain_tick(self, name: str, instant: datetime, *, details: bool = True) -> TickFate:
        """What happened to a job at an instant (aware, in whole seconds), and why.

        `details` says whether error texts and notes may be shown.
        """
        fates = self._fates("explain a tick")
        return await fates.explained(self.definition(name), int(instant.timestamp()), details=details)

    async def fates(self, names: Collection[str], *, last: int = 60) -> dict[str, list[TickMark]]:
        """What became of the latest ticks of each of these jobs, oldest first. See `Fates.latest`."""
        return await self._fates("tell what became of ticks").latest([self.definition(name) for name in names], last)

    def _fates(self, action: str) -> Fates:
        engine = self._engine(action)
        return Fates(engine, self._history(), self.crons.clock.now(), self.crons.config)

    async def plan(
        self,
        *,
        hours: float = 6,
        until: datetime | None = None,
        jobs: Collection[str] = (),
        tags: Collection[str] = (),
        durations: bool = True,
    ) -> Plan:
        """What is due in the next hours, or until then (aware), of all jobs, or of these, or of those with all of these tags.

        Without `durations` it does not say how long jobs usually take, nor which runs will reach past the next tick.

        Raises `InvalidArgumentError` where that is not within 31 days from now.
        """
        wanted = [job for job in self.crons.get_jobs(tags or None) if not jobs or job.name in jobs]
        for name in jobs:
            self.definition(name)
        end = end_of_span(self.crons.clock.now(), hours, until)
        return await Planning(self._engine(), self.crons.config).plan(
            wanted, end, of_all=not (jobs or tags), durations=durations
        )

    async def deploy(self, *, hours: float = 24) -> Deploy:
        """What starting this code would do to the jobs that the stores know, and to their ticks in the next hours."""
        return await Planning(self._engine(), self.crons.config).deploy(self.crons.get_jobs(), hours)

    async def scheduler(self) -> SchedulerView:
        views, instances = await asyncio.gather(self.jobs(), self.instances())
        return SchedulerView.of(self._engine(), self.crons.config, instances, views)

    def scheduler_without_stores(self) -> SchedulerView:
        """What this process knows of itself while a store does not answer: no instances, and no jobs."""
        return SchedulerView.of(self._engine(), self.crons.config, [], [])

    def health(self) -> Health:
        """Whether the scheduler does its work. Asks no store, and works before the start, too."""
        return self.crons.health()

    async def instances(self) -> list[LiveInstance]:
        """The running instances that share the lock store, by name; this one, too, unless it only reads. One query."""
        engine = self._engine()
        found = await self._answer(engine.locks.instances())
        if engine.role != "observer":
            own = engine.membership.as_seen()
            found = [own, *(other for other in found if other.instance.owner != own.instance.owner)]
        elif engine.locks.backend.reach == "process":
            found = []
        return sorted(found, key=lambda found: (found.instance.id, found.instance.owner))

    @contextmanager
    def subscribe(self, jobs: Collection[str] | None = None) -> Iterator[AsyncIterator[Published]]:
        """Runs as they start and end, without logs, and missed ticks, of some jobs or of all; see `Feed.listen`."""
        with self._engine("listen to events").feed.listen(jobs) as records:
            yield records

    @contextmanager
    def follow_log(self, run: Run, *, after: int = 0) -> Iterator[AsyncIterator[LogEvent]]:
        """What a run, given as `run` returns it, logs behind the record with the number `after`; see `LogFeed.listen`."""
        with self._engine("follow a log").log_feed.listen(run, after) as events:
            yield events

    async def events(self, jobs: Collection[str] | None = None) -> AsyncGenerator[Record, None]:
        """As `subscribe`, from the moment that the first event is asked for."""
        with self.subscribe(jobs) as records:
            async for published in records:
                yield published.record

    async def pauses(self) -> dict[str, Pause]:
        """The jobs that are paused, by name. One query."""
        return await self._answer(self._engine().locks.pauses())

    async def known_jobs(self, names: Collection[str] | None = None) -> list[KnownJob]:
        """What the lock store knows of these jobs, or of all, by name. One query."""
        known = self._engine().locks.known(None if names is None else list(names))
        return sorted(await self._answer(known), key=lambda known: known.job)

    @property
    def has_durable_history(self) -> bool:
        """Whether the state store keeps the history where other processes can read it."""
        return self._engine().state.durable

    def unshared_lock(self) -> str | None:
        """The class name of the lock store where each process has one of its own; None where it is shared."""
        backend = self._engine().locks.backend
        return type(backend).__name__ if backend.reach == "process" else None

    def damaged(self) -> list[str]:
        """The names of records that were met in the stores and can't be read."""
        engine = self._engine()
        return sorted({*engine.locks.backend.damaged(), *engine.state.damaged()})

    def obstacles(self) -> list[str]:
        """What keeps this process, which has its stores open to read, from writing to them; the same text only once."""
        engine = self._engine()
        found = (engine.locks.backend.obstacle(), engine.state.obstacle())
        return list(dict.fromkeys(text for text in found if text is not None))

    async def _answer(self, call: Awaitable[T]) -> T:
        """The answer of a store, within its deadline."""
        return await answer_of(call, self.crons.config.store_timeout, "the store")

    def _history(self, action: str = "read the stores") -> History:
        return History(self._engine(action), self.crons.config.store_timeout)

    def _engine(self, action: str = "read the stores") -> Engine:
        engine = self.crons.engine
        if engine is None:
            raise NotRunningError(
                f"can't {action}: the scheduler is not running; it runs between crons.start() and crons.stop()"
            )
        return engine


def _ended(run: Run) -> str:
    return (
        "already ended" if run.ended is None else f"ended at {run.ended.isoformat(timespec='seconds')} ({run.status})"
    )
